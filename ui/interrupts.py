"""SIGTERM ends a command as Ctrl+C does; either one stops a training run after its current step."""

import signal
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from ..core.training.training_events import Event

INTERRUPTED = 130  # exit code: 128 + SIGINT, as in shells
TERMINATED = 143  # 128 + SIGTERM


class Terminated(KeyboardInterrupt):
    """SIGTERM arrived."""


def exit_code(interruption: KeyboardInterrupt) -> int:
    """The exit code of a command that was interrupted."""
    return TERMINATED if isinstance(interruption, Terminated) else INTERRUPTED


def _interrupt(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - the form of signal handlers
    raise Terminated if number == signal.SIGTERM else KeyboardInterrupt


@contextmanager
def sigterm_interrupts() -> Iterator[None]:
    """SIGTERM raises Terminated in the block; not in threads, which receive no signals."""
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) == signal.SIG_IGN:
        yield
        return
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class StopRequest:
    """In a `with` block, Ctrl+C or SIGTERM stops a training run after its current step, with a checkpoint.

    It is passed to training as `stop`. Before the first step, after the last one, and on a second signal the run is
    interrupted at once.
    """

    def __init__(self) -> None:
        self._received: int | None = None
        self._steps_run = False
        self._before: dict[int, object] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            numbers = [n for n in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(n) != signal.SIG_IGN]
            self._before = {number: signal.signal(number, self._receive) for number in numbers}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # pyright: ignore[reportArgumentType]  # what signal.signal returned

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
        terminated = isinstance(raised, Terminated) or self._received == signal.SIGTERM
        return Terminated(message) if terminated else KeyboardInterrupt(message)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        at_once = not self._steps_run or self._received is not None
        self._received = number
        if at_once:
            _interrupt(number, frame)
