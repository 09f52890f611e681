"""Learned vocabularies encode their texts, are deterministic, and open in transformers."""

import json
import random
import subprocess
import sys

import pytest
from headway.core.errors import HeadwayError
from headway.core.tokenizers.tokenizer import Tokenizer
from headway.core.tokenizers.vocabulary import (
    END_OF_TEXT,
    WORDPIECE_SPECIAL,
    learn_byte_level_bpe,
    learn_wordpiece,
    learn_words,
)
from hypothesis import given, settings
from hypothesis import strategies as st

TEXTS = [
    "Where is my parcel? It was due on Monday.",
    "The parcel arrived, thank you!",
    "my refund has not arrived yet; where is it?",
    "naïve café owners don't mind the weather 🙂",
    "一只猫坐在垫子上 today",
]
LEARN = {"wordpiece": learn_wordpiece, "byte-level-bpe": learn_byte_level_bpe}


@pytest.fixture(params=LEARN)
def learn(request):
    return LEARN[request.param]


def vocabulary_of(tokenizer: Tokenizer, folder) -> dict[str, int]:
    tokenizer.save(folder)
    stored = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    return stored["model"]["vocab"] | {token["content"]: token["id"] for token in stored["added_tokens"]}


def test_wordpiece_encodes_its_training_texts_without_unknown_tokens():
    tokenizer = learn_wordpiece(TEXTS, 400)
    for text in TEXTS:
        ids = tokenizer.encode(text).ids
        assert tokenizer.unk_id not in ids
        assert len(ids) < len(text)


def test_wordpiece_keeps_capitals_unless_it_lower_cases():
    small, large = learn_wordpiece(TEXTS, 400), learn_wordpiece(TEXTS, 400, lowercase=False)
    assert small.encode("WHERE").ids == small.encode("where").ids
    assert large.encode("Where").ids != large.encode("where").ids
    assert large.tokens(large.encode("café").ids)[-1].endswith("é")


def test_wordpiece_starts_with_the_special_tokens_in_the_published_order(tmp_path):
    vocabulary = vocabulary_of(learn_wordpiece(TEXTS, 400), tmp_path)
    assert [vocabulary[token] for token in WORDPIECE_SPECIAL] == [0, 1, 2, 3, 4]


@settings(max_examples=50, deadline=None)
@given(st.text())
def test_byte_level_bpe_encodes_and_decodes_any_text(text):
    tokenizer = learn_byte_level_bpe(TEXTS, 300)
    assert tokenizer.decode(tokenizer.encode(text).ids) == text.encode("utf-8", "replace").decode("utf-8")


def test_byte_level_bpe_ends_with_the_end_of_text_token(tmp_path):
    tokenizer = learn_byte_level_bpe(TEXTS, 300)
    vocabulary = vocabulary_of(tokenizer, tmp_path)
    assert vocabulary[END_OF_TEXT] == tokenizer.end_of_text_id == max(vocabulary.values()) == len(vocabulary) - 1


def test_token_ids_are_consecutive(learn, tmp_path):
    tokenizer = learn(TEXTS, 330)
    assert sorted(vocabulary_of(tokenizer, tmp_path).values()) == list(range(tokenizer.vocab_size))
    assert tokenizer.vocab_size <= 330


def test_frequent_words_become_one_token(learn):
    tokenizer = learn(TEXTS * 5, 400)
    assert len(tokenizer.encode("parcel").ids) <= 2
    assert len(tokenizer.encode(" arrived").ids) == 1


def test_the_order_of_the_texts_has_no_effect(learn, tmp_path):
    shuffled = random.Random(0).sample(TEXTS, len(TEXTS))
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    assert vocabulary_of(learn(TEXTS, 330), tmp_path / "a") == vocabulary_of(learn(shuffled, 330), tmp_path / "b")


def test_another_process_learns_the_same_vocabulary(learn):
    code = f"""
from headway.core.tokenizers.vocabulary import {learn.__name__}
tokenizer = {learn.__name__}({TEXTS!r}, 330)
print(tokenizer.tokens(range(tokenizer.vocab_size)))
"""
    runs = {subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout for _ in range(3)}
    assert len(runs) == 1


def test_texts_may_come_from_a_generator(learn):
    ids = learn(TEXTS, 330).encode("my parcel").ids
    assert learn((text for text in TEXTS), 330).encode("my parcel").ids == ids


def test_saving_and_loading_changes_nothing(learn, tmp_path):
    tokenizer = learn(TEXTS, 330)
    tokenizer.save(tmp_path)
    again = Tokenizer.load(tmp_path)
    for text in [*TEXTS, "Something else entirely, ÄÖÜ 你好"]:
        assert again.encode(text) == tokenizer.encode(text)


def test_transformers_opens_the_folder_and_gives_the_same_ids(learn, tmp_path):
    from transformers import AutoTokenizer

    tokenizer = learn(TEXTS, 330)
    tokenizer.save(tmp_path)
    (tmp_path / "config.json").write_text(
        json.dumps({"model_type": "bert" if tokenizer.kind == "wordpiece" else "gpt2"})
    )
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    assert len(theirs) == tokenizer.vocab_size
    for text in [*TEXTS, "Something else entirely, ÄÖÜ 你好"]:
        assert theirs.encode(text, add_special_tokens=False) == tokenizer.encode(text).ids


def test_a_vocabulary_that_is_too_small_for_the_characters_is_refused(learn):
    with pytest.raises(HeadwayError, match=r"no room for the \d+ characters .* at least \d+"):
        learn(TEXTS, 20)


def test_texts_without_words_are_refused():
    with pytest.raises(HeadwayError, match="no words"):
        learn_wordpiece(["", "  "], 100)
    with pytest.raises(HeadwayError, match="no words"):
        learn_words(["", "  "], 100, "bert")


@pytest.mark.parametrize(
    ("model", "special", "framed"),
    [("bert", 5, ["[CLS]", "C4", "[SEP]"]), ("gpt2", 2, ["C4"]), ("encoder-decoder", 3, ["C4", "</s>"])],
)
def test_whole_words_are_the_most_frequent_ones_with_ties_in_alphabetical_order(model, special, framed):
    texts = ["C4 E4 G4 C4", f"E4 C4 D4 {framed[-1]}"]
    tokenizer = learn_words(texts, special + 3, model)
    assert tokenizer.kind == "words"
    assert tokenizer.tokens(tokenizer.encode("C4 E4 D4 G4 A4").ids) == ["C4", "E4", "D4", "[UNK]", "[UNK]"]
    assert tokenizer.tokens(tokenizer.join(tokenizer.encode("C4").ids)[0]) == framed
    with pytest.raises(HeadwayError, match=r"no room beside \d special tokens"):
        learn_words(texts, special, model)


def test_the_vocabulary_of_the_transformer_ends_every_text(tmp_path):
    tokenizer = learn_byte_level_bpe(TEXTS, 300, ended=True)
    vocabulary = vocabulary_of(tokenizer, tmp_path)
    assert vocabulary["</s>"] == tokenizer.end_of_text_id == tokenizer.vocab_size - 2
    assert vocabulary["<pad>"] == tokenizer.pad_id == tokenizer.vocab_size - 1
    for text in ["", "parcel", "a text with </s> in it", TEXTS[-1]]:
        ids = tokenizer.encode(text).ids
        assert tokenizer.end_of_text_id not in ids
        assert tokenizer.join(ids) == ([*ids, tokenizer.end_of_text_id], [0] * (len(ids) + 1))
        assert tokenizer.num_special(pair=False) == 1
        assert tokenizer.decode([tokenizer.pad_id, *ids, tokenizer.end_of_text_id]) == text
