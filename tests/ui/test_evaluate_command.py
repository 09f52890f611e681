"""headway evaluate while it runs: its progress, and an interruption."""

import os
import signal
import tempfile
from pathlib import Path

import pytest
from headway.tasks.base.evaluation_results import Results

RULES = ["--coverage", "0.9", "--save"]


@pytest.fixture
def in_small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headway.tasks.base.inference.EXAMPLES_AT_ONCE", 3)
    monkeypatch.setattr("headway.tasks.data.spool.IN_MEMORY", 7)


@pytest.mark.posix
@pytest.mark.usefixtures("in_small_parts")
@pytest.mark.parametrize("how", [["--report", "report.html"], RULES])
def test_ctrl_c_in_the_middle_leaves_nothing_behind(headway, trained, reviews, folder, tmp_path, monkeypatch, how):
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    parts: list[object] = []
    add = Results.add

    def add_and_interrupt(results: Results, part: object) -> None:
        add(results, part)
        parts.append(part)
        if len(parts) == 2:
            assert list(temporary.iterdir())  # the rows
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(Results, "add", add_and_interrupt)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    options = ["--per-label", "labels.csv", "--left-out", "left-out.csv", *how]
    ran = headway("evaluate", trained, "--data", reviews, *options)
    signal.signal(signal.SIGINT, handler)
    assert ran.code == 130
    assert "Traceback" not in ran.err
    assert len(parts) == 2
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    assert list(temporary.iterdir()) == []


@pytest.mark.usefixtures("in_small_parts")
@pytest.mark.parametrize("shown", [True, False])
def test_a_person_at_a_terminal_sees_how_many_rows_are_done(headway, trained, reviews, monkeypatch, shown):
    monkeypatch.setattr("headway.tasks.base.progress.is_interactive", lambda: shown)
    monkeypatch.setattr("tqdm.tqdm.monitor_interval", 0)
    ran = headway("evaluate", trained, "--data", reviews)
    rows = len(Path(reviews).read_text(encoding="utf-8").splitlines()) - 1
    assert (f"0/{rows} " in ran.err) == shown
    assert (ran.err == "") != shown
    assert "accuracy" in ran.out
