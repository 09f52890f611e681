"""Atomic files and folders (links, failed replacements, threads), and the paths that users give."""

from pathlib import Path

import pytest
from headway.core.atomic_files import atomic_file, atomic_folder, new_path, replace_folder, user_path
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
