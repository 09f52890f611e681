"""Files and folders that are whole or not there: links, swaps that fail, threads; and the paths that people give."""

from pathlib import Path

import pytest
from headway.core.atomic_files import atomic_file, atomic_folder, new_path, replace_folder, user_path
from headway.core.errors import HeadwayError


def write(destination: Path, text: str) -> None:
    with atomic_folder(destination, overwrite=True) as folder:
        (folder / "text").write_text(text)


def test_what_a_link_points_to_is_replaced_and_the_link_stays(tmp_path: Path):
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


def test_a_swap_that_fails_puts_the_old_folder_back(tmp_path: Path):
    write(tmp_path / "model", "old")
    with pytest.raises(FileNotFoundError):
        replace_folder(tmp_path / "nothing", tmp_path / "model")
    assert (tmp_path / "model/text").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_what_a_process_that_died_between_the_two_renames_left_is_kept_until_there_is_another(tmp_path: Path):
    write(tmp_path / "model", "old")
    (tmp_path / "model").rename(tmp_path / ".model.old")
    with pytest.raises(FileNotFoundError):
        replace_folder(tmp_path / "nothing", tmp_path / "model")
    assert (tmp_path / ".model.old/text").read_text() == "old"
    write(tmp_path / "model", "new")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_two_threads_may_write_the_same_file(tmp_path: Path):
    file = tmp_path / "model.zip"
    with atomic_file(file, overwrite=True) as one, atomic_file(file, overwrite=True) as other:
        one.write_text("one")
        other.write_text("other")
        assert one != other
    assert file.read_text() == "one"  # whose block ended last
    assert [path.name for path in tmp_path.iterdir()] == ["model.zip"]


def test_a_tilde_is_the_home_folder_where_somebody_has_that_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert user_path("~/model") == tmp_path / "model"
    assert user_path("~no-such-person/model") == Path("~no-such-person/model")


def test_a_text_in_the_place_of_a_path_is_said(tmp_path: Path):
    with pytest.raises(HeadwayError, match=r"^a lovely film, a lovely.*\.\.\.: no file or folder has so long a name"):
        user_path("a lovely film, " * 20)
    assert user_path(tmp_path / ("ü" * 127)).name == "ü" * 127
    with pytest.raises(HeadwayError, match="so long a name"):
        user_path("ü" * 128)


@pytest.mark.parametrize("given", [".", "..", "/", "", "model/.."])
def test_what_is_written_has_a_name(given: str):
    with pytest.raises(HeadwayError, match=r"has no name of its own. Name what is to be written: --output .*NAME"):
        new_path(given)
