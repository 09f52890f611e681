"""A model reads the columns of its training data again, in data that has them."""

from pathlib import Path

import pandas as pd
import pytest
from headway.core.errors import HeadwayError
from headway.core.training.training_config import TrainConfig
from headway.tasks import TextClassification, load
from headway.tasks.base.model import TaskModel

FAST = TrainConfig(max_steps=2, batch_size=8, device="cpu")
ROWS = pd.DataFrame(
    {
        "Betreff": ["Hilfe", "Anfrage", "Frage", "Hilfe"] * 5,
        "Nachricht": [f"die {number}. lange Nachricht über ein Paket" for number in range(20)],
        "Team": ["a", "b"] * 10,
        "Stufe": ["hoch", "tief"] * 10,
    }
)


@pytest.fixture(scope="module")
def folder(bert_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("columns") / "model"
    columns = {"text": "Nachricht", "label": "Team"}
    TextClassification().on(bert_folder).fit(ROWS, columns=columns, output=output, config=FAST)
    return output


@pytest.fixture
def model(folder: Path) -> TaskModel:
    return load(folder)


def test_evaluation_and_prediction_read_the_columns_of_the_training_data(model: TaskModel):
    found = model.evaluate(ROWS)
    assert found.metrics == model.evaluate(ROWS, columns={"text": "Nachricht", "label": "Team"}).metrics
    assert 'label: column "Team" (as in the training data)' in found.notes
    renamed = ROWS.rename(columns={"Betreff": "text"})  # a name that would be inferred
    assert [one.scores for one in model.predict(renamed)] == [one.scores for one in model.predict(ROWS["Nachricht"])]


def test_a_chosen_column_wins(model: TaskModel):
    other = ROWS.rename(columns={"Team": "Kategorie", "Nachricht": "Team", "Kategorie": "Team"})
    found = model.evaluate(other, columns={"text": "Team", "label": "Kategorie"})
    assert found.metrics == model.evaluate(ROWS).metrics
    assert model.evaluate(ROWS, columns={"label": "Stufe"}, unknown_labels="wrong").metrics["accuracy"] == 0


def test_columns_with_other_names_are_inferred(model: TaskModel):
    other = pd.DataFrame({"text": ROWS["Nachricht"], "label": ROWS["Team"]})
    assert model.evaluate(other).metrics == model.evaluate(ROWS).metrics
    with pytest.raises(HeadwayError, match="cannot infer which column is the label"):
        model.evaluate(ROWS.rename(columns={"Team": "Gruppe"}))


def test_several_label_columns_are_read_again(bert_folder: Path):
    flags = pd.DataFrame({"x": [0, 1] * 10, "y": [1, 0, 0, 1] * 5})
    rows = pd.concat([ROWS[["Nachricht", "Stufe"]], flags], axis=1)
    model = TextClassification().on(bert_folder)
    model.fit(rows, columns={"text": "Nachricht", "label": ["x", "y"]}, config=FAST)
    assert 'label: columns "x", "y" (as in the training data)' in model.evaluate(rows).notes
