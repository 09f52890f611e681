"""A double click on "Start training" starts one run."""

import threading
import time
from collections.abc import Collection
from concurrent.futures import Future

from .job import Job, Request
from .jobs import Jobs

SECONDS = 3.0  # between the presses, at most


class SubmitOnce:
    """Submits runs; a request that equals the one before, within `SECONDS`, gives the run of that one."""

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs
        self._lock = threading.Lock()
        self._last: tuple[Request, float, Future[Job]] | None = None

    def submit(self, request: Request, taken: Collection[str] = ()) -> Job:
        """As `Jobs.submit`."""
        future: Future[Job] = Future()
        with self._lock:
            last, now = self._last, time.monotonic()
            if last is not None and last[0] == request and now - last[1] < SECONDS:
                future, is_first = last[2], False
            else:
                self._last, is_first = (request, now, future), True
        if is_first:
            try:
                future.set_result(self._jobs.submit(request, taken))
            except BaseException as error:  # raised by `result`, here and for the second press
                future.set_exception(error)
        return future.result()
