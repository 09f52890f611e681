"""Raw text is divided into words like those of the training data, with correct offsets."""

import unicodedata
from itertools import accumulate, pairwise

import pytest
from headway.tasks.data.words import (
    INVISIBLE,
    WORD_UNITS,
    WordSegmenter,
    ends_in_digits,
    infer_segmenter,
    is_ideograph,
    tokens_of_spans,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import normalizers, pre_tokenizers

# Letters, punctuation, spaces, combining marks, Chinese, Japanese, right-to-left, emoji sequences, invisible.
PIECES = [
    *("Ada", "x", "Ü", "e\N{COMBINING ACUTE ACCENT}", "don't", "U.S.", "3.14", "@name", "#tag", "-", "...", "_"),
    *(" ", "  ", "\t", "\n", "\u00a0", "\u200b", "\x07", "北", "京大学", "トヨタ", "กรุงเทพ", "서울", "नमस्ते"),
    *("שלום", "\u200fمرحبا", "👩\u200d👩\u200d👧", "🇫🇷", "👍🏽", "❤\ufe0f", "\N{COMBINING ACUTE ACCENT}"),
    *("\u200d", "\ufeff", "\u00ad", "𝒳", "\ud83d"),
]
TEXTS = st.lists(st.sampled_from(PIECES), max_size=12).map("".join) | st.text(max_size=20)
SEGMENTERS = [WordSegmenter(units) for units in WORD_UNITS] + [WordSegmenter("words", "'-", "'-@#")]


def cut(segmenter: WordSegmenter, text: str) -> list[str]:
    return [text[start:end] for start, end in segmenter.split(text)]


@pytest.mark.parametrize("segmenter", SEGMENTERS, ids=str)
@settings(max_examples=400, deadline=None)
@given(text=TEXTS)
def test_words_are_in_order_do_not_overlap_and_contain_no_spaces(segmenter, text):
    places = segmenter.split(text)
    assert all(start < end for start, end in places)
    assert all(end <= start for (_, end), (start, _) in pairwise(places))
    words = [text[start:end] for start, end in places]
    assert not any(character.isspace() for word in words for character in word)
    covered = {position for start, end in places for position in range(start, end)}
    for position, character in enumerate(text):
        visible = character not in INVISIBLE and unicodedata.category(character) not in ("Cc", "Cf", "Zs", "Zl", "Zp")
        assert (position in covered) or not visible
    for start, _ in places:  # a mark stays with its base character
        alone = start == 0 or (start - 1) not in covered
        assert alone or not unicodedata.category(text[start]).startswith("M")


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="abcXYZ019 äß.,;'-_@#$/()!?\"北京 \t", max_size=40))
def test_the_default_segmenter_agrees_with_the_pretokenizer_of_bert(text):
    clean = normalizers.BertNormalizer(lowercase=False, strip_accents=False).normalize_str(text)
    expected = [word for word, _ in pre_tokenizers.BertPreTokenizer().pre_tokenize_str(clean)]
    assert cut(WordSegmenter(), text) == expected


@pytest.mark.parametrize(
    ("text", "units", "words"),
    [
        ("Ada's U.S. tour", "words", ["Ada", "'", "s", "U", ".", "S", ".", "tour"]),
        ("Ada's U.S. tour", "spaces", ["Ada's", "U.S.", "tour"]),
        ("北京 iOS!", "characters", ["北", "京", "i", "O", "S", "!"]),
        ("北京大学iPhone", "words", ["北", "京", "大", "学", "iPhone"]),
        ("Paris😀👩\u200d👩\u200d👧🇫🇷👍🏽", "words", ["Paris", "😀", "👩\u200d👩\u200d👧", "🇫🇷", "👍🏽"]),
        ("👩\u200d👩\u200d👧e\u0301🇫🇷", "characters", ["👩\u200d👩\u200d👧", "e\u0301", "🇫🇷"]),
        ("\u200fשלום\u200f עולם", "words", ["שלום", "עולם"]),
        ("\ufeffAda\u200b Love\u00adlace\u00ad", "words", ["Ada", "Love\u00adlace"]),
        ("\u0301 a", "words", ["\u0301", "a"]),
        ("", "words", []),
        (" \u200f\t", "words", []),
    ],
)
def test_a_text_is_divided_by_the_units(text, units, words):
    assert cut(WordSegmenter(units), text) == words


def test_punctuation_stays_with_letters_as_in_the_training_data():
    text = "It 's @ada and #fun , a self-made U.S. plan ' ' for Jo 's co-op , at 5 . ( @bob ) #go 's @cy re-do ."
    words = text.split(" ")
    segmenter = infer_segmenter(words * 3)
    assert segmenter.units == "words"
    assert cut(segmenter, "It's @ada's re-do, #fun (5).") == [
        *("It", "'s", "@ada", "'s", "re-do", ",", "#fun", "(", "5", ")", "."),
    ]


def test_words_with_punctuation_mean_division_at_spaces():
    text = "Ada Lovelace, who lived in London, wrote it. It's (so they say) the first! Who knows? Nobody, really."
    assert infer_segmenter(text.split()) == WordSegmenter("spaces")


def test_single_characters_are_recognized_among_a_few_longer_words():
    assert infer_segmenter(list("我爱北京天安门abc，2025") * 5 + ["...", "[微笑]"]).units == "characters"
    assert infer_segmenter(["中国", "iPhone", "很", "贵"] * 5).units == "words"
    assert infer_segmenter(["中", "国", "很", "贵"]).units == "characters"
    assert infer_segmenter(["I", "am", "a", "b"] * 9).units == "words"


def test_words_with_appended_digits_are_recognized():
    assert ends_in_digits(["口0", "腔1", "溃2", "疡3"])
    assert not ends_in_digits(["in", "1999", "B52", "flew"])
    assert not ends_in_digits(["1", "2"])


@pytest.mark.parametrize("segmenter", SEGMENTERS, ids=str)
@settings(max_examples=150, deadline=None)
@given(words=st.lists(st.sampled_from(PIECES) | st.text(max_size=4), max_size=8))
def test_joined_words_are_at_their_offsets(segmenter, words):
    text, starts = segmenter.join(words)
    assert [text[start : start + len(word)] for start, word in zip(starts, words, strict=True)] == words
    between = text
    for start, word in reversed(list(zip(starts, words, strict=True))):
        between = between[:start] + between[start + len(word) :]
    assert set(between) <= {" "}


def test_ideographs_are_joined_without_spaces():
    assert WordSegmenter().join(["我", "爱", "New", "York", "！"])[0] == "我爱 New York ！"
    assert WordSegmenter("characters").join(["a", "b"]) == ("ab", [0, 1])
    assert is_ideograph("爱")
    assert not is_ideograph("ト")
    assert not is_ideograph("")


@given(
    st.lists(st.integers(0, 4), max_size=12), st.lists(st.tuples(st.integers(0, 24), st.integers(0, 5)), max_size=12)
)
def test_the_tokens_of_a_span_are_those_that_overlap_it(lengths, tokens):
    edges = list(accumulate(lengths, initial=0))
    spans = [(a, b) for a, b in pairwise(edges) if (a + b) % 3]  # in order, some with gaps between them
    spans = [(a, b) for a, b in spans if a < b]
    offsets = [(start, start + length) for start, length in tokens]
    expected = [[i for i, (a, b) in enumerate(offsets) if a < end and b > start] for start, end in spans]
    assert tokens_of_spans(spans, offsets) == expected
