"""Tokenization: text to token ids with offsets, and back.

A thin layer over the tokenizers library, which transformers' fast tokenizers use as well: the ids are those of
tokenizer.json, without the two seconds that importing transformers takes. WordPiece follows BERT (Devlin et al. 2019),
byte-level BPE GPT-2 (Radford et al. 2019), Unigram SentencePiece (Kudo 2018, https://arxiv.org/abs/1804.10959); a
vocabulary of whole words, split at white space, is for other sequences than language.

All offsets count code points of the original text.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import tokenizers
from tokenizers import normalizers, pre_tokenizers

from ..errors import HeadwayError
from .framing import Framing
from .tokenizer_files import NORMALIZER_OPTIONS, Kind, kind_of, read_tokenizer

CONTINUED = "##"  # before a token of BERT's that continues a word
SPACE = "\N{LOWER ONE EIGHTH BLOCK}"  # in SentencePiece's tokens
WORD_STARTS = {"unigram": SPACE, "byte-level-bpe": "\N{LATIN CAPITAL LETTER G WITH DOT ABOVE}"}  # which is a space
DECODER_TOKENIZER = "decoder_tokenizer"  # a folder in that of an encoder-decoder
GENERIC_CLASS = "PreTrainedTokenizerFast"  # of transformers: it reads tokenizer.json as it is
# Classes of transformers, and others that build the same pipeline from a vocabulary.
SAME_PIPELINE = {
    "BertTokenizer": ("BertTokenizerFast", "DistilBertTokenizer", "DistilBertTokenizerFast", "ElectraTokenizer",
                      "ElectraTokenizerFast"),
    "RobertaTokenizer": ("RobertaTokenizerFast",),
    "GPT2Tokenizer": ("GPT2TokenizerFast",),
}  # fmt: skip


@dataclass(frozen=True)
class Encoding:
    """The tokens of a text."""

    ids: list[int]
    offsets: list[tuple[int, int]]  # text[start:end] is the text of the token, without a leading space
    word_ids: list[int | None]  # index of the token's word, from 0


class Tokenizer:
    """The tokenizer of a model folder; created by `Tokenizer.load`.

    The parts of an encoder-decoder may have different vocabularies. Then the folder itself holds the encoder's
    tokenizer, which transformers opens with the folder, and its folder `decoder_tokenizer` that of the decoder.
    """

    decoder: "Tokenizer | None" = None  # of an encoder-decoder's decoder, if it is another one

    def __init__(self, backend: tokenizers.Tokenizer, config: Mapping[str, Any], special: Mapping[str, str]) -> None:
        self._backend = backend
        self._config = dict(config)
        self._special = dict(special)
        self.kind: Kind = kind_of(backend)
        unframed = self.kind == "byte-level-bpe" and not backend.num_special_tokens_to_add(False)
        self.framing = (
            Framing() if unframed else Framing.of(backend, special)
        )  # a GPT-2 that has [CLS] does not use it
        self.cls_id, self.sep_id = (next(iter(ids), None) for ids in (self.framing.before, self.framing.after))
        self.vocab_size: int = backend.get_vocab_size(with_added_tokens=True)
        names = ("mask_token", "unk_token", "pad_token")
        self.mask_id, self.unk_id, self.pad_id = (self._special_id(name) for name in names)
        self.end_of_text_id = None if self.framing.before else self._special_id("eos_token")

    @cached_property
    def _special_ids(self) -> set[int]:
        return {i for token in self._special.values() if (i := self._backend.token_to_id(token)) is not None}

    def _special_id(self, name: str) -> int | None:
        return self._backend.token_to_id(self._special[name]) if name in self._special else None

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Reads tokenizer.json, or only vocab.txt, vocab.json and merges.txt, or sentencepiece.bpe.model.

        The pipeline is that of the file, even where transformers would rebuild it from the name of a class. Only the
        options of tokenizer_config.json for lower case, accents and Chinese override tokenizer.json, as in
        transformers. Truncation and padding stored in tokenizer.json are disabled.

        Raises:
            HeadwayError: the vocabulary is missing, damaged, or of an unsupported kind.
        """
        tokenizer = cls(*read_tokenizer(folder))
        if (folder / DECODER_TOKENIZER).is_dir():
            tokenizer.decoder = cls(*read_tokenizer(folder / DECODER_TOKENIZER))
        return tokenizer

    @property
    def of_outputs(self) -> "Tokenizer":
        """The tokenizer of what a model writes: the decoder's."""
        return self.decoder or self

    def can_end(self, token_id: int | None) -> bool:
        """Whether a token is one that ends texts: the last one around a text, or the end-of-text token."""
        return token_id is not None and token_id in (self.sep_id, self._special_id("eos_token"))

    def check_fits(self, model_vocab_size: int, model: str | Path) -> None:
        """Checks that a model has an embedding for every token.

        Raises:
            HeadwayError: the vocabulary is larger than the model's.
        """
        if self.vocab_size > model_vocab_size:
            raise HeadwayError(
                f"{model}: the tokenizer has {self.vocab_size} tokens and the model {model_vocab_size}: they do not "
                "belong together. Copy or download the model folder again."
            )

    def save(self, folder: Path, *, segments: bool | None = None) -> None:
        """Writes tokenizer.json and tokenizer_config.json, which transformers reads, into an existing folder.

        Args:
            folder: of the model.
            segments: whether the model reads segment ids. transformers gives a model what the tokenizer's class
                returns by default; some models refuse segment ids, and GPT-2 would add the embedding of the
                token with that number. Default: as the tokenizer's configuration says.
        """
        fields: dict[str, Any] = {"tokenizer_class": self._published_class()}
        if segments is not None:
            of_segments = ["token_type_ids"] if segments else []
            fields["model_input_names"] = ["input_ids", *of_segments, "attention_mask"]
        normalizer = self._backend.normalizer
        if self.kind == "wordpiece" and isinstance(normalizer, normalizers.BertNormalizer):
            fields |= {name: getattr(normalizer, option) for name, option in NORMALIZER_OPTIONS.items()}
        # The original configuration, with the options in use.
        fields = {**self._special, **self._config, **fields}
        text = json.dumps(fields, indent=2, sort_keys=True) + "\n"
        (folder / "tokenizer_config.json").write_text(text, encoding="utf-8")
        (folder / "tokenizer.json").write_text(self._backend.to_str(pretty=True), encoding="utf-8")
        if self.decoder is not None:
            (folder / DECODER_TOKENIZER).mkdir(exist_ok=True)
            self.decoder.save(folder / DECODER_TOKENIZER)

    def _published_class(self) -> str:
        """A class of transformers that gives the same ids; most keep only the vocabulary and rebuild the rest."""
        normalizer, split = self._backend.normalizer, self._backend.pre_tokenizer
        found = GENERIC_CLASS
        if isinstance(split, pre_tokenizers.BertPreTokenizer) and isinstance(normalizer, normalizers.BertNormalizer):
            found = "BertTokenizer" if normalizer.clean_text and self.framing.second_segment else GENERIC_CLASS
        elif isinstance(split, pre_tokenizers.ByteLevel) and split.use_regex and normalizer is None:
            framed = "RobertaTokenizer" if self.framing.before else GENERIC_CLASS
            found = framed if self.framing.after else "GPT2Tokenizer"
        original = str(self._config.get("tokenizer_class"))
        return original if original in SAME_PIPELINE.get(found, ()) else found

    def encode(self, text: str, *, allow_special: bool = False) -> Encoding:
        """Encodes a text, without special tokens around it.

        Args:
            text: any text; an empty one has no tokens.
            allow_special: whether "[MASK]" and other special tokens in the text are encoded as such, as transformers
                always does.
        """
        backend = self._with_special if allow_special else self._backend
        return self._encoding(text, backend.encode(_encodable(text), add_special_tokens=False))

    def encode_batch(self, texts: Sequence[str]) -> list[Encoding]:
        """Encodes several texts in parallel, as `encode`."""
        cleaned = [_encodable(text) for text in texts]
        encodings = self._backend.encode_batch(cleaned, add_special_tokens=False)
        return [self._encoding(text, one) for text, one in zip(texts, encodings, strict=True)]

    def _encoding(self, text: str, encoding: tokenizers.Encoding) -> Encoding:
        offsets = encoding.offsets
        if self.kind == "unigram":  # the space before a word is a part of its first token, or a separate token
            offsets = [
                (start, start) if token == SPACE else (end - len(text[start:end].lstrip()), end)
                for token, (start, end) in zip(encoding.tokens, offsets, strict=True)
            ]
        return Encoding(encoding.ids, offsets, encoding.word_ids)

    def unknown(self, text: str) -> list[str]:
        """The parts of a text that the vocabulary has no token for, in their order."""
        encoding = self.encode(text)
        ends = zip(encoding.ids, encoding.offsets, strict=True)
        return [text[start:stop] for token, (start, stop) in ends if token == self.unk_id]

    def encode_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of several texts, computed in parallel; faster than `encode_batch`."""
        cleaned = [_encodable(text) for text in texts]
        return [one.ids for one in self._backend.encode_batch_fast(cleaned, add_special_tokens=False)]

    def encode_words(self, words: Sequence[str]) -> Encoding:
        """Encodes a text that is split into words: word ids are indices into `words`, offsets count inside a word.

        BERT encodes each word separately; for GPT-2 every word but the first follows a space. A word has no tokens if
        it is empty or if BERT's normalization removes it (a control character).
        """
        space = " " if self.kind == "byte-level-bpe" else ""
        spaced = [_encodable(space + word if i and word else word) for i, word in enumerate(words)]
        encoding = self._backend.encode(spaced, is_pretokenized=True, add_special_tokens=False)
        if not space:
            return Encoding(encoding.ids, encoding.offsets, encoding.word_ids)
        offsets = [
            (max(start - 1, 0), max(end - 1, 0)) if word else (start, end)
            for word, (start, end) in zip(encoding.word_ids, encoding.offsets, strict=True)
        ]
        return Encoding(encoding.ids, offsets, encoding.word_ids)

    def encode_word(self, word: str) -> list[int]:
        """The ids of a word inside a text, which for byte-level BPE starts with the space before it."""
        return self.encode(f" {word}" if word and self.kind == "byte-level-bpe" else word).ids

    def decode(self, ids: Sequence[int]) -> str:
        """The text of token ids, without special tokens."""
        return self._backend.decode(list(ids), skip_special_tokens=True)

    def tokens(self, ids: Sequence[int]) -> list[str]:
        """The tokens as the vocabulary spells them; "" for an unknown id."""
        return [self._backend.id_to_token(i) or "" for i in ids]

    def begins_word(self, token: str) -> bool:
        """Whether a token as the vocabulary spells it is the beginning of a word of a text."""
        if self.kind == "wordpiece":
            return not token.startswith(CONTINUED)
        return token.startswith(WORD_STARTS[self.kind]) if self.kind in WORD_STARTS else True

    def spell(self, token: int) -> str:
        """A token by its id as BERT's vocabulary would spell it: "##" and its letters if it continues a word."""
        (spelt,) = self.tokens([token])
        if self.kind == "wordpiece" or not spelt or token in self._special_ids:
            return spelt
        letters = self.decode([token]).strip() if self.kind == "byte-level-bpe" else spelt.removeprefix(SPACE)
        return letters if self.begins_word(spelt) or not letters.isalnum() else CONTINUED + letters

    def id_of(self, token: str) -> int | None:
        """The id of a token as the vocabulary spells it; None if there is no such token."""
        return self._backend.token_to_id(token)

    def join(self, first: Sequence[int], second: Sequence[int] | None = None) -> tuple[list[int], list[int]]:
        """The model's input for one text or a pair of texts, with special tokens.

        BERT: `[CLS] first [SEP]`, or `[CLS] first [SEP] second [SEP]` with segment 1 from `second` on. GPT-2: the
        text, or the pair with the end-of-text token between its texts; for an empty text, the end-of-text token. The
        Transformer: `first </s>`.

        Args:
            first: token ids.
            second: token ids of the second text of a pair.

        Returns:
            Input ids and segment ids.

        Raises:
            HeadwayError: an end-of-text token is needed, but GPT-2's vocabulary has none.
        """
        if self.framing.after:
            return self.framing.join(first, second)
        if first and second is None:
            return list(first), [0] * len(first)
        if self.end_of_text_id is None:
            raise HeadwayError(
                "This vocabulary has no end-of-text token, which an empty text or a pair of texts needs. "
                'Set one as "eos_token" in tokenizer_config.json.'
            )
        head, tail = [*first, self.end_of_text_id], list(second or [])
        return head + tail, [0] * len(head) + [1] * len(tail)

    def start_of_second(self, ids: Sequence[int], segments: Sequence[int]) -> int:
        """The position of the second text of a pair that `join` returned."""
        between, start = self.framing.between, len(self.framing.before)
        return ids.index(between[0], start) + len(between) if between else segments.count(0)

    def require_mask_id(self) -> int:
        """The id of the mask token.

        Raises:
            HeadwayError: the vocabulary has no mask token.
        """
        if self.mask_id is None:
            raise HeadwayError(
                "The tokenizer's vocabulary has no mask token. Check mask_token in tokenizer_config.json, or use a "
                "model that was trained with masks."
            )
        return self.mask_id

    def num_special(self, pair: bool) -> int:
        """Number of special tokens that `join` adds to a text, or to a pair of texts."""
        return self.framing.num_tokens(pair=pair) if self.framing.after else int(pair)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._backend.encode_special_tokens = True  # the library loses it when it is copied or pickled

    @cached_property
    def vocabulary(self) -> list[str]:
        """The tokens by id."""
        return self.tokens(range(self.vocab_size))

    @cached_property
    def continues_word(self) -> list[bool]:
        """For each id, whether the token continues the word of the token before."""
        return [not self.begins_word(token) for token in self.vocabulary]

    @cached_property
    def _with_special(self) -> tokenizers.Tokenizer:
        # A copy: changing the option for one call would change it for other threads.
        copy = tokenizers.Tokenizer.from_str(self._backend.to_str())
        copy.encode_special_tokens = False
        return copy


def _encodable(text: str) -> str:
    """The text with lone surrogates (from a broken JSON escape) replaced by U+FFFD, which is one code point, too."""
    return re.sub("[\ud800-\udfff]", "\N{REPLACEMENT CHARACTER}", text)
