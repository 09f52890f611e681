"""headway quickstart: the first command of a new user, which works offline within a minute."""

import os
import re
import subprocess
import sys
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
    seconds: float  # of processor time


@pytest.fixture(scope="module")
def first_run(tmp_path_factory: pytest.TempPathFactory) -> FirstRun:
    """`headway quickstart` without options, in a separate process."""
    folder = tmp_path_factory.mktemp("newcomer")
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "COLUMNS": "100"}
    before = os.times()
    run = subprocess.run(
        [sys.executable, "-m", "headway.ui.cli", "quickstart"],
        capture_output=True,
        text=True,
        cwd=folder,
        env=environment,
    )
    after = os.times()
    seconds = after.children_user + after.children_system - before.children_user - before.children_system
    return FirstRun(folder, run.stdout, run.stderr, run.returncode, seconds)


def test_it_succeeds_within_its_time_limit(first_run):
    assert first_run.code == 0, first_run.err
    assert first_run.err == ""
    assert first_run.seconds < 60  # on one core, whatever else it is doing


def test_it_prints_the_data_check(first_run):
    assert "messages.csv: 445 rows" in " ".join(first_run.out.split())  # a long path wraps
    assert all(re.search(rf"{label} \(\d\d\)", first_run.out) for label in LABELS)
    assert "tokens per text" in first_run.out


def test_it_prints_the_learning_curve(first_run):
    assert re.search(r"loss +\d\.\d{3}  [▁▂▃▄▅▆▇█]{20,}  \d\.\d{3}", first_run.out)
    assert re.search(r"accuracy +\d\.\d{3}  [▁▂▃▄▅▆▇█]{20,}  \d\.\d{3}", first_run.out)


def test_it_prints_a_row_per_class_and_beats_chance_by_far(first_run):
    rows = re.findall(r"^  (\w+)((?: +\d\.\d{3}){3}) +\d+$", first_run.out, re.MULTILINE)
    assert tuple(label for label, _ in rows) == LABELS
    accuracy = float(re.findall(r"^  accuracy (\d\.\d+)", first_run.out, re.MULTILINE)[-1])
    assert accuracy > 0.5  # chance is 1/6


def test_it_classifies_three_new_messages(first_run):
    for text in quickstart.NEW_TEXTS:
        assert re.search(rf"^({'|'.join(LABELS)}) +0\.\d\d +{re.escape(text)}$", first_run.out, re.MULTILINE)


def test_the_new_messages_are_not_in_the_training_data():
    from headway.tasks import read_table, samples

    known = {row["text"] for row in read_table(Path(str(samples.__file__)).with_name("messages.csv")).rows}
    assert known.isdisjoint(quickstart.NEW_TEXTS)


def test_it_prints_the_next_commands(first_run):
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


def test_it_writes_only_the_model_folder(first_run):
    assert [path.name for path in first_run.folder.iterdir()] == ["headway-quickstart"]
    assert {"config.json", "model.safetensors", "README.md"} <= {
        path.name for path in (first_run.folder / "headway-quickstart").iterdir()
    }


@pytest.fixture
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Minimal training."""
    monkeypatch.setattr(quickstart, "TRAINING", {"max_steps": 2, "eval_steps": 1, "precision": "fp32"})


@pytest.mark.usefixtures("_short")
def test_a_second_run_gets_another_name_and_the_same_weights(headway):
    assert headway("quickstart").code == 0
    ran = headway("quickstart")
    assert ran.code == 0
    assert "headway-quickstart exists already: this model is saved as headway-quickstart-2" in ran.out
    first, second = (
        load_file(Path(name) / "model.safetensors") for name in ("headway-quickstart", "headway-quickstart-2")
    )
    assert all(first[name].equal(second[name]) for name in first)


@pytest.mark.usefixtures("_short")
def test_overwrite_replaces_the_existing_model(headway):
    headway("quickstart")
    Path("headway-quickstart/note.txt").touch()
    assert headway("quickstart", "--overwrite").code == 0
    assert not Path("headway-quickstart/note.txt").exists()
    assert not Path("headway-quickstart-2").exists()


@pytest.mark.usefixtures("_short")
def test_a_given_folder_is_not_replaced_without_overwrite(headway):
    assert headway("quickstart", "--output", "mine").code == 0
    ran = headway("quickstart", "--output", "mine")
    assert ran.code == 2
    assert "mine already exists" in ran.err
