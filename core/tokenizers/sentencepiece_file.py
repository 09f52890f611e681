"""Reads sentencepiece.bpe.model, in which XLM-R and CamemBERT publish a vocabulary without tokenizer.json.

It is a protocol buffer of SentencePiece (Kudo and Richardson 2018, https://arxiv.org/abs/1808.06226); the numbers of
its fields are those of https://github.com/google/sentencepiece/blob/master/src/sentencepiece_model.proto. The pipeline
is the one that transformers publishes for these models.
"""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from ..errors import HeadwayError

NAME = "sentencepiece.bpe.model"
PIECES, TRAINER, NORMALIZER = 1, 2, 3  # fields of the whole
PIECE, SCORE = 1, 2  # fields of a piece
MODEL_TYPE, UNIGRAM = 3, 1  # a field of TRAINER, and its default
CHARSMAP = 2  # a field of NORMALIZER
UNKNOWN_ID = 3
# The tokens before the pieces, and how many pieces these replace.
XLM_R = ((("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)), 3)
CAMEMBERT = ((("<s>NOTUSED", 0.0), ("<pad>", 0.0), ("</s>NOTUSED", 0.0), ("<unk>", 0.0), ("<unk>NOTUSED", -100.0)), 1)
SPECIAL_TOKENS = ("<s>", "<pad>", "</s>", "<unk>")


def read_sentencepiece(path: Path, *, camembert: bool) -> Tokenizer:
    """The tokenizer of a file.

    Args:
        path: the file.
        camembert: whether the vocabulary starts as CamemBERT's does, instead of XLM-R's.

    Raises:
        HeadwayError: the file is damaged, or its vocabulary is not a Unigram one.
    """
    try:
        whole = list(_fields(path.read_bytes()))
        pieces = [dict(_fields(value)) for field, value in whole if field == PIECES]
        scored = [(piece[PIECE].decode(), struct.unpack("<f", piece.get(SCORE, bytes(4)))[0]) for piece in pieces]
        trainer, normalizer = (dict(_fields(dict(whole).get(field, b""))) for field in (TRAINER, NORMALIZER))
    except (IndexError, KeyError, TypeError, AttributeError, ValueError, struct.error) as error:
        raise HeadwayError(f"{path} is not a file of SentencePiece. Copy it again from the original model.") from error
    if trainer.get(MODEL_TYPE, UNIGRAM) != UNIGRAM:
        raise HeadwayError(f"{path}: the vocabulary is not a Unigram one. Use a folder with tokenizer.json.")
    before, replaced = CAMEMBERT if camembert else XLM_R
    vocabulary = [*before, *scored[replaced:], ("<mask>", 0.0)]
    tokenizer = Tokenizer(models.Unigram(vocabulary, unk_id=UNKNOWN_ID, byte_fallback=False))
    if charsmap := normalizer.get(CHARSMAP):
        tokenizer.normalizer = normalizers.Precompiled(charsmap)
    space: dict[str, Any] = {"replacement": "\N{LOWER ONE EIGHTH BLOCK}", "prepend_scheme": "always"}
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(**space)]
    )
    tokenizer.decoder = decoders.Metaspace(**space)
    tokenizer.add_special_tokens([*SPECIAL_TOKENS, AddedToken("<mask>", lstrip=True, special=True)])
    ids = [(token, tokenizer.token_to_id(token)) for token in ("<s>", "</s>")]
    tokenizer.post_processor = processors.TemplateProcessing("<s> $A </s>", "<s> $A </s> </s> $B </s>", ids)
    return tokenizer


def _fields(data: bytes) -> Iterator[tuple[int, Any]]:
    """The fields of a message by their numbers: integers, or the bytes of anything else."""
    at = 0

    def integer() -> int:
        nonlocal at
        value, shift = 0, 0
        while True:
            byte = data[at]
            value, shift, at = value | (byte & 0x7F) << shift, shift + 7, at + 1
            if byte < 0x80:
                return value

    while at < len(data):
        key = integer()
        if key & 7 == 0:
            yield key >> 3, integer()
            continue
        size = {1: 8, 5: 4}[key & 7] if key & 7 != 2 else integer()
        if at + size > len(data):
            raise IndexError(at + size)
        yield key >> 3, data[at : at + size]
        at += size
