"""Atomic writing of files and folders, and the paths that users give.

A file or folder is written beside its destination under a temporary name, flushed to the disk and renamed: a kill or a
full disk never leaves an incomplete file, and never damages the existing one.
"""

import errno
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import HeadwayError

MAX_NAME_BYTES = 255  # the same on all common file systems


def user_path(given: str | Path) -> Path:
    """The path that a user gave, with `~` expanded.

    Raises:
        HeadwayError: a part of it is longer than a file name can be, for example because it is a text.
    """
    path = Path(os.path.expanduser(given))  # Path.expanduser raises RuntimeError if there is no such user
    if any(len(part.encode(errors="surrogatepass")) > MAX_NAME_BYTES for part in path.parts):
        raise HeadwayError(f"{str(given)[:60]}...: too long for the name of a file or folder. Give a path.")
    return path


def new_path(given: str | Path) -> Path:
    """The path of a file or folder to write, as `user_path`.

    Raises:
        HeadwayError: also if the path has no name at its end, for example ".".
    """
    path = user_path(given)
    if not path.name or path.name == "..":
        raise HeadwayError(
            f"{path} does not end with a name. Name the file or folder to write: --output {path / 'NAME'}."
        )
    return path


@contextmanager
def disk_errors(destination: Path) -> Iterator[None]:
    """Turns errors of the operating system (disk full, no permission, ...) into a HeadwayError about `destination`."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise HeadwayError(
                f"{destination}: the disk is full ({error.strerror}). No incomplete file was left. "
                "Free some space or choose another folder, then try again."
            ) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST):
            raise HeadwayError(
                f"{destination}: cannot be written ({error.strerror}). Choose a folder with write permission."
            ) from error
        raise


def sync_folder(folder: Path) -> None:
    """Flushes every file in `folder`, and the folder itself, to the disk."""
    for path in [*folder.rglob("*"), folder]:
        _sync(path)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace_folder(new: Path, destination: Path) -> None:
    """Replaces `destination` by the complete folder `new`; the old folder stays usable until the last moment."""
    old = destination.with_name(f".{destination.name}.old")
    if not destination.exists():  # keeps `old` until then: after a kill between the renames below, it is the only copy
        new.rename(destination)
    else:
        shutil.rmtree(old, ignore_errors=True)
        destination.rename(old)
        try:
            new.rename(destination)
        except OSError:
            old.rename(destination)
            raise
    _sync(destination.parent)
    shutil.rmtree(old, ignore_errors=True)


@contextmanager
def atomic_folder(destination: Path, overwrite: bool = False) -> Iterator[Path]:
    """Yields an empty folder that becomes `destination` if the block ends without an error.

    Raises:
        HeadwayError: `destination` exists and `overwrite` is False, or the disk is full or cannot be written.
    """
    refuse_existing(destination, overwrite)
    with disk_errors(destination):
        destination = destination.resolve()  # a link stays, its target is replaced
        destination.parent.mkdir(parents=True, exist_ok=True)
        new = Path(tempfile.mkdtemp(prefix=f".{destination.name}.", suffix=".new", dir=destination.parent))
        try:
            new.chmod(0o755)  # mkdtemp's 0o700 would hide the folder from other users
            yield new
            sync_folder(new)
            replace_folder(new, destination)
        finally:
            shutil.rmtree(new, ignore_errors=True)


@contextmanager
def atomic_file(destination: Path, overwrite: bool = False) -> Iterator[Path]:
    """Yields the path of a file that becomes `destination` if the block ends without an error.

    Raises:
        HeadwayError: `destination` exists and `overwrite` is False, or the disk is full or cannot be written.
    """
    refuse_existing(destination, overwrite)
    with disk_errors(destination):
        destination.parent.mkdir(parents=True, exist_ok=True)
        # A unique name: several threads may write the same file.
        new = destination.with_name(f".{destination.name}.{uuid.uuid4().hex}.new")
        try:
            yield new
            _sync(new)
            new.replace(destination)
            _sync(destination.parent)
        finally:
            new.unlink(missing_ok=True)


def refuse_existing(destination: Path, overwrite: bool) -> None:
    """Raises HeadwayError if `destination` exists and `overwrite` is False."""
    if destination.exists() and not overwrite:
        raise HeadwayError(f"{destination} already exists. Choose another --output, or use --overwrite to replace it.")
