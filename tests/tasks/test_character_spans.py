"""Annotations by character offsets become entities of whole words, and whatever does not fit is told."""

import pytest
from headway.core.errors import HeadwayError
from headway.tasks.data.words import WordSegmenter
from headway.tasks.tagging.character_spans import CharacterSpan, fit_spans, holds_spans, read_spans
from headway.tasks.tagging.tag_schemes import Chunk
from hypothesis import given, settings
from hypothesis import strategies as st

TEXT = "Ada Lovelace lived in New York City."
WORDS = WordSegmenter().split(TEXT)  # Ada Lovelace lived in New York City .


@pytest.mark.parametrize(
    "cell",
    [
        [[0, 12, "PER"], [22, 35, "LOC"]],
        [{"start": 0, "end": 12, "label": "PER"}, {"start": 22, "end": 35, "label": "LOC", "token_start": 4}],
        [{"id": 7, "start_offset": 0, "end_offset": 12, "label": "PER"}, [22, 35, "LOC"]],
        [{"start": 0, "end": 12, "labels": ["PER"], "text": "Ada Lovelace"}, [22, 35, "LOC", 0.9]],
    ],
    ids=["doccano", "Prodigy", "doccano with relations", "Label Studio"],
)
def test_spans_are_read_as_every_tool_writes_them(cell):
    assert holds_spans(cell)
    spans = read_spans(cell, TEXT)
    assert spans == [CharacterSpan(0, 12, "PER"), CharacterSpan(22, 35, "LOC")]
    fitted = fit_spans(spans, TEXT, WORDS)
    assert fitted.chunks == (Chunk(0, 2, "PER"), Chunk(4, 7, "LOC"))
    assert not fitted.widened
    assert not fitted.dropped


def test_offsets_that_count_utf16_units_are_put_right_by_the_spans_text():
    text = "🙂🙂 Ada in Rome"
    said = [{"start": 5, "end": 8, "label": "PER", "text": "Ada"}]
    assert read_spans(said, text) == [CharacterSpan(3, 6, "PER")]


@pytest.mark.parametrize(
    ("cell", "says"),
    [
        (None, "nobody has annotated"),
        ("PER", "a list of"),
        ([[0, 12]], "is not written as"),
        ([{"start": 0, "label": "PER"}], "is not written as"),
        ([[0, 12, None]], "is not written as"),
        ([["0", "12", "PER"]], "is not written as"),
        ([[30, 99, "LOC"]], "does not lie in the text of 36 characters"),
        ([[-3, 4, "LOC"]], "does not lie in the text"),
        ([[5, 5, "LOC"]], "does not lie in the text"),
        (
            [{"start": 1, "end": 13, "label": "PER", "text": "Ada Lovelace"}],
            'but says that its text is "Ada Lovelace"',
        ),
    ],
)
def test_spans_that_cannot_be_right_are_refused(cell, says):
    with pytest.raises(HeadwayError, match=says):
        read_spans(cell, TEXT)


def test_a_span_that_cuts_words_is_widened_and_told():
    fitted = fit_spans([CharacterSpan(1, 8, "PER")], TEXT, WORDS)
    assert fitted.chunks == (Chunk(0, 2, "PER"),)
    assert fitted.widened == ('"da Love" (PER) to "Ada Lovelace"',)


def test_spaces_at_the_edges_of_a_span_do_not_matter():
    assert fit_spans([CharacterSpan(3, 13, "PER")], TEXT, WORDS).chunks == (Chunk(1, 2, "PER"),)
    assert not fit_spans([CharacterSpan(3, 13, "PER")], TEXT, WORDS).widened


def test_of_spans_that_share_a_word_the_longest_is_kept_and_the_others_are_told():
    spans = [CharacterSpan(26, 30, "GPE"), CharacterSpan(22, 35, "LOC"), CharacterSpan(22, 35, "LOC")]
    fitted = fit_spans(spans, TEXT, WORDS)
    assert fitted.chunks == (Chunk(4, 7, "LOC"),)
    assert fitted.dropped == ('"York" (GPE) overlaps "New York City" (LOC)',)
    same_words = fit_spans([CharacterSpan(0, 3, "PER"), CharacterSpan(0, 3, "DOG")], TEXT, WORDS)
    assert same_words.chunks == (Chunk(0, 1, "PER"),)
    assert same_words.dropped == ('"Ada" (DOG) overlaps "Ada" (PER)',)


def test_a_span_without_a_word_is_told():
    fitted = fit_spans([CharacterSpan(3, 4, "PER")], TEXT, WORDS)
    assert fitted.chunks == ()
    assert fitted.dropped == ("3 to 4 (PER) holds no word",)


@settings(max_examples=300, deadline=None)
@given(
    st.text(alphabet="ab北🙂\u0301 .,", min_size=1, max_size=30),
    st.lists(st.tuples(st.integers(0, 29), st.integers(1, 30), st.sampled_from("XY")), max_size=6),
    st.sampled_from([WordSegmenter(), WordSegmenter("characters"), WordSegmenter("spaces")]),
)
def test_no_span_is_lost_without_a_word(text, drawn, splitter):
    spans = [CharacterSpan(start, min(start + size, len(text)), kind) for start, size, kind in drawn]
    spans = [span for span in spans if span.start < span.end]
    words = splitter.split(text)
    fitted = fit_spans(spans, text, words)
    ranges = [range(chunk.start, chunk.stop) for chunk in fitted.chunks]
    assert [word for one in ranges for word in one] == sorted({word for one in ranges for word in one})
    kept = {(words[chunk.start][0], words[chunk.stop - 1][1], chunk.label) for chunk in fitted.chunks}
    exact = sum((span.start, span.end, span.label) in kept for span in set(spans))
    assert len(kept) + len(fitted.dropped) <= len(spans)
    distinct = {
        (*(i for i, (start, end) in enumerate(words) if end > span.start and start < span.end), span.label)
        for span in spans
    }
    assert len(kept) + len(fitted.dropped) >= len(distinct)
    assert len(fitted.widened) <= len(kept)
    assert exact <= len(kept)
