"""Every tokenizer gives the ids of its own file, and a saved one gives the same ids in transformers."""

import base64
import json
import random
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from headway.core.errors import HeadwayError
from headway.core.tokenizers.tokenizer import Tokenizer
from transformers import AutoTokenizer

FRAMED_TOKENS = ("bos_token", "eos_token", "cls_token", "sep_token", "unk_token", "pad_token", "mask_token")
SPACE = "\N{LOWER ONE EIGHTH BLOCK}"
ALPHABETS = [
    "abcdefghijklmnopqrstuvwxyz",
    "ABCDEFGHIJKLMNOPQRSTUVWXYZ",
    "0123456789.,%",
    "äöüßéñçøåłžİıﬁﬂⅫ①½",
    "e\N{COMBINING ACUTE ACCENT}a\N{COMBINING DIAERESIS}n\N{COMBINING TILDE}o\N{COMBINING MACRON}",
    "一只猫坐在垫子上日本語カタカナひらがな한국어",
    "שלום עולם مرحبا بالعالم",
    "Привет мир Ελλάδα नमस्ते ไทย",
    "🙂👍🏽👩‍👩‍👧🇫🇷🏴‍☠️",
    " \t\n\u00a0\u2003\u200b\u200d\ufeff\u00ad",
    "!?'\"()[]{}<>#@&*-–—…_/\\|~^`",
    "\x00\x07\x7f\ufffd\ue000",
]
WORDS = [
    "the",
    "cat",
    "sat",
    "on",
    "mat",
    "quick",
    "schöner",
    "don't",
    "We're",
    "3.14",
    "London",
    "http://x.y/z?q=1#f",
]
SPECIAL = ["[MASK]", "<mask>", "[SEP]", "</s>", "<s>", "[CLS]", "<pad>", "[UNK]", "<unk>", "<|endoftext|>"]


def odd_texts(count: int = 220) -> list[str]:
    chance = random.Random(17)

    def part() -> str:
        kind = chance.random()
        if kind < 0.4:
            return chance.choice(WORDS)
        if kind < 0.5:
            return chance.choice(SPECIAL)
        return "".join(chance.choices(chance.choice(ALPHABETS), k=chance.randint(1, 6)))

    texts = [
        "".join(part() + chance.choice(["", " ", "  "]) for _ in range(chance.randint(1, 12))) for _ in range(count)
    ]
    return ["", " ", *texts, *SPECIAL]


TEXTS = odd_texts()


def changed(folder: Path, to: Path, change: Callable[[dict[str, Any]], None], **config: Any) -> Path:
    """A copy of a tokenizer's folder with another tokenizer.json."""
    content = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    change(content)
    (to / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
    settings = {**json.loads((folder / "tokenizer_config.json").read_text()), **config}
    settings = {name: value for name, value in settings.items() if value is not None}
    (to / "tokenizer_config.json").write_text(json.dumps(settings))
    return to


def charsmap(replaced: dict[str, str]) -> bytes:
    """SentencePiece's normalization: a double array of the replaced characters, and their replacements."""
    units, strings, trie = [0], b"", {}
    for key, value in replaced.items():
        node = trie
        for byte in key.encode():
            node = node.setdefault(byte, {})
        node[None], strings = len(strings), strings + value.encode() + b"\0"

    def place(node: dict[int | None, Any], position: int) -> None:
        base = -(-len(units) // 256) * 256
        units.extend([0] * (base + 256 - len(units)))
        units[position] |= (position ^ base) << 10
        if None in node:
            units[position] |= 1 << 8
            units[base] = 1 << 31 | node[None]
        for byte, child in node.items():
            if byte is not None:
                units[base ^ byte] |= byte
                place(child, base ^ byte)

    place(trie, 0)
    array = struct.pack(f"<{len(units)}I", *units)
    return struct.pack("<I", len(array)) + array + strings


PRECOMPILED = {
    "type": "Precompiled",
    "precompiled_charsmap": base64.b64encode(
        charsmap({"ﬁ": "fi", "Ⅻ": "XII", "\u00a0": " ", "\u2003": " ", "\t": " ", "½": "1/2", "\u200b": ""})
    ).decode(),
}
METASPACE = {"type": "Metaspace", "replacement": SPACE, "prepend_scheme": "always", "split": True}


def as_xlm_r(content: dict[str, Any]) -> None:
    """xlm-roberta-base and the multilingual sentence models."""
    content["normalizer"] = PRECOMPILED
    old = {"type": "Metaspace", "replacement": SPACE, "str_rep": SPACE, "add_prefix_space": True}
    content["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, old]}


def as_converted(content: dict[str, Any]) -> None:
    """What newer converters write: white space is handled by the normalizer."""
    many = {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": SPACE}
    strip = {"type": "Strip", "strip_left": False, "strip_right": True}
    content["normalizer"] = {"type": "Sequence", "normalizers": [PRECOMPILED, strip, many]}
    content["pre_tokenizer"] = METASPACE


def as_camembert(content: dict[str, Any]) -> None:
    """camembert-base: its own <s> and </s> come after five tokens, of which some are not used."""
    as_xlm_r(content)
    old = [token for token, _ in content["model"]["vocab"]]
    unused = [["<s>NOTUSED", 0.0], ["<pad>", 0.0], ["</s>NOTUSED", 0.0], ["<unk>", 0.0], ["<unk>NOTUSED", -100.0]]
    pieces = [one for one in content["model"]["vocab"] if one[0] not in ("<s>", "</s>", "<pad>", "<unk>", "<mask>")]
    content["model"]["vocab"] = [*unused, ["<s>", 0.0], ["</s>", 0.0], *pieces, ["<mask>", 0.0]]
    ids = {token: i for i, (token, _) in enumerate(content["model"]["vocab"])}
    assert len(old) == len(ids) - 3
    for token in content["added_tokens"]:
        token["id"] = ids[token["content"]]
    content["added_tokens"].sort(key=lambda token: token["id"])
    for token in content["post_processor"]["special_tokens"].values():
        token["ids"] = [ids[token["id"]]]


def as_albert(content: dict[str, Any]) -> None:
    """albert-base-v2: BERT's special tokens and segments, and its normalization."""
    as_xlm_r(content)
    lower = [{"type": "NFKD"}, {"type": "StripAccents"}, {"type": "Lowercase"}, PRECOMPILED]
    content["normalizer"] = {"type": "Sequence", "normalizers": lower}
    names = {"<s>": "[CLS]", "</s>": "[SEP]", "<mask>": "[MASK]"}
    content["model"]["vocab"] = [[names.get(token, token), score] for token, score in content["model"]["vocab"]]
    for token in content["added_tokens"]:
        token["content"] = names.get(token["content"], token["content"])
    ids = {token: i for i, (token, _) in enumerate(content["model"]["vocab"])}
    special = {name: {"id": name, "ids": [ids[name]], "tokens": [name]} for name in ("[CLS]", "[SEP]")}
    cls_token, sep_token = ({"SpecialToken": {"id": name, "type_id": 0}} for name in special)
    last = {"SpecialToken": {"id": "[SEP]", "type_id": 1}}
    first, second = ({"Sequence": {"id": name, "type_id": i}} for i, name in enumerate("AB"))
    content["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [cls_token, first, sep_token],
        "pair": [cls_token, first, sep_token, second, last],
        "special_tokens": special,
    }


def split_first(content: dict[str, Any]) -> None:
    """GPT-2s of other languages: another regex divides the text before byte-level BPE."""
    vowels = {"type": "Split", "pattern": {"Regex": "[aeiou0-9]"}, "behavior": "Isolated", "invert": False}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    content["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [vowels, byte_level]}


def own_normalizer(content: dict[str, Any]) -> None:
    content["normalizer"] = {"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "Lowercase"}]}


def cased(content: dict[str, Any]) -> None:
    content["normalizer"]["lowercase"] = False


def spaced(content: dict[str, Any]) -> None:
    content["pre_tokenizer"]["add_prefix_space"] = True
    content["post_processor"]["add_prefix_space"] = True


# Name -> the folder that it starts from, what is changed, tokenizer_config.json, model type, and the saved class.
PIPELINES: dict[str, tuple[str, Callable[..., None], dict[str, Any], str, str]] = {
    "WordPiece": ("wordpiece_folder", lambda _: None, {}, "bert", "BertTokenizer"),
    "WordPiece, cased": ("wordpiece_folder", cased, {"do_lower_case": False}, "bert", "BertTokenizer"),
    "WordPiece, its own normalizer": ("wordpiece_folder", own_normalizer, {}, "bert", "PreTrainedTokenizerFast"),
    "byte-level BPE": ("byte_level_folder", lambda _: None, {}, "gpt2", "GPT2Tokenizer"),
    "byte-level BPE after a regex": (
        "byte_level_folder", split_first, {"tokenizer_class": None}, "gpt2", "PreTrainedTokenizerFast",
    ),
    "RoBERTa": ("roberta_tokenizer_folder", lambda _: None, {}, "roberta", "RobertaTokenizer"),
    "RoBERTa, a space first": (
        "roberta_tokenizer_folder", spaced, {"add_prefix_space": True}, "roberta", "RobertaTokenizer",
    ),
    "Unigram": ("unigram_tokenizer_folder", lambda _: None, {}, "xlm-roberta", "PreTrainedTokenizerFast"),
    "Unigram of XLM-R": (
        "unigram_tokenizer_folder", as_xlm_r, {"tokenizer_class": "XLMRobertaTokenizer"}, "xlm-roberta",
        "PreTrainedTokenizerFast",
    ),
    "Unigram, converted": (
        "unigram_tokenizer_folder", as_converted, {"tokenizer_class": "XLMRobertaTokenizer"}, "xlm-roberta",
        "PreTrainedTokenizerFast",
    ),
    "Unigram of CamemBERT": (
        "unigram_tokenizer_folder", as_camembert, {"tokenizer_class": "CamembertTokenizer"}, "camembert",
        "PreTrainedTokenizerFast",
    ),
    "Unigram of ALBERT": (
        "unigram_tokenizer_folder", as_albert, {"tokenizer_class": None, **dict.fromkeys(FRAMED_TOKENS)}, "albert",
        "PreTrainedTokenizerFast",
    ),
}  # fmt: skip


@pytest.fixture(scope="module", params=PIPELINES)
def pipeline(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """The name of a pipeline and its folder."""
    start, change, config, model_type, _ = PIPELINES[request.param]
    folder = tmp_path_factory.mktemp("pipeline")
    changed(request.getfixturevalue(start), folder, change, **config)
    (folder / "config.json").write_text(json.dumps({"model_type": model_type}))
    return request.param, folder


def test_the_ids_are_those_of_the_file(pipeline: tuple[str, Path]):
    from tokenizers import Tokenizer as Backend

    _, folder = pipeline
    tokenizer, backend = Tokenizer.load(folder), Backend.from_file(str(folder / "tokenizer.json"))
    backend.encode_special_tokens = True
    for text, found in zip(TEXTS, tokenizer.encode_batch(TEXTS), strict=True):
        assert found.ids == backend.encode(text, add_special_tokens=False).ids
        assert all(0 <= start <= end <= len(text) for start, end in found.offsets)


def test_a_saved_tokenizer_gives_the_same_ids_in_transformers(pipeline: tuple[str, Path], tmp_path: Path):
    name, folder = pipeline
    tokenizer = Tokenizer.load(folder)
    tokenizer.save(tmp_path)
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    assert json.loads((tmp_path / "tokenizer_config.json").read_text())["tokenizer_class"] == PIPELINES[name][-1]
    theirs, again = AutoTokenizer.from_pretrained(tmp_path), Tokenizer.load(tmp_path)
    assert len(TEXTS) > 200
    for text in TEXTS:
        ids = tokenizer.encode(text, allow_special=True).ids
        assert ids == again.encode(text, allow_special=True).ids
        assert ids == theirs(text, add_special_tokens=False)["input_ids"], text
        assert (
            tokenizer.encode(text).ids
            == theirs(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        )
        if text:
            framed = tokenizer.join(tokenizer.encode(text, allow_special=True).ids)[0] if ids else None
            assert framed is None or framed == theirs(text)["input_ids"]


def test_a_model_without_segments_gets_none_from_transformers(pipeline: tuple[str, Path], tmp_path: Path):
    _, folder = pipeline
    Tokenizer.load(folder).save(tmp_path, segments=False)
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    assert set(AutoTokenizer.from_pretrained(tmp_path)("the cat")) == {"input_ids", "attention_mask"}


def test_the_special_tokens_of_albert_are_found_without_their_names(unigram_tokenizer_folder: Path, tmp_path: Path):
    start, change, config, *_ = PIPELINES["Unigram of ALBERT"]
    assert start == "unigram_tokenizer_folder"
    tokenizer = Tokenizer.load(changed(unigram_tokenizer_folder, tmp_path, change, **config))
    special = [tokenizer.cls_id, tokenizer.sep_id, tokenizer.mask_id, tokenizer.pad_id, tokenizer.unk_id]
    assert tokenizer.tokens(special) == ["[CLS]", "[SEP]", "[MASK]", "<pad>", "<unk>"]
    assert tokenizer.join([7], [8])[1] == [0, 0, 0, 1, 1]


# sentencepiece.bpe.model.


def message(*fields: tuple[int, int | float | bytes]) -> bytes:
    """A protocol buffer: integers, 32-bit floats, and bytes."""

    def integer(value: int) -> bytes:
        return bytes([value & 0x7F | 0x80]) + integer(value >> 7) if value > 0x7F else bytes([value])

    written = b""
    for number, value in fields:
        if isinstance(value, bytes):
            written += integer(number << 3 | 2) + integer(len(value)) + value
        elif isinstance(value, int):
            written += integer(number << 3) + integer(value)
        else:
            written += integer(number << 3 | 5) + struct.pack("<f", value)
    return written


def sentencepiece_file(pieces: list[tuple[str, float]], model_type: int = 1) -> bytes:
    control = [("<unk>", 0.0), ("<s>", 0.0), ("</s>", 0.0)]
    listed = [(1, message((1, piece.encode()), (2, score), (3, 1))) for piece, score in [*control, *pieces]]
    charsmap = base64.b64decode(PRECOMPILED["precompiled_charsmap"])
    return message(*listed, (2, message((3, model_type), (4, 300))), (3, message((1, b"nmt_nfkc"), (2, charsmap))))


@pytest.mark.parametrize(
    ("model_type", "change"), [("xlm-roberta", as_xlm_r), ("camembert", as_camembert), ("bert", as_xlm_r)]
)
def test_a_sentencepiece_file_gives_the_ids_of_tokenizer_json(
    unigram_tokenizer_folder: Path, tmp_path: Path, model_type: str, change: Callable[..., None]
):
    (tmp_path / "json").mkdir()
    expected = Tokenizer.load(changed(unigram_tokenizer_folder, tmp_path / "json", change))
    content = json.loads((unigram_tokenizer_folder / "tokenizer.json").read_text(encoding="utf-8"))
    pieces = [(piece, score) for piece, score in content["model"]["vocab"] if not piece.startswith("<")]
    (tmp_path / "sentencepiece.bpe.model").write_bytes(sentencepiece_file(pieces))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type}))
    found = Tokenizer.load(tmp_path)
    assert [found.encode(text, allow_special=True) for text in TEXTS] == [
        expected.encode(text, allow_special=True) for text in TEXTS
    ]
    assert (found.framing, found.mask_id, found.pad_id) == (expected.framing, expected.mask_id, expected.pad_id)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (sentencepiece_file([("a", -1.0)])[:-1], "is not a file of SentencePiece"),
        (b"version https://git-lfs.github.com/spec/v1", "is not a file of SentencePiece"),
        (sentencepiece_file([("a", -1.0)], model_type=2), "not a Unigram one"),
    ],
)
def test_a_damaged_sentencepiece_file_is_refused(tmp_path: Path, content: bytes, reason: str):
    (tmp_path / "sentencepiece.bpe.model").write_bytes(content)
    with pytest.raises(HeadwayError, match=reason):
        Tokenizer.load(tmp_path)
