"""SIGTERM ends a command as Ctrl+C does; either one stops a training run after its current step.

On Windows, SIGBREAK has the part of SIGTERM, which no other process can send there: it comes from Ctrl+Break, from a
process that sends CTRL_BREAK_EVENT, and from a console that is closed.
"""

import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from ..core.training.training_events import Event

INTERRUPTED = 130  # exit code: 128 + SIGINT, as in shells
TERMINATED = 143  # 128 + SIGTERM
TERMINATIONS = (signal.SIGTERM, signal.SIGBREAK) if sys.platform == "win32" else (signal.SIGTERM,)
INTERRUPTIONS = (signal.SIGINT, *TERMINATIONS)


class Terminated(KeyboardInterrupt):
    """SIGTERM arrived, or SIGBREAK on Windows."""


def exit_code(interruption: KeyboardInterrupt) -> int:
    """The exit code of a command that was interrupted."""
    return TERMINATED if isinstance(interruption, Terminated) else INTERRUPTED


def _interrupt(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - the form of signal handlers
    raise Terminated if number in TERMINATIONS else KeyboardInterrupt


@contextmanager
def sigterm_interrupts() -> Iterator[None]:
    """SIGTERM raises Terminated in the block; not in threads, which receive no signals."""
    before = handle(TERMINATIONS, _interrupt)
    try:
        yield
    finally:
        restore(before)


def handle(numbers: Sequence[int], handler: Callable[[int, FrameType | None], Any]) -> dict[int, Any]:
    """Installs a handler of signals that are not ignored, unless in a thread; returns the handlers before."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    return {number: signal.signal(number, handler) for number in numbers if signal.getsignal(number) != signal.SIG_IGN}


def restore(handlers: Mapping[int, Any]) -> None:
    """Puts back what `handle` returned."""
    for number, handler in handlers.items():
        signal.signal(number, handler)


class StopRequest:
    """In a `with` block, Ctrl+C or SIGTERM stops a training run after its current step, with a checkpoint.

    It is passed to training as `stop`. Before the first step, after the last one, and on a second signal the run is
    interrupted at once.
    """

    def __init__(self) -> None:
        self._received: int | None = None
        self._steps_run = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        self._before = handle(INTERRUPTIONS, self._receive)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        restore(self._before)

    def __call__(self) -> bool:
        """Whether training shall stop."""
        return self._received is not None

    def watch(self, events: "Iterable[Event]") -> "Iterator[Event]":
        """The events of a run, which show whether its steps are under way."""
        from ..core.training.training_events import Finished, Started

        for event in events:
            if isinstance(event, Started | Finished):
                self._steps_run = isinstance(event, Started)
            if self._received is not None and not self._steps_run:
                _interrupt(self._received, None)
            yield event

    def interruption(self, raised: KeyboardInterrupt, message: str) -> KeyboardInterrupt:
        """The interruption of the run with a message, of the kind of the signal that was received."""
        terminated = isinstance(raised, Terminated) or self._received in TERMINATIONS
        return Terminated(message) if terminated else KeyboardInterrupt(message)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        at_once = not self._steps_run or self._received is not None
        self._received = number
        if at_once:
            _interrupt(number, frame)
