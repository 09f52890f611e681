"""What a classifier predicts: the interface of the three kinds of targets.

single_label.py, multi_label.py and regression.py hold the kinds. A target knows how labels are learned from data, how
the loss, the predictions and the metrics are computed from a model's logits, and what is calibrated. Its fields are
also fields of `TextClassification`, which stores them.

Shapes: E examples, L labels.
"""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from torch import Tensor

from ...core.errors import HeadwayError
from ...core.models.heads import SequenceHead
from ..base.baseline import Baseline
from ..base.display import DisplayElement
from ..base.explanation import ExplainableOutput
from ..base.report_parts import ReportCollector
from ..data.columns import ColumnMapping
from ..data.labels import MULTI_LABEL, SINGLE_LABEL, label_reader, map_valid, raw_label, sort_labels
from ..data.rows import Table
from ..tallies import Tally


@dataclass(frozen=True)
class LabelColumn:
    """The label column of the training data, or several 0/1 columns, one for each label."""

    source: str
    name: str | tuple[str, ...]
    values: Sequence[Any]
    decimal: str | None = None  # the mark of numbers that the user chose
    merge: bool = False  # whether labels that differ only in case and spaces are one

    @classmethod
    def of(cls, table: Table, columns: ColumnMapping, *, merge: bool) -> Self:
        """The label column of a table."""
        values = list(map_valid(lambda row: raw_label(row, columns.label), table.rows))
        return cls(table.source, columns.label or (), values, table.decimal, merge)

    def unknown_labels(self, problem_type: str | None, known: Sequence[str], *, numbered: bool) -> tuple[str, ...]:
        """The labels that are not known, nor numbers of known ones if these may be given as numbers."""
        if problem_type not in (SINGLE_LABEL, MULTI_LABEL):
            return ()
        rows = map_valid(label_reader(problem_type, self.values, merge=self.merge), self.values)
        labels = {label for row in rows for label in ([row] if problem_type == SINGLE_LABEL else row)}
        read = label_reader(SINGLE_LABEL, (), known, numbered=numbered, merge=self.merge)
        return sort_labels(label for label in labels if not list(map_valid(read, [label])))

    def read(self, problem_type: str, labels: Sequence[str]) -> tuple[list[Any], Counter[str]]:
        """The labels of each readable row, and how many rows have each label."""
        read = label_reader(problem_type, self.values, labels, numbered=bool(labels), merge=self.merge)
        rows = list(map_valid(read, self.values))
        counts = Counter(label for row in rows for label in ([row] if problem_type == SINGLE_LABEL else row))
        if not counts:
            raise HeadwayError(
                f"{self.source}: no row has a label, so there is nothing to learn. Name another column with --label."
            )
        return rows, counts

    def order(self, labels: Iterable[str]) -> tuple[str, ...]:
        """The labels in the order of the model's outputs."""
        return self.name if isinstance(self.name, tuple) else sort_labels(labels)


# The largest weight in the loss: of a positive example compared with a negative one, and of a label compared with the
# most frequent one. A few examples with a larger weight would decide the direction of every step they occur in. The
# class-balanced weights of Cui et al. 2019 (https://arxiv.org/abs/1901.05555) have this bound for beta = 0.99.
MAX_WEIGHT = 100.0


@dataclass(frozen=True)
class Target(ABC):
    """What a classifier predicts for a text or a pair of texts."""

    description: ClassVar[str]

    @classmethod
    @abstractmethod
    def infer(cls, column: LabelColumn, labels: tuple[str, ...], *, balanced: bool) -> Self:
        """The target that a label column shows.

        Args:
            column: of the training data.
            labels: the labels given by the user, in their order; empty to infer them.
            balanced: whether rare labels have more weight in the loss, up to `MAX_WEIGHT`.

        Raises:
            HeadwayError: nothing can be learned from the column.
        """

    @property
    @abstractmethod
    def num_outputs(self) -> int:
        """The number of logits."""

    def init_head(self, head: SequenceHead) -> None:  # noqa: B027 - optional
        """Changes the initial weights of a new head."""

    @abstractmethod
    def encode(self, label: Any) -> Any:
        """What the loss compares an example's logits with."""

    @abstractmethod
    def loss(self, logits: Tensor, gold: Tensor, weights: Tensor | None) -> tuple[Tensor, int]:
        """The sum of the losses and the number of its terms.

        Args:
            logits: (E, L), or (E, 1) for a number.
            gold: the encoded labels of the E examples.
            weights: of the labels, (L,); None: equal ones.
        """

    @abstractmethod
    def decode(self, logits: Tensor) -> list[Any]:
        """The predictions for E examples."""

    @abstractmethod
    def tally(self, predictions: Sequence[Any], gold: Sequence[Any]) -> Tally:
        """What is counted of each example, of which the metrics are functions; the best first one is kept."""

    @abstractmethod
    def baseline(self, predictions: Sequence[Any], gold: Sequence[Any]) -> Baseline | None:
        """The predictions beside the best constant one; None if the gold labels are all the same."""

    def confusions(self, predictions: Sequence[Any], gold: Sequence[Any]) -> list[tuple[str, str]]:  # noqa: ARG002
        """The gold and the predicted label of each example, if an example has exactly one."""
        return []

    @abstractmethod
    def compare(self, prediction: Any, gold: Any) -> tuple[str, str, float]:
        """The gold and the predicted label as text, and how wrong the prediction is; 0 if it is correct."""

    @abstractmethod
    def measure(self, gold: Iterable[Any]) -> dict[str, Any]:
        """The fields with weights, shares and scales as they are for some rows.

        Args:
            gold: the label, the labels or the number of each row.
        """

    def calibrate(self, predictions: Sequence[Any], gold: Sequence[Any]) -> Self:  # noqa: ARG002
        """A copy calibrated on held-out predictions."""
        return self

    def recalibrate(self, predictions: Sequence[Any], calibrated: Any) -> list[Any]:  # noqa: ARG002
        """Predictions that this target made, as a calibrated copy makes them."""
        return list(predictions)

    @property
    def calibrated(self) -> str:
        """What `calibrate` has fitted; empty: nothing."""
        return ""

    def report_collector(self) -> ReportCollector | None:
        """Collects what evaluation reports show of this kind of target only."""
        return None

    @abstractmethod
    def explain(self, logits: Tensor) -> list[ExplainableOutput]:
        """What words can be attributed to: the probability of every label in descending order, or the number.

        Args:
            logits: of one text, (L,).
        """

    def display(self, prediction: Any, texts: Mapping[str, str]) -> tuple[DisplayElement, ...]:
        """The parts of a prediction that a user sees."""
        return prediction.display(texts)


def explain_labels(
    labels: Sequence[str], logits: Tensor, probabilities: Callable[[Tensor], Tensor]
) -> list[ExplainableOutput]:
    """The probability of every label, in descending order.

    Args:
        labels: in the order of the logits.
        logits: of one text, (L,).
        probabilities: logits -> probabilities.
    """

    def probability(label: int) -> Callable[[Tensor, Sequence[int]], Tensor]:
        return lambda outputs, kept: probabilities(outputs)[label]  # noqa: ARG005

    order: list[int] = logits.argsort(descending=True).tolist()
    return [ExplainableOutput(labels[label], "probability", (), probability(label)) for label in order]
