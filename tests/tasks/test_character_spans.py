"""Entities annotated by character offsets are aligned to whole words, and every change is reported."""

import pytest
from headway.core.errors import HeadwayError
from headway.tasks.data.words import WordSegmenter
from headway.tasks.tagging.character_spans import CharacterSpan, align_spans, is_span_list, parse_spans
from headway.tasks.tagging.tag_schemes import WordSpan
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
def test_spans_are_read_from_the_exports_of_all_tools(cell):
    assert is_span_list(cell)
    spans = parse_spans(cell, TEXT)
    assert spans == [CharacterSpan(0, 12, "PER"), CharacterSpan(22, 35, "LOC")]
    aligned = align_spans(spans, TEXT, WORDS)
    assert aligned.spans == (WordSpan(0, 2, "PER"), WordSpan(4, 7, "LOC"))
    assert not aligned.widened
    assert not aligned.dropped


def test_offsets_in_utf16_units_are_converted_with_the_text_of_the_span():
    text = "🙂🙂 Ada in Rome"
    said = [{"start": 5, "end": 8, "label": "PER", "text": "Ada"}]
    assert parse_spans(said, text) == [CharacterSpan(3, 6, "PER")]


@pytest.mark.parametrize(
    ("cell", "says"),
    [
        (None, "it is not annotated"),
        ("PER", "a list of"),
        ([[0, 12]], "is not written as"),
        ([{"start": 0, "label": "PER"}], "is not written as"),
        ([[0, 12, None]], "is not written as"),
        ([["0", "12", "PER"]], "is not written as"),
        ([[30, 99, "LOC"]], "is not in the text of 36 characters"),
        ([[-3, 4, "LOC"]], "is not in the text"),
        ([[5, 5, "LOC"]], "is not in the text"),
        (
            [{"start": 1, "end": 13, "label": "PER", "text": "Ada Lovelace"}],
            'but its text is given as "Ada Lovelace"',
        ),
    ],
)
def test_invalid_spans_are_refused(cell, says):
    with pytest.raises(HeadwayError, match=says):
        parse_spans(cell, TEXT)


def test_a_span_that_ends_inside_a_word_is_widened_and_reported():
    aligned = align_spans([CharacterSpan(1, 8, "PER")], TEXT, WORDS)
    assert aligned.spans == (WordSpan(0, 2, "PER"),)
    assert aligned.widened == ('"da Love" (PER) to "Ada Lovelace"',)


def test_spaces_at_the_edges_of_a_span_do_not_matter():
    assert align_spans([CharacterSpan(3, 13, "PER")], TEXT, WORDS).spans == (WordSpan(1, 2, "PER"),)
    assert not align_spans([CharacterSpan(3, 13, "PER")], TEXT, WORDS).widened


def test_of_spans_that_share_a_word_the_longest_is_kept_and_the_others_are_reported():
    spans = [CharacterSpan(26, 30, "GPE"), CharacterSpan(22, 35, "LOC"), CharacterSpan(22, 35, "LOC")]
    aligned = align_spans(spans, TEXT, WORDS)
    assert aligned.spans == (WordSpan(4, 7, "LOC"),)
    assert aligned.dropped == ('"York" (GPE) overlaps "New York City" (LOC)',)
    same_words = align_spans([CharacterSpan(0, 3, "PER"), CharacterSpan(0, 3, "DOG")], TEXT, WORDS)
    assert same_words.spans == (WordSpan(0, 1, "PER"),)
    assert same_words.dropped == ('"Ada" (DOG) overlaps "Ada" (PER)',)


def test_a_span_without_a_word_is_reported():
    aligned = align_spans([CharacterSpan(3, 4, "PER")], TEXT, WORDS)
    assert aligned.spans == ()
    assert aligned.dropped == ("3 to 4 (PER) contains no word",)


@settings(max_examples=300, deadline=None)
@given(
    st.text(alphabet="ab北🙂\u0301 .,", min_size=1, max_size=30),
    st.lists(st.tuples(st.integers(0, 29), st.integers(1, 30), st.sampled_from("XY")), max_size=6),
    st.sampled_from([WordSegmenter(), WordSegmenter("characters"), WordSegmenter("spaces")]),
)
def test_every_span_is_kept_or_reported(text, drawn, segmenter):
    spans = [CharacterSpan(start, min(start + size, len(text)), kind) for start, size, kind in drawn]
    spans = [span for span in spans if span.start < span.end]
    words = segmenter.split(text)
    aligned = align_spans(spans, text, words)
    ranges = [range(span.start, span.stop) for span in aligned.spans]
    assert [word for one in ranges for word in one] == sorted({word for one in ranges for word in one})
    kept = {(words[span.start][0], words[span.stop - 1][1], span.label) for span in aligned.spans}
    exact = sum((span.start, span.end, span.label) in kept for span in set(spans))
    assert len(kept) + len(aligned.dropped) <= len(spans)
    distinct = {
        (*(i for i, (start, end) in enumerate(words) if end > span.start and start < span.end), span.label)
        for span in spans
    }
    assert len(kept) + len(aligned.dropped) >= len(distinct)
    assert len(aligned.widened) <= len(kept)
    assert exact <= len(kept)
