"""config.json of a model folder: the model's sizes, its published class and its labels, read with care and written."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from ..errors import HeadwayError
from ..models.heads import Config
from .model_files import read_json
from .weight_names import BASE_ARCHITECTURES, CONFIGS, Architecture

# Fields that are written anew, or that say something about the place a model came from.
NOT_KEPT = {"id2label", "label2id", "num_labels", "_num_labels", "problem_type", "torch_dtype", "_name_or_path"}


def read_config(folder: Path) -> tuple[dict[str, Any], Config]:
    """config.json as it is, and what it means for the arithmetic.

    Raises:
        HeadwayError: it is missing or damaged, or describes a model that Headway does not have.
    """
    path = folder / "config.json"
    if not path.exists():
        raise HeadwayError(f"{folder} has no config.json. Give the folder that holds config.json and the weights.")
    raw = read_json(path)
    model = raw.get("model_type") or _guess_model(raw)
    if not isinstance(model, str) or model not in CONFIGS:
        what = f"says model_type {model!r}" if model else "has no model_type"
        raise HeadwayError(
            f"{path} {what}; Headway reads {' and '.join(map(repr, CONFIGS))} only. Choose a BERT or GPT-2 model."
        )
    kind = CONFIGS[model]
    given = _stated(raw)
    for name, default in kind().to_hf().items():
        if name in given and not _fits(name, given[name], default):
            raise HeadwayError(f"{path}: {name} is {given[name]!r}, which cannot be. Copy the file again.")
    try:
        config = kind.from_hf(given)
    except HeadwayError as error:
        raise HeadwayError(f"{path}: {error} Choose another model.") from error
    if config.hidden_size % config.num_heads:
        raise HeadwayError(
            f"{path}: a hidden size of {config.hidden_size} cannot be shared among {config.num_heads} attention "
            "heads. Copy the file again."
        )
    return raw, config


def _stated(raw: Mapping[str, Any]) -> dict[str, Any]:
    """What is said at all: null stands for the default."""
    return {name: value for name, value in raw.items() if value is not None}


def _fits(name: str, value: object, default: object) -> bool:
    if isinstance(default, bool | str) or isinstance(value, bool | str):
        return type(value) is type(default)
    if isinstance(default, float):
        return isinstance(value, int | float) and 0 <= value <= (1 if "drop" in name else float("inf"))
    return isinstance(value, int) and value > 0  # a size; n_inner, which has no default, among them


def _guess_model(raw: Mapping[str, Any]) -> str | None:
    """The model of a config.json from before there was a model_type, by its published class."""
    names = raw.get("architectures")
    first = names[0] if isinstance(names, list) and names else ""
    return {"Bert": "bert", "GPT2": "gpt2"}.get(str(first)[:4])


def published_class(folder: Path, raw: Mapping[str, Any], model: str) -> str:
    """The class that a folder was published as; the base model where it does not say."""
    names = raw.get("architectures") or [BASE_ARCHITECTURES[model]]
    if not isinstance(names, list) or not isinstance(names[0], str):
        raise HeadwayError(f"{folder / 'config.json'}: architectures is {names!r}; it must be a list of class names.")
    return names[0]


def read_labels(folder: Path, raw: Mapping[str, Any], outputs: int) -> tuple[str, ...]:
    """The names of a head's outputs, in their order; LABEL_0, LABEL_1, ... where there are none, as in transformers.

    Raises:
        HeadwayError: id2label is no such table, or has another number of labels than the head has outputs.
    """
    path = folder / "config.json"
    named = raw.get("id2label")
    if not named:
        return tuple(f"LABEL_{i}" for i in range(outputs))
    if not isinstance(named, dict) or not all(key.isdecimal() for key in named):
        raise HeadwayError(f'{path}: id2label must map numbers to names, like {{"0": "bad", "1": "good"}}.')
    by_id = {int(key): str(name) for key, name in named.items()}
    if sorted(by_id) != list(range(outputs)):
        raise HeadwayError(
            f"{path}: id2label names {len(by_id)} labels (numbers {min(by_id)} to {max(by_id)}), but the head in the "
            f"weights has {outputs} outputs (0 to {outputs - 1}). Correct id2label, or copy both files again."
        )
    return tuple(by_id[i] for i in range(outputs))


def config_fields(config: Config, came_with: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a config.json for this arithmetic; other fields that the model came with stay as they were."""
    kept = {name: value for name, value in came_with.items() if name not in NOT_KEPT}
    ours = config.to_hf()
    # The same arithmetic can be written in several ways: where nothing changed, it stays as it was written.
    if kept and type(config).from_hf(_stated(kept)) == config:
        return {**ours, **kept}
    return {**kept, **ours}


def label_fields(architecture: Architecture, head: nn.Module | None, labels: Sequence[str] | None) -> dict[str, Any]:
    """The fields of a config.json that name a head's outputs; none for a head whose outputs are no labels."""
    if not architecture.labelled or head is None:
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
    """How many numbers a head with a classifier gives."""
    return head.get_parameter("classifier.weight").shape[0]
