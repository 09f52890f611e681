"""Two published models as an encoder-decoder: the warm start of Rothe et al. 2020 (https://arxiv.org/abs/1907.12461).

`A+B` names the encoder-decoder of the encoder A and the decoder B. Their weights are kept; the cross-attention is new.
"""

import atexit
import shutil
import tempfile
from pathlib import Path

import torch

from ..errors import HeadwayError
from ..models.bert import BertConfig, BertPooler
from ..models.encoder_decoder import EncoderDecoder, EncoderDecoderConfig
from ..models.gpt2 import GPT2Config
from ..models.heads import Network, language_model_head, reads_segments
from ..tokenizers.tokenizer import Tokenizer
from .checkpoint import load_backbone, load_head, save_checkpoint
from .config_file import as_decoder, read_config
from .families.registry import FAMILIES, family_of, titles_of
from .hub import find_folder

JOINED = "+"


def find_model(name: str | Path) -> Path:
    """The folder of a model, as `find_folder`; for `A+B` a temporary one, deleted when the program ends.

    Raises:
        HeadwayError: there is no such model, or the two cannot be joined.
    """
    names = str(name).split(JOINED)
    if len(names) != 2 or not all(names) or Path(name).exists():
        return find_folder(name)
    folder = Path(tempfile.mkdtemp(prefix="headway-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    join_models(names[0], names[1], folder)
    return folder


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
