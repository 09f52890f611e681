"""Two published models as an encoder-decoder: the warm start of Rothe et al. 2020 (https://arxiv.org/abs/1907.12461).

`A+B` names the encoder-decoder of the encoder A and the decoder B. Their weights are kept; the cross-attention is new.
"""

import atexit
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch

from ..atomic_files import user_path
from ..errors import HeadwayError
from ..models.bert import BertConfig, BertPooler
from ..models.encoder_decoder import EncoderDecoder, EncoderDecoderConfig
from ..models.gpt2 import GPT2Config
from ..models.heads import Network, language_model_head, reads_segments
from ..tokenizers.tokenizer import Tokenizer
from .checkpoint import load_backbone, load_head, save_checkpoint
from .config_file import as_decoder, read_config
from .families.registry import FAMILIES, family_of, titles_of
from .hub import find_folder, is_model_name

JOINED = "+"


def find_model(name: str | Path) -> Path:
    """The folder of a model, as `find_folder`; for `A+B` a temporary one, deleted when the program ends.

    Raises:
        HeadwayError: there is no such model, or the two cannot be joined.
    """
    names = parts_of(name)
    if names is None:
        return find_folder(name)
    folder = Path(tempfile.mkdtemp(prefix="headway-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    join_models(names[0], names[1], folder)
    return folder


def parts_of(name: str | Path, known: Callable[[str], bool] = is_model_name) -> tuple[str, str] | None:
    """The names of the encoder and the decoder in `A+B`; None for the name of one model.

    Names of folders may have plus signs themselves: `name` is divided where both parts name a model.

    Args:
        name: as the user gave it.
        known: whether something can name a model: a folder, a built-in name or a hub id.

    Raises:
        HeadwayError: several divisions are possible, or none is and there are several plus signs.
    """
    pieces = str(name).split(JOINED)
    if len(pieces) == 1 or not all((pieces[0], pieces[-1])) or user_path(name).exists():
        return None
    divisions = [(JOINED.join(pieces[:i]), JOINED.join(pieces[i:])) for i in range(1, len(pieces))]
    found = [pair for pair in divisions if all(map(known, pair))]
    if len(found) > 1:
        raise HeadwayError(
            f"{name} has several plus signs: it can be read as {' or as '.join(map(' and '.join, found))}. Rename a "
            "folder, or write its path so that only one division names two models."
        )
    if not found and len(divisions) > 1:
        raise HeadwayError(
            f"{name} has several plus signs, and none of them divides it into the names of two models. Check the "
            "paths; A+B joins the encoder A with the decoder B."
        )
    return found[0] if found else divisions[0]


def join_models(encoder: str | Path, decoder: str | Path, folder: Path) -> None:
    """Writes the encoder-decoder of two models into an existing folder.

    Args:
        encoder: a relative of BERT: a folder, a built-in name or a hub id.
        decoder: a GPT-2 or a BERT.
        folder: of the new model.

    Raises:
        HeadwayError: there is no such model, it cannot be such a part, or its vocabulary has no token for the ends.
    """
    first, second = find_folder(encoder), find_folder(decoder)
    (_, reads), (_, writes) = read_config(first), read_config(second)
    if not isinstance(reads, BertConfig):
        raise HeadwayError(
            f"{encoder}{JOINED}{decoder}: the encoder is {family_of(reads).with_article}; an encoder is a "
            f"{titles_of('bert')}. Name another one before the plus sign."
        )
    if not isinstance(writes, BertConfig | GPT2Config) or not family_of(writes).cross_attention:
        able = ", ".join(family.title for family in FAMILIES.values() if family.cross_attention)
        raise HeadwayError(
            f"{encoder}{JOINED}{decoder}: the decoder is {family_of(writes).with_article}, and cross-attention is "
            f"known for {able} only. Name another one after the plus sign."
        )
    tokenizer, written = Tokenizer.load(first), Tokenizer.load(second)
    start, end = written.end_of_text_id, written.end_of_text_id
    if end is None:
        start, end = written.cls_id, written.sep_id
    if start is None or end is None:
        raise HeadwayError(f"{decoder}: its vocabulary has no token that ends a text. Name another decoder.")
    pad = end if written.pad_id is None else written.pad_id
    pooled = family_of(reads).heads["Model"].module is BertPooler
    with torch.random.fork_rng(devices=[]):  # the caller's random numbers stay what they were
        torch.manual_seed(0)
        backbone = EncoderDecoder(EncoderDecoderConfig(reads, as_decoder(writes), start, end, pad, pooled))
        part = load_backbone(first).network.backbone
        backbone.encoder.load_state_dict(part.state_dict())
        if backbone.encoder_pooler is not None:  # published files have one, which nothing reads
            load_head(Network(part, backbone.encoder_pooler), first)
        part = load_backbone(second).network.backbone
        new = backbone.decoder.load_state_dict(part.state_dict(), strict=False)
        assert not new.unexpected_keys
        assert all(".cross_" in name for name in new.missing_keys)
        source = Network(part, language_model_head(part))
        load_head(source, second)
        head = language_model_head(backbone)
        assert source.head is not None
        head.load_state_dict(source.head.state_dict())
        save_checkpoint(folder, Network(backbone, head))
    if tokenizer.vocabulary != written.vocabulary:
        tokenizer.decoder = written
    tokenizer.save(folder, segments=reads_segments(reads))
