"""Decision rules on the command line, over HTTP and in the browser app: unsure predictions and prediction sets."""

import json
from pathlib import Path

import openpyxl
import pytest
from api_client import one_model
from conftest import Headway
from fastapi.testclient import TestClient
from headway.core.errors import HeadwayError
from headway.tasks import load
from headway.tasks.base.certainty import Certainty
from headway.tasks.base.decision_rules import DecisionRules
from headway.tasks.classification.predictions import LabelPrediction
from headway.ui.browser.drawing import draw_certainty
from headway.ui.browser.tabs.evaluate_report import evaluate
from headway.ui.browser.tabs.predict import predict
from headway.ui.model_registry import ModelRegistry
from reviews import REVIEWS

TEXTS = [text for text, _ in REVIEWS]
STORE = ("--coverage", 0.5, "--conformal", 0.9, "--save")


@pytest.fixture
def ruled(trained: Path, reviews: Path, headway: Headway) -> Path:
    """A model that answers half of the reviews, and has prediction sets."""
    assert headway("evaluate", trained, "--data", reviews, *STORE).code == 0
    return trained


def test_evaluate_fits_reports_and_stores_on_request_only(trained: Path, reviews: Path, headway: Headway):
    before = (trained / "headway.json").read_bytes()
    ran = headway("evaluate", trained, "--data", reviews, *STORE[:-1], "--json")
    found = json.loads(ran.out)["decision_rules"]
    assert found["abstention"]["answered"]["value"] >= 0.5
    assert found["abstention"]["accuracy"]["low"] <= found["abstention"]["accuracy"]["value"]
    assert found["abstention"]["risk_coverage"]["coverage"][-1] == 1
    assert found["conformal"]["covered"]["value"] >= 0.9
    assert "Decision rules" in ran.err
    assert (trained / "headway.json").read_bytes() == before
    ran = headway("evaluate", trained, "--data", reviews, *STORE)
    assert "of the rows are answered" in ran.out
    assert "its predictions follow these rules" in ran.out
    stored = json.loads((trained / "headway.json").read_text())["decision_rules"]
    assert stored["abstention"]["coverage"] == 0.5
    assert stored["conformal"]["num_examples"] == len(REVIEWS)


def test_a_stored_rule_is_measured_on_other_rows(ruled: Path, reviews: Path, headway: Headway):
    ran = headway("evaluate", ruled, "--data", reviews)
    assert "Prediction sets for 90.0%" in ran.out
    assert "that they are fitted to" not in ran.out


def test_save_without_a_rule_is_refused(trained: Path, reviews: Path, headway: Headway):
    ran = headway("evaluate", trained, "--data", reviews, "--save")
    assert ran.code == 2
    assert "--coverage 0.9" in ran.err


def test_predict_says_unsure_in_the_terminal_and_in_every_file(ruled: Path, reviews: Path, headway: Headway):
    least = load(ruled, device="cpu").rules.abstention
    assert least is not None
    lines = headway("predict", ruled, *TEXTS).out.splitlines()
    assert 0 < sum(line.startswith("unsure: ") for line in lines) < len(TEXTS)
    for name in ("out.jsonl", "out.csv", "out.xlsx"):
        assert headway("predict", ruled, "--data", reviews, "--output", name).code == 0
    rows = [json.loads(line) for line in Path("out.jsonl").read_text().splitlines()]
    assert [row["abstained"] for row in rows] == [row["score"] < least.min_confidence for row in rows]
    assert all(row["predicted_label"] in row["label_set"] for row in rows)
    header, *cells = openpyxl.load_workbook("out.xlsx").active.iter_rows(values_only=True)
    column = header.index("abstained")
    assert [row[column] for row in cells] == [row["abstained"] for row in rows]
    table = Path("out.csv").read_text().splitlines()
    assert table[0].endswith("abstained,label_set")
    assert [line.split(",")[-1] for line in table[1:]] == [";".join(row["label_set"]) for row in rows]


def test_min_confidence_overrules_the_stored_rule(ruled: Path, headway: Headway):
    assert "unsure" not in headway("predict", ruled, *TEXTS, "--min-confidence", 0).out
    assert headway("predict", ruled, *TEXTS, "--min-confidence", 1).out.count("unsure: ") == len(TEXTS)
    assert headway("predict", ruled, "a film", "--min-confidence", 3).code == 2


def test_http_answers_have_the_fields_and_the_description_names_them(ruled: Path):
    expected = [one.certainty.to_json() for one in load(ruled, device="cpu").predict(TEXTS)]
    with TestClient(one_model(ruled)) as client:
        found = client.post("/predict", json={"inputs": TEXTS}).json()["predictions"]
        schema = client.get("/openapi.json").json()["paths"]["/predict"]["post"]["responses"]["200"]
    assert [{name: one[name] for name in ("abstained", "label_set")} for one in found] == expected
    items = schema["content"]["application/json"]["schema"]["properties"]["predictions"]["items"]
    assert {"abstained", "label_set"} <= items["properties"].keys()


def test_the_browser_app_shows_unsure_predictions_and_the_rules_of_a_model(ruled: Path, reviews: Path):
    registry = ModelRegistry([ruled], built_in=False, device="cpu")
    model = registry.task_model(ruled.name)
    unsure = next(text for text in TEXTS if model.predict(text).abstained)
    sure = next(text for text in TEXTS if not model.predict(text).abstained)
    assert "Unsure" in predict(registry, ruled.name, unsure)
    shown = predict(registry, ruled.name, sure)
    assert "Unsure" not in shown
    assert "Possible labels: " in shown
    *_, (metrics, _) = evaluate(registry, ruled.name, str(reviews), [], [], False)
    assert "of the rows are answered" in metrics


def test_rules_are_fitted_in_the_browser_app_and_stored_in_models_trained_there(trained: Path, reviews: Path):
    Path("runs").mkdir()
    trained.rename("runs/mine")
    registry = ModelRegistry(runs=Path("runs"), built_in=False, device="cpu")
    before = Path("runs/mine/headway.json").read_bytes()
    *_, (shown, _) = evaluate(registry, "mine", str(reviews), [], [], False, "0.5", "0.9", "aps")
    assert "of the rows are answered" in shown
    assert "Prediction sets for 90.0%" in shown
    assert Path("runs/mine/headway.json").read_bytes() == before
    assert registry.task_model("mine").rules == DecisionRules()  # other users of the same model see no change
    *_, (shown, _) = evaluate(registry, "mine", str(reviews), [], [], True, "0.5", "", "lac")
    assert "The rules are stored" in shown
    assert registry.task_model("mine").rules.abstention is not None
    with pytest.raises(HeadwayError, match="no rule to store"):
        next(evaluate(registry, "mine", str(reviews), [], [], True, "", "", "lac"))
    given = ModelRegistry(["runs/mine"], built_in=False)
    with pytest.raises(HeadwayError, match="not trained here"):
        next(evaluate(given, "mine", str(reviews), [], [], True, "0.5", "", "lac"))


def test_labels_in_a_set_are_shown_as_text():
    hostile = LabelPrediction("a", 1.0, {"a": 1.0}, certainty=Certainty(True, ("<script>",)))
    assert "&lt;script&gt;" in draw_certainty(hostile)
    assert draw_certainty(LabelPrediction("a", 1.0, {"a": 1.0})) == ""
