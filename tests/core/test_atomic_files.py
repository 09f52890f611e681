"""Atomic files and folders (links, failed replacements, threads), and the paths that users give."""

import errno
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from headway.core.atomic_files import (
    atomic_file,
    atomic_folder,
    new_path,
    remove_folder,
    replace_folder,
    user_path,
)
from headway.core.errors import HeadwayError


def write(destination: Path, text: str) -> None:
    with atomic_folder(destination, overwrite=True) as folder:
        (folder / "text").write_text(text)


def test_writing_to_a_link_replaces_its_target_and_keeps_the_link(tmp_path: Path):
    (tmp_path / "disk").mkdir()
    write(tmp_path / "disk/model", "old")
    link = tmp_path / "current"
    link.symlink_to("disk/model")
    for text in ("new", "newer"):
        write(link, text)
        assert link.is_symlink()
        assert (tmp_path / "disk/model/text").read_text() == text
    assert sorted(path.name for path in tmp_path.iterdir()) == ["current", "disk"]
    assert [path.name for path in (tmp_path / "disk").iterdir()] == ["model"]


def test_a_failed_replacement_restores_the_old_folder(tmp_path: Path):
    write(tmp_path / "model", "old")
    with pytest.raises(FileNotFoundError):
        replace_folder(tmp_path / "nothing", tmp_path / "model")
    assert (tmp_path / "model/text").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_the_old_folder_of_a_process_killed_during_replacement_is_kept_until_the_next_one_is_written(tmp_path: Path):
    write(tmp_path / "model", "old")
    (tmp_path / "model").rename(tmp_path / ".model.old")
    with pytest.raises(FileNotFoundError):
        replace_folder(tmp_path / "nothing", tmp_path / "model")
    assert (tmp_path / ".model.old/text").read_text() == "old"
    write(tmp_path / "model", "new")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_two_threads_can_write_the_same_file(tmp_path: Path):
    file = tmp_path / "model.zip"
    with atomic_file(file, overwrite=True) as one, atomic_file(file, overwrite=True) as other:
        one.write_text("one")
        other.write_text("other")
        assert one != other
    assert file.read_text() == "one"  # its block ended last
    assert [path.name for path in tmp_path.iterdir()] == ["model.zip"]


@pytest.mark.posix
def test_a_tilde_is_expanded_if_the_user_exists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert user_path("~/model") == tmp_path / "model"
    assert user_path("~no-such-user/model") == Path("~no-such-user/model")


def test_a_text_given_as_a_path_is_refused(tmp_path: Path):
    with pytest.raises(HeadwayError, match=r"^a lovely film, .*\.\.\.: too long for the name of a file or folder"):
        user_path("a lovely film, " * 20)
    assert user_path(tmp_path / ("ü" * 127)).name == "ü" * 127
    with pytest.raises(HeadwayError, match="too long for the name"):
        user_path("ü" * 128)


@pytest.mark.parametrize("given", [".", "..", "/", "", "model/.."])
def test_an_output_path_must_end_with_a_name(given: str):
    with pytest.raises(HeadwayError, match=r"does not end with a name. Name the file or .*: --output .*NAME"):
        new_path(given)


@contextmanager
def another_user() -> Iterator[None]:
    """Without the rights of root, whom no permission stops, and who may be running the tests."""
    user = os.geteuid()
    os.seteuid(65534 if user == 0 else user)
    try:
        yield
    finally:
        os.seteuid(user)


@pytest.mark.posix
def test_a_path_in_a_folder_that_may_not_be_entered_is_refused(tmp_path: Path):
    (tmp_path / "closed").mkdir(mode=0o600)
    with another_user(), pytest.raises(HeadwayError, match=r"closed/model cannot be accessed \(Permission denied\)"):
        user_path(tmp_path / "closed/model")


@pytest.mark.posix
def test_a_folder_that_may_not_be_entered_is_refused():
    folder = Path(tempfile.mkdtemp())  # pytest's own folders may not be entered by another user
    folder.chmod(0o600)
    try:
        with another_user(), pytest.raises(HeadwayError, match=rf"{folder} cannot be accessed .Permission denied"):
            user_path(folder)
    finally:
        folder.rmdir()


@pytest.mark.posix
def test_a_loop_of_links_is_refused(tmp_path: Path):
    (tmp_path / "one").symlink_to("two")
    (tmp_path / "two").symlink_to("one")
    for read in (user_path, new_path):
        with pytest.raises(HeadwayError, match=r"one cannot be accessed .*symbolic links"):
            read(tmp_path / "one")


@pytest.mark.parametrize("length", [232, 247, 255])
def test_a_name_whose_temporary_names_are_too_long_is_refused(tmp_path: Path, length: int):
    with pytest.raises(HeadwayError, match="the name is too long; at most 231 bytes"):
        new_path(tmp_path / ("n" * length))


@pytest.mark.posix
def test_the_longest_name_can_be_written_replaced_and_deleted(tmp_path: Path):
    output = new_path(tmp_path / ("n" * 231))
    write(output, "old")
    write(output, "new")
    write_file(output.with_name("f" * 231))
    running = output.with_name(f"{output.name}.running")
    running.mkdir()
    remove_folder(running)
    assert {path.name for path in tmp_path.iterdir()} == {output.name, "f" * 231}


def write_file(path: Path) -> None:
    with atomic_file(path) as new:
        new.write_text("text")


def failing(number: int) -> Callable[..., None]:
    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    return fail


@pytest.mark.posix
@pytest.mark.parametrize("number", [errno.EIO, errno.EXDEV, errno.EBUSY, errno.ESTALE], ids=errno.errorcode.get)
@pytest.mark.parametrize(("kind", "operation"), [("folder", "rename"), ("folder", "fsync"), ("file", "link")])
def test_a_failing_operation_of_the_disk_is_one_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, operation: str, number: int
):
    write(tmp_path / "model", "old")
    with monkeypatch.context() as patch:
        patch.setattr(os, operation, failing(number))
        with pytest.raises(HeadwayError, match=f"cannot be written .{os.strerror(number)}"):
            write(tmp_path / "model", "new") if kind == "folder" else write_file(tmp_path / "file")
    assert (tmp_path / "model/text").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.mark.linux
@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP], ids=errno.errorcode.get)
def test_a_file_system_that_cannot_sync_folders_is_fine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int):
    sync = os.fsync

    def only_files(descriptor: int) -> None:
        if os.path.isdir(f"/proc/self/fd/{descriptor}"):
            failing(number)()
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", only_files)
    write(tmp_path / "model", "new")
    write_file(tmp_path / "file")
    assert (tmp_path / "model/text").read_text() == "new"


def test_a_killed_deletion_leaves_no_part_under_the_name_of_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    write(tmp_path / "model", "text")
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", failing(errno.EINTR))  # in place of a kill
        with pytest.raises(OSError, match="Interrupted"):
            remove_folder(tmp_path / "model")
    (rest,) = tmp_path.iterdir()
    assert rest.name.startswith(".model.")


@pytest.mark.parametrize("hard_links", [True, False])
def test_a_file_that_appears_meanwhile_is_not_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hard_links: bool
):
    if not hard_links:
        monkeypatch.setattr(os, "link", failing(errno.EPERM))
    path = tmp_path / "out.csv"
    for number in (2, 3):
        with pytest.raises(HeadwayError, match=rf"out\.csv was created .* is in .*out-{number}\.csv"):
            write_meanwhile(path, "other")
        assert path.read_text() == "other"
        assert (tmp_path / f"out-{number}.csv").read_text() == "ours"
        path.unlink()
    write_meanwhile(path, None)
    assert path.read_text() == "ours"
    assert sorted(one.name for one in tmp_path.iterdir()) == ["out-2.csv", "out-3.csv", "out.csv"]
    with atomic_file(path, overwrite=True) as new:
        new.write_text("replaced")
    assert path.read_text() == "replaced"


def write_meanwhile(path: Path, other: str | None) -> None:
    with atomic_file(path) as new:
        new.write_text("ours")
        if other is not None:
            path.write_text(other)


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_folder_that_appears_meanwhile_is_not_replaced(tmp_path: Path, kind: str):
    path = tmp_path / "model"

    def make() -> None:
        with atomic_folder(path) as new:
            (new / "text").write_text("ours")
            if kind == "folder":
                path.mkdir()
                (path / "text").write_text("other")
            else:
                path.write_text("other")

    with pytest.raises(HeadwayError, match=r"model was created .* is in .*model-2"):
        make()
    assert (path / "text" if kind == "folder" else path).read_text() == "other"
    assert (tmp_path / "model-2/text").read_text() == "ours"
    assert sorted(one.name for one in tmp_path.iterdir()) == ["model", "model-2"]
