"""A process that fails ends the launch, whatever the others are doing."""

import json
from pathlib import Path

import pytest
from headway.core.training import failures
from launch_worker import start


def run(way: str, size: int, folder: Path) -> tuple[list[int], list[float], str]:
    """The exit codes of the processes, after how many seconds they ended, and the messages."""
    (folder / "way.txt").write_text(way)
    messages = start("fail", [size], folder).stderr
    codes, seconds = zip(*json.loads((folder / "ends.json").read_text()), strict=True)
    return list(codes), list(seconds), messages


@pytest.mark.parametrize("size", [3])
def test_the_others_end_if_a_process_fails_and_lives_on(tmp_path: Path, size: int):
    codes, seconds, messages = run("raises", size, tmp_path)
    assert codes == [1] * (size - 1) + [0]
    assert max(seconds[:-1]) + 3 < seconds[-1]  # which they do not wait for
    message = f"headway: process {size - 1} has failed (ValueError: an error). Process 0 ends, too.\n"
    assert message in messages
    assert messages.count("\n") == size - 1


def test_the_others_end_if_a_process_is_killed(tmp_path: Path):
    codes, _, messages = run("killed", 2, tmp_path)
    assert codes == [1, -9]
    assert messages == "headway: process 1 has not answered for 2 seconds. Process 0 ends, too.\n"


def test_the_others_end_if_the_main_process_is_killed(tmp_path: Path):
    codes, _, messages = run("main killed", 2, tmp_path)
    assert codes == [-9, 1]
    assert "headway: the store of the launch cannot be reached" in messages


@pytest.mark.parametrize("way", ["all raise", "finishes"])
def test_nothing_happens_if_all_processes_leave(tmp_path: Path, way: str):
    assert run(way, 2, tmp_path)[::2] == ([0, 0], "")


def test_it_takes_less_than_a_minute():
    assert (failures.SILENT_BEATS + 2) * failures.BEAT + failures.GRACE < 60
