"""What evaluation reports show of language models: the loss by position and by document."""

import heapq
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..base.report_parts import Chart, ReportCollector, ReportPart, ReportTable, Series
from ..reservoir import Reservoir
from .predictions import SequenceLoss

BINS = 40
MAX_DOCUMENTS = 15
MIN_TARGETS = 10  # of a document that is listed: fewer say little


class LossCharts(ReportCollector):
    """Losses by the position of the token in its sequence, and by document.

    The sequences of a document are neighbours, and its first one counts its bytes.
    """

    def __init__(self) -> None:
        self._positions = np.zeros((64, 2))  # the sum of the losses and their number, by the power of two
        self._document = np.zeros(2)  # the same, of the last document
        self._number = 0
        self._losses = Reservoir()  # of the documents
        self._ended: list[float] = []  # losses that are not in it yet
        self._worst: list[tuple[float, int, int]] = []  # loss, number of the document, its tokens

    def add(self, predictions: Sequence[SequenceLoss], examples: Sequence[Any]) -> None:  # noqa: ARG002
        """Adds the sequences of a corpus, in order."""
        for one in predictions:
            if one.num_bytes:
                self._end_document()
            self._document += one.loss, one.num_targets
            self._positions[: len(one.by_position)] += np.array(one.by_position).reshape(-1, 2)
        self._flush()

    def _flush(self) -> None:
        self._losses.add(losses=np.array(self._ended))
        self._ended = []

    def _end_document(self) -> None:
        loss, targets = self._document
        self._document = np.zeros(2)
        if not targets:
            return
        self._number += 1
        self._ended.append(float(loss / targets))
        if targets >= MIN_TARGETS:
            push = heapq.heappush if len(self._worst) < MAX_DOCUMENTS else heapq.heappushpop
            push(self._worst, (float(loss / targets), self._number, int(targets)))

    def parts(self) -> list[ReportPart]:
        """The mean loss by position, the distribution over the documents, and the worst documents."""
        self._end_document()
        self._flush()
        sums, counts = self._positions.T
        used = np.flatnonzero(counts)
        if not len(used):
            return []
        positions = [f"{2 ** (i - 1):,} to {2**i - 1:,}" if i > 1 else str(i) for i in used]
        means = sums[used] / counts[used]
        rows = [
            {"position": place, "tokens": int(count), "loss": float(mean)}
            for place, count, mean in zip(positions, counts[used], means, strict=True)
        ]
        line = Series("loss", tuple(map(float, used)), tuple(map(float, means)))
        parts: list[ReportPart] = [
            ReportTable("Loss by position", rows, "The position of the predicted token in its sequence, from 0."),
            Chart("Loss by position", ("position (powers of two)", "mean loss in nats"), (line,)),
        ]
        return [*parts, *self._documents()] if len(self._losses) > 1 else parts

    def _documents(self) -> list[ReportPart]:
        counts, edges = np.histogram(self._losses.column("losses"), BINS)
        bars = Series(
            "documents", tuple(((edges[1:] + edges[:-1]) / 2).tolist()), tuple(counts.astype(float).tolist())
        )
        rows = [
            {"document": f"number {number:,}", "tokens": tokens, "loss": loss}
            for loss, number, tokens in sorted(self._worst, reverse=True)
        ]
        table = ReportTable("Documents with the largest loss", rows, "Documents are numbered from 1, in their order.")
        return [
            Chart("Loss by document", ("mean loss in nats", "documents"), (bars,), kind="bars"),
            *([table] * bool(rows)),
        ]
