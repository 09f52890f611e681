"""config.json of a model folder: the model's configuration, its published class and its labels, read and written."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from ..errors import HeadwayError
from ..models.bert import BertConfig, BertPooler
from ..models.encoder_decoder import EncoderDecoderConfig
from ..models.gpt2 import GPT2Config
from ..models.heads import Config, SingleConfig
from ..models.transformer import TransformerConfig
from .families.encoder_decoder import MODEL_TYPE
from .families.family import Family, PublishedHead
from .families.registry import FAMILIES, family_of, titles_of
from .model_files import read_json

FEWEST_POSITIONS = 8  # as of new models
# What other models have that those of the families do not.
DIFFERENCES = {
    "bart": "learned positions and a norm after its embeddings",
    "big_bird": "sparse attention",
    "deberta": "attention to relative positions",
    "deberta-v2": "attention to relative positions",
    "gpt_neo": "layers that see only 256 tokens back",
    "gpt_neox": "rotary positions",
    "llama": "rotary positions",
    "longformer": "sparse attention",
    "m2m_100": "norms before its sub-layers",
    "mbart": "norms before its sub-layers",
    "mistral": "rotary positions",
    "modernbert": "rotary positions",
    "mpnet": "a bias of relative positions in its attention",
    "openai-gpt": "norms after its layers and another kind of vocabulary",
    "pegasus": "norms before its sub-layers",
    "qwen2": "rotary positions",
    "t5": "a bias of relative positions in its attention",
    "xlm": "embeddings of languages",
    "xlnet": "attention to relative positions",
}
AS_DECODER = {"is_decoder": True, "add_cross_attention": True}  # fields of the decoder of an encoder-decoder
# Fields that are written again, or that describe where a model came from.
DROPPED_FIELDS = {"id2label", "label2id", "num_labels", "_num_labels", "problem_type", "torch_dtype", "_name_or_path"}


def read_config(folder: Path) -> tuple[dict[str, Any], Config]:
    """Reads config.json.

    Returns:
        Its content, and our configuration.

    Raises:
        HeadwayError: it is missing or damaged, or the model is not supported.
    """
    path = folder / "config.json"
    if not path.exists():
        raise HeadwayError(f"{folder} has no config.json. Give the folder with config.json and the weights.")
    raw = read_json(path)
    if raw.get("model_type") == MODEL_TYPE:
        return raw, _read_encoder_decoder(path, raw)
    return raw, _read_model(str(path), raw)


def _read_model(path: str, raw: Mapping[str, Any]) -> SingleConfig:
    """The configuration of one model: the whole file, or a part of an encoder-decoder's.

    Args:
        path: of the file, and the part, for messages.
        raw: its fields.
    """
    model = raw.get("model_type") or _infer_model_type(raw)
    if not isinstance(model, str) or model not in FAMILIES:
        what = f"says model_type {model!r}" if model else "has no model_type"
        what += f", which has {DIFFERENCES[str(model)]}" if str(model) in DIFFERENCES else ""
        known = ", ".join(family.title for family in FAMILIES.values())
        raise HeadwayError(f"{path} {what}; Headway reads {known}. Choose a model of one of these types.")
    family = FAMILIES[model]
    for name, default in family.write_config(family.config).items():
        if raw.get(name) is not None and not _is_valid(name, raw[name], default):
            raise HeadwayError(
                f"{path}: {name} is {repr(raw[name])[:99]}, which is not possible. Copy the file again."
            )
    try:
        config = family.read_config(raw)
    except HeadwayError as error:
        raise HeadwayError(f"{path}: {error} Choose another model.") from error
    if config.max_positions < FEWEST_POSITIONS:
        offset = getattr(config, "position_offset", 0)
        name, after = family.names["max_positions"], " or pad_token_id, after which positions start" if offset else ""
        raise HeadwayError(
            f"{path}: a text may have {max(config.max_positions, 0)} tokens; at least {FEWEST_POSITIONS} are needed. "
            f"Correct {name}{after}, or copy the file again."
        )
    if config.hidden_size % config.num_heads:
        raise HeadwayError(
            f"{path}: a hidden size of {config.hidden_size} cannot be divided among {config.num_heads} attention "
            "heads. Copy the file again."
        )
    return config


def _read_encoder_decoder(path: Path, raw: Mapping[str, Any]) -> EncoderDecoderConfig:
    """The configuration of an encoder-decoder, whose parts have the fields of separate models.

    Its tokens are those of the file, or of generation_config.json, or of its decoder: the first place that names them.
    """
    parts = [raw.get(name) for name in ("encoder", "decoder")]
    if not all(isinstance(part, dict) for part in parts):
        raise HeadwayError(f"{path}: an encoder-decoder needs the fields encoder and decoder. Copy the file again.")
    first, second = (part for part in parts if part is not None)
    encoder = _read_model(f"{path}: encoder", _alone(first))
    decoder = _read_model(f"{path}: decoder", _alone(second))
    if not isinstance(encoder, BertConfig):
        raise HeadwayError(
            f"{path}: the encoder is {family_of(encoder).with_article}; an encoder is a {titles_of('bert')}. "
            "Choose another model."
        )
    if isinstance(decoder, TransformerConfig) or not family_of(decoder).cross_attention:
        able = ", ".join(family.title for family in FAMILIES.values() if family.cross_attention)
        raise HeadwayError(
            f"{path}: the decoder is {family_of(decoder).with_article}, which has no cross-attention; those that have "
            f"it are {able}. Choose another model."
        )
    width = second.get("cross_attention_hidden_size")
    if width not in (None, decoder.hidden_size):
        raise HeadwayError(
            f"{path}: decoder has cross_attention_hidden_size={width!r}; supported is the decoder's own hidden size, "
            f"{decoder.hidden_size}. Choose another model."
        )
    if raw.get("tie_encoder_decoder"):
        raise HeadwayError(
            f"{path} has tie_encoder_decoder=true; parts that share their weights are not supported. "
            "Choose another model."
        )
    generation = path.parent / "generation_config.json"
    places = [raw, read_json(generation) if generation.exists() else {}, second]

    def token(*names: str) -> int | None:
        found = [place[name] for place in places for name in names if place.get(name) is not None]
        if found and (isinstance(found[0], bool) or not isinstance(found[0], int)):
            raise HeadwayError(
                f"{path.parent}: {names[0]} is {found[0]!r}; one token is supported. Correct config.json."
            )
        if found and not 0 <= found[0] < decoder.vocab_size:
            raise HeadwayError(
                f"{path.parent}: {names[0]} is {found[0]}, but the decoder has the tokens 0 to "
                f"{decoder.vocab_size - 1}. Correct config.json."
            )
        return found[0] if found else None

    return EncoderDecoderConfig(
        encoder,
        as_decoder(decoder),
        start_id=token("decoder_start_token_id") if any("decoder_start_token_id" in p for p in places) else None,
        end_id=token("eos_token_id"),
        pad_id=token("pad_token_id"),
        encoder_pooler=family_of(encoder).heads["Model"].module is BertPooler,
    )


def as_decoder(config: BertConfig | GPT2Config) -> BertConfig | GPT2Config:
    """The configuration of a model that is the decoder of an encoder-decoder."""
    if isinstance(config, BertConfig):
        return replace(config, causal=True, cross_attention=True)
    return replace(config, cross_attention=True)


def _is_valid(name: str, value: object, default: object) -> bool:
    if isinstance(default, bool | str) or isinstance(value, bool | str):
        return type(value) is type(default)
    if isinstance(default, float):
        return isinstance(value, int | float) and 0 <= value <= (1 if "drop" in name else float("inf"))
    lowest = 0 if name.endswith("_id") else 1  # a token or a size; also n_inner, whose default is None
    return isinstance(value, int) and value >= lowest


def _infer_model_type(raw: Mapping[str, Any]) -> str | None:
    """The model type of an old config.json without model_type, by its published class; SciBERT's has neither."""
    names = raw.get("architectures")
    if not names and raw.get("type_vocab_size") == 2 and "hidden_act" in raw:
        return "bert"  # RoBERTa, whose fields have the same names, has one segment
    first = names[0] if isinstance(names, list) and names else ""
    return next((one.model_type for one in FAMILIES.values() if str(first).startswith(one.classes)), None)


def published_class(folder: Path, raw: Mapping[str, Any], family: Family) -> str:
    """The published class of a folder; the base model's if config.json names none, or one whose head no task uses.

    Raises:
        HeadwayError: architectures is not a list of names.
    """
    names = raw.get("architectures") or [family.base_class]
    if not isinstance(names, list) or not isinstance(names[0], str):
        raise HeadwayError(f"{folder / 'config.json'}: architectures is {names!r}; it must be a list of class names.")
    return family.base_class if names[0].removeprefix(family.classes) in family.headless else names[0]


def read_labels(folder: Path, raw: Mapping[str, Any], outputs: int) -> tuple[str, ...]:
    """The names of a head's outputs in their order. Default: LABEL_0, LABEL_1, ..., as in transformers.

    Raises:
        HeadwayError: id2label does not map numbers to different names, or their number is not that of the outputs.
    """
    path = folder / "config.json"
    id2label = raw.get("id2label")
    if not id2label:
        return tuple(f"LABEL_{i}" for i in range(outputs))
    if not isinstance(id2label, dict) or not all(key.isdecimal() and len(key) < 10 for key in id2label):
        raise HeadwayError(f'{path}: id2label must map numbers to names: {{"0": "bad", "1": "good"}}. Correct it.')
    by_id = {int(key): str(name) for key, name in id2label.items()}
    if sorted(by_id) != list(range(outputs)):
        raise HeadwayError(
            f"{path}: id2label names {len(by_id)} labels (numbers {min(by_id)} to {max(by_id)}), but the head in the "
            f"weights has {outputs} outputs (0 to {outputs - 1}). Correct id2label, or copy both files again."
        )
    name, count = Counter(by_id.values()).most_common(1)[0]
    if count > 1:
        raise HeadwayError(f"{path}: id2label gives {count} outputs the name {name!r}. Give each its own name.")
    return tuple(by_id[i] for i in range(outputs))


def config_fields(config: Config, original: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a config.json for a configuration.

    Args:
        config: our configuration.
        original: the config.json that the model came with, or nothing; fields that Headway does not use are kept.
    """
    kept = {name: value for name, value in original.items() if name not in DROPPED_FIELDS}
    if isinstance(config, EncoderDecoderConfig):
        return {**kept, **_encoder_decoder_fields(config, kept)}
    family = family_of(config)
    ours = family.write_config(config)
    # One configuration can be written in several ways: if it is unchanged, so is its spelling.
    if kept and family.read_config(kept) == config:
        return {**ours, **kept}
    return {**kept, **ours}


def _alone(part: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a part of an encoder-decoder, as those of a model by itself."""
    return {name: False if name in AS_DECODER else value for name, value in part.items()}


def _encoder_decoder_fields(config: EncoderDecoderConfig, original: Mapping[str, Any]) -> dict[str, Any]:
    encoder, decoder = (_alone(original.get(name) or {}) for name in ("encoder", "decoder"))
    if isinstance(config.decoder, BertConfig):
        alone = replace(config.decoder, causal=False, cross_attention=False)
    else:
        alone = replace(config.decoder, cross_attention=False)
    return {
        "model_type": MODEL_TYPE,
        "is_encoder_decoder": True,
        "encoder": config_fields(config.encoder, encoder),
        "decoder": {**config_fields(alone, decoder), **AS_DECODER},
        **generation_fields(config),
    }


def generation_fields(config: EncoderDecoderConfig) -> dict[str, Any]:
    """The fields of generation_config.json, which are also in config.json: the tokens of a decoder."""
    tokens = {
        "decoder_start_token_id": config.start_id,
        "eos_token_id": config.end_id,
        "pad_token_id": config.pad_id,
    }
    return {name: token for name, token in tokens.items() if token is not None}


def label_fields(published: PublishedHead, head: nn.Module | None, labels: Sequence[str] | None) -> dict[str, Any]:
    """The fields of a config.json that name a head's outputs; none if the outputs are not labels."""
    if not published.labelled or head is None:
        return {}
    outputs = num_outputs(head)
    names = [f"LABEL_{i}" for i in range(outputs)] if labels is None else list(labels)
    if len(names) != outputs:
        raise ValueError(f"{len(names)} labels for {outputs} outputs")
    return {
        "id2label": {str(i): name for i, name in enumerate(names)},
        "label2id": {name: i for i, name in enumerate(names)},
    }


def num_outputs(head: nn.Module) -> int:
    """The number of outputs of a head with a classifier."""
    return head.get_parameter("classifier.weight").shape[0]
