"""What decision rules need of the rows of an evaluation: numbers only, of parts that are added one after the other.

Of very many rows a random sample is kept, which is exchangeable with new rows as all of them are. The scores of all
labels, of which the sizes of prediction sets are counted once their quantile is known, are in a temporary file: 8 L
bytes per row.

Shapes: E examples, or those of the sample; L labels.
"""

import tempfile
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...core.atomic_files import disk_errors
from ..base.decision_rules import confidences, distances, label_table
from ..base.evaluation_results import EvaluatedPart
from ..base.task import Task
from ..reservoir import Reservoir
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
        self.sample = Reservoir()
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
        wrong = [task.misprediction(one, example) is not None for one, example in pairs]
        columns: dict[str, np.ndarray] = {"wrong": np.array(wrong, dtype=bool), "groups": groups}
        if self._confident:
            columns["confidence"] = confidences(predictions, "--coverage")
        if self._method is not None:
            columns |= self._add_scores(self._method, predictions, [example.gold for example in examples])
        if self.fitted is not None:
            columns["distance"] = self.fitted.measure(examples)
            self.num_known += self.fitted.count_known(examples)
        elif self._far:
            columns["distance"] = distances(predictions)
        self.sample.add(**columns)

    def _add_scores(self, method: str, predictions: Any, gold: Any) -> dict[str, np.ndarray]:
        probabilities = label_table(predictions)
        labels = list(probabilities[0])
        table = np.array([[one[label] for label in labels] for one in probabilities])
        scores, own = score_gold(table, labels, gold, method)
        is_first = [label == labels[i] for label, i in zip(gold, table.argmax(1).tolist(), strict=True)]
        self._num_labels = len(labels)
        with disk_errors(Path(tempfile.gettempdir())):
            self._scores.write(scores.astype(np.float64).tobytes())
        return {"gold": own, "is_first": np.array(is_first, dtype=bool)}

    def __len__(self) -> int:
        return len(self.sample)

    @property
    def confidence(self) -> np.ndarray:
        """Of each prediction, (E,)."""
        return self.sample.column("confidence")

    @property
    def wrong(self) -> np.ndarray:
        """Whether each prediction is wrong, (E,)."""
        return self.sample.column("wrong")

    @property
    def groups(self) -> np.ndarray:
        """The hash of the group of each example, (E,)."""
        return self.sample.column("groups")

    @property
    def distances(self) -> np.ndarray:
        """Of each text from the training texts, (E,)."""
        return self.sample.column("distance")

    @property
    def gold_scores(self) -> np.ndarray:
        """The nonconformity score of each right label, (E,); infinite for one that the model does not know."""
        return self.sample.column("gold")

    def covered(self, quantile: float) -> np.ndarray:
        """Whether the right label of each example is in the set of this quantile, (E,)."""
        return (self.gold_scores <= quantile) | self.sample.column("is_first")

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
