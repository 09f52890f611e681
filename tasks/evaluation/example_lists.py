"""Rows that a report lists: those of each cell of the confusion matrix, and mistakes; memory is bounded."""

import heapq
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

from ..base.error_analysis import MAX_LABELS
from ..base.predictions import Misprediction
from ..base.task import Task

MAX_TEXT = 600  # characters of a text that are listed
ROWS_OF_CELL = 10  # random ones
MAX_MISTAKES = 25
MAX_CONFUSIONS = 20


@dataclass(frozen=True)
class ListedRow:
    """A row with its gold and its predicted label."""

    where: str
    texts: tuple[str, ...]
    gold: str
    predicted: str
    confidence: float | None = None

    @classmethod
    def of(cls, found: Misprediction, confidence: float | None) -> "ListedRow":
        """A misprediction, with its texts shortened."""
        texts = tuple(map(shorten, found.texts))
        return cls(short_place(found.where), texts, shorten(found.gold), shorten(found.predicted), confidence)

    def to_json(self) -> dict[str, Any]:
        """The fields as plain JSON types."""
        return {**vars(self), "texts": list(self.texts)}


def shorten(text: str) -> str:
    """The first MAX_TEXT characters of a text."""
    return text if len(text) <= MAX_TEXT else f"{text[: MAX_TEXT - 1]}…"


def short_place(where: str) -> str:
    """A place without the folder of its file: reports are shared, folders are private."""
    return re.sub(r".*[/\\\\]", "", where)


class _Best:
    """The rows with the largest numbers; of equal numbers, the first ones."""

    def __init__(self, most: int) -> None:
        self._most, self._count = most, 0
        self._heap: list[tuple[float, int, ListedRow]] = []

    def add(self, number: float, row: ListedRow) -> None:
        self._count += 1
        push = heapq.heappush if len(self._heap) < self._most else heapq.heappushpop
        push(self._heap, (number, -self._count, row))

    def rows(self) -> list[ListedRow]:
        return [row for _, _, row in sorted(self._heap, key=lambda one: (-one[0], -one[1]))]


@dataclass
class Mistakes:
    """The worst and the most confident mistakes."""

    number: int = 0
    _worst: _Best = field(default_factory=lambda: _Best(MAX_MISTAKES))
    _confident: _Best = field(default_factory=lambda: _Best(MAX_MISTAKES))

    def add(self, found: Misprediction, confidence: float | None) -> None:
        """Adds a mistake."""
        self.number += 1
        row = ListedRow.of(found, confidence)
        self._worst.add(found.error, row)
        if confidence is not None:
            self._confident.add(confidence, row)

    @property
    def worst(self) -> list[ListedRow]:
        """Those with the largest errors."""
        return self._worst.rows()

    @property
    def confident(self) -> list[ListedRow]:
        """Those that the model was most sure of; empty if it gives no probability."""
        return self._confident.rows()


class Confusions:
    """How often each label was predicted for each gold label, with random rows of each mistake."""

    def __init__(self) -> None:
        self._cells: Counter[tuple[str, str]] = Counter()
        self._rows: dict[tuple[str, str], list[ListedRow]] = {}
        self._seen: Counter[tuple[str, str]] = Counter()  # examples with a mistake
        self._random = Random(0)

    def add(self, task: Task[Any, Any], prediction: Any, example: Any, row: ListedRow | None) -> None:
        """Adds an example.

        Args:
            task: of the prediction.
            prediction: for the example.
            example: a labelled one.
            row: the mistake; None if there is none.
        """
        pairs = task.confused([prediction], [example])
        self._cells.update(pairs)
        if row is None:
            return
        for pair in {pair for pair in pairs if pair[0] != pair[1]}:
            rows = self._rows.setdefault(pair, [])
            self._seen[pair] += 1
            if len(rows) < ROWS_OF_CELL:
                rows.append(row)
            elif (place := self._random.randrange(self._seen[pair])) < ROWS_OF_CELL:
                rows[place] = row

    def summary(self) -> "ConfusionSummary | None":
        """The matrix of the most frequent labels; None if nothing has one gold and one predicted label."""
        if not self._cells:
            return None
        gold, predicted = Counter[str](), Counter[str]()
        for (one, other), count in self._cells.items():
            gold[one] += count
            predicted[other] += count
        ranked = sorted(gold | predicted, key=lambda label: (-gold[label], -predicted[label], label))
        labels = ranked[: MAX_LABELS - 1] if len(ranked) > MAX_LABELS else ranked
        shown = [*labels, None] if len(ranked) > len(labels) else labels
        place = {label: i for i, label in enumerate(labels)}
        counts = [[0] * len(shown) for _ in shown]
        for (one, other), count in self._cells.items():
            counts[place.get(one, len(labels))][place.get(other, len(labels))] += count
        wrong = sorted(self._rows, key=lambda pair: (-self._cells[pair], pair))
        mistakes = [Confusion(*pair, self._cells[pair], self._rows[pair]) for pair in wrong]
        return ConfusionSummary(shown, counts, mistakes)


@dataclass(frozen=True)
class Confusion:
    """A gold label with another predicted one."""

    gold: str
    predicted: str
    count: int
    rows: Sequence[ListedRow]  # some of them

    def to_json(self) -> dict[str, Any]:
        """The fields as plain JSON types."""
        return {**vars(self), "rows": [row.to_json() for row in self.rows]}


@dataclass(frozen=True)
class ConfusionSummary:
    """The matrix and the mistakes, the most frequent first."""

    labels: Sequence[str | None]  # the most frequent first; None: all others together
    counts: Sequence[Sequence[int]]  # counts[gold][predicted]
    mistakes: Sequence[Confusion]

    def to_json(self) -> dict[str, Any]:
        """The fields as plain JSON types."""
        mistakes = [one.to_json() for one in self.mistakes]
        return {"labels": list(self.labels), "counts": [list(row) for row in self.counts], "mistakes": mistakes}
