"""What a classifier says about its predictions for labelled texts; its target knows it."""

from collections.abc import Sequence
from typing import Any

from ..base.baseline import Baseline
from ..base.evaluation_hooks import EvaluationHooks
from ..base.predictions import Misprediction
from ..base.report_parts import ReportCollector
from .predictions import TextExample
from .target import Target


class TargetEvaluation(EvaluationHooks):
    """The hooks of evaluation for a task with a target."""

    @property
    def target(self) -> Target:
        """What is predicted."""
        raise NotImplementedError

    def baseline(self, predictions: Sequence[Any], examples: Sequence[TextExample]) -> Baseline | None:
        """Beside the most frequent label or labels, or the mean."""
        return self.target.baseline(predictions, [example.label for example in examples])

    def confused(self, predictions: Sequence[Any], examples: Sequence[TextExample]) -> list[tuple[str, str]]:
        """The gold and the predicted label of each example, if it has exactly one."""
        return self.target.confusions(predictions, [example.label for example in examples])

    def misprediction(self, prediction: Any, example: TextExample) -> Misprediction | None:
        """How wrong a prediction is, by the probabilities of the wrong labels or the distance from the number."""
        gold, predicted, error = self.target.compare(prediction, example.label)
        return Misprediction(example.where, example.texts, gold, predicted, error) if error else None

    def report_collector(self) -> ReportCollector | None:
        """Calibration and curves of labels, or errors of numbers."""
        return self.target.report_collector()
