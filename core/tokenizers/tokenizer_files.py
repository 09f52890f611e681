"""Reads the tokenizer of a model folder: tokenizer.json, or the vocabulary files of older folders."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import tokenizers
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers, processors

from ..checkpoints.model_files import read_json
from ..errors import HeadwayError
from .sentencepiece_file import NAME as SENTENCEPIECE
from .sentencepiece_file import read_sentencepiece

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
ROBERTA_TOKENS = {
    "bos_token": "<s>",
    "eos_token": "</s>",
    "cls_token": "<s>",
    "sep_token": "</s>",
    "unk_token": "<unk>",
    "pad_token": "<pad>",
    "mask_token": "<mask>",
}
# Options of BERT's text normalization: name in tokenizer_config.json -> name in the tokenizers library.
NORMALIZER_OPTIONS = {
    "do_lower_case": "lowercase",
    "strip_accents": "strip_accents",
    "tokenize_chinese_chars": "handle_chinese_chars",
}
# How an added token is found in a text: the names in tokenizer_config.json and in the tokenizers library.
TOKEN_FLAGS = ("single_word", "lstrip", "rstrip", "normalized")
# The classes that say nothing about the pipeline, and those for which vocab.txt defines it completely.
GENERIC_CLASSES = ("PreTrainedTokenizerFast", "TokenizersBackend", None)
PLAIN_BERT_CLASSES = (
    *(f"{name}Tokenizer{kind}" for name in ("Bert", "DistilBert", "Electra") for kind in ("", "Fast")),
    *GENERIC_CLASSES,
)

Kind = Literal["wordpiece", "byte-level-bpe", "unigram", "words"]


def read_tokenizer(folder: Path) -> tuple[tokenizers.Tokenizer, dict[str, Any], dict[str, str]]:
    """Reads tokenizer.json, or only vocab.txt, vocab.json and merges.txt, or sentencepiece.bpe.model.

    tokenizer.json is followed unchanged. transformers 5 rebuilds the pipeline of some classes instead: BertTokenizer
    replaces another normalizer, GPT2Tokenizer drops a regex before byte-level BPE, and XLMRobertaTokenizer what a
    normalizer does to white space. Where a published folder names such a class, the ids of transformers differ from
    those of the file, and from Headway's.

    Returns:
        The library's tokenizer, the content of tokenizer_config.json, and the special tokens by their names there.

    Raises:
        HeadwayError: the vocabulary is missing, damaged, or of an unsupported kind.
    """
    config = _optional_json(folder / "tokenizer_config.json")
    backend = _read_backend(folder, config)
    backend.no_truncation()
    backend.no_padding()
    kind = kind_of(backend)
    settings = {**_optional_json(folder / "special_tokens_map.json"), **config}
    special = {**_default_tokens(backend, kind), **_special_tokens(settings, folder)}
    _add_missing_tokens(backend, folder, config)
    special = {name: token for name, token in special.items() if backend.token_to_id(token) is not None}
    added = {token.content for token in backend.get_added_tokens_decoder().values()}
    backend.add_special_tokens([token for token in dict.fromkeys(special.values()) if token not in added])
    if kind == "wordpiece":
        _set_up_wordpiece(backend, folder, config, special)
    elif kind == "byte-level-bpe":
        _set_up_byte_level(backend, folder, config)
    elif kind == "unigram":
        if not backend.num_special_tokens_to_add(False):
            raise HeadwayError(
                f"{folder}: the tokenizer puts no special tokens around a text, which models with a Unigram "
                "vocabulary need. Copy tokenizer.json again from the original model."
            )
    elif "WhitespaceSplit" not in str(backend.pre_tokenizer):
        raise _unsupported(backend, folder)
    backend.encode_special_tokens = True  # "[SEP]" in a text is text
    return backend, config, special


def kind_of(backend: tokenizers.Tokenizer) -> Kind:
    """The kind of vocabulary."""
    kinds: dict[type[models.Model], Kind] = {
        models.WordPiece: "wordpiece",
        models.Unigram: "unigram",
        models.WordLevel: "words",
    }
    return kinds.get(type(backend.model), "byte-level-bpe")


def _default_tokens(backend: tokenizers.Tokenizer, kind: Kind) -> dict[str, str]:
    """The special tokens of a folder that does not name them."""
    if kind == "words":
        return {}
    if kind == "wordpiece":
        return WORDPIECE_TOKENS
    framed = backend.num_special_tokens_to_add(False) > 0
    if kind == "unigram":  # of XLM-R, or of ALBERT, which has both spellings
        known = [(name, token) for tokens in (WORDPIECE_TOKENS, ROBERTA_TOKENS) for name, token in tokens.items()]
        return {name: token for name, token in known if backend.token_to_id(token) is not None}
    return ROBERTA_TOKENS if framed else BYTE_LEVEL_TOKENS


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
        if (name := _named_class(folder, config)) not in PLAIN_BERT_CLASSES:
            raise HeadwayError(
                f"{folder}: the class of the tokenizer is {name}, which vocab.txt alone does not define. A tokenizer "
                "that the tokenizers library can express is written to tokenizer.json by transformers' "
                "save_pretrained; otherwise choose another model."
            )
        unknown = _special_tokens(config, folder).get("unk_token", WORDPIECE_TOKENS["unk_token"])
        backend = tokenizers.Tokenizer(models.WordPiece(_read_vocab_txt(vocab_txt), unk_token=unknown))
        backend.normalizer = normalizers.BertNormalizer(lowercase=_looks_uncased(backend))
        backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    elif vocab_json.exists() and merges.exists():
        with _library_errors(vocab_json):
            backend = tokenizers.Tokenizer(models.BPE.from_file(str(vocab_json), str(merges)))
        space = bool(config.get("add_prefix_space", False))
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=space)
        backend.decoder = decoders.ByteLevel()
        if _named(folder, config).startswith("roberta"):
            _set_up_roberta(backend, space)
    elif (folder / SENTENCEPIECE).exists():
        backend = read_sentencepiece(folder / SENTENCEPIECE, camembert=_named(folder, config).startswith("camembert"))
    elif (folder / "source.spm").exists():
        raise HeadwayError(
            f"{folder}: the tokenizer is Marian's, two SentencePiece models (source.spm, target.spm) with the ids of "
            "vocab.json. Headway reads vocabularies of one file, in which the same text has the same tokens on both "
            "sides. Train a new Transformer with --size, or choose another model."
        )
    else:
        raise HeadwayError(
            f"{folder} contains no tokenizer: neither tokenizer.json, nor vocab.txt, nor vocab.json with merges.txt, "
            "nor sentencepiece.bpe.model. Copy these files from the original model. If it has only another one, such "
            "as spiece.model of an ALBERT, transformers' AutoTokenizer writes tokenizer.json with save_pretrained."
        )
    return backend


def _named_class(folder: Path, config: Mapping[str, Any]) -> str | None:
    """The class that a folder names in tokenizer_config.json, or in config.json, as some older ones do."""
    return config.get("tokenizer_class") or _optional_json(folder / "config.json").get("tokenizer_class")


def _named(folder: Path, config: Mapping[str, Any]) -> str:
    """What a folder without tokenizer.json says about its tokenizer: a class or a model type, in lower case."""
    name = _named_class(folder, config)
    return str(_optional_json(folder / "config.json").get("model_type") if name in GENERIC_CLASSES else name).lower()


def _set_up_roberta(backend: tokenizers.Tokenizer, space: bool) -> None:
    start, end, mask = (ROBERTA_TOKENS[name] for name in ("cls_token", "sep_token", "mask_token"))
    others = [token for token in dict.fromkeys(ROBERTA_TOKENS.values()) if token != mask]
    backend.add_special_tokens([*others, AddedToken(mask, lstrip=True, special=True)])
    start_id, end_id = backend.token_to_id(start), backend.token_to_id(end)
    assert start_id is not None
    assert end_id is not None
    options = {"trim_offsets": True, "add_prefix_space": space}
    backend.post_processor = processors.RobertaProcessing((end, end_id), (start, start_id), **options)


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
        f"{folder}: the tokenizer is a {type(backend.model).__name__}; Headway supports WordPiece (BERT), byte-level "
        "BPE (GPT-2, RoBERTa), Unigram (XLM-R) and whole words separated by white space. Choose another model."
    )


def _ends_texts(backend: tokenizers.Tokenizer) -> bool:
    """Whether a tokenizer puts its special token after a text."""
    return backend.encode("a").special_tokens_mask[-1] == 1


def _set_up_byte_level(backend: tokenizers.Tokenizer, folder: Path, config: Mapping[str, Any]) -> None:
    if not isinstance(backend.model, models.BPE) or "ByteLevel" not in str(backend.pre_tokenizer):
        raise _unsupported(backend, folder)
    added = backend.num_special_tokens_to_add(False)
    if (added == 1 and not _ends_texts(backend)) or (not added and config.get("add_bos_token")):
        raise HeadwayError(
            f"{folder}: the tokenizer puts a special token before a text; Headway supports tokens on both sides "
            "(RoBERTa), after a text (Transformer) or none (GPT-2). Choose another model."
        )
    space = bool(config.get("add_prefix_space", False))
    if isinstance(backend.pre_tokenizer, pre_tokenizers.ByteLevel) and "add_prefix_space" in config:
        backend.pre_tokenizer.add_prefix_space = space
    if not added:  # its only effect is to exclude a leading space from a token's offsets
        backend.post_processor = processors.ByteLevel(add_prefix_space=space, trim_offsets=True)
