"""The hooks of a task for evaluation beyond its metrics, with their defaults."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from statistics import fmean
from typing import TYPE_CHECKING, Any, ClassVar, Self

from .predictions import Misprediction

if TYPE_CHECKING:
    import numpy as np
    from torch import nn

    from ..data.columns import ColumnMapping
    from ..data.rows import Table
    from ..tallies import Tally
    from .baseline import Baseline
    from .inference import Encoder
    from .report_parts import ReportCollector
    from .results import Evaluation


class EvaluationHooks:
    """What a task says about its predictions for labelled examples, which are given in the same order."""

    fitted_fields: ClassVar[tuple[str, ...]] = ()  # those that `calibrate` fits: numbers, or tuples of numbers
    finishes_predictions: ClassVar[bool] = False  # `finish_evaluation` completes those of `to_finish`
    scores_loss: ClassVar[bool] = False  # `predict_batch` returns losses of labelled features, and `score` their mean

    name: ClassVar[str]
    title: ClassVar[str]

    @property
    def cannot_store_rules(self) -> str:
        """Why decision rules are not stored in the folder of its model, a clause; empty: they are."""
        return ""

    @property
    def cannot_be_none_of_these(self) -> str:
        """Why no text can have none of its labels by its distance from the training texts; empty: it can."""
        return f"is only for models that give texts labels, not for {self.title.lower()}"

    @property
    def compared_as(self) -> str:
        """The name of the task whose predictions its own can be compared with."""
        return self.name

    def calibrate(self, predictions: Sequence[Any], examples: Sequence[Any]) -> Self:
        """A copy whose thresholds (or similar) are fitted to the predictions for held-out data."""
        return self

    def recalibrate(self, predictions: Sequence[Any], calibrated: Any) -> list[Any]:
        """Predictions that this task made, as a calibrated copy makes them."""
        return list(predictions)

    @property
    def calibrated(self) -> str:
        """What `calibrate` has fitted to held-out data: "the thresholds"; empty: nothing."""
        return ""

    def with_labels_of(self, table: "Table", columns: "ColumnMapping") -> Self:
        """A copy that also knows the other labels in a table, to read and to score rows that have them."""
        return self

    def averaged(self, others: Sequence[Self]) -> Self:
        """A copy with the means of what `calibrate` fitted in others, which were trained on parts of the same data."""
        means: dict[str, Any] = {}
        for name in self.fitted_fields:
            values = [getattr(one, name) for one in others]
            if not isinstance(values[0], tuple):
                means[name] = fmean(values)
            elif fitted := [value for value in values if value]:
                mostly = 2 * len(fitted) > len(values)
                means[name] = tuple(map(fmean, zip(*fitted, strict=True))) if mostly else ()
        return replace(self, **means)  # pyright: ignore[reportArgumentType] - a task is a dataclass

    def with_labels_known_to(self, other: Any) -> Self:
        """A copy that also knows the labels of a task of the same kind, to score its predictions as its own."""
        labels = getattr(self, "labels", None)
        if labels is None:
            return self
        merged = tuple(dict.fromkeys((*labels, *other.labels)))
        return replace(self, labels=merged)  # pyright: ignore[reportArgumentType] - a task is a dataclass

    @property
    def has_tally(self) -> bool:
        """Whether its metrics are functions of sums over examples."""
        return type(self).tally is not EvaluationHooks.tally

    def tally(self, predictions: Sequence[Any], examples: Sequence[Any]) -> "Tally | None":
        """What is counted of each example, of which the metrics of `score` are functions; None: they have no interval.

        Of metrics that depend on other examples, such as the rank of a text among all texts, the samples of an
        interval keep what they are among all examples.
        """
        return None

    def baseline(self, predictions: Sequence[Any], examples: Sequence[Any]) -> "Baseline | None":
        """The predictions beside the best constant one; None if the examples cannot tell, or the task does not."""
        return None

    def finish_evaluation(
        self,
        found: "Evaluation",
        network: "nn.Module",
        encoder: "Encoder",
        known: Sequence[Any],
        *,
        examples: Sequence[Any] | None = None,
    ) -> "Evaluation":
        """An evaluation with what takes too long for one during training, such as generated texts.

        Args:
            found: the metrics and predictions of the final weights.
            network: in eval mode.
            encoder: of the model.
            known: the training examples; empty if they are not at hand.
            examples: all examples, where `found` has only those of `to_finish`.
        """
        return found

    def to_finish(self, examples: Sequence[Any]) -> "np.ndarray | None":
        """The positions of the examples whose predictions `finish_evaluation` completes, ascending; None: of none."""
        return None

    def per_label(self, predictions: Sequence[Any], examples: Sequence[Any]) -> list[dict[str, Any]]:
        """A table with a row per label; empty if there are no labels."""
        tally = self.tally(predictions, examples)
        return tally.per_label() if tally else []

    def confused(self, predictions: Sequence[Any], examples: Sequence[Any]) -> list[tuple[str, str]]:
        """The gold and the predicted label of everything that has one of each; empty if nothing has."""
        return []

    def misprediction(self, prediction: Any, example: Any) -> Misprediction | None:
        """What is wrong with a prediction; None if it is right, or the task does not say."""
        return None

    def slices_of(self, prediction: Any, example: Any) -> "Mapping[str, Collection[str]]":
        """The parts of the data that an example belongs to, by what divides it. Default: by its labels."""
        return {"label": set(example.labels)} if example.labels else {}

    def report_collector(self) -> "ReportCollector | None":
        """Collects the tables and charts that evaluation reports have for this task only; None: it adds nothing."""
        return None
