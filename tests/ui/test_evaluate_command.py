"""headway evaluate: its progress, an interruption, and files that are not what the model was trained on."""

import json
import os
import signal
import tempfile
from pathlib import Path

import pytest
from headway.tasks import load
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


def test_a_column_that_only_looks_like_labels_is_not_scored(headway, trained, folder):
    rows = [f"a film number {i},user {i % 3}" for i in range(30)]
    (folder / "new.csv").write_text("\n".join(["text,who", *rows]) + "\n", encoding="utf-8")
    ran = headway("evaluate", trained, "--data", "new.csv", "--report", "report.html")
    assert ran.code == 2
    assert 'the column "who" may have no labels' in ran.err
    assert "--label" in ran.err
    assert not (folder / "report.html").exists()
    assert "accuracy 0.0000" in headway("evaluate", trained, "--data", "new.csv", "--label", "who").out
    given = load(trained, device="cpu").evaluate([f"a film {i}" for i in range(6)], ["user 0", "user 1"] * 3)
    assert given.metrics["accuracy"] == 0


def test_labels_under_another_name_are_found(headway, trained, reviews, folder):
    text = Path(reviews).read_text(encoding="utf-8")
    (folder / "new.csv").write_text(text.replace("text,label", "text,verdict", 1), encoding="utf-8")
    ran = headway("evaluate", trained, "--data", "new.csv")
    assert ran.code == 0
    assert 'label: column "verdict"' in ran.out


def test_few_labelled_rows_are_evaluated_without_drift(headway, trained, reviews, folder):
    lines = Path(reviews).read_text(encoding="utf-8").splitlines()
    (folder / "few.csv").write_text("\n".join(lines[:6]) + "\n", encoding="utf-8")
    how = ["--data", "few.csv", "--reference", reviews, "--report", "report.json", "--json"]
    ran = headway("evaluate", trained, *how)
    assert ran.code == 0
    assert json.loads(ran.out)["drift"] is None
    assert "Drift is not measured: few.csv: 5 rows are too few" in ran.err
    assert json.loads((folder / "report.json").read_text(encoding="utf-8"))["near_duplicates"] == 5
    (folder / "new.csv").write_text("text\n" + "a film\n" * 6, encoding="utf-8")
    ran = headway("evaluate", trained, "--data", "new.csv", "--reference", reviews)
    assert ran.code == 2
    assert "6 rows are too few" in ran.err


def test_a_single_row_is_one_example_and_nothing_is_said_about_its_columns(headway, trained, reviews, folder):
    lines = Path(reviews).read_text(encoding="utf-8").splitlines()
    (folder / "one.csv").write_text("\n".join(lines[:2]) + "\n", encoding="utf-8")
    ran = headway("evaluate", trained, "--data", "one.csv")
    assert "Evaluation on 1 example of one.csv" in ran.out
    assert "Data" not in ran.out
