"""Tokenization: text to token ids with offsets, and back.

A thin layer over the tokenizers library, which transformers' fast tokenizers use as well: the ids are those of
AutoTokenizer, without the two seconds that importing it takes. WordPiece follows BERT (Devlin et al. 2019) and
byte-level BPE GPT-2 (Radford et al. 2019); a vocabulary of whole words, split at white space, is for other sequences
than language.

All offsets count code points of the original text.
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

# The special tokens of the published vocabularies; tokenizer_config.json can define others.
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
# Options of BERT's text normalization: name in tokenizer_config.json -> name in the tokenizers library.
NORMALIZER_OPTIONS = {
    "do_lower_case": "lowercase",
    "strip_accents": "strip_accents",
    "tokenize_chinese_chars": "handle_chinese_chars",
}
# The tokenizer_class written to tokenizer_config.json.
CLASSES = {"wordpiece": "BertTokenizer", "byte-level-bpe": "GPT2Tokenizer", "words": "PreTrainedTokenizerFast"}
# How an added token is found in a text: the names in tokenizer_config.json and in the tokenizers library.
TOKEN_FLAGS = ("single_word", "lstrip", "rstrip", "normalized")
# The classes for which vocab.txt defines the tokenizer completely.
PLAIN_BERT_CLASSES = ("BertTokenizer", "BertTokenizerFast", "PreTrainedTokenizerFast", "TokenizersBackend", None)


Kind = Literal["wordpiece", "byte-level-bpe", "words"]


@dataclass(frozen=True)
class Encoding:
    """The tokens of a text."""

    ids: list[int]
    offsets: list[tuple[int, int]]  # text[start:end] is the text of the token, without a leading space
    word_ids: list[int | None]  # index of the token's word, from 0


class Tokenizer:
    """The tokenizer of a model folder; created by `Tokenizer.load`."""

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
        if self.kind == "byte-level-bpe":  # a GPT-2 that has such tokens does not put them around texts
            self.cls_id = self.sep_id = None

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Reads tokenizer.json, or only vocab.txt, or only vocab.json and merges.txt.

        The options of tokenizer_config.json for lower case, accents and Chinese override tokenizer.json, as in
        transformers. Truncation and padding stored in tokenizer.json are disabled.

        Raises:
            HeadwayError: the vocabulary is missing, damaged, or of an unsupported kind.
        """
        config = _optional_json(folder / "tokenizer_config.json")
        backend = _read_backend(folder, config)
        backend.no_truncation()
        backend.no_padding()
        kind = _kind_of(backend)
        settings = {**_optional_json(folder / "special_tokens_map.json"), **config}
        defaults = {"wordpiece": WORDPIECE_TOKENS, "byte-level-bpe": BYTE_LEVEL_TOKENS, "words": {}}[kind]
        special = {**defaults, **_special_tokens(settings, folder)}
        _add_missing_tokens(backend, folder, config)
        special = {name: token for name, token in special.items() if backend.token_to_id(token) is not None}
        added = {token.content for token in backend.get_added_tokens_decoder().values()}
        backend.add_special_tokens([token for token in dict.fromkeys(special.values()) if token not in added])
        if kind == "wordpiece":
            _set_up_wordpiece(backend, folder, config, special)
        elif kind == "byte-level-bpe":
            _set_up_byte_level(backend, folder, config)
        elif "WhitespaceSplit" not in str(backend.pre_tokenizer):
            raise _unsupported(backend, folder)
        backend.encode_special_tokens = True  # "[SEP]" in a text is text
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
        """Writes tokenizer.json and tokenizer_config.json, which transformers reads, into an existing folder."""
        fields: dict[str, Any] = {"tokenizer_class": CLASSES[self.kind]}
        normalizer = self._backend.normalizer
        if self.kind == "wordpiece" and isinstance(normalizer, normalizers.BertNormalizer):
            fields |= {name: getattr(normalizer, option) for name, option in NORMALIZER_OPTIONS.items()}
        # The original configuration, with the options in use.
        fields = {"tokenizer_class": fields.pop("tokenizer_class"), **self._special, **self._config, **fields}
        text = json.dumps(fields, indent=2, sort_keys=True) + "\n"
        (folder / "tokenizer_config.json").write_text(text, encoding="utf-8")
        (folder / "tokenizer.json").write_text(self._backend.to_str(pretty=True), encoding="utf-8")

    def encode(self, text: str, *, allow_special: bool = False) -> Encoding:
        """Encodes a text, without special tokens around it.

        Args:
            text: any text; an empty one has no tokens.
            allow_special: whether "[MASK]" and other special tokens in the text are encoded as such, as transformers
                always does.
        """
        backend = self._with_special if allow_special else self._backend
        return _encoding(backend.encode(_encodable(text), add_special_tokens=False))

    def encode_batch(self, texts: Sequence[str]) -> list[Encoding]:
        """Encodes several texts in parallel, as `encode`."""
        cleaned = [_encodable(text) for text in texts]
        return [_encoding(one) for one in self._backend.encode_batch(cleaned, add_special_tokens=False)]

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
            return _encoding(encoding)
        offsets = [
            (max(start - 1, 0), max(end - 1, 0)) if word else (start, end)
            for word, (start, end) in zip(encoding.word_ids, encoding.offsets, strict=True)
        ]
        return Encoding(encoding.ids, offsets, encoding.word_ids)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of token ids, without special tokens."""
        return self._backend.decode(list(ids), skip_special_tokens=True)

    def tokens(self, ids: Sequence[int]) -> list[str]:
        """The tokens as the vocabulary spells them; "" for an unknown id."""
        return [self._backend.id_to_token(i) or "" for i in ids]

    def id_of(self, token: str) -> int | None:
        """The id of a token as the vocabulary spells it; None if there is no such token."""
        return self._backend.token_to_id(token)

    def join(self, first: Sequence[int], second: Sequence[int] | None = None) -> tuple[list[int], list[int]]:
        """The model's input for one text or a pair of texts, with special tokens.

        BERT: `[CLS] first [SEP]`, or `[CLS] first [SEP] second [SEP]` with segment 1 from `second` on. GPT-2: the
        text, or the pair with the end-of-text token between its texts; for an empty text, the end-of-text token.

        Args:
            first: token ids.
            second: token ids of the second text of a pair.

        Returns:
            Input ids and segment ids.

        Raises:
            HeadwayError: an end-of-text token is needed, but GPT-2's vocabulary has none.
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
                'Set one as "eos_token" in tokenizer_config.json.'
            )
        else:
            head, tail = [*first, self.end_of_text_id], list(second or [])
        return head + tail, [0] * len(head) + [1] * len(tail)

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
        return (3 if pair else 2) if self.cls_id is not None else int(pair)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._backend.encode_special_tokens = True  # the library loses it when it is copied or pickled

    @cached_property
    def vocabulary(self) -> list[str]:
        """The tokens by id."""
        return self.tokens(range(self.vocab_size))

    @cached_property
    def continues_word(self) -> list[bool]:
        """For each id of a WordPiece vocabulary, whether the token continues the word of the token before."""
        return [token.startswith("##") for token in self.vocabulary]

    @cached_property
    def _with_special(self) -> tokenizers.Tokenizer:
        # A copy: changing the option for one call would change it for other threads.
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
    """The text with lone surrogates (from a broken JSON escape) replaced by U+FFFD, which is one code point, too."""
    return re.sub("[\ud800-\udfff]", "\N{REPLACEMENT CHARACTER}", text)


def _optional_json(path: Path) -> dict[str, Any]:
    return read_json(path) if path.exists() else {}


def _special_tokens(settings: Mapping[str, Any], folder: Path) -> dict[str, str]:
    """The special tokens in tokenizer_config.json, where each is a string or an object with its content."""
    names = {*WORDPIECE_TOKENS, *BYTE_LEVEL_TOKENS}
    return {name: _content(settings[name], name, folder) for name in names if settings.get(name)}


def _content(token: Any, name: str, folder: Path) -> str:
    """The text of a token, which is a string or an object with its content."""
    content = token.get("content") if isinstance(token, dict) else token
    if not isinstance(content, str) or not content:
        raise HeadwayError(
            f"{folder / 'tokenizer_config.json'}: {name} is {repr(token)[:99]}, not a token. Copy the file again."
        )
    return content


def _read_backend(folder: Path, config: Mapping[str, Any]) -> tokenizers.Tokenizer:
    tokenizer_json, vocab_txt = folder / "tokenizer.json", folder / "vocab.txt"
    vocab_json, merges = folder / "vocab.json", folder / "merges.txt"
    if tokenizer_json.exists():
        with _library_errors(tokenizer_json):
            backend = tokenizers.Tokenizer.from_file(str(tokenizer_json))
    elif vocab_txt.exists():
        if config.get("tokenizer_class") not in PLAIN_BERT_CLASSES:
            raise HeadwayError(
                f"{folder}: the tokenizer is a {config['tokenizer_class']}, which vocab.txt alone does not define. "
                "Save it with transformers' save_pretrained, which writes tokenizer.json."
            )
        unknown = _special_tokens(config, folder).get("unk_token", WORDPIECE_TOKENS["unk_token"])
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
            f"{folder} contains no tokenizer: neither tokenizer.json, nor vocab.txt, nor vocab.json with merges.txt. "
            "Copy these files from the original model."
        )
    return backend


@contextmanager
def _library_errors(path: Path) -> Iterator[None]:
    """Turns errors of the tokenizers library, which are plain Exceptions, into a HeadwayError that names the file."""
    try:
        yield
    except Exception as error:
        if type(error) is not Exception:
            raise
        raise HeadwayError(
            f"{path} is damaged or not a tokenizer ({str(error)[:200]}). Copy or download it again."
        ) from error


def _read_vocab_txt(path: Path) -> dict[str, int]:
    try:
        with path.open(encoding="utf-8") as lines:
            return {line.rstrip("\n"): i for i, line in enumerate(lines)}
    except UnicodeDecodeError as error:
        raise HeadwayError(f"{path} is not a text file in UTF-8. Copy it again from the original model.") from error


def _looks_uncased(backend: tokenizers.Tokenizer) -> bool:
    """Whether no word of the vocabulary has a capital letter: it was then made from lower-cased text."""
    words = (token.removeprefix("##") for token in backend.get_vocab())
    return all(word == word.lower() for word in words if word.isalpha())


def _add_missing_tokens(backend: tokenizers.Tokenizer, folder: Path, config: Mapping[str, Any]) -> None:
    """Adds the tokens that were added to the original vocabulary; older folders list them in separate files."""
    try:
        listed: dict[int, Any] = {int(i): token for i, token in config.get("added_tokens_decoder", {}).items()}
        listed |= {int(i): token for token, i in _optional_json(folder / "added_tokens.json").items()}
    except (ValueError, TypeError, AttributeError, OverflowError) as error:
        raise HeadwayError(
            f"{folder}: added_tokens_decoder in tokenizer_config.json, or added_tokens.json, does not list tokens by "
            "their ids. Copy the file again."
        ) from error
    for i, token in sorted(listed.items()):
        content = _content(token, f"the added token {i}", folder)
        if backend.token_to_id(content) is not None:
            continue
        given = token if isinstance(token, dict) else {}
        flags = {name: bool(given[name]) for name in TOKEN_FLAGS if name in given}
        backend.add_tokens([AddedToken(content, special=bool(given.get("special")), **flags)])
        if backend.token_to_id(content) != i:
            raise HeadwayError(
                f"{folder}: the added token {content[:50]!r} should have the id {i}, but the vocabulary ends at "
                f"{backend.get_vocab_size() - 1}. The vocabulary is incomplete: copy its files again."
            )


def _set_up_wordpiece(
    backend: tokenizers.Tokenizer, folder: Path, config: Mapping[str, Any], special: Mapping[str, str]
) -> None:
    for name in ("unk_token", "cls_token", "sep_token"):
        if name not in special:
            raise HeadwayError(
                f"{folder}: the vocabulary has no {WORDPIECE_TOKENS[name]}. If the token has another name, "
                f'set it as "{name}" in tokenizer_config.json.'
            )
    if isinstance(normalizer := backend.normalizer, normalizers.BertNormalizer):
        # Very old folders have these options in config.json.
        settings = {**_optional_json(folder / "config.json"), **config}
        for name, option in NORMALIZER_OPTIONS.items():
            value = settings.get(name)
            if isinstance(value, bool) or (name == "strip_accents" and name in settings and value is None):
                setattr(normalizer, option, value)
    if backend.decoder is None:
        backend.decoder = decoders.WordPiece(prefix="##")
    if backend.post_processor is None:
        cls_token, sep_token = special["cls_token"], special["sep_token"]
        backend.post_processor = processors.TemplateProcessing(
            single=f"{cls_token} $A {sep_token}",
            pair=f"{cls_token} $A {sep_token} $B:1 {sep_token}:1",
            special_tokens=[(token, backend.token_to_id(token)) for token in (cls_token, sep_token)],
        )


def _unsupported(backend: tokenizers.Tokenizer, folder: Path) -> HeadwayError:
    return HeadwayError(
        f"{folder}: the tokenizer is a {type(backend.model).__name__}; Headway supports only WordPiece (BERT), "
        "byte-level BPE (GPT-2) and whole words separated by white space. Choose another model."
    )


def _set_up_byte_level(backend: tokenizers.Tokenizer, folder: Path, config: Mapping[str, Any]) -> None:
    if not isinstance(backend.model, models.BPE) or "ByteLevel" not in str(backend.pre_tokenizer):
        raise _unsupported(backend, folder)
    if backend.num_special_tokens_to_add(False) or config.get("add_bos_token"):
        raise HeadwayError(
            f"{folder}: the tokenizer puts special tokens around a text, which Headway supports for BERT's WordPiece "
            "only. Choose another model."
        )
    space = bool(config.get("add_prefix_space", False))
    if isinstance(backend.pre_tokenizer, pre_tokenizers.ByteLevel) and "add_prefix_space" in config:
        backend.pre_tokenizer.add_prefix_space = space
    # Its only effect is to exclude a leading space from a token's offsets.
    backend.post_processor = processors.ByteLevel(add_prefix_space=space, trim_offsets=True)
