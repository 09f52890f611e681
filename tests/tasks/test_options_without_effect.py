"""Options that mean nothing in a run are named in a note, and an option of one file does not refuse the other."""

from pathlib import Path

import pytest
from data_files import assert_error
from headway.core.training.training_config import TrainConfig
from headway.tasks import TextClassification
from headway.tasks.base.check import check_data
from headway.tasks.base.results import Prepared, Trained
from headway.tasks.base.task import Task
from headway.tasks.data.read import options_by_source
from headway.tasks.data.read_options import ReadOptions
from openpyxl import Workbook

ROWS = [{"text": f"the {pet} sat {i}", "label": pet} for i in range(12) for pet in ("cat", "dog")]
FAST = TrainConfig(max_steps=1, precision="fp32", device="cpu", learning_rate=1e-3)


def notes(folder: Path, task: Task | None = None, *data: object, config: TrainConfig = FAST, **options: object) -> str:
    prepared = next(
        iter((task or TextClassification()).on(folder).train(*(data or (ROWS,)), config=config, **options))
    )
    assert isinstance(prepared, Prepared)
    return "\n".join(prepared.notes)


def workbook(path: Path) -> Path:
    book = Workbook()
    for sheet in (book.active, book.create_sheet("more")):
        sheet.append(["text", "label"])
        for row in ROWS:
            sheet.append([*row.values()])
    book.save(path)
    return path


def table(path: Path) -> Path:
    path.write_text("text,label\n" + "".join(f"{row['text']},{row['label']}\n" for row in ROWS), "utf-8")
    return path


def test_a_fraction_beside_evaluation_data_is_said_to_have_no_effect(bert_folder: Path):
    assert "--eval-fraction 0.3 has no effect" in notes(bert_folder, None, ROWS, ROWS, eval_fraction=0.3)
    assert "no effect" not in notes(bert_folder, None, ROWS, ROWS)
    assert "no effect" not in notes(bert_folder, eval_fraction=0.3)


def test_options_of_the_training_loop_are_said_to_have_no_effect_on_a_frozen_model(bert_folder: Path):
    frozen = TextClassification(frozen=True)
    found = notes(bert_folder, frozen, config=TrainConfig(epochs=3, learning_rate=1e-3, device="cpu", seed=3))
    assert "--epochs, --learning-rate have no effect: the head is fitted without optimizer steps" in found
    assert "no effect" not in notes(bert_folder, frozen, config=TrainConfig(device="cpu"))
    assert "no effect" not in notes(bert_folder)


def test_an_option_of_one_file_does_not_refuse_the_other(bert_folder: Path, tmp_path: Path):
    book, text = workbook(tmp_path / "a.xlsx"), table(tmp_path / "b.csv")
    found = notes(bert_folder, None, book, text, sheet="more", encoding="cp1252")
    assert 'sheet "more"' in found
    assert check_data(TextClassification(), text, book, sheet="more").errors == ()
    assert_error(lambda: notes(bert_folder, None, text, text, sheet="more"), "--sheet has no meaning")
    assert_error(
        lambda: notes(bert_folder, None, book, ROWS, sheet="more", delimiter=";"), "--delimiter has no meaning"
    )
    assert [one.given for one in options_by_source(ReadOptions(sheet="more", strict=True), [book, text])] == [
        {"sheet": "more", "strict": True},
        {"strict": True},
    ]


def test_rows_that_are_left_out_are_named_where_they_leave_nothing_to_learn(bert_folder: Path):
    rows = [{**row, "label": "cat" if row["label"] == "cat" else ""} for row in ROWS]
    assert_error(lambda: notes(bert_folder, None, rows), "every row has the label 'cat'", "12 rows without a label")


def test_a_model_that_learnt_nothing_gives_a_warning_where_no_progress_is_shown(bert_folder: Path):
    config = TrainConfig(max_steps=1, learning_rate=1e-6, precision="fp32", device="cpu")
    with pytest.warns(UserWarning, match="no better than"):
        trained = TextClassification().on(bert_folder).fit(ROWS, ROWS, config=config, progress=False)
    assert isinstance(trained, Trained)
    assert trained.nothing_learnt


def test_an_error_that_names_options_has_a_note_with_their_names_in_python(bert_folder: Path, tmp_path: Path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "config.json").write_text("{}")
    model = TextClassification().on(bert_folder)
    same = [{**row, "label": "cat"} for row in ROWS]
    for call, note in (
        (lambda: model.fit(ROWS, output=tmp_path / "out"), "overwrite= for --overwrite"),
        (lambda: model.fit(same), 'columns={"label": ...} for --label'),
    ):
        with pytest.raises(Exception, match="--") as caught:
            call()
        assert note in caught.value.__notes__[0]
