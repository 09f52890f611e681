"""What differs between operating systems about files.

|                                | Linux, macOS                 | Windows                                           |
|--------------------------------|------------------------------|---------------------------------------------------|
| lock of an open file           | flock                        | msvcrt.locking of bytes far behind the content    |
| shared lock                    | flock                        | one random byte of those                          |
| flushing a file to the disk    | with any descriptor          | with a descriptor that may write                  |
| flushing a folder              | makes new names permanent    | impossible, and not needed: NTFS logs names       |
| an open or mapped file         | can be deleted and renamed   | cannot; virus scanners open new files for a while |
| `rename` to an existing file   | replaces it                  | fails; `replace` replaces it                      |
| names                          | all characters but / and NUL | no <>:"/\\|?*, no dot at the end, not CON, NUL   |
| a folder and its parents       | 1000 characters and more     | 260 characters, unless long paths are enabled     |
| writing to a closed pipe       | EPIPE                        | EINVAL                                            |

macOS and Windows also take two names that differ only in their case for the same file.
"""

import errno
import os
import re
import secrets
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

NOT_SYNCED = (errno.EINVAL, errno.ENOTSUP)  # a file system, for example of a network share, that cannot sync folders
PATIENCE, PAUSE = 2.0, 0.05  # seconds until an open file is an error on Windows; between two tries
WAIT = 0.1  # seconds between two tries to get a lock
# Readers and writers share a range of bytes as in SQLite on old versions of Windows (os_win.c, "random byte"). Locked
# bytes cannot be read by others, so they are behind the content; offsets of msvcrt are below 2^31.
LOCK_START, LOCK_BYTES = 2**30, 2**20
FORBIDDEN = re.compile(r'[<>:"/\\|?*\x00-\x1f]|[. ]$')
RESERVED = re.compile(r"(CON|PRN|AUX|NUL|CONIN\$|CONOUT\$|(COM|LPT)[0-9¹²³]) *(\..*)?", re.IGNORECASE)
MAX_PATH = 260
ADDED_CHARACTERS = 40  # a temporary name in place of the last part, and a file in it
T = TypeVar("T")


class LockFile:
    """An open file that processes lock, with a content that others can read.

    The operating system releases the lock when the process ends, however it ends.

    Args:
        path: created if it does not exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        self._locked: tuple[int, int] | None = None  # first byte and number of bytes, on Windows

    def lock(self, *, shared: bool = False) -> None:
        """Locks the file; several may have a shared lock, and only one another lock.

        Raises:
            BlockingIOError: it is locked.
            OSError: the file system has no locks.
        """
        if sys.platform == "win32":
            locked = (LOCK_START + secrets.randbelow(LOCK_BYTES), 1) if shared else (LOCK_START, LOCK_BYTES)
            try:
                self._locking(msvcrt.LK_NBLCK, *locked)
            except PermissionError as error:
                raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN), str(self.path)) from error
            self._locked = locked
        else:
            fcntl.flock(self._file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)

    def wait_and_lock(self) -> None:
        """Locks the file as soon as nothing else has locked it."""
        while True:
            try:
                return self.lock()
            except BlockingIOError:
                time.sleep(WAIT)

    def read(self) -> bytes:
        """The content, up to 1,000 bytes."""
        os.lseek(self._file, 0, os.SEEK_SET)
        return os.read(self._file, 1000)

    def write(self, content: bytes) -> None:
        """Replaces the content."""
        os.ftruncate(self._file, 0)
        os.lseek(self._file, 0, os.SEEK_SET)
        os.write(self._file, content)

    def is_current(self) -> bool:
        """Whether the path still leads to this file, which its last holder may have deleted."""
        return self.path.exists() and os.path.samestat(self.path.stat(), os.fstat(self._file))

    def close(self, *, delete: bool = False) -> None:
        """Unlocks and closes the file.

        Args:
            delete: delete it while it is still locked; on Windows afterwards, unless another process has opened it.
        """
        if sys.platform == "win32":
            if self._locked is not None:
                self._locking(msvcrt.LK_UNLCK, *self._locked)
            os.close(self._file)
            try:
                if delete:
                    self.path.unlink(missing_ok=True)
            except PermissionError:
                return
        else:
            if delete:
                self.path.unlink(missing_ok=True)
            os.close(self._file)

    if sys.platform == "win32":

        def _locking(self, mode: int, first: int, count: int) -> None:
            os.lseek(self._file, first, os.SEEK_SET)
            msvcrt.locking(self._file, mode, count)


def sync(path: Path) -> None:
    """Flushes a file to the disk, or where it is possible a folder.

    Raises:
        OSError: the disk failed.
    """
    if sys.platform == "win32" and path.is_dir():
        return
    descriptor = patiently(lambda: os.open(path, os.O_RDWR if sys.platform == "win32" else os.O_RDONLY))
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in NOT_SYNCED or not path.is_dir():
            raise
    finally:
        os.close(descriptor)


def patiently(operation: Callable[[], T]) -> T:
    """The result of an operation on a file, which on Windows may have to wait until other programs have closed it.

    Raises:
        OSError: the operation failed; on Windows, it failed for two seconds if the file is in use.
    """
    end = time.monotonic() + PATIENCE
    while True:
        try:
            return operation()
        except PermissionError:
            if sys.platform != "win32" or time.monotonic() > end:
                raise
            time.sleep(PAUSE)


def rename(path: Path, to: Path) -> None:
    """Renames a file or folder, on Windows as soon as other programs have closed it.

    Raises:
        OSError: `to` is a folder that is not empty, or on Windows anything that exists; or the renaming failed.
    """
    patiently(lambda: path.rename(to))


def is_usable_name(name: str) -> bool:
    """Whether a file can have this name on every system."""
    return not FORBIDDEN.search(name) and not RESERVED.fullmatch(name)


def is_forbidden_here(name: str) -> bool:
    """Whether this system forbids a name for a file."""
    return sys.platform == "win32" and not is_usable_name(name)


def advice(error: OSError, path: Path) -> str:
    """What else to try on this system after an error, as a sentence; empty on most systems."""
    if sys.platform != "win32":
        return ""
    if isinstance(error, PermissionError):
        return " Close the programs that have it open."
    too_long = len(str(path.absolute())) + ADDED_CHARACTERS > MAX_PATH
    return " The path is longer than Windows allows: choose a shorter one." * too_long


def is_closed_pipe(error: OSError) -> bool:
    """Whether an error means that the reader of a pipe has ended."""
    if isinstance(error, BrokenPipeError):
        return True
    return sys.platform == "win32" and error.errno == errno.EINVAL and error.filename is None
