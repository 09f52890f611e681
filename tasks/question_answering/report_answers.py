"""What evaluation reports show of answers: where the model answers, by question word, and calibration."""

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np

from ..base.report_calibration import Reliability, calibration_parts
from ..base.report_parts import ReportCollector, ReportPart, ReportTable
from .predictions import NO_ANSWER, AnswerPrediction, QuestionExample
from .squad_scores import answer_scores

HAS_ANSWER = "has an answer"
OTHER_WORD = "other"
KINDS = EXACT, PARTLY, WRONG, _ = ("exact answer", "overlapping answer", "wrong answer", NO_ANSWER)
QUESTION_WORD = re.compile(r"\b(who|whom|whose|what|which|when|where|why|how)\b", re.IGNORECASE)
SAME = {"whom": "who", "whose": "who"}
HOW = re.compile(r"\bhow (many|much|long|old|often|far)\b", re.IGNORECASE)


def question_word(question: str) -> str:
    """The English question word of a question: "who", "how many", ...; "other" if it has none."""
    found = QUESTION_WORD.search(question)
    if found is None:
        return OTHER_WORD
    word = found[1].lower()
    number = HOW.match(question, found.start()) if word == "how" else None
    return " ".join(number[0].lower().split()) if number else SAME.get(word, word)


def question_slices(example: QuestionExample) -> dict[str, tuple[str, ...]]:
    """The parts of the data that a question belongs to."""
    return {
        "answer": (HAS_ANSWER if example.gold else NO_ANSWER,),
        "question word": (question_word(example.question),),
    }


class AnswerCharts(ReportCollector):
    """Counts of answered questions, and the calibration of answers."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[bool, str]] = Counter()
        self._reliability = Reliability()

    def add(self, predictions: Sequence[AnswerPrediction], examples: Sequence[QuestionExample]) -> None:
        """Adds examples with their predictions."""
        exact = []
        for prediction, example in zip(predictions, examples, strict=True):
            is_exact, f1 = answer_scores(prediction.answer, example.gold or ())
            exact.append(is_exact)
            kind = NO_ANSWER if prediction.answer is None else EXACT if is_exact else PARTLY if f1 else WRONG
            self._counts[bool(example.gold), kind] += 1
        self._reliability.add(np.array([one.score for one in predictions]), np.array(exact))

    def parts(self) -> list[ReportPart]:
        """The answers to questions with and without an answer, and calibration."""
        rows = []
        for has in (True, False):
            counts = {kind: self._counts[has, kind] for kind in KINDS}
            if total := sum(counts.values()):
                rows.append({"question": HAS_ANSWER if has else f"has {NO_ANSWER}", "number": total, **counts})
        note = "Of the probability of the predicted answer, or of no answer; correct is an exact match."
        return [
            ReportTable("What is predicted", rows),
            *calibration_parts(None, self._reliability, note),
        ]
