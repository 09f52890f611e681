"""Folders and files that are either whole or not there.

Everything is written beside its destination under a temporary name, flushed to the disk and renamed, so that a
kill or a full disk never leaves something half-written in place of something whole.
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

LONGEST_NAME = 255  # bytes; the same on all common file systems


def user_path(given: str | Path) -> Path:
    """The path that a person gave, with their home folder in place of a tilde.

    Raises:
        HeadwayError: a name in it is longer than a file's can be: a whole text, perhaps, given in a path's place.
    """
    path = Path(os.path.expanduser(given))  # Path's own raises RuntimeError where nobody has the name after a tilde
    if any(len(part.encode(errors="surrogatepass")) > LONGEST_NAME for part in path.parts):
        raise HeadwayError(f"{str(given)[:60]}...: no file or folder has so long a name. Give a path there.")
    return path


def new_path(given: str | Path) -> Path:
    """As `user_path`, where something new is to stand.

    Raises:
        HeadwayError: the path ends without a name, as "." does.
    """
    path = user_path(given)
    if not path.name or path.name == "..":
        raise HeadwayError(f"{path} has no name of its own. Name what is to be written: --output {path / 'NAME'}.")
    return path


@contextmanager
def disk_errors(destination: Path) -> Iterator[None]:
    """Turns the operating system's refusals (disk full, no permission, ...) into a message about `destination`."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise HeadwayError(
                f"{destination}: the disk is full ({error.strerror}). Nothing half-written was left there. "
                "Free some space or choose another place, then try again."
            ) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST):
            raise HeadwayError(
                f"{destination}: cannot be written ({error.strerror}). Choose a folder you may write to."
            ) from error
        raise


def sync_folder(folder: Path) -> None:
    """Asks the operating system to bring every file in `folder`, and the folder itself, to the disk."""
    for path in [*folder.rglob("*"), folder]:
        _sync(path)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace_folder(new: Path, destination: Path) -> None:
    """Puts the whole folder `new` in the place of `destination`, which stays usable until the last moment."""
    old = destination.with_name(f".{destination.name}.old")
    if not destination.exists():  # then an old one, of a process that died in here, is the only copy still
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
    """Yields an empty folder to write into, which becomes `destination` only when the block ends without error.

    Raises:
        HeadwayError: `destination` exists and `overwrite` is false, the disk is full, or it may not be written.
    """
    refuse_existing(destination, overwrite)
    with disk_errors(destination):
        destination = destination.resolve()  # of a link, what it points to is replaced
        destination.parent.mkdir(parents=True, exist_ok=True)
        new = Path(tempfile.mkdtemp(prefix=f".{destination.name}.", suffix=".new", dir=destination.parent))
        try:
            new.chmod(0o755)  # mkdtemp's 0o700 would hide a model from the group
            yield new
            sync_folder(new)
            replace_folder(new, destination)
        finally:
            shutil.rmtree(new, ignore_errors=True)


@contextmanager
def atomic_file(destination: Path, overwrite: bool = False) -> Iterator[Path]:
    """Yields a path to write to, which becomes `destination` only when the block ends without error.

    Raises:
        HeadwayError: `destination` exists and `overwrite` is false, the disk is full, or it may not be written.
    """
    refuse_existing(destination, overwrite)
    with disk_errors(destination):
        destination.parent.mkdir(parents=True, exist_ok=True)
        # A name for each call: threads may write the same file.
        new = destination.with_name(f".{destination.name}.{uuid.uuid4().hex}.new")
        try:
            yield new
            _sync(new)
            new.replace(destination)
            _sync(destination.parent)
        finally:
            new.unlink(missing_ok=True)


def refuse_existing(destination: Path, overwrite: bool) -> None:
    """Raises HeadwayError if something stands at `destination` and may not be overwritten."""
    if destination.exists() and not overwrite:
        raise HeadwayError(f"{destination} exists already. Choose another --output, or say --overwrite to replace it.")
