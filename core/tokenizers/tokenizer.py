"""Text to token ids and back, with the place of every token in the text.

A thin layer over the tokenizers library, which transformers' fast tokenizers are made of: the ids are those of
transformers' AutoTokenizer, without the two seconds that importing it takes.
WordPiece is that of BERT (Devlin et al. 2019), byte-level BPE that of GPT-2 (Radford et al. 2019); a vocabulary of
whole words, split at white space, serves sequences that are no language.

All offsets count code points of the untouched text.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self

import tokenizers
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers, processors

from ..checkpoints.model_files import read_json
from ..errors import HeadwayError

# Special tokens of the published vocabularies; tokenizer_config.json may name others.
WORDPIECE_TOKENS = {
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "pad_token": "[PAD]",
    "mask_token": "[MASK]",
}
BYTE_LEVEL_TOKENS = {
    "bos_token": "<|endoftext|>",
    "eos_token": "<|endoftext|>",
    "unk_token": "<|endoftext|>",
}
# Switches of BERT's clean-up by their names in tokenizer_config.json, and in the tokenizers library.
NORMALIZER_SWITCHES = {
    "do_lower_case": "lowercase",
    "strip_accents": "strip_accents",
    "tokenize_chinese_chars": "handle_chinese_chars",
}
# What is written as tokenizer_class.
CLASSES = {"wordpiece": "BertTokenizer", "byte-level-bpe": "GPT2Tokenizer", "words": "PreTrainedTokenizerFast"}
# The classes whose rules a vocab.txt alone can follow.
PLAIN_BERT_CLASSES = ("BertTokenizer", "BertTokenizerFast", "PreTrainedTokenizerFast", "TokenizersBackend", None)


Kind = Literal["wordpiece", "byte-level-bpe", "words"]


@dataclass(frozen=True)
class Encoding:
    """A text as tokens."""

    ids: list[int]
    offsets: list[tuple[int, int]]  # text[start:end] is the token's part of the text, without a leading space
    word_ids: list[int | None]  # which word the token belongs to, counted from 0


class Tokenizer:
    """The tokenizer of a model folder; get one with `Tokenizer.load`."""

    def __init__(self, backend: tokenizers.Tokenizer, config: Mapping[str, Any], special: Mapping[str, str]) -> None:
        self._backend = backend
        self._config = dict(config)
        self._special = dict(special)
        self.kind: Kind = _kind_of(backend)
        self.vocab_size: int = backend.get_vocab_size(with_added_tokens=True)
        self.cls_id, self.sep_id, self.mask_id, self.unk_id, self.end_of_text_id = (
            backend.token_to_id(special[name]) if name in special else None
            for name in ("cls_token", "sep_token", "mask_token", "unk_token", "eos_token")
        )
        if self.kind == "byte-level-bpe":  # whatever such tokens a GPT-2 has, its texts are not framed by them
            self.cls_id = self.sep_id = None

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Reads tokenizer.json, or only vocab.txt, or only vocab.json and merges.txt.

        What tokenizer_config.json says about lower case, accents and Chinese wins over tokenizer.json, as in
        transformers. Truncation and padding stored in tokenizer.json are switched off.

        Raises:
            HeadwayError: there is no vocabulary, it is damaged, or it is of a kind that Headway does not have.
        """
        config = _optional_json(folder / "tokenizer_config.json")
        backend = _read_backend(folder, config)
        backend.no_truncation()
        backend.no_padding()
        kind = _kind_of(backend)
        named = {**_optional_json(folder / "special_tokens_map.json"), **config}
        usual = {"wordpiece": WORDPIECE_TOKENS, "byte-level-bpe": BYTE_LEVEL_TOKENS, "words": {}}[kind]
        special = {**usual, **_special_tokens(named)}
        _add_missing_tokens(backend, folder, config)
        known = [backend.token_to_id(token) is not None for token in special.values()]
        special = {name: token for (name, token), there in zip(special.items(), known, strict=True) if there}
        marked = {token.content for token in backend.get_added_tokens_decoder().values()}
        backend.add_special_tokens([t for t in dict.fromkeys(special.values()) if t not in marked])
        if kind == "wordpiece":
            _set_up_wordpiece(backend, folder, config, special)
        elif kind == "byte-level-bpe":
            _set_up_byte_level(backend, folder, config)
        elif "WhitespaceSplit" not in str(backend.pre_tokenizer):
            raise _another_kind(backend, folder)
        backend.encode_special_tokens = True  # "[SEP]" in somebody's text is text
        return cls(backend, config, special)

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

    def save(self, folder: Path) -> None:
        """Writes tokenizer.json and tokenizer_config.json, as transformers reads them, into a folder that exists."""
        fields: dict[str, Any] = {"tokenizer_class": CLASSES[self.kind]}
        normalizer = self._backend.normalizer
        if self.kind == "wordpiece" and isinstance(normalizer, normalizers.BertNormalizer):
            fields |= {name: getattr(normalizer, switch) for name, switch in NORMALIZER_SWITCHES.items()}
        # What the folder came with stays; the switches are those in force.
        fields = {"tokenizer_class": fields.pop("tokenizer_class"), **self._special, **self._config, **fields}
        text = json.dumps(fields, indent=2, sort_keys=True) + "\n"
        (folder / "tokenizer_config.json").write_text(text, encoding="utf-8")
        (folder / "tokenizer.json").write_text(self._backend.to_str(pretty=True), encoding="utf-8")

    def encode(self, text: str, *, allow_special: bool = False) -> Encoding:
        """One text as tokens, without special tokens around it.

        Args:
            text: any text; an empty one has no tokens.
            allow_special: read "[MASK]" and the like as the special tokens, as transformers always does.
        """
        backend = self._with_special if allow_special else self._backend
        return _encoding(backend.encode(_encodable(text), add_special_tokens=False))

    def encode_batch(self, texts: Sequence[str]) -> list[Encoding]:
        """Several texts at once, on all processor cores."""
        cleaned = [_encodable(text) for text in texts]
        return [_encoding(one) for one in self._backend.encode_batch(cleaned, add_special_tokens=False)]

    def encode_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids alone of several texts, on all processor cores: for texts of which nothing else is asked."""
        cleaned = [_encodable(text) for text in texts]
        return [one.ids for one in self._backend.encode_batch_fast(cleaned, add_special_tokens=False)]

    def encode_words(self, words: Sequence[str]) -> Encoding:
        """A text that is split into words already: word ids are positions in `words`, offsets count inside the word.

        BERT reads each word on its own; for GPT-2 every word but the first has a space before it. An empty word has no
        tokens, and neither has one of which BERT's clean-up leaves nothing (a control character).
        """
        space = " " if self.kind == "byte-level-bpe" else ""
        spaced = [_encodable(space + word if i and word else word) for i, word in enumerate(words)]
        encoding = self._backend.encode(spaced, is_pretokenized=True, add_special_tokens=False)
        if not space:
            return _encoding(encoding)
        offsets = [
            (max(start - 1, 0), max(end - 1, 0)) if word else (start, end)
            for word, (start, end) in zip(encoding.word_ids, encoding.offsets, strict=True)
        ]
        return Encoding(encoding.ids, offsets, encoding.word_ids)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of some tokens, without special ones."""
        return self._backend.decode(list(ids), skip_special_tokens=True)

    def tokens(self, ids: Sequence[int]) -> list[str]:
        """The tokens as the vocabulary writes them; "" for an id beyond it."""
        return [self._backend.id_to_token(i) or "" for i in ids]

    def id_of(self, token: str) -> int | None:
        """The id of a token as the vocabulary writes it; None where it has no such token."""
        return self._backend.token_to_id(token)

    def join(self, first: Sequence[int], second: Sequence[int] | None = None) -> tuple[list[int], list[int]]:
        """One sequence for the model from one text or two: (input ids, segment ids).

        BERT: `[CLS] first [SEP]`, or `[CLS] first [SEP] second [SEP]` with segment 1 from `second` on.
        GPT-2: the text itself, or the two with the end-of-text token between them; an empty text becomes the
        end-of-text token.

        Raises:
            HeadwayError: GPT-2's vocabulary has no end-of-text token, and one is needed.
        """
        if self.cls_id is not None:
            assert self.sep_id is not None
            head = [self.cls_id, *first, self.sep_id]
            tail = [] if second is None else [*second, self.sep_id]
        elif first and second is None:
            head, tail = list(first), []
        elif self.end_of_text_id is None:
            raise HeadwayError(
                "This vocabulary has no end-of-text token, which an empty text or a pair of texts needs. "
                'Name one as "eos_token" in tokenizer_config.json.'
            )
        else:
            head, tail = [*first, self.end_of_text_id], list(second or [])
        return head + tail, [0] * len(head) + [1] * len(tail)

    def num_special(self, pair: bool) -> int:
        """How many tokens `join` adds to a text, or to a pair of texts."""
        return (3 if pair else 2) if self.cls_id is not None else int(pair)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._backend.encode_special_tokens = True  # the library forgets it when it is copied or sent elsewhere

    @cached_property
    def _with_special(self) -> tokenizers.Tokenizer:
        # A copy: changing the switch for one call would change it for another thread's.
        copy = tokenizers.Tokenizer.from_str(self._backend.to_str())
        copy.encode_special_tokens = False
        return copy


def _kind_of(backend: tokenizers.Tokenizer) -> Kind:
    if isinstance(backend.model, models.WordPiece):
        return "wordpiece"
    return "words" if isinstance(backend.model, models.WordLevel) else "byte-level-bpe"


def _encoding(encoding: tokenizers.Encoding) -> Encoding:
    return Encoding(encoding.ids, encoding.offsets, encoding.word_ids)


def _encodable(text: str) -> str:
    """Half a surrogate pair (from a broken JSON escape) is no character: one replacement character stands for it."""
    return re.sub("[\ud800-\udfff]", "\N{REPLACEMENT CHARACTER}", text)


def _optional_json(path: Path) -> dict[str, Any]:
    return read_json(path) if path.exists() else {}


def _special_tokens(named: Mapping[str, Any]) -> dict[str, str]:
    """The special tokens that a configuration names: strings, or objects with their content."""
    names = {*WORDPIECE_TOKENS, *BYTE_LEVEL_TOKENS}
    found = {name: named[name] for name in names if named.get(name)}
    return {name: str(token["content"] if isinstance(token, dict) else token) for name, token in found.items()}


def _read_backend(folder: Path, config: Mapping[str, Any]) -> tokenizers.Tokenizer:
    whole, vocab_txt = folder / "tokenizer.json", folder / "vocab.txt"
    vocab_json, merges = folder / "vocab.json", folder / "merges.txt"
    if whole.exists():
        with _library_errors(whole):
            backend = tokenizers.Tokenizer.from_file(str(whole))
    elif vocab_txt.exists():
        if config.get("tokenizer_class") not in PLAIN_BERT_CLASSES:
            raise HeadwayError(
                f"{folder}: the tokenizer is a {config['tokenizer_class']}, whose rules vocab.txt does not hold. "
                "Save it once with transformers' save_pretrained, which writes tokenizer.json."
            )
        unknown = _special_tokens(config).get("unk_token", WORDPIECE_TOKENS["unk_token"])
        backend = tokenizers.Tokenizer(models.WordPiece(_read_vocab_txt(vocab_txt), unk_token=unknown))
        backend.normalizer = normalizers.BertNormalizer(lowercase=_looks_uncased(backend))
        backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    elif vocab_json.exists() and merges.exists():
        with _library_errors(vocab_json):
            backend = tokenizers.Tokenizer(models.BPE.from_file(str(vocab_json), str(merges)))
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        backend.decoder = decoders.ByteLevel()
    else:
        raise HeadwayError(
            f"{folder} holds no tokenizer: neither tokenizer.json, nor vocab.txt, nor vocab.json with merges.txt. "
            "Copy them into it from where the model came from."
        )
    return backend


@contextmanager
def _library_errors(path: Path) -> Iterator[None]:
    """Says which file the tokenizers library could not read; it raises nothing more precise than Exception."""
    try:
        yield
    except Exception as error:
        if type(error) is not Exception:
            raise
        raise HeadwayError(f"{path} is damaged or not a tokenizer ({error}). Copy or download it again.") from error


def _read_vocab_txt(path: Path) -> dict[str, int]:
    try:
        with path.open(encoding="utf-8") as lines:
            return {line.rstrip("\n"): i for i, line in enumerate(lines)}
    except UnicodeDecodeError as error:
        raise HeadwayError(f"{path} is not a text file in UTF-8. Copy it again from where the model came.") from error


def _looks_uncased(backend: tokenizers.Tokenizer) -> bool:
    """A vocabulary that writes no word with a capital letter was made for lower-cased text."""
    words = (token.removeprefix("##") for token in backend.get_vocab())
    return all(word == word.lower() for word in words if word.isalpha())


def _add_missing_tokens(backend: tokenizers.Tokenizer, folder: Path, config: Mapping[str, Any]) -> None:
    """Adds the tokens that somebody added to the vocabulary, which older folders list beside it."""
    listed = {int(i): token for i, token in config.get("added_tokens_decoder", {}).items()}
    listed |= {i: {"content": token} for token, i in _optional_json(folder / "added_tokens.json").items()}
    for i, token in sorted(listed.items()):
        content = token["content"]
        if backend.token_to_id(content) is not None:
            continue
        flags = {
            name: bool(token[name]) for name in ("single_word", "lstrip", "rstrip", "normalized") if name in token
        }
        backend.add_tokens([AddedToken(content, special=bool(token.get("special")), **flags)])
        if backend.token_to_id(content) != i:
            raise HeadwayError(
                f"{folder}: the added token {content!r} should have the number {i}, but the vocabulary ends at "
                f"{backend.get_vocab_size() - 1}. The vocabulary is not complete: copy its files again."
            )


def _set_up_wordpiece(
    backend: tokenizers.Tokenizer, folder: Path, config: Mapping[str, Any], special: Mapping[str, str]
) -> None:
    for name in ("unk_token", "cls_token", "sep_token"):
        if name not in special:
            raise HeadwayError(
                f"{folder}: the vocabulary has no {WORDPIECE_TOKENS[name]}. If it goes by another name, "
                f'say so as "{name}" in tokenizer_config.json.'
            )
    if isinstance(normalizer := backend.normalizer, normalizers.BertNormalizer):
        # Very old folders say so in config.json.
        said = {**_optional_json(folder / "config.json"), **config}
        for name, switch in NORMALIZER_SWITCHES.items():
            value = said.get(name)
            if isinstance(value, bool) or (name == "strip_accents" and name in said and value is None):
                setattr(normalizer, switch, value)
    if backend.decoder is None:
        backend.decoder = decoders.WordPiece(prefix="##")
    if backend.post_processor is None:
        cls_token, sep_token = special["cls_token"], special["sep_token"]
        backend.post_processor = processors.TemplateProcessing(
            single=f"{cls_token} $A {sep_token}",
            pair=f"{cls_token} $A {sep_token} $B:1 {sep_token}:1",
            special_tokens=[(token, backend.token_to_id(token)) for token in (cls_token, sep_token)],
        )


def _another_kind(backend: tokenizers.Tokenizer, folder: Path) -> HeadwayError:
    return HeadwayError(
        f"{folder}: the tokenizer is a {type(backend.model).__name__}; Headway reads WordPiece (BERT), byte-level BPE "
        "(GPT-2) and whole words between white space only. Choose another model."
    )


def _set_up_byte_level(backend: tokenizers.Tokenizer, folder: Path, config: Mapping[str, Any]) -> None:
    if not isinstance(backend.model, models.BPE) or "ByteLevel" not in str(backend.pre_tokenizer):
        raise _another_kind(backend, folder)
    if backend.num_special_tokens_to_add(False) or config.get("add_bos_token"):
        raise HeadwayError(
            f"{folder}: the tokenizer puts special tokens of its own around a text, which Headway does for BERT's "
            "WordPiece only. Choose another model."
        )
    space = bool(config.get("add_prefix_space", False))
    if isinstance(backend.pre_tokenizer, pre_tokenizers.ByteLevel) and "add_prefix_space" in config:
        backend.pre_tokenizer.add_prefix_space = space
    # Its only work is to keep a leading space out of a token's place in the text.
    backend.post_processor = processors.ByteLevel(add_prefix_space=space, trim_offsets=True)
