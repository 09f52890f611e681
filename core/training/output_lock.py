"""The lock of a training run on its output folder: two runs towards one folder would replace each other's files.

The lock is one on a file beside the folder. The operating system releases it when the process ends, however it ends.
The file says which process holds it.
"""

import errno
import json
import os
import shutil
import socket
import tempfile
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any, Self

import psutil

from ..atomic_files import disk_errors, remove_leftovers
from ..errors import HeadwayError
from ..platform_files import LockFile
from .distributed import on_main

NO_FLOCK = (errno.ENOTSUP, errno.ENOSYS, errno.ENOLCK, errno.EINVAL)  # the file system has no such locks


class OutputLock:
    """Excludes other runs towards a folder while a `with` block runs; further blocks with the same object nest.

    Under a launcher every process enters the block, and the main process holds the lock. Temporary files that killed
    runs left beside the folder are deleted.

    Args:
        output: the folder that the run writes at its end.

    Raises:
        HeadwayError: (on entering) another run holds the lock, or the folder cannot be written.
    """

    def __init__(self, output: Path) -> None:
        self.output = output
        self._depth = 0
        self._file: LockFile | None = None
        self._new_folders: list[Path] = []

    def __enter__(self) -> Self:
        if not self._depth:
            on_main(self._acquire)
        self._depth += 1
        return self

    def __exit__(self, *_: object) -> None:
        self._depth -= 1
        if not self._depth and self._file is not None:
            self._release()

    @property
    def path(self) -> Path:
        """The file that is locked, beside the folder (of links: beside their target, which is replaced)."""
        target = self.output.resolve()
        return target.with_name(f".{target.name}.lock")

    def _acquire(self) -> None:
        with disk_errors(self.output):
            parent = self.path.parent
            self._new_folders = [folder for folder in (parent, *parent.parents) if not folder.exists()]
            parent.mkdir(parents=True, exist_ok=True)
            self._file = self._open_locked()
            try:
                _try_longest_name(self.output)
                for path in {self.output, self.output.resolve()}:
                    for name in (path.name, f"{path.name}.running", f"{path.name}.begun"):
                        remove_leftovers(path.with_name(name))
            except BaseException:
                self._release()
                raise

    def _open_locked(self) -> LockFile:
        while True:
            file = LockFile(self.path)
            try:
                self._lock(file)
                if file.is_current():
                    file.write(json.dumps(_this_process()).encode())
                    return file
            except BaseException:
                file.close()
                raise
            file.close()  # its holder deleted it in the meantime

    def _lock(self, file: LockFile) -> None:
        try:
            file.lock()
        except BlockingIOError as error:
            raise self._busy(_read_holder(file)) from error
        except OSError as error:
            if error.errno not in NO_FLOCK:
                raise
            holder = _read_holder(file)  # less safe: two runs that start at the same moment are not noticed
            if holder and not _has_ended(holder):
                raise self._busy(holder) from error

    def _busy(self, holder: dict[str, Any]) -> HeadwayError:
        who = "another process"
        if holder:
            who = f"process {holder['pid']} on {holder['host']} since {holder['since']}"
        return HeadwayError(
            f"{self.output} is being trained by {who}. Wait until it has ended, stop it, or choose another --output."
        )

    def _release(self) -> None:
        assert self._file is not None
        self._file.close(delete=True)
        self._file = None
        for folder in self._new_folders:  # nothing was written: leave no empty folders
            with suppress(OSError):
                folder.rmdir()


def _this_process() -> dict[str, Any]:
    return {"pid": os.getpid(), "host": socket.gethostname(), "since": f"{datetime.now():%Y-%m-%d %H:%M:%S}"}


def _read_holder(file: LockFile) -> dict[str, Any]:
    """What the lock file says about its holder; empty if it says nothing yet."""
    try:
        holder = json.loads(file.read())
        return holder if isinstance(holder, dict) and holder.keys() == _this_process().keys() else {}
    except ValueError:
        return {}


def _has_ended(holder: dict[str, Any]) -> bool:
    """Whether a process of this machine has ended; of another machine, that is unknown."""
    if holder["host"] != socket.gethostname():
        return False
    return not psutil.pid_exists(holder["pid"])


def _try_longest_name(output: Path) -> None:
    """Finds out before the training whether the file system takes the temporary names of the folder."""
    for path in {output, output.resolve()}:
        shutil.rmtree(tempfile.mkdtemp(prefix=f".{path.name}.running.", suffix=".old", dir=path.parent))
