"""Functions that take long run in a separate process: they can be cancelled and never slow down other users.

On Linux, a process is forked from a server that has imported the package, so that it starts at once. Windows cannot
fork, and libraries of macOS do not work after it: there, a new process imports the package itself. The only result of
a process is what it returns, or the message of a HeadwayError.
"""

import multiprocessing
import os
import pickle
import sys
import time
from collections.abc import Callable, Generator
from dataclasses import replace
from functools import partial
from itertools import islice
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import psutil

from ...core.atomic_files import disk_errors
from ...core.errors import HeadwayError
from ...tasks.data.read import stream_rows
from ...tasks.data.rows import Rows, RowStream, Table
from .drawing import caption

LARGE = 2**20  # bytes; larger files are read in a separate process
CHUNK_ROWS = 256  # rows that are read back together
UPDATE_SECONDS = 0.5  # between two yields
NICENESS = 10  # below the predictions of other users
ENDED = "Reading the file ended unexpectedly, probably because the memory was full. Try a smaller file."

_processes = multiprocessing.get_context("forkserver" if sys.platform == "linux" else "spawn")
_PACKAGE = __name__.partition(".ui.")[0]
if sys.platform == "linux":
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


def require_upload(file: str | Path) -> None:
    """Raises HeadwayError if an uploaded file was deleted."""
    if not Path(file).exists():
        raise HeadwayError(f"{Path(file).name} was deleted from the server. Upload it again.")


def is_large(file: str | Path) -> bool:
    """Whether an uploaded file is read in another process."""
    return Path(file).exists() and Path(file).stat().st_size > LARGE


def process_file(file: str | Path, function: Callable[..., Any], *arguments: Any) -> Generator[str, None, Any]:
    """Calls a function that reads an uploaded file, in another process if the file is large.

    Args:
        file: the uploaded file.
        function: a function of a module.
        *arguments: its arguments, the file among them.

    Yields:
        HTML of the progress, from time to time.

    Returns:
        The result of the function.

    Raises:
        HeadwayError: the file was deleted, or the function raised it.
    """
    path = Path(file)
    require_upload(path)
    if not is_large(path):
        return function(*arguments)
    size = path.stat().st_size
    running = run_in_background(function, *arguments)
    while True:
        try:
            seconds = next(running)
        except StopIteration as end:
            return end.value
        yield caption(f"Reading {path.name} ({size / 1e6:,.0f} MB), {seconds:.0f} s …")


def checked_rows(file: str, folder: Path) -> Generator[str, None, tuple[RowStream, int]]:
    """Reads a file to its end.

    Args:
        file: the uploaded file.
        folder: for the rows of a large file, which can be read from there in little time.

    Yields:
        HTML of the progress, from time to time.

    Returns:
        The rows, and their number.

    Raises:
        HeadwayError: the file or one of its rows cannot be read.
    """
    if Path(file).exists() and not is_large(file):
        stream = stream_rows(file)
        return stream, sum(1 for _ in stream)
    stored = folder / "rows.pickle"
    table, count = yield from process_file(file, _store_rows, file, stored)
    return replace(table.stream(), read=partial(_stored_rows, stored)), count


def _store_rows(file: str, stored: Path) -> tuple[Table, int]:
    """Writes the rows of a file in chunks; returns an empty table with its columns, and the number of rows."""
    stream, count = stream_rows(file), 0
    rows = iter(stream)
    with disk_errors(stored), stored.open("wb") as output:
        while chunk := list(islice(rows, CHUNK_ROWS)):
            pickle.dump(chunk, output)
            count += len(chunk)
    return stream.table([], []), count


def _stored_rows(stored: Path) -> Rows:
    with stored.open("rb") as chunks:
        while chunks.peek(1):
            yield from pickle.load(chunks)


def _run(sender: Connection, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    if sys.platform == "win32":
        psutil.Process().nice(psutil.BELOW_NORMAL_PRIORITY_CLASS)
    else:
        os.nice(NICENESS)
    try:
        sender.send((function(*arguments), None))
    except HeadwayError as error:
        sender.send((None, str(error)))
