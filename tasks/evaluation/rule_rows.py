"""What decision rules need of the rows of an evaluation: numbers only, of parts that are added one after the other.

Memory grows by 26 bytes per row, with distances from the training texts by 34. The scores of all labels, of which the
sizes of prediction sets are counted once their quantile is known, are in a temporary file, 8 L bytes per row.

Shapes: E examples, L labels.
"""

import tempfile
import weakref
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...core.atomic_files import disk_errors
from ..base.decision_rules import confidences, distances, label_table
from ..base.evaluation_results import EvaluatedPart
from ..base.task import Task
from .conformal import score_gold
from .out_of_scope import FittedDistance

IN_MEMORY = 2**24  # bytes of scores
AT_ONCE = 2**20  # scores that are read at a time


class RuleRows:
    """The confidence of each prediction, whether it is right, how little the labels agree with it, and its distance.

    Args:
        method: of conformal sets, one of METHODS; None: there are no sets.
        confident: whether the confidences are needed.
        far: whether the distances from the training texts are needed.
        fitted: computes them; None: the predictions have them.
    """

    def __init__(
        self, method: str | None, *, confident: bool = True, far: bool = False, fitted: FittedDistance | None = None
    ) -> None:
        self._method, self._confident, self._far = method, confident, far
        self.fitted = fitted
        self.num_known = 0  # rows that have texts of the reference
        self._confidence, self._gold, self._distance = array("d"), array("d"), array("d")
        self._wrong, self._is_first = bytearray(), bytearray()
        self._groups = bytearray()
        self._num_labels = 0
        self._scores: Any = tempfile.SpooledTemporaryFile(IN_MEMORY)  # noqa: SIM115
        weakref.finalize(self, self._scores.close)  # which deletes the file

    def add(self, part: EvaluatedPart) -> None:
        """Adds examples with their predictions, before rules are applied to them.

        Raises:
            HeadwayError: the predictions have no confidence or are not of one label, or the disk is full.
        """
        if part.table is not None:
            self.add_all(part.task, part.predictions, part.examples, part.groups)

    def add_all(
        self, task: Task[Any, Any], predictions: Sequence[Any], examples: Sequence[Any], groups: np.ndarray
    ) -> None:
        """As `add`; with the hash of the group of each example, (E,)."""
        pairs = zip(predictions, examples, strict=True)
        self._wrong += bytes(task.misprediction(one, example) is not None for one, example in pairs)
        self._groups += groups.tobytes()
        if self._confident:
            self._confidence.extend(confidences(predictions, "--coverage").tolist())
        if self._method is not None:
            self._add_scores(self._method, predictions, [example.gold for example in examples])
        if self.fitted is not None:
            self._distance.extend(self.fitted.measure(examples).tolist())
            self.num_known += self.fitted.count_known(examples)
        elif self._far:
            self._distance.extend(distances(predictions).tolist())

    def _add_scores(self, method: str, predictions: Any, gold: Any) -> None:
        probabilities = label_table(predictions)
        labels = list(probabilities[0])
        table = np.array([[one[label] for label in labels] for one in probabilities])
        scores, own = score_gold(table, labels, gold, method)
        self._gold.extend(own.tolist())
        self._is_first += bytes(label == labels[i] for label, i in zip(gold, table.argmax(1).tolist(), strict=True))
        self._num_labels = len(labels)
        with disk_errors(Path(tempfile.gettempdir())):
            self._scores.write(scores.astype(np.float64).tobytes())

    def __len__(self) -> int:
        return len(self._wrong)

    @property
    def confidence(self) -> np.ndarray:
        """Of each prediction, (E,)."""
        return np.array(self._confidence)

    @property
    def wrong(self) -> np.ndarray:
        """Whether each prediction is wrong, (E,)."""
        return np.frombuffer(self._wrong, dtype=bool)

    @property
    def groups(self) -> np.ndarray:
        """The hash of the group of each example, (E,)."""
        return np.frombuffer(self._groups, dtype=np.uint64)

    @property
    def distances(self) -> np.ndarray:
        """Of each text from the training texts, (E,)."""
        return np.array(self._distance)

    @property
    def gold_scores(self) -> np.ndarray:
        """The nonconformity score of each right label, (E,); infinite for one that the model does not know."""
        return np.array(self._gold)

    def covered(self, quantile: float) -> np.ndarray:
        """Whether the right label of each example is in the set of this quantile, (E,)."""
        return (self.gold_scores <= quantile) | np.frombuffer(self._is_first, dtype=bool)

    def set_sizes(self, quantile: float) -> dict[int, int]:
        """The number of sets by their size, ascending; the most probable label is in every set."""
        counts = np.zeros(self._num_labels + 1, dtype=np.int64)
        for scores in self._read():
            sizes = np.maximum(1, (scores <= quantile).sum(1))
            counts += np.bincount(sizes, minlength=len(counts))
        return {size: int(count) for size, count in enumerate(counts) if count}

    def _read(self) -> Iterator[np.ndarray]:
        row = 8 * self._num_labels
        self._scores.seek(0)
        while content := self._scores.read(row * max(1, AT_ONCE // self._num_labels)):
            yield np.frombuffer(content).reshape(-1, self._num_labels)
