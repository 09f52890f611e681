"""Odd texts through every task: no crash, and every offset is that of the text it is shown with."""

import math
from pathlib import Path
from typing import Any

import pytest
from campaign_options import cases, random_of
from children import failures, summary
from headway.tasks import TASKS, load
from odd_texts import odd_text

pytestmark = pytest.mark.campaign
CASES = 2_000  # of each task
SECONDS = 10.0
AT_ONCE = 4  # texts per case


def inputs(name: str, number: int) -> list[Any]:
    """The inputs of a case."""
    random = random_of(name, number)
    texts = [odd_text(random, masks=random.choice((0, 1, 2)) if name == "fill-mask" else 0) for _ in range(AT_ONCE)]
    others = [odd_text(random) for _ in range(AT_ONCE)]
    if name == "multiple-choice":
        return [(text, [other, odd_text(random)]) for text, other in zip(texts, others, strict=True)]
    return list(zip(texts, others, strict=True)) if len(TASKS[name].inputs) > 1 and needs_two(name) else texts


def needs_two(name: str) -> bool:
    return TASKS[name].inputs[1].required


def check(name: str, given: Any, prediction: Any) -> None:
    """Checks the numbers and the offsets of a prediction."""
    found = prediction.to_json()
    for number in numbers(found):
        assert math.isfinite(number), found
    text = given[1] if name == "question-answering" else given
    checked = spans(found)
    assert len(checked) >= len(found.get("entities", ()))
    for span in checked:
        start, end = span["start"], span["end"]
        assert 0 <= start <= end <= len(text), (text, span)
        said = span.get("text", span.get("word", span.get("answer")))
        assert said is not None, span
        assert text[start:end] == said, (text, span)


def numbers(found: Any) -> list[float]:
    """All floats of nested JSON."""
    if isinstance(found, dict | list | tuple):
        return [number for one in (found.values() if isinstance(found, dict) else found) for number in numbers(one)]
    return [found] if isinstance(found, float) else []


def spans(found: Any) -> list[dict[str, Any]]:
    """All objects of nested JSON with offsets."""
    if isinstance(found, list | tuple):
        return [span for one in found for span in spans(one)]
    if not isinstance(found, dict):
        return []
    own = [found] if isinstance(found.get("start"), int) else []
    return own + [span for one in found.values() for span in spans(one)]


def test_odd_texts_are_predicted_with_their_own_offsets(model: Path):
    opened: list[Any] = []

    def predict(number: int) -> None:
        if not opened:
            opened.append(load(model))  # once in each process
        texts = inputs(model.name, number)
        predictions = opened[0].predict(texts)
        assert len(predictions) == len(texts)
        for given, prediction in zip(texts, predictions, strict=True):
            check(model.name, given, prediction)

    found = failures(cases(CASES // AT_ONCE), predict, SECONDS)
    assert not found, summary(found)
