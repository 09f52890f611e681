"""Tokenizers that put `<s>` and `</s>` around texts: byte-level BPE as in RoBERTa, and Unigram as in XLM-R."""

import json
import shutil
from pathlib import Path

import pytest
from headway.core.errors import HeadwayError
from headway.core.tokenizers.tokenizer import Tokenizer
from test_tokenizer import ODD_TEXTS, vocab_only
from transformers import AutoTokenizer

TEXTS = [*ODD_TEXTS, "a <s> typed </s> <mask> here", "the cat sat <mask>.", "schöner Étude ﬁne Ⅻ"]


@pytest.fixture(scope="module", params=["roberta_tokenizer_folder", "unigram_tokenizer_folder"])
def folder(request):
    return request.getfixturevalue(request.param)


def assert_equals_transformers(folder: Path) -> Tokenizer:
    """Compares texts and pairs of texts with their special tokens."""
    tokenizer = Tokenizer.load(folder)
    theirs = AutoTokenizer.from_pretrained(folder)
    found = [tokenizer.join(one.ids)[0] for one in tokenizer.encode_batch(TEXTS)]
    assert found == theirs(TEXTS, split_special_tokens=True)["input_ids"]
    special = [tokenizer.encode(text, allow_special=True).ids for text in TEXTS]
    assert special == theirs(TEXTS, add_special_tokens=False)["input_ids"]
    for first, second in zip(TEXTS, reversed(TEXTS), strict=True):
        if not second:
            continue  # transformers encodes an empty second text as none
        ids, segments = tokenizer.join(tokenizer.encode(first).ids, tokenizer.encode(second).ids)
        expected = theirs(first, second, split_special_tokens=True, return_token_type_ids=True)
        assert (ids, segments) == (expected["input_ids"], expected["token_type_ids"])
        assert len(ids) - len(tokenizer.encode(first).ids) - len(tokenizer.encode(second).ids) == 4
    return tokenizer


def test_texts_and_pairs_have_the_ids_of_transformers(folder):
    tokenizer = assert_equals_transformers(folder)
    assert tokenizer.tokens([tokenizer.cls_id, tokenizer.sep_id, tokenizer.mask_id]) == ["<s>", "</s>", "<mask>"]
    assert tokenizer.end_of_text_id is None
    assert (tokenizer.num_special(pair=False), tokenizer.num_special(pair=True)) == (2, 4)


def test_a_saved_tokenizer_gives_the_same_ids_in_transformers(folder, tmp_path):
    Tokenizer.load(folder).save(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "roberta"}))
    assert_equals_transformers(tmp_path)


def test_a_roberta_folder_with_only_a_vocabulary_gives_the_same_tokenizer(roberta_tokenizer_folder, tmp_path):
    vocab_only(roberta_tokenizer_folder, tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "roberta"}))
    old, new = Tokenizer.load(tmp_path), Tokenizer.load(roberta_tokenizer_folder)
    assert [old.encode(text, allow_special=True) for text in TEXTS] == [
        new.encode(text, allow_special=True) for text in TEXTS
    ]
    assert old.framing == new.framing
    assert old.mask_id == new.mask_id


def test_offsets_exclude_the_space_before_a_word(folder):
    tokenizer = Tokenizer.load(folder)
    text = "the cat  sat on the mat"
    pieces = [text[start:end] for start, end in tokenizer.encode(text).offsets]
    assert all(piece == piece.strip() for piece in pieces)
    assert "".join(pieces) == "thecatsatonthemat"
    assert [text[start:end] for start, end in tokenizer.encode_batch([text])[0].offsets] == pieces


def test_words_are_encoded_as_in_a_text(folder):
    tokenizer = Tokenizer.load(folder)
    words = ["the", "quick", "cat", "", "sat"]
    encoding = tokenizer.encode_words(words)
    assert encoding.ids == tokenizer.encode("the quick cat sat").ids
    assert list(dict.fromkeys(encoding.word_ids)) == [0, 1, 2, 4]
    places = zip(encoding.word_ids, encoding.offsets, strict=True)
    assert "".join(words[word or 0][start:end] for word, (start, end) in places) == "thequickcatsat"


def test_a_bert_with_a_unigram_vocabulary_keeps_its_pieces(unigram_tokenizer_folder, tmp_path):
    shutil.copytree(unigram_tokenizer_folder, tmp_path, dirs_exist_ok=True)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "BertTokenizer"}))
    tokenizer = Tokenizer.load(tmp_path)
    assert tokenizer.tokens(tokenizer.encode("schöner").ids) == ["\N{LOWER ONE EIGHTH BLOCK}schön", "er"]
    tokenizer.save(tmp_path)
    saved = AutoTokenizer.from_pretrained(tmp_path)
    assert saved.tokenize("schöner") == ["\N{LOWER ONE EIGHTH BLOCK}schön", "er"]


def test_a_unigram_tokenizer_without_special_tokens_around_texts_is_refused(unigram_tokenizer_folder, tmp_path):
    content = json.loads((unigram_tokenizer_folder / "tokenizer.json").read_text(encoding="utf-8"))
    content["post_processor"] = None
    (tmp_path / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(HeadwayError, match="no special tokens around a text"):
        Tokenizer.load(tmp_path)


def test_transformers_gives_a_model_segment_ids_only_if_it_reads_them(wordpiece_folder, tmp_path):
    generic = Tokenizer.load(wordpiece_folder)
    generic.save(tmp_path)
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    config["tokenizer_class"] = "PreTrainedTokenizerFast"  # which has no segment ids by itself
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    tokenizer = Tokenizer.load(tmp_path)
    for segments in (True, False):
        tokenizer.save(tmp_path, segments=segments)
        found = AutoTokenizer.from_pretrained(tmp_path)("the cat", "a dog")
        assert found.get("token_type_ids") == ([0] * 4 + [1] * (len(found["input_ids"]) - 4) if segments else None)
        Tokenizer.load(tmp_path).save(tmp_path)
        assert AutoTokenizer.from_pretrained(tmp_path)("the cat", "a dog") == found
