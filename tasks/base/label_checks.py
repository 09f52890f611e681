"""Labels that are compared with out-of-fold predictions, and their corrections.

Shapes: N labels, K classes.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ...core.errors import HeadwayError

if TYPE_CHECKING:
    from ..data.columns import ColumnMapping
    from ..data.rows import Table

NO, YES = "no", "yes"


@dataclass(frozen=True, eq=False)
class LabelsToCheck:
    """Labels of one kind.

    Args:
        examples: the position of the example of each label, (N,).
        items: the position of its word, or the index of the label that is checked; 0 if there is only one, (N,).
        classes: the names of the classes; empty: the labels are numbers.
        given: the class, or the number, in the data, (N,).
        label: the label that is checked, whose classes are NO and YES; None: the classes are labels.
        of_words: whether each word has a label.
    """

    examples: np.ndarray
    items: np.ndarray
    classes: tuple[str, ...]
    given: np.ndarray
    label: str | None = None
    of_words: bool = False

    def name_of(self, row: int, example: Any) -> str:
        """What a label is of: one of several labels, a word, or (empty) the whole text."""
        return example.words[self.items[row]] if self.of_words else self.label or ""

    def label_of(self, row: int) -> str:
        """A label in the data."""
        return self.classes[self.given[row]] if self.classes else f"{self.given[row]:g}"


@dataclass(frozen=True)
class Correction:
    """Another label for a row.

    Args:
        place: of the row in its source: the number of its line or record.
        given: the label in the data.
        label: the one to write.
        item: the label that is given or not ("yes" or "no"), or the word; empty: the row has one label.
        word: the position of the word, from 0; None: the label is of the whole text.
    """

    place: int
    given: str
    label: str
    item: str = ""
    word: int | None = None


class LabelCheckHooks:
    """What a task lets search for wrong labels, with the defaults: it has none."""

    @property
    def has_labels_to_check(self) -> bool:
        """Whether it has labels that can be wrong."""
        return type(self).labels_to_check is not LabelCheckHooks.labels_to_check

    def labels_to_check(self, examples: Sequence[Any]) -> Sequence[LabelsToCheck]:  # noqa: ARG002
        """The labels of labelled examples: one part, or one for each of several labels; empty without labels."""
        return ()

    def predicted_labels(self, labels: LabelsToCheck, predictions: Sequence[Any]) -> np.ndarray:
        """The probabilities of the classes, (N, K), or the predicted numbers, (N,); NaN without a prediction.

        Args:
            labels: a part of `labels_to_check`.
            predictions: of all examples; None: this one has no prediction.
        """
        raise NotImplementedError

    def label_corrector(self, table: "Table", columns: "ColumnMapping") -> "LabelCorrector":
        """A function that returns the new cells of a row, by column, for an example and the corrections of its labels.

        It raises HeadwayError if a given label is not in the row, or the new one cannot be written there.
        """
        raise NotImplementedError


LabelCorrector = Callable[[Any, Sequence[Correction]], Mapping[str, Any]]


def refuse_other_label(example: Any, correction: Correction, there: str) -> None:
    """Raises HeadwayError if the label in the data is not the one that a correction replaces."""
    if there != correction.given:
        of = f'"{correction.item}": ' if correction.item else ""
        raise HeadwayError(
            f'{example.where}: {of}the label is "{there}", and the correction replaces "{correction.given}". The data '
            "has changed since the search, or it is another file. Search again."
        )
