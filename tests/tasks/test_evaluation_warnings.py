"""What an evaluation says besides its metrics: rows that the model was trained on, and tables of many labels."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data_files import assert_error
from headway.core.training.training_config import TrainConfig
from headway.tasks import TextClassification, load
from headway.tasks.base import training_rows
from headway.tasks.base.label_table import MAX_ROWS, worst_rows
from headway.tasks.base.training_rows import TrainingRows
from headway.tasks.classification.predictions import TextExample
from headway.ui.browser.run_drawing import draw_results
from headway.ui.cli import main

FAST = TrainConfig(max_steps=2, batch_size=8, precision="fp32", device="cpu", save_steps=1000)
LABELS = [f"label {i}" for i in range(30)]


def rows(start: int, count: int) -> list[dict[str, Any]]:
    return [{"text": f"The cat sat {i}", "label": LABELS[i % 30]} for i in range(start, start + count)]


@pytest.fixture(scope="module")
def folder(bert_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("many") / "model"
    TextClassification().on(bert_folder).fit(rows(0, 120), rows(200, 60), output=output, config=FAST)
    return output


def write_csv(path: Path, data: list[dict[str, Any]]) -> Path:
    path.write_text("text,label\n" + "".join(f"{row['text']},{row['label']}\n" for row in data), "utf-8")
    return path


def test_an_evaluation_on_rows_that_the_model_was_trained_on_says_how_many(folder: Path, tmp_path: Path):
    model = load(folder)
    assert model.evaluate(rows(200, 60)).seen is None  # they were held out
    found = model.evaluate([*rows(100, 60), {"text": " the CAT  sat 0 ", "label": "label 0"}])
    assert found.seen is not None
    assert found.seen.startswith("21 of the 61 rows have texts that the model was trained on")
    assert found.to_json()["seen"] == found.seen
    model.save(tmp_path / "again")
    assert load(tmp_path / "again").evaluate(rows(0, 50)).seen == model.evaluate(rows(0, 50)).seen


def test_a_model_without_hashes_says_nothing(folder: Path, tmp_path: Path):
    load(folder).save(tmp_path / "again")
    (tmp_path / "again/training_rows.hashes").unlink()
    assert load(tmp_path / "again").evaluate(rows(0, 50)).seen is None
    (tmp_path / "again/training_rows.hashes").write_bytes(b"\x93NUMPY")
    assert_error(lambda: load(tmp_path / "again"), "training_rows.hashes", "damaged")


def test_the_folder_holds_salted_hashes_and_no_text(folder: Path, bert_folder: Path, tmp_path: Path):
    raw = (folder / "training_rows.hashes").read_bytes()
    assert len(raw) < 120 * 8 + 200
    assert b"cat" not in raw.lower()
    TextClassification().on(bert_folder).fit(rows(0, 121), output=tmp_path / "out", eval_fraction=0, config=FAST)
    one, other = (np.fromfile(one / "training_rows.hashes", "<u8") for one in (folder, tmp_path / "out"))
    assert (len(one), len(other)) == (120, 121)
    assert not np.isin(one, other).any()  # other data have another salt
    assert int(one.max()) < 2**40


def test_of_many_texts_a_sample_is_stored_and_the_number_is_estimated(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(training_rows, "MAX_HASHES", 500)
    examples = [TextExample(i, "", f"text {i}") for i in range(20_000)]
    stored = TrainingRows.of(examples[:10_000], "salt")
    assert len(stored.hashes) == 500
    assert stored.count_known(examples[10_000:]) == 0
    assert stored.count_known(examples[5_000:15_000]) == pytest.approx(5_000, rel=0.1)
    assert (stored.describe_known(examples[5_000:15_000]) or "").startswith("about ")


def test_the_worst_rows_are_those_of_labels_that_occur():
    table = [{"label": str(i), "f1": i / 100, "examples": i % 5} for i in range(100)]
    worst = worst_rows(table)
    assert [row["label"] for row in worst[:4]] == ["1", "2", "3", "4"]
    assert len(worst) == MAX_ROWS
    assert all(row["examples"] for row in worst)
    assert worst_rows(table[:MAX_ROWS]) == table[:MAX_ROWS]


def test_of_a_long_table_the_worst_rows_are_printed_and_all_are_in_a_file(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    with (folder / "per_label.csv").open(encoding="utf-8") as file:
        assert [row["label"] for row in csv.DictReader(file)] == sorted(LABELS)
    data = str(write_csv(tmp_path / "data.csv", rows(200, 60)))
    assert main(["evaluate", str(folder), "--data", data]) == 0
    out = capsys.readouterr().out
    assert f"The {MAX_ROWS} labels with the lowest F1 of 30. --per-label FILE writes all." in out
    assert sum(line.strip().startswith("label ") for line in out.splitlines()) == MAX_ROWS + 1  # and the header
    path = tmp_path / "all.csv"
    assert main(["evaluate", str(folder), "--data", data, "--per-label", str(path)]) == 0
    assert len(path.read_text("utf-8").splitlines()) == 31
    before = path.read_bytes()
    assert main(["evaluate", str(folder), "--data", data, "--per-label", str(path)]) == 2
    assert path.read_bytes() == before


def test_a_long_table_is_cut_in_the_model_card_and_in_the_browser(folder: Path):
    info = json.loads((folder / "headway.json").read_text("utf-8"))
    card = (folder / "README.md").read_text("utf-8")
    assert sum(line.startswith("| label ") for line in card.splitlines()) == MAX_ROWS + 1
    assert f"The {MAX_ROWS} labels with the lowest F1 of 30. All are in `per_label.csv`." in card

    class Trained:
        trained = {"metrics": info["metrics"], "per_label": info["per_label"], "eval_examples": 60, "output": "x"}  # noqa: RUF012

    class Job:
        error_analysis = None

    drawn = draw_results(Job(), Trained())  # pyright: ignore[reportArgumentType]
    assert drawn.count('<td dir="auto">label ') == MAX_ROWS
    assert "of 30. All are in per_label.csv" in drawn
