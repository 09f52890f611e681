"""What question answering says about its predictions for labelled questions."""

from collections.abc import Sequence

import numpy as np

from ..base.baseline import Baseline, paired
from ..base.evaluation_hooks import EvaluationHooks
from ..base.predictions import Misprediction
from ..base.report_parts import ReportCollector
from ..tallies import Tally
from .predictions import NO_ANSWER, AnswerPrediction, QuestionExample
from .report_answers import AnswerCharts, question_slices
from .squad_scores import answer_scores, tally_answers


class AnswerEvaluation(EvaluationHooks):
    """The hooks of evaluation."""

    def tally(self, predictions: Sequence[AnswerPrediction], examples: Sequence[QuestionExample]) -> Tally:
        """Exact match and F1 of each question."""
        return tally_answers([one.answer for one in predictions], [example.gold or () for example in examples])

    def baseline(
        self, predictions: Sequence[AnswerPrediction], examples: Sequence[QuestionExample]
    ) -> Baseline | None:
        """Beside no answer to any question, by F1."""
        gold = [example.gold or () for example in examples]
        scores = [answer_scores(one.answer, truths)[1] for one, truths in zip(predictions, gold, strict=True)]
        declined = [answer_scores(None, truths)[1] for truths in gold]
        if not any(gold):
            return None
        means = float(np.mean(scores)), float(np.mean(declined))
        return Baseline("answering no question", "f1", *means, paired(scores, declined), len(scores))

    def misprediction(self, prediction: AnswerPrediction, example: QuestionExample) -> Misprediction | None:
        """Worse the fewer words a wrong answer shares with a gold answer, and the more probable it is."""
        gold = example.gold or ()
        exact, f1 = answer_scores(prediction.answer, gold)
        shown = " / ".join(dict.fromkeys(gold)) or NO_ANSWER
        error = 1 - f1 + prediction.score
        return None if exact else Misprediction(example.where, example.texts, shown, prediction.brief, error)

    def slices_of(self, prediction: AnswerPrediction, example: QuestionExample) -> dict[str, tuple[str, ...]]:  # noqa: ARG002
        """By whether there is an answer, and by the question word."""
        return question_slices(example)

    def report_collector(self) -> ReportCollector:
        """Where answers are predicted, and calibration."""
        return AnswerCharts()
