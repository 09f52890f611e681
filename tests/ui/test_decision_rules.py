"""Decision rules on the command line, over HTTP and in the browser app: unsure predictions and prediction sets."""

import json
from pathlib import Path

import openpyxl
import pytest
from api_client import one_model
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
from ran_commands import Headway
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


def test_a_rule_that_cannot_be_fitted_leaves_the_report_and_the_model_whole(
    trained: Path, reviews: Path, headway: Headway
):
    before = (trained / "headway.json").read_bytes()
    files = ("--report", "report.html", "--per-label", "labels.csv")
    ran = headway("evaluate", trained, "--data", reviews, "--coverage", 0.5, "--conformal", 0.999, "--save", *files)
    assert ran.code == 2
    assert "--conformal" in ran.err
    assert "</html>" in Path("report.html").read_text(encoding="utf-8")
    assert Path("labels.csv").exists()
    assert (trained / "headway.json").read_bytes() == before


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


FAR = ["qqq zzz xxx " * 12, "12 % 34 % 56 %", "<script>alert(1)</script> " * 5]


@pytest.fixture
def scoped(trained: Path, reviews: Path, headway: Headway) -> Path:
    """A model that says which texts are far from the reviews."""
    Path("held_out.csv").write_text(
        "text,label\n" + "".join(f"{text} and {text.split()[-1]},{label}\n" for text, label in REVIEWS),
        encoding="utf-8",
    )
    command = (
        "evaluate",
        trained,
        "--data",
        "held_out.csv",
        "--none-of-these",
        0.95,
        "--reference",
        reviews,
        "--save",
    )
    ran = headway(*command, "--json")
    assert ran.code == 0, ran.err
    found = json.loads(ran.out)["decision_rules"]["none_of_these"]
    assert found["accepted"]["value"] >= 0.95
    assert found["fitted"] is True
    assert "near enough to the training texts" in ran.err
    return trained


def test_far_texts_are_marked_in_the_terminal_in_files_over_http_and_in_the_browser_app(
    scoped: Path, headway: Headway
):
    lines = headway("predict", scoped, *FAR, TEXTS[0]).out.splitlines()
    assert [line.startswith("none of these: ") for line in lines] == [True, True, True, False]
    Path("new.csv").write_text("text\n" + "".join(f'"{text}"\n' for text in [*FAR, TEXTS[0]]), encoding="utf-8")
    assert headway("predict", scoped, "--data", "new.csv", "--output", "out.csv").code == 0
    header, *cells = Path("out.csv").read_text(encoding="utf-8").splitlines()
    assert header.split(",")[-1] == "none_of_these"
    assert [cell.rpartition(",")[2].lower() for cell in cells] == ["true", "true", "true", "false"]
    with TestClient(one_model(scoped)) as client:
        found = client.post("/predict", json={"inputs": [*FAR, TEXTS[0]]}).json()["predictions"]
        schema = client.get("/openapi.json").json()["paths"]["/predict"]["post"]["responses"]["200"]
    assert [one["none_of_these"] for one in found] == [True, True, True, False]
    items = schema["content"]["application/json"]["schema"]["properties"]["predictions"]["items"]
    assert "none_of_these" in items["properties"]
    registry = ModelRegistry([scoped], built_in=False, device="cpu")
    assert "None of these" in predict(registry, scoped.name, FAR[0])
    assert "None of these" not in predict(registry, scoped.name, TEXTS[0])


def test_the_rule_is_fitted_in_the_browser_app_with_a_file_of_training_texts(trained: Path, reviews: Path):
    Path("runs").mkdir()
    trained.rename("runs/mine")
    Path("held_out.csv").write_text("text,label\n" + "".join(f"{text} {text},{label}\n" for text, label in REVIEWS))
    registry = ModelRegistry(runs=Path("runs"), built_in=False, device="cpu")
    question = "mine", "held_out.csv", [], []
    with pytest.raises(HeadwayError, match="Give them as “Training data, for none of these”"):
        list(evaluate(registry, *question, False, "", "", "lac", "0.95", None))
    *_, (shown, _) = evaluate(registry, *question, True, "", "", "lac", "0.95", str(reviews))
    assert "None of these" in shown
    assert registry.task_model("mine").predict(FAR[0]).none_of_these
    list(evaluate(registry, *question, True, "0.5", "", "lac", "", None))  # keeps the other rule
    assert registry.task_model("mine").rules.abstention is not None
    assert registry.task_model("mine").predict(FAR[0]).none_of_these


def test_what_the_rule_needs_is_said_before_anything_is_computed(trained: Path, reviews: Path, headway: Headway):
    ran = headway("evaluate", trained, "--data", reviews, "--none-of-these", 0.95)
    assert (ran.code, "--reference" in ran.err) == (2, True)
    ran = headway("evaluate", trained, "--data", reviews, "--none-of-these", 0.95, "--reference", reviews)
    assert (ran.code, "have texts of --reference" in ran.err) == (2, True)


def test_an_exported_graph_says_that_rules_are_not_in_it(ruled: Path, headway: Headway):
    ran = headway("export", ruled, "--output", "graph.onnx")
    assert ran.code == 0, ran.err
    assert "decision rules" in ran.out + ran.err
