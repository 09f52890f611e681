"""The HTML of the browser app, and the display elements of predictions."""

import pytest
from headway.tasks import TASKS, TextClassification
from headway.tasks.base.display import Highlight, HighlightedText, ScoreBar, ScoreBars, Text
from headway.tasks.classification.predictions import LabelPrediction, LabelsPrediction, NumberPrediction
from headway.tasks.language_modeling.predictions import Continuation, FilledMasks, MaskCandidate
from headway.tasks.question_answering.answer_spans import AnswerSpan
from headway.tasks.question_answering.predictions import AnswerPrediction
from headway.tasks.samples import sample_texts
from headway.tasks.tagging.predictions import EntitiesPrediction, Entity
from headway.ui.browser.drawing import (
    NUM_COLORS,
    alert,
    caption,
    draw_choices,
    draw_code,
    draw_display,
    draw_facts,
    draw_frame,
    draw_highlighted,
    draw_progress,
    draw_table,
    draw_token_bars,
    hint,
)
from page_elements import HOSTILE, Page

# Drawing.


@pytest.mark.parametrize(
    "drawn",
    [
        draw_display([Text(HOSTILE, HOSTILE)]),
        draw_display([ScoreBars((ScoreBar(HOSTILE, 0.5, True, 0.4),), HOSTILE)]),
        draw_display(
            [HighlightedText(HOSTILE, (Highlight(2, 30, HOSTILE, 0.5), Highlight(40, 50, faint=True)), HOSTILE)]
        ),
        draw_choices([HOSTILE, HOSTILE], HOSTILE),
        draw_choices([HOSTILE], long=True),
        draw_token_bars([(HOSTILE, 0.5, True), (HOSTILE, 0.1, False)]),
        draw_table([{HOSTILE: HOSTILE, "n": 1}], HOSTILE),
        draw_progress(1, 2, HOSTILE),
        draw_code(HOSTILE),
        draw_frame(HOSTILE, HOSTILE),
        draw_facts({HOSTILE: HOSTILE}),
        alert(HOSTILE),
        hint(HOSTILE),
        caption(HOSTILE),
    ],
)
def test_hostile_text_is_shown_and_never_becomes_an_element(drawn):
    page = Page(drawn)
    assert {tag for tag, _ in page.elements}.isdisjoint({"script", "img"})
    assert all(not name.startswith("on") for _, attributes in page.elements for name in attributes)
    content = page.text + " ".join(value or "" for _, attributes in page.elements for value in attributes.values())
    assert "<script>alert(1)</script>" in content
    assert "🙂" in content


def test_highlights_use_code_points_and_the_first_of_two_overlapping_ones_is_shown():
    text = "😀 Ada Lovelace in Århus 🇩🇰"
    marks = (Highlight(2, 14, "PER", 0.9), Highlight(6, 20, "ORG", 0.8), Highlight(18, 23, "LOC", 0.7))
    drawn = draw_highlighted(HighlightedText(text, marks))
    assert ">Ada Lovelace<small>PER</small></mark>" in drawn
    assert ">Århus<small>LOC</small></mark>" in drawn
    assert "ORG" not in drawn
    assert Page(drawn).text.replace("PER", "").replace("LOC", "") == text


def test_the_color_of_a_label_does_not_depend_on_the_order():
    first = draw_highlighted(HighlightedText("ab", (Highlight(0, 1, "x"), Highlight(1, 2, "y"))))
    second = draw_highlighted(HighlightedText("ab", (Highlight(1, 2, "y"), Highlight(0, 1, "x"))))
    assert first == second
    many = tuple(Highlight(i, i + 1, str(i)) for i in range(20))
    assert f"hw-c{NUM_COLORS}" not in draw_highlighted(HighlightedText("a" * 20, many))


def test_bars_of_values_outside_0_to_1_are_clipped():
    drawn = draw_display([ScoreBars((ScoreBar("a", -0.5), ScoreBar("b", 2.0), ScoreBar("c", float("nan"))))])
    assert [one for one in ("width:0.0%", "width:100.0%") if one in drawn] == ["width:0.0%", "width:100.0%"]


def test_bars_after_the_first_twelve_are_folded():
    page = Page(draw_display([ScoreBars(tuple(ScoreBar(f"label {i}", 0.01) for i in range(150)))]))
    assert "138 more" in page.text
    assert len(page.named("details")) == 1


# Display of predictions.


def test_a_label_is_shown_with_the_scores_of_all_labels_highest_first():
    text, bars = TextClassification(labels=("a", "b")).display(LabelPrediction("b", 0.9, {"a": 0.1, "b": 0.9}), {})
    assert text == Text("b")
    assert bars == ScoreBars((ScoreBar("b", 0.9, True), ScoreBar("a", 0.1)))


def test_multiple_labels_are_shown_with_their_thresholds():
    task = TextClassification(labels=("a", "b"), problem_type="multi_label_classification", thresholds=(0.3, 0.7))
    text, bars = task.display(LabelsPrediction(("a",), {"a": 0.4, "b": 0.6}), {})
    assert text == Text("a")
    assert bars == ScoreBars((ScoreBar("b", 0.6, False, 0.7), ScoreBar("a", 0.4, True, 0.3)))
    none, _ = task.display(LabelsPrediction((), {"a": 0.1, "b": 0.1}), {})
    assert none == Text("none of the labels")


def test_a_number_is_shown_as_text():
    assert NumberPrediction(3.14159).display({}) == (Text("3.14"),)


def test_entities_are_highlighted_in_their_text():
    text = "😀 Ada lives in Aarhus"
    entities = (Entity("Ada", "PER", 2, 5, 0.9), Entity("Aarhus", "LOC", 15, 21, 0.8))
    (marked,) = EntitiesPrediction(entities, (), (), ()).display({"text": text})
    assert [text[mark.start : mark.end] for mark in marked.marks] == ["Ada", "Aarhus"]
    assert EntitiesPrediction((), (), (), ()).display({"text": text})[0] == Text("no entities")


def test_an_answer_is_highlighted_in_its_context_and_no_answer_is_shown():
    context = "Ada lived in London."
    spans = (AnswerSpan("London", 13, 19, 0.6), AnswerSpan("in London", 10, 19, 0.2), AnswerSpan("Ada", 0, 3, 0.001))
    found = AnswerPrediction("London", 13, 19, 0.6, 0.1, spans)
    text, marked, bars = found.display({"question": "where?", "context": context})
    assert text == Text("London")
    assert [(mark.start, mark.faint) for mark in marked.marks] == [(13, False), (10, True)]
    assert [(bar.name, bar.chosen) for bar in bars.bars][:3] == [
        ("London", True), ("in London", False), ("no answer", False)
    ]  # fmt: skip
    none = AnswerPrediction(None, None, None, 0.9, 0.9, spans)
    text, marked, bars = none.display({"question": "why?", "context": context})
    assert text == Text("no answer")
    assert all(mark.faint for mark in marked.marks)
    assert bars.bars[0] == ScoreBar("no answer", 0.9, True)


def test_filled_masks_are_highlighted():
    found = FilledMasks(
        "the cat sat", ((MaskCandidate("cat", 0.5), MaskCandidate("dog", 0.2)), (MaskCandidate("##s", 0.9),))
    )
    marked, first, second = found.display({"text": "the [MASK] sat[MASK] 🙂 [MASK]"})
    assert marked.text == "the cat sats 🙂 [MASK]"
    assert [marked.text[mark.start : mark.end] for mark in marked.marks] == ["cat", "s"]
    assert (first.title, second.title) == ("Mask 1", "Mask 2")
    (text,) = FilledMasks("no gap", ()).display({"text": "no gap"})
    assert "[MASK]" in text.detail


def test_a_continuation_is_highlighted_after_its_text():
    (marked,) = Continuation(" a time", True).display({"text": "Once upon"})
    assert marked == HighlightedText("Once upon a time", (Highlight(9, 16),))


@pytest.mark.parametrize("name", TASKS)
def test_every_task_has_samples_for_its_required_fields(name):
    task = TASKS[name]()
    samples = sample_texts(task)
    assert len(samples) == 4
    required = {field.name for field in task.fields if field.required}
    assert all(required <= sample.keys() and all(sample.values()) for sample in samples)
