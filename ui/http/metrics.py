"""Server metrics in the text format of Prometheus (https://prometheus.io/docs/instrumenting/exposition_formats/)."""

from collections.abc import Callable, Iterable, Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)

QueueSizes = Callable[[], Iterable[tuple[tuple[str, str], int]]]  # ((use, model), waiting requests)


class QueueCollector(Collector):
    """Reads the queue sizes at each scrape.

    Args:
        queue_sizes: returns the number of waiting requests for each (use, model).
    """

    def __init__(self, queue_sizes: QueueSizes) -> None:
        self._queue_sizes = queue_sizes

    def collect(self) -> Iterator[Metric]:
        """The gauge with the current sizes."""
        gauge = GaugeMetricFamily("headway_queue_requests", "Requests waiting in a queue.", labels=("use", "model"))
        for labels, waiting in self._queue_sizes():
            gauge.add_metric(labels, waiting)
        yield gauge


class Metrics:
    """The metrics of one server, in a separate registry.

    Args:
        queue_sizes: returns the number of waiting requests for each (use, model).
    """

    def __init__(self, queue_sizes: QueueSizes) -> None:
        disable_created_metrics()  # a `_created` series beside each counter and histogram
        registry = self.registry = CollectorRegistry()
        served = ("use", "model")
        self.requests = Counter(
            "headway_requests_total", "Requests by path and status.", ("path", "status"), registry=registry
        )
        self.seconds = Histogram(
            "headway_request_seconds",
            "Seconds from the request to the end of its response.",
            ("path",),
            buckets=SECONDS,
            registry=registry,
        )
        self.batch_texts = Histogram(
            "headway_batch_texts", "Texts per batch.", served, buckets=BATCH_SIZES, registry=registry
        )
        self.tokens = Counter("headway_tokens_total", "Tokens read or generated.", served, registry=registry)
        registry.register(QueueCollector(queue_sizes))

    def render(self) -> bytes:
        """All metrics in the text format."""
        return generate_latest(self.registry)
