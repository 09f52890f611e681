"""Functions that take long run in a process of their own: they can be cancelled and never slow down other users.

A process is forked from a server that has imported the package, so that it starts at once. Its only result is what it
returns, or the message of a HeadwayError.
"""

import multiprocessing
import os
import time
from collections.abc import Callable, Generator
from multiprocessing.connection import Connection
from typing import Any

from ...core.errors import HeadwayError

UPDATE_SECONDS = 0.5  # between two yields
NICENESS = 10  # below the predictions of other users
ENDED = "Reading the file ended unexpectedly, probably because the memory was full. Try a smaller file."

_processes = multiprocessing.get_context("forkserver")
_PACKAGE = __name__.partition(".ui.")[0]
_processes.set_forkserver_preload([f"{_PACKAGE}.tasks.base.check", f"{_PACKAGE}.tasks.infer_task"])


def run_in_background(function: Callable[..., Any], *arguments: Any) -> Generator[float, None, Any]:
    """Calls a function in another process; closing the generator kills the process.

    Args:
        function: a function of a module.
        *arguments: its arguments, which can be pickled, as its result can.

    Yields:
        The seconds since the start, from time to time.

    Returns:
        The result of the function.

    Raises:
        HeadwayError: the function raised it, or its process died.
    """
    receiver, sender = _processes.Pipe(duplex=False)
    process = _processes.Process(target=_run, args=(sender, function, arguments), daemon=True)
    process.start()
    sender.close()
    start = time.monotonic()
    try:
        while not receiver.poll(UPDATE_SECONDS):
            yield time.monotonic() - start
        result, message = receiver.recv()
    except EOFError as error:
        raise HeadwayError(ENDED) from error
    finally:
        process.kill()
        process.join()
        receiver.close()
    if message is not None:
        raise HeadwayError(message)
    return result


def _run(sender: Connection, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    os.nice(NICENESS)
    try:
        sender.send((function(*arguments), None))
    except HeadwayError as error:
        sender.send((None, str(error)))
