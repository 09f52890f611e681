"""A process of a launch that fails ends the others, which would wait for it in a collective operation.

Some launchers do so when a process ends, but a process may also live on after an error, and NCCL waits for minutes.
The processes tell one another through the store of torch.distributed, from a thread of each:
https://docs.pytorch.org/docs/stable/distributed.html#distributed-key-value-store
"""

import os
import socket
import sys
from contextlib import ContextDecorator, suppress
from itertools import count
from threading import Event, Thread
from typing import TYPE_CHECKING, Self

import psutil

from ..visible import visible
from .distributed import launch_store, processes

if TYPE_CHECKING:
    from torch.distributed import Store  # pyright: ignore[reportPrivateImportUsage]

BEAT = 2.0  # seconds between two signs of life
SILENT_BEATS = 20  # number without a sign of life after which a process has failed
GRACE = 15.0  # seconds for the other processes to end by themselves, for example because they have the same error
LEFT = "left"

_blocks = count()  # a number that is the same in all processes, because they enter the same blocks
_inside: list["_Watch"] = []


class failing_together(ContextDecorator):
    """If one process fails in the `with` block, the others that are in it end within a minute, with exit code 1.

    Nothing happens if the others leave the block, too, normally or with another error. Blocks nest.
    """

    def __enter__(self) -> Self:
        group, store = processes(), launch_store()
        self.watch = None
        if group.is_distributed and store is not None and not _inside:
            self.watch = _Watch(store, next(_blocks))
            _inside.append(self.watch)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if self.watch is not None:
            _inside.clear()
            self.watch.leave(None if isinstance(error, GeneratorExit) else error)


class _Watch:
    """The thread of a process: says that it lives, and looks whether a process has failed."""

    def __init__(self, store: "Store", number: int) -> None:
        from torch.distributed import PrefixStore  # pyright: ignore[reportPrivateImportUsage]

        self.group = processes()
        self.store = PrefixStore(f"block {number}", store.clone())  # pyright: ignore[reportAttributeAccessIssue]
        self.left = Event()
        self.next_rank = (self.group.rank + 1) % self.group.world_size  # which this process watches
        self.last_beat, self.num_silent = LEFT, 0
        Thread(target=self._run, daemon=True).start()

    def leave(self, error: BaseException | None) -> None:
        """Ends the thread; an error is reported to the other processes."""
        self.left.set()
        with suppress(RuntimeError):  # the process with the store has left already
            if error is not None:
                self.store.set("failure", f"process {self.group.rank} has failed ({type(error).__name__}: {error})")
            self.store.set(f"beat {self.group.rank}", LEFT)

    def _run(self) -> None:
        for number in count():
            if self.left.wait(BEAT):
                return
            failure = self._find_failure(number)
            if failure and not self.left.wait(GRACE):
                message = f"headway: {visible(failure)}. Process {self.group.rank} ends, too."
                print(message, file=sys.stderr, flush=True)
                os._exit(1)  # the main thread may wait for a message that never comes

    def _find_failure(self, number: int) -> str:
        """What has failed, or an empty text."""
        try:
            if not self.left.is_set():
                self.store.set(f"beat {self.group.rank}", f"{number} {os.getpid()} {socket.gethostname()}")
            if self.store.check(["failure"]):
                return self.store.get("failure").decode()
            name = f"beat {self.next_rank}"
            beat = self.store.get(name).decode() if self.store.check([name]) else LEFT  # or it has not come yet
        except RuntimeError as error:
            return f"the store of the launch cannot be reached ({str(error).splitlines()[0]})"
        self.num_silent = self.num_silent + 1 if beat == self.last_beat and beat != LEFT else 0
        self.last_beat = beat
        if self.num_silent < SILENT_BEATS or _is_alive(beat):
            return ""
        failure = f"process {self.next_rank} has not answered for {SILENT_BEATS * BEAT:.0f} seconds"
        with suppress(RuntimeError):
            self.store.set("failure", failure)
        return failure


def _is_alive(beat: str) -> bool:
    """Whether a process of this machine that is silent only works, in a library that lets no other thread run."""
    _, pid, host = beat.split(" ", 2)
    try:
        return host == socket.gethostname() and psutil.Process(int(pid)).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
