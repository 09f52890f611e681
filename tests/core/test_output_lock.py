"""The lock of a run on its output: one run at a time, whoever starts it and however the last one ended."""

import errno
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from headway.core.errors import HeadwayError
from headway.core.training.output_lock import OutputLock

HOLD = """
import sys, time
from pathlib import Path
from headway.core.training.output_lock import OutputLock
with OutputLock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_second_run_is_told_which_process_trains(tmp_path: Path):
    output = tmp_path / "model"
    with subprocess.Popen([sys.executable, "-c", HOLD, str(output)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with pytest.raises(HeadwayError, match="is being trained by process") as caught, OutputLock(output):
            pass
        assert f"process {process.pid} on {socket.gethostname()} since 20" in str(caught.value)
        process.kill()
        process.wait()
    assert names(tmp_path) == {".model.lock"}  # a killed process leaves the file, but not the lock
    with OutputLock(output):
        pass
    assert names(tmp_path) == set()


def test_a_run_in_the_same_process_is_excluded_too(tmp_path: Path):
    with OutputLock(tmp_path / "model") as lock:
        with lock:
            pass  # the same lock nests
        with pytest.raises(HeadwayError, match=f"by process {os.getpid()}"), OutputLock(tmp_path / "model"):
            pass
        with OutputLock(tmp_path / "model-2"):
            pass


def test_links_to_the_same_folder_are_the_same_output(tmp_path: Path):
    (tmp_path / "model").mkdir()
    (tmp_path / "link").symlink_to("model")
    with (
        OutputLock(tmp_path / "link"),
        pytest.raises(HeadwayError, match="trained by"),
        OutputLock(tmp_path / "model"),
    ):
        pass


def test_folders_made_for_the_lock_are_removed_if_nothing_was_written(tmp_path: Path):
    with OutputLock(tmp_path / "a/b/model"):
        assert (tmp_path / "a/b").is_dir()
    assert names(tmp_path) == set()
    with OutputLock(tmp_path / "a/b/model"):
        (tmp_path / "a/b/model").mkdir()
    assert (tmp_path / "a/b/model").is_dir()


def test_what_killed_runs_left_is_removed_and_nothing_else(tmp_path: Path):
    left = [".m.x.abcd1234.new", ".m.x.0123abcd.old", ".m.x.running.abcd1234.old", ".m.x.begun.k_2345ab.new"]
    left += [".m.x.tokens-0", ".m.x.tokens-12", ".m.x.data-0", ".m.x.data-8"]
    kept = [".m.abcd1234.new", ".m.x.y.abcd1234.new", ".m.x.notes.new", "m.x.running", ".m.x.old", ".mzx.abcd1234.new"]
    for name in [*left, *kept]:
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text("")
    (tmp_path / ".m.x.fedc4321.new").write_text("")
    with OutputLock(tmp_path / "m.x"):
        assert names(tmp_path) == {*kept, ".m.x.lock"}


@pytest.mark.posix
class TestWithoutFlock:
    """A network share may have no such locks; then the content of the file decides."""

    @pytest.fixture(autouse=True)
    def refuse(self, monkeypatch: pytest.MonkeyPatch):
        def flock(*_: object) -> None:
            raise OSError(errno.ENOTSUP, "Operation not supported")

        monkeypatch.setattr("fcntl.flock", flock)

    def hold(self, output: Path, pid: int, host: str) -> None:
        holder = {"pid": pid, "host": host, "since": "2026-01-01 10:00:00"}
        output.with_name(f".{output.name}.lock").write_text(json.dumps(holder))

    def test_a_living_process_excludes_others(self, tmp_path: Path):
        with (
            OutputLock(tmp_path / "model"),
            pytest.raises(HeadwayError, match=f"process {os.getpid()}"),
            OutputLock(tmp_path / "model"),
        ):
            pass

    def test_an_ended_process_does_not(self, tmp_path: Path):
        ended = subprocess.Popen([sys.executable, "-c", ""])
        ended.wait()
        self.hold(tmp_path / "model", ended.pid, socket.gethostname())
        with OutputLock(tmp_path / "model"):
            pass

    def test_of_another_machine_it_is_unknown_so_it_excludes(self, tmp_path: Path):
        self.hold(tmp_path / "model", 1, "another-machine")
        with pytest.raises(HeadwayError, match="process 1 on another-machine"), OutputLock(tmp_path / "model"):
            pass
