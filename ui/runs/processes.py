"""Processes that outlive the one that starts them.

|                                    | Linux, macOS               | Windows                                          |
|------------------------------------|----------------------------|--------------------------------------------------|
| Ctrl+C in the terminal, closing it | reaches only its session   | reaches only its console and its process group   |
| killing a process                  | SIGKILL, return code -9    | TerminateProcess, return code 1                  |
| output to a file                   | in UTF-8                   | in the code page, unless it is set otherwise    |
"""

import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import psutil


def start_independent(
    command: Sequence[str], *, folder: Path, environment: Mapping[str, str], log: Path
) -> "subprocess.Popen[bytes]":
    """Starts a process that neither Ctrl+C in the terminal of this one nor its end reaches.

    Args:
        command: the program and its arguments.
        folder: the working directory.
        environment: the environment variables.
        log: the file to which the output is appended, in UTF-8.

    Raises:
        OSError: it cannot be started.
    """
    flags, session = 0, True
    if sys.platform == "win32":
        flags, session = subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW, False
    with log.open("ab") as output:
        return subprocess.Popen(
            command,
            cwd=folder,
            env={**environment, "PYTHONIOENCODING": "utf-8"},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=session,
            creationflags=flags,
        )


def kill_process(number: int) -> None:
    """Kills a process if it is still running."""
    with suppress(psutil.NoSuchProcess):
        psutil.Process(number).kill()
