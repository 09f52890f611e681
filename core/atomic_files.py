"""Atomic writing of files and folders, and the paths that users give.

A file or folder is written beside its destination under a temporary name, flushed to the disk and renamed: a kill or a
full disk never leaves an incomplete file, and never damages the existing one.
"""

import errno
import os
import re
import secrets
import shutil
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import HeadwayError
from .platform_files import advice, is_forbidden_here, patiently, rename, sync

ALREADY_THERE = (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR)  # of a link or a renaming that would replace
NO_HARD_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)  # FAT, some networks
MAX_NAME_BYTES = 255  # the same on all common file systems
MAX_ADDED_BYTES = 24  # in the longest temporary name, that of a deleted run folder: .NAME.running.xxxxxxxx.old
BAD_NAME = 123  # on Windows: the error of a path with characters that it forbids


def user_path(given: str | Path) -> Path:
    """The path that a user gave, with `~` expanded.

    Raises:
        HeadwayError: a part of it is longer than a file name can be, for example because it is a text; or whether
            something is there cannot be found out (no permission to enter a folder, a loop of links, ...).
    """
    path = Path(os.path.expanduser(given))  # Path.expanduser raises RuntimeError if there is no such user
    if any(len(part.encode(errors="surrogatepass")) > MAX_NAME_BYTES for part in path.parts):
        raise HeadwayError(f"{str(given)[:60]}...: too long for the name of a file or folder. Give a path.")
    try:
        if stat.S_ISDIR(path.stat().st_mode):
            os.stat(os.path.join(path, "."))  # without the right to enter it, no file in it can be found
    except (FileNotFoundError, NotADirectoryError, ValueError):  # the last one: a zero byte or a lone surrogate
        pass
    except OSError as error:
        if getattr(error, "winerror", None) == BAD_NAME:
            return path
        raise HeadwayError(
            f"{path} cannot be accessed ({error.strerror}). Check the permissions of its folders, or choose another."
        ) from error
    return path


def new_path(given: str | Path) -> Path:
    """The path of a file or folder to write, as `user_path`.

    Raises:
        HeadwayError: also if the path has no name at its end, for example ".", or one that is too long for the
            temporary names made from it, or that Windows forbids if this is Windows.
    """
    path = user_path(given)
    if not path.name or path.name == "..":
        raise HeadwayError(
            f"{path} does not end with a name. Name the file or folder to write: --output {path / 'NAME'}."
        )
    if is_forbidden_here(path.name):
        raise HeadwayError(
            f"{path}: Windows does not allow the name {path.name!r}. Use one without < > : | ? * and quotes, with no "
            "dot or space at its end, and not that of a device (CON, PRN, AUX, NUL, COM1, LPT1, ...)."
        )
    if len(path.name.encode(errors="surrogatepass")) > MAX_NAME_BYTES - MAX_ADDED_BYTES:
        raise HeadwayError(
            f"{path.name[:60]}...: the name is too long; at most {MAX_NAME_BYTES - MAX_ADDED_BYTES} bytes fit. "
            "Choose a shorter one."
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
        if error.errno is None or isinstance(error, ConnectionError):  # of a library; of a socket or a pipe
            raise
        raise HeadwayError(
            f"{destination}: cannot be written ({error.strerror}). Check the folder and its permissions, or choose "
            f"another one.{advice(error, destination)}"
        ) from error


def sync_folder(folder: Path) -> None:
    """Flushes every file in `folder`, and the folder itself, to the disk."""
    for path in [*folder.rglob("*"), folder]:
        sync(path)


def _temporary_name(name: str, ending: str) -> str:
    """A unique name: several threads or processes may write the same file."""
    return f".{name}.{secrets.token_hex(4)}.{ending}"


def remove_folder(folder: Path) -> None:
    """Deletes a folder: a kill leaves it complete, or gone except for a hidden rest (`remove_leftovers`)."""
    doomed = folder.with_name(_temporary_name(folder.name, "old"))
    if folder.exists():
        rename(folder, doomed)
        shutil.rmtree(doomed, ignore_errors=True)


def remove_leftovers(path: Path) -> None:
    """Deletes the temporary files and folders that killed processes left beside `path`, which none is writing now."""
    pattern = re.compile(rf"\.{re.escape(path.name)}\.([a-z0-9_]{{8}}\.(new|old)|(tokens|data)-\d+)")
    for found in path.parent.iterdir() if path.parent.is_dir() else ():
        if pattern.fullmatch(found.name):
            shutil.rmtree(found) if found.is_dir() else found.unlink()


def replace_folder(new: Path, destination: Path) -> None:
    """Replaces `destination` by the complete folder `new`; the old folder stays usable until the last moment."""
    old = destination.with_name(f".{destination.name}.old")
    if not destination.exists():  # keeps `old` until then: after a kill between the renames below, it is the only copy
        rename(new, destination)
    else:
        shutil.rmtree(old, ignore_errors=True)
        rename(destination, old)
        try:
            rename(new, destination)
        except OSError:
            rename(old, destination)
            raise
    sync(destination.parent)
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
            if overwrite:
                replace_folder(new, destination)
            else:
                _place(new, destination, _rename_folder)
        finally:
            shutil.rmtree(new, ignore_errors=True)


@contextmanager
def atomic_file(destination: Path, overwrite: bool = False) -> Iterator[Path]:
    """Yields the path of a file that becomes `destination` if the block ends without an error.

    Raises:
        HeadwayError: `destination` exists and `overwrite` is False (if it appeared during the block, the result is
            saved under a similar name), or the disk is full or cannot be written.
    """
    refuse_existing(destination, overwrite)
    with disk_errors(destination):
        destination.parent.mkdir(parents=True, exist_ok=True)
        new = destination.with_name(_temporary_name(destination.name, "new"))
        try:
            yield new
            sync(new)
            if overwrite:
                patiently(lambda: new.replace(destination))
                sync(destination.parent)
            else:
                _place(new, destination, _link_file)
        finally:
            new.unlink(missing_ok=True)


def _place(new: Path, destination: Path, move: Callable[[Path, Path], None]) -> None:
    """Moves `new` to `destination`, which `move` does not replace.

    Raises:
        HeadwayError: `destination` exists now; the result was saved under a similar name.
    """
    path, number = destination, 1
    while True:
        try:
            move(new, path)
            break
        except OSError as error:
            if error.errno not in ALREADY_THERE or not os.path.lexists(path):
                raise
            number += 1
            path = destination.with_name(f"{destination.stem}-{number}{destination.suffix}")
    sync(destination.parent)
    if path != destination:
        raise HeadwayError(
            f"{destination} was created by another program in the meantime and is not replaced. "
            f"The result is in {path}."
        )


def _link_file(new: Path, destination: Path) -> None:
    if sys.platform == "win32":
        rename(new, destination)  # fails if there is a file
        return
    try:
        os.link(new, destination)  # unlike a renaming, it fails if there is a file
    except OSError as error:
        if error.errno not in NO_HARD_LINKS:
            raise
        if os.path.lexists(destination):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), destination) from error
        rename(new, destination)
    else:
        new.unlink()


def _rename_folder(new: Path, destination: Path) -> None:
    rename(new, destination)  # fails if there is a file or a folder that is not empty
    shutil.rmtree(destination.with_name(f".{destination.name}.old"), ignore_errors=True)


def refuse_existing(destination: Path, overwrite: bool) -> None:
    """Raises HeadwayError if `destination` exists and `overwrite` is False."""
    if destination.exists() and not overwrite:
        raise HeadwayError(f"{destination} already exists. Choose another --output, or use --overwrite to replace it.")
