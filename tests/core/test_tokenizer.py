"""Token ids equal those of transformers, and offsets refer to the original text."""

import itertools
import json
import pickle
import shutil
from copy import deepcopy

import pytest
from headway.core.errors import HeadwayError
from headway.core.tokenizers.tokenizer import Encoding, Tokenizer
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

# Emoji of several code points, combining marks, accents, ligatures, Chinese, right-to-left, control characters.
ODD_TEXTS = [
    "",
    " ",
    "\n\t ",
    "Hello, World!  two  spaces",
    "naïve café, e\N{COMBINING ACUTE ACCENT}tude, İstanbul, Straße, ﬁne",
    "family 👩‍👩‍👧 flag 🇫🇷 thumbs 👍🏽 end",
    "一只猫坐在垫子上 with English",
    "שלום עולם и Привет",
    "null \x00 bell \x07 zero-width \u200b replacement \N{REPLACEMENT CHARACTER}",
    "don't you're 3.14 a_b http://x.y/z?q=1#f",
    "[CLS] typed [SEP] by [MASK] hand <|endoftext|> [UNK]",
    "word" * 60,
]
PUBLISHED = ["bert-base-uncased", "bert-base-cased", "bert-base-chinese", "gpt2"]


@pytest.fixture(scope="module", params=["wordpiece_folder", "byte_level_folder"])
def folder(request):
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="module")
def tokenizer(folder):
    return Tokenizer.load(folder)


@pytest.fixture(scope="module")
def wordpiece(wordpiece_folder):
    return Tokenizer.load(wordpiece_folder)


@pytest.fixture(scope="module")
def byte_level(byte_level_folder):
    return Tokenizer.load(byte_level_folder)


def copy(folder, to, *names, **config):
    """Copies some files of a tokenizer's folder, with another tokenizer_config.json."""
    to.mkdir(exist_ok=True)
    for name in names:
        shutil.copy(folder / name, to)
    if config:
        (to / "tokenizer_config.json").write_text(json.dumps(config))
    return to


def vocab_only(folder, to, **config):
    """Writes the same vocabulary in the format of older folders, without tokenizer.json."""
    to.mkdir(exist_ok=True)
    model = json.loads((folder / "tokenizer.json").read_text())["model"]
    if model["type"] == "WordPiece":
        (to / "vocab.txt").write_text("\n".join(model["vocab"]) + "\n", encoding="utf-8")
    else:
        (to / "vocab.json").write_text(json.dumps(model["vocab"]), encoding="utf-8")
        merges = "\n".join(" ".join(pair) for pair in model["merges"])
        (to / "merges.txt").write_text(f"#version: 0.2\n{merges}\n", encoding="utf-8")
    if config:
        (to / "tokenizer_config.json").write_text(json.dumps(config))
    return to


def assert_equals_transformers(folder, texts, model_type):
    """Compares the ids of texts, one by one, in a batch and joined, with and without special tokens."""
    tokenizer = Tokenizer.load(folder)
    (folder / "config.json").write_text(json.dumps({"model_type": model_type}))
    theirs = AutoTokenizer.from_pretrained(folder)
    encodings = tokenizer.encode_batch(texts)
    assert encodings == [tokenizer.encode(text) for text in texts]
    plain = theirs(texts, add_special_tokens=False, split_special_tokens=True, verbose=False)["input_ids"]
    assert [encoding.ids for encoding in encodings] == plain
    special = theirs(texts, add_special_tokens=False, verbose=False)["input_ids"]
    assert [tokenizer.encode(text, allow_special=True).ids for text in texts] == special
    if tokenizer.kind == "wordpiece":
        for first, second in itertools.pairwise(texts[:200]):
            expected = theirs(first, second, split_special_tokens=True, verbose=False)
            joined = tokenizer.join(tokenizer.encode(first).ids, tokenizer.encode(second).ids)
            assert joined == (expected["input_ids"], expected["token_type_ids"])
            expected = theirs(first, split_special_tokens=True, verbose=False)
            assert tokenizer.join(tokenizer.encode(first).ids) == (expected["input_ids"], expected["token_type_ids"])
    return tokenizer, theirs


def test_a_folder_with_tokenizer_json_gives_the_ids_of_transformers(tokenizer, folder, tmp_path):
    config = json.loads((folder / "tokenizer_config.json").read_text())
    kind = "bert" if tokenizer.kind == "wordpiece" else "gpt2"
    assert_equals_transformers(copy(folder, tmp_path, "tokenizer.json", **config), ODD_TEXTS, kind)


def test_a_folder_with_only_a_vocabulary_gives_the_same_tokenizer(tokenizer, folder, tmp_path):
    kind = "bert" if tokenizer.kind == "wordpiece" else "gpt2"
    old, _ = assert_equals_transformers(vocab_only(folder, tmp_path), ODD_TEXTS, kind)
    assert old.encode_batch(ODD_TEXTS) == tokenizer.encode_batch(ODD_TEXTS)
    for name in ("kind", "vocab_size", "cls_id", "sep_id", "mask_id", "unk_id", "end_of_text_id"):
        assert getattr(old, name) == getattr(tokenizer, name)


@pytest.mark.parametrize(
    "options",
    [
        {"do_lower_case": False},
        {"do_lower_case": True, "strip_accents": False},
        {"do_lower_case": False, "strip_accents": True},
        {"do_lower_case": True, "tokenize_chinese_chars": False},
    ],
)
@pytest.mark.parametrize("files", ["tokenizer.json", "vocab.txt"])
def test_tokenizer_config_overrides_tokenizer_json(wordpiece_folder, tmp_path, files, options):
    config = {"tokenizer_class": "BertTokenizer", **options}
    if files == "vocab.txt":
        changed = vocab_only(wordpiece_folder, tmp_path / "changed", **config)
    else:
        changed = copy(wordpiece_folder, tmp_path / "changed", files, **config)
    tokenizer, theirs = assert_equals_transformers(changed, ODD_TEXTS, "bert")
    tokenizer.save(copy(wordpiece_folder, tmp_path / "saved"))
    shutil.copy(changed / "config.json", tmp_path / "saved")
    again = AutoTokenizer.from_pretrained(tmp_path / "saved")
    assert again(ODD_TEXTS)["input_ids"] == theirs(ODD_TEXTS)["input_ids"]
    assert Tokenizer.load(tmp_path / "saved").encode_batch(ODD_TEXTS) == tokenizer.encode_batch(ODD_TEXTS)


def test_add_prefix_space_adds_a_space_before_the_first_word(byte_level_folder, tmp_path):
    folder = copy(
        byte_level_folder, tmp_path, "tokenizer.json", tokenizer_class="GPT2Tokenizer", add_prefix_space=True
    )
    tokenizer, _ = assert_equals_transformers(folder, ODD_TEXTS, "gpt2")
    encoding = tokenizer.encode("the cat")
    assert [("the cat"[start:end]) for start, end in encoding.offsets] == ["the", "cat"]


def test_a_cased_vocabulary_alone_is_not_lower_cased(wordpiece_folder, tmp_path):
    folder = vocab_only(wordpiece_folder, tmp_path)
    with (folder / "vocab.txt").open("a") as file:
        file.write("London\n")
    tokenizer = Tokenizer.load(folder)
    assert tokenizer.tokens(tokenizer.encode("London").ids) == ["London"]


def test_do_lower_case_in_config_json_of_very_old_folders_is_used(wordpiece_folder, tmp_path):
    folder = vocab_only(wordpiece_folder, tmp_path)
    (folder / "config.json").write_text('{"do_lower_case": false}')
    tokenizer = Tokenizer.load(folder)
    assert tokenizer.encode("THE").ids != tokenizer.encode("the").ids


def test_truncation_and_padding_in_the_file_are_disabled(folder, tmp_path):
    stored = json.loads((folder / "tokenizer.json").read_text())
    stored["truncation"] = {"direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0}
    stored["padding"] = {
        "strategy": {"Fixed": 9},
        "direction": "Right",
        "pad_to_multiple_of": None,
        "pad_id": 0,
        "pad_type_id": 0,
        "pad_token": "[PAD]",
    }
    copy(folder, tmp_path, "tokenizer_config.json")
    (tmp_path / "tokenizer.json").write_text(json.dumps(stored))
    assert Tokenizer.load(tmp_path).encode_batch(ODD_TEXTS) == Tokenizer.load(folder).encode_batch(ODD_TEXTS)


def test_saving_and_loading_changes_nothing(tokenizer, tmp_path):
    tokenizer.save(tmp_path)
    again = Tokenizer.load(tmp_path)
    assert again.encode_batch(ODD_TEXTS) == tokenizer.encode_batch(ODD_TEXTS)
    again.save(tmp_path)
    assert Tokenizer.load(tmp_path).encode_batch(ODD_TEXTS) == tokenizer.encode_batch(ODD_TEXTS)


def test_a_saved_tokenizer_opens_in_transformers(tokenizer, folder, tmp_path):
    tokenizer.save(tmp_path)
    kind = "bert" if tokenizer.kind == "wordpiece" else "gpt2"
    assert_equals_transformers(tmp_path, ODD_TEXTS, kind)


def test_added_tokens_keep_their_ids(folder, tmp_path):
    size = Tokenizer.load(folder).vocab_size
    old = vocab_only(folder, tmp_path)
    (old / "added_tokens.json").write_text(json.dumps({"<order>": size + 1, "<name>": size}))
    tokenizer = Tokenizer.load(old)
    assert tokenizer.vocab_size == size + 2
    encoding = tokenizer.encode("dear <name>, <order>")
    assert {size, size + 1} <= set(encoding.ids)
    place = encoding.offsets[encoding.ids.index(size)]
    assert "dear <name>, <order>"[slice(*place)] == "<name>"


def test_special_tokens_in_a_text_are_text_unless_allowed(wordpiece, byte_level):
    text = "a [MASK] b"
    assert wordpiece.mask_id not in wordpiece.encode(text).ids
    assert wordpiece.mask_id not in wordpiece.encode_batch([text])[0].ids
    allowed = wordpiece.encode(text, allow_special=True)
    assert allowed.ids.count(wordpiece.mask_id) == 1
    assert allowed.offsets[allowed.ids.index(wordpiece.mask_id)] == (2, 8)
    assert wordpiece.mask_id not in wordpiece.encode(text).ids  # one call does not affect the next
    assert byte_level.end_of_text_id not in byte_level.encode("a<|endoftext|>b").ids
    assert byte_level.encode("<|endoftext|>", allow_special=True).ids == [byte_level.end_of_text_id]
    assert byte_level.end_of_text_id not in byte_level.encode_words(["<|endoftext|>"]).ids


def test_a_pickled_or_copied_tokenizer_encodes_special_tokens_as_text(wordpiece):
    for copied in (pickle.loads(pickle.dumps(wordpiece)), deepcopy(wordpiece)):
        assert copied.encode_batch(ODD_TEXTS) == wordpiece.encode_batch(ODD_TEXTS)
        assert copied.encode("[MASK]", allow_special=True).ids == [copied.mask_id]


def test_special_token_ids_are_those_of_the_vocabulary(wordpiece, byte_level):
    assert (wordpiece.kind, byte_level.kind) == ("wordpiece", "byte-level-bpe")
    ids = [wordpiece.unk_id, wordpiece.cls_id, wordpiece.sep_id, wordpiece.mask_id]
    assert wordpiece.tokens(ids) == ["[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    assert wordpiece.end_of_text_id is None
    assert byte_level.tokens([byte_level.end_of_text_id]) == ["<|endoftext|>"]
    assert (byte_level.cls_id, byte_level.sep_id, byte_level.mask_id) == (None, None, None)


def test_offsets_point_at_the_text_of_a_token(wordpiece):
    text = "  The cat’s MÊME 👍🏽 一只 e\N{COMBINING ACUTE ACCENT}t"
    words = [text[start:end] for start, end in wordpiece.encode(text).offsets]
    rest = text
    for word in words:
        assert word
        before, found, rest = rest.partition(word)
        assert found
        assert not before.strip("’ 👍🏽\N{COMBINING ACUTE ACCENT}")
    assert {"The", "cat", "一", "只"} <= set(words)


def test_offsets_exclude_the_space_before_a_word(byte_level):
    text = "the  cat sat\n\non the mat "
    encoding = byte_level.encode(text)
    pieces = [text[start:end] for start, end in encoding.offsets]
    assert all(piece == piece.strip(" ") for piece in pieces)
    assert "".join(pieces).replace("\n", "") == "thecatsatonthemat"


def test_every_token_of_an_emoji_has_the_offsets_of_the_emoji(byte_level):
    text = "so 😀 happy"
    encoding = byte_level.encode(text)
    pieces = [offset for offset in encoding.offsets if offset == (3, 4)]
    assert len(pieces) >= 2
    assert byte_level.decode(encoding.ids) == text


def test_word_ids_count_the_words_of_the_text(wordpiece):
    encoding = wordpiece.encode("lived in London")
    words = {}
    for word, (start, end) in zip(encoding.word_ids, encoding.offsets, strict=True):
        words.setdefault(word, []).append((start, end))
    assert [(spans[0][0], spans[-1][1]) for spans in words.values()] == [(0, 5), (6, 8), (9, 15)]


@given(text=st.text())
def test_any_text_has_tokens_with_offsets_inside_it(wordpiece, byte_level, text):
    for tokenizer in (wordpiece, byte_level):
        encoding = tokenizer.encode(text)
        assert len(encoding.ids) == len(encoding.offsets) == len(encoding.word_ids)
        assert all(0 <= start <= end <= len(text) for start, end in encoding.offsets)
        assert all(0 <= i < tokenizer.vocab_size for i in encoding.ids)
        assert tokenizer.encode_batch([text]) == [encoding]
    assert byte_level.decode(byte_level.encode(text).ids) == text


def test_a_lone_surrogate_counts_as_one_character(tokenizer):
    text = "the \ud83d cat"
    encoding = tokenizer.encode(text)
    assert text[slice(*encoding.offsets[-1])] in ("cat", "t", "at")
    assert tokenizer.encode_batch([text]) == [encoding]
    assert tokenizer.encode_words(text.split()).word_ids[-1] == 2


class TestPretokenizedWords:
    WORDS = ("Ada", "Lovelace", "don't", "", "naïve", "😀", "London")

    def test_word_ids_and_offsets_are_those_of_the_list(self, tokenizer):
        encoding = tokenizer.encode_words(self.WORDS)
        assert sorted(set(encoding.word_ids)) == [0, 1, 2, 4, 5, 6]
        for i, word in enumerate(self.WORDS):
            spans = [o for w, o in zip(encoding.word_ids, encoding.offsets, strict=True) if w == i]
            if word:
                assert (spans[0][0], spans[-1][1]) == (0, len(word))

    def test_bert_encodes_each_word_separately(self, wordpiece):
        together = wordpiece.encode_words(self.WORDS)
        assert together.ids == [i for word in self.WORDS for i in wordpiece.encode(word).ids]

    def test_gpt2_encodes_the_spaces_between_words(self, byte_level):
        words = [word for word in self.WORDS if word]
        assert byte_level.encode_words(words).ids == byte_level.encode(" ".join(words)).ids

    def test_an_empty_list_of_words_has_no_tokens(self, tokenizer):
        assert tokenizer.encode_words([]) == Encoding([], [], [])


def test_bert_joins_with_cls_and_sep(wordpiece):
    cls, sep = wordpiece.cls_id, wordpiece.sep_id
    assert wordpiece.join([7, 8]) == ([cls, 7, 8, sep], [0, 0, 0, 0])
    assert wordpiece.join([7], [8, 9]) == ([cls, 7, sep, 8, 9, sep], [0, 0, 0, 1, 1, 1])
    assert wordpiece.join([]) == ([cls, sep], [0, 0])
    assert wordpiece.join([], []) == ([cls, sep, sep], [0, 0, 1])


def test_gpt2_joins_with_end_of_text_and_never_returns_an_empty_sequence(byte_level):
    end = byte_level.end_of_text_id
    assert byte_level.join([7, 8]) == ([7, 8], [0, 0])
    assert byte_level.join([7], [8, 9]) == ([7, end, 8, 9], [0, 0, 1, 1])
    assert byte_level.join([]) == ([end], [0])
    assert byte_level.join([], []) == ([end], [0])
    assert byte_level.join([], [8]) == ([end, 8], [0, 1])


def test_gpt2_ignores_cls_and_sep_tokens(byte_level_folder, tmp_path):
    copy(byte_level_folder, tmp_path, "tokenizer.json", cls_token="[CLS]", sep_token="[SEP]")
    tokenizer = Tokenizer.load(tmp_path)
    assert tokenizer.join([7, 8]) == ([7, 8], [0, 0])
    assert tokenizer.num_special(False) == 0
    copy(byte_level_folder, tmp_path, "tokenizer.json", cls_token="[CLS]")
    assert Tokenizer.load(tmp_path).join([7, 8]) == ([7, 8], [0, 0])


@pytest.mark.parametrize("second", [None, [5], [5, 6]])
def test_num_special_is_the_number_of_tokens_that_join_adds(tokenizer, second):
    joined, segments = tokenizer.join([3, 4], second)
    assert len(joined) == len(segments) == 2 + len(second or []) + tokenizer.num_special(second is not None)


def test_decoding_skips_special_tokens(wordpiece, byte_level):
    ids, _ = wordpiece.join(wordpiece.encode("the lazy dog").ids)
    assert wordpiece.decode(ids) == "the lazy dog"
    assert byte_level.decode([*byte_level.encode(" Hi 😀").ids, byte_level.end_of_text_id]) == " Hi 😀"


def test_an_unknown_id_has_an_empty_token(tokenizer):
    assert tokenizer.tokens([tokenizer.vocab_size + 5]) == [""]


BROKEN = {
    "empty folder": ({}, "contains no tokenizer"),
    "another file": ({"spiece.model": ""}, "spiece.model of an ALBERT, .* writes tokenizer.json"),
    "half of a vocabulary": ({"vocab.json": "{}"}, "contains no tokenizer"),
    "invalid JSON": ({"tokenizer.json": "{"}, "tokenizer.json is damaged or not a tokenizer"),
    "another JSON": ({"tokenizer.json": "{}"}, "tokenizer.json is damaged or not a tokenizer"),
    "broken merges": ({"vocab.json": '{"a": 0}', "merges.txt": "a b\n"}, "vocab.json is damaged"),
    "broken settings": (
        {"vocab.txt": "[UNK]\n", "tokenizer_config.json": "{"},
        r"tokenizer_config.json, line 1: not valid JSON",
    ),
    "vocabulary without [CLS]": ({"vocab.txt": "[UNK]\na\n"}, r"vocabulary has no \[CLS\].*\"cls_token\""),
    "vocabulary that is not text": ({"vocab.txt": b"\xff\xfe"}, "vocab.txt is not a text file"),
    "unsupported tokenizer class": (
        {"vocab.txt": "[UNK]\n", "tokenizer_config.json": '{"tokenizer_class": "BertJapaneseTokenizer"}'},
        "BertJapaneseTokenizer, which vocab.txt alone does not define",
    ),
    "added token beyond the end": (
        {"vocab.txt": "[UNK]\n[CLS]\n[SEP]\n", "added_tokens.json": '{"<x>": 9}'},
        "'<x>' should have the id 9, but the vocabulary ends at",
    ),
}


@pytest.mark.parametrize(("files", "message"), BROKEN.values(), ids=BROKEN)
def test_a_broken_folder_is_named_in_a_one_line_message(files, message, tmp_path):
    for name, content in files.items():
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(HeadwayError, match=message) as caught:
        Tokenizer.load(tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_another_kind_of_tokenizer_is_refused(tmp_path):
    from tokenizers import Tokenizer as Backend
    from tokenizers import models

    Backend(models.WordLevel({"a": 0}, unk_token="a")).save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(HeadwayError, match="WordLevel; Headway supports WordPiece"):
        Tokenizer.load(tmp_path)


def test_the_two_vocabularies_of_marian_are_refused_by_name(tmp_path):
    for name in ("source.spm", "target.spm", "vocab.json"):
        (tmp_path / name).write_text("{}")
    with pytest.raises(HeadwayError, match=r"tokenizer is Marian's, two SentencePiece models"):
        Tokenizer.load(tmp_path)


def test_a_byte_level_tokenizer_with_a_bos_token_is_refused(byte_level_folder, tmp_path):
    copy(byte_level_folder, tmp_path, "tokenizer.json", add_bos_token=True)
    with pytest.raises(HeadwayError, match="a special token before a text"):
        Tokenizer.load(tmp_path)


def test_without_an_end_of_text_token_only_empty_texts_and_pairs_fail(byte_level_folder, tmp_path):
    folder = vocab_only(byte_level_folder, tmp_path, eos_token="</s>")
    tokenizer = Tokenizer.load(folder)
    assert tokenizer.join([4]) == ([4], [0])
    for texts in ([[]], [[4], [5]]):
        with pytest.raises(HeadwayError, match="no end-of-text token"):
            tokenizer.join(*texts)


def real_texts(data_folder):
    rows = (data_folder / "sst2" / "dev.tsv").read_text(encoding="utf-8").splitlines()
    rows += (data_folder / "chnsenticorp" / "dev.tsv").read_text(encoding="utf-8").splitlines()[:400]
    return [*ODD_TEXTS, *rows]


@pytest.mark.realdata
@pytest.mark.parametrize("name", PUBLISHED)
def test_published_vocabularies_give_the_ids_of_transformers(name, tokenizers_folder, data_folder, tmp_path):
    folder = tmp_path / name
    shutil.copytree(tokenizers_folder / name, folder)
    texts = real_texts(data_folder)
    kind = "gpt2" if name == "gpt2" else "bert"
    tokenizer, _ = assert_equals_transformers(folder, texts, kind)
    saved = tmp_path / "saved"
    saved.mkdir()
    tokenizer.save(saved)
    assert_equals_transformers(saved, texts, kind)
    assert Tokenizer.load(saved).encode_batch(texts) == tokenizer.encode_batch(texts)


@pytest.mark.realdata
@pytest.mark.parametrize("name", PUBLISHED)
def test_published_vocabularies_without_tokenizer_json_give_the_same_ids(
    name, tokenizers_folder, data_folder, tmp_path
):
    files = ["vocab.json", "merges.txt"] if name == "gpt2" else ["vocab.txt"]
    old = copy(tokenizers_folder / name, tmp_path, "tokenizer_config.json", *files)
    texts = real_texts(data_folder)
    tokenizer, _ = assert_equals_transformers(old, texts, "gpt2" if name == "gpt2" else "bert")
    assert tokenizer.encode_batch(texts) == Tokenizer.load(tokenizers_folder / name).encode_batch(texts)


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("name", "cased"), [("bert-base-uncased", False), ("bert-base-cased", True), ("bert-base-chinese", False)]
)
def test_the_case_of_a_published_vocabulary_is_inferred_from_it(name, cased, tokenizers_folder, tmp_path):
    tokenizer = Tokenizer.load(copy(tokenizers_folder / name, tmp_path, "vocab.txt"))
    assert (tokenizer.encode("The").ids != tokenizer.encode("the").ids) == cased
