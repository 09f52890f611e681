"""The first thing that a newcomer types: it works without the internet, soon, and says what comes next."""

import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from headway.ui.commands import quickstart
from safetensors.torch import load_file

LABELS = ("account", "billing", "delivery", "praise", "refund", "technical")


@dataclass(frozen=True)
class FirstRun:
    folder: Path
    out: str
    err: str
    code: int
    seconds: float


@pytest.fixture(scope="module")
def first_run(tmp_path_factory: pytest.TempPathFactory) -> FirstRun:
    """`headway quickstart` as it comes, in a process of its own."""
    folder = tmp_path_factory.mktemp("newcomer")
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "COLUMNS": "100"}
    began = time.monotonic()
    run = subprocess.run(
        [sys.executable, "-m", "headway.ui.cli", "quickstart"],
        capture_output=True,
        text=True,
        cwd=folder,
        env=environment,
    )
    return FirstRun(folder, run.stdout, run.stderr, run.returncode, time.monotonic() - began)


def test_it_ends_well_and_in_time(first_run):
    assert first_run.code == 0, first_run.err
    assert first_run.err == ""
    assert first_run.seconds < 90  # with one core and others at work; on two free ones it is a third of that


def test_it_shows_the_data_and_its_check(first_run):
    assert "messages.csv: 445 rows" in " ".join(first_run.out.split())  # the path before it may be long
    assert all(re.search(rf"{label} \(\d\d\)", first_run.out) for label in LABELS)
    assert "tokens a text" in first_run.out


def test_it_draws_the_learning_curve(first_run):
    assert re.search(r"loss +\d\.\d{3}  [▁▂▃▄▅▆▇█]{20,}  \d\.\d{3}", first_run.out)
    assert re.search(r"accuracy +\d\.\d{3}  [▁▂▃▄▅▆▇█]{20,}  \d\.\d{3}", first_run.out)


def test_it_shows_a_row_for_each_class_and_has_learnt_something(first_run):
    rows = re.findall(r"^  (\w+)((?: +\d\.\d{3}){3}) +\d+$", first_run.out, re.MULTILINE)
    assert tuple(label for label, _ in rows) == LABELS
    accuracy = float(re.findall(r"^  accuracy (\d\.\d+)", first_run.out, re.MULTILINE)[-1])
    assert accuracy > 0.5  # one in six is chance


def test_it_answers_three_new_messages(first_run):
    for text in quickstart.NEW_TEXTS:
        assert re.search(rf"^({'|'.join(LABELS)}) +0\.\d\d +{re.escape(text)}$", first_run.out, re.MULTILINE)


def test_the_new_messages_are_not_in_the_data():
    from headway.tasks import read_table, samples

    known = {row["text"] for row in read_table(Path(str(samples.__file__)).with_name("messages.csv")).rows}
    assert known.isdisjoint(quickstart.NEW_TEXTS)


def test_it_says_what_to_type_next(first_run):
    assert 'headway predict headway-quickstart "' in first_run.out
    assert "headway train text-classification --data YOUR-FILE.csv" in first_run.out


def test_its_model_opens_in_transformers(first_run):
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model, report = AutoModelForSequenceClassification.from_pretrained(
        first_run.folder / "headway-quickstart", output_loading_info=True
    )
    assert not any(report.values())
    assert tuple(model.config.id2label.values()) == LABELS
    assert len(AutoTokenizer.from_pretrained(first_run.folder / "headway-quickstart")("a parcel").input_ids) > 2


def test_it_leaves_a_model_folder_and_nothing_else(first_run):
    assert [path.name for path in first_run.folder.iterdir()] == ["headway-quickstart"]
    assert {"config.json", "model.safetensors", "README.md"} <= {
        path.name for path in (first_run.folder / "headway-quickstart").iterdir()
    }


@pytest.fixture
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    """As little training as possible."""
    monkeypatch.setattr(quickstart, "TRAINING", {"max_steps": 2, "eval_steps": 1, "precision": "fp32"})


@pytest.mark.usefixtures("_short")
def test_a_second_run_takes_another_name_and_learns_the_same(headway):
    assert headway("quickstart").code == 0
    ran = headway("quickstart")
    assert ran.code == 0
    assert "headway-quickstart is there already: this model goes to headway-quickstart-2" in ran.out
    first, second = (
        load_file(Path(name) / "model.safetensors") for name in ("headway-quickstart", "headway-quickstart-2")
    )
    assert all(first[name].equal(second[name]) for name in first)


@pytest.mark.usefixtures("_short")
def test_overwrite_replaces_the_model_that_is_there(headway):
    headway("quickstart")
    Path("headway-quickstart/note.txt").touch()
    assert headway("quickstart", "--overwrite").code == 0
    assert not Path("headway-quickstart/note.txt").exists()
    assert not Path("headway-quickstart-2").exists()


@pytest.mark.usefixtures("_short")
def test_a_folder_that_was_asked_for_is_not_replaced_by_accident(headway):
    assert headway("quickstart", "--output", "mine").code == 0
    ran = headway("quickstart", "--output", "mine")
    assert ran.code == 2
    assert "mine exists already" in ran.err
