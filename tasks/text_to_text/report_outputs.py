"""What evaluation reports show of generated outputs: how they end, how long they are, and those that did not stop."""

from collections.abc import Sequence

import numpy as np

from ..base.report_parts import Chart, ReportCollector, ReportPart, ReportTable, Series
from .predictions import OutputLoss, PairExample

MAX_LISTED = 20
MAX_TEXT = 200  # characters
BINS = 30


class OutputCharts(ReportCollector):
    """Outputs that were generated for some inputs."""

    def __init__(self) -> None:
        self._lengths: list[tuple[int, int]] = []  # words of the generated output and of the first reference
        self._unfinished: list[dict[str, str]] = []
        self._num_unfinished = self._num_empty = 0

    def add(self, predictions: Sequence[OutputLoss], examples: Sequence[PairExample]) -> None:
        """Adds examples; those without a generated output do not count."""
        for prediction, example in zip(predictions, examples, strict=True):
            generated = prediction.generated
            if generated is None:
                continue
            reference = example.outputs[0] if example.outputs else ""
            self._lengths.append((len(generated.text.split()), len(reference.split())))
            self._num_empty += not generated.text.strip()
            if not generated.stopped:
                self._num_unfinished += 1
                if len(self._unfinished) < MAX_LISTED:
                    texts = {"input": example.text, "output": generated.text}
                    self._unfinished.append({name: text[:MAX_TEXT] for name, text in texts.items()})

    def parts(self) -> list[ReportPart]:
        """How outputs end, their lengths beside those of the references, and outputs that did not stop."""
        total = len(self._lengths)
        if not total:
            return []
        stopped = total - self._num_unfinished
        ends = {
            "ended by the model": stopped,
            "maximum length reached": self._num_unfinished,
            "empty": self._num_empty,
        }
        rows = [{"output": name, "number": number, "share": number / total} for name, number in ends.items()]
        longest = max(max(pair) for pair in self._lengths) + 1
        edges = np.linspace(0, longest, min(BINS, longest) + 1)
        middles = tuple(((edges[1:] + edges[:-1]) / 2).tolist())
        series = [
            Series(name, middles, tuple(np.histogram(lengths, edges)[0].astype(float).tolist()))
            for name, lengths in zip(("outputs", "references"), zip(*self._lengths, strict=True), strict=True)
        ]
        parts: list[ReportPart] = [
            ReportTable("Generated outputs", rows),
            Chart("Length of outputs and references", ("words", "texts"), tuple(series), kind="bars"),
        ]
        if self._unfinished:
            parts.append(
                ReportTable("Outputs that did not stop", self._unfinished, "--max-new-tokens sets the maximum.")
            )
        return parts
