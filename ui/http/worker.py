"""A thread with a bounded queue of requests: what the batches and the interleaved generations of a model share."""

import threading

from ...core.errors import HeadwayError


class QueueFull(HeadwayError):
    """The queue holds as many requests as it may."""


class Stopping(HeadwayError):
    """The server is stopping and accepts no more requests."""


class Worker:
    """A thread with a bounded queue; the first request starts it.

    Args:
        name: name of the thread, also used in error messages.
        max_queue: maximum number of waiting requests.
    """

    def __init__(self, name: str, max_queue: int) -> None:
        self.name = name
        self.max_queue = max_queue
        self._changed = threading.Condition()
        self._closing = False
        self._thread: threading.Thread | None = None

    @property
    def waiting(self) -> int:
        """Number of requests in the queue."""
        raise NotImplementedError

    def close(self, timeout: float | None = None) -> None:
        """Accepts no more requests and waits up to `timeout` seconds for the accepted ones to finish."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
            thread = self._thread
        if thread is not None:
            thread.join(timeout)

    def _admit(self) -> None:
        """Checks, with the lock held, that a request may enter the queue; starts the thread.

        Raises:
            Stopping: the worker is closed.
            QueueFull: the queue is full.
        """
        if self._closing:
            raise Stopping("The server is stopping and accepts no more requests. Try again when it is back.")
        if self.waiting >= self.max_queue:
            raise QueueFull(f"The queue of {self.name} is full: {self.waiting} requests are waiting. Try again later.")
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=self.name, daemon=True)
            self._thread.start()

    def _run(self) -> None:
        """Body of the thread: works until the worker is closed and the queue is empty."""
        raise NotImplementedError
