"""What a server counts, in the text format that Prometheus reads.

https://prometheus.io/docs/instrumenting/exposition_formats/
"""

import threading
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
TEXTS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Labels = tuple[str, ...]


class Counter:
    """A number that only grows, for each set of labels."""

    kind = "counter"

    def __init__(self, name: str, help: str, labels: Sequence[str]) -> None:
        self.name, self.help, self.labels = name, help, tuple(labels)
        self._values: dict[Labels, float] = {}
        self._lock = threading.Lock()

    def add(self, *labels: str, by: float = 1) -> None:
        """Counts something."""
        with self._lock:
            self._values[labels] = self._values.get(labels, 0) + by

    def lines(self) -> Iterator[str]:
        """A line for each set of labels."""
        with self._lock:
            values = dict(self._values)
        for labels, value in values.items():
            yield _line(self.name, self.labels, labels, value)


class Gauge:
    """Numbers that are looked up when somebody asks."""

    kind = "gauge"

    def __init__(
        self, name: str, help: str, labels: Sequence[str], now: Callable[[], Iterable[tuple[Labels, float]]]
    ) -> None:
        self.name, self.help, self.labels, self._now = name, help, tuple(labels), now

    def lines(self) -> Iterator[str]:
        """A line for each set of labels."""
        for labels, value in self._now():
            yield _line(self.name, self.labels, labels, value)


class Histogram:
    """How often a number was below each of some borders, for each set of labels."""

    kind = "histogram"

    def __init__(self, name: str, help: str, labels: Sequence[str], borders: Sequence[float]) -> None:
        self.name, self.help, self.labels, self.borders = name, help, tuple(labels), tuple(borders)
        self._counts: dict[Labels, list[int]] = {}
        self._sums: dict[Labels, float] = {}
        self._lock = threading.Lock()

    def add(self, *labels: str, value: float) -> None:
        """Counts a number."""
        with self._lock:
            counts = self._counts.setdefault(labels, [0] * (len(self.borders) + 1))
            counts[bisect_left(self.borders, value)] += 1
            self._sums[labels] = self._sums.get(labels, 0) + value

    def lines(self) -> Iterator[str]:
        """Lines for each set of labels: how many were up to each border, their sum and their number."""
        with self._lock:
            found = [(labels, tuple(counts), self._sums[labels]) for labels, counts in self._counts.items()]
        for labels, counts, total in found:
            borders = [*map(str, self.borders), "+Inf"]
            for border, count in zip(borders, accumulate(counts), strict=True):
                yield _line(f"{self.name}_bucket", (*self.labels, "le"), (*labels, border), count)
            yield _line(f"{self.name}_sum", self.labels, labels, total)
            yield _line(f"{self.name}_count", self.labels, labels, sum(counts))


def _line(name: str, names: Labels, values: Labels, value: float) -> str:
    pairs = ",".join(f'{key}="{_escaped(said)}"' for key, said in zip(names, values, strict=True))
    return f"{name}{{{pairs}}} {value}"


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


class Metrics:
    """Everything that a server counts.

    Args:
        queues: how many requests wait now, for each use and model.
    """

    def __init__(self, queues: Callable[[], Iterable[tuple[Labels, float]]]) -> None:
        served = ("use", "model")
        self.requests = Counter("headway_requests_total", "Requests, by path and status.", ("path", "status"))
        self.seconds = Histogram("headway_request_seconds", "Seconds until the answer was out.", ("path",), SECONDS)
        self.batches = Histogram("headway_batch_texts", "Texts that were computed together.", served, TEXTS)
        self.tokens = Counter("headway_tokens_total", "Tokens that were read or written.", served)
        self.queues = Gauge("headway_queue_requests", "Requests that wait.", served, queues)

    def render(self) -> str:
        """As Prometheus reads it."""
        lines = []
        for one in (self.requests, self.seconds, self.batches, self.tokens, self.queues):
            lines += [f"# HELP {one.name} {one.help}", f"# TYPE {one.name} {one.kind}", *one.lines()]
        return "\n".join(lines) + "\n"
