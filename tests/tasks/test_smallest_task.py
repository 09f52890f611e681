"""The smallest task of the guide works everywhere: the contract needs nothing that the guide does not name."""

import importlib.util
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import transformers
from fastapi.testclient import TestClient
from headway.core.training.training_config import TrainConfig
from headway.tasks import TASKS, load
from headway.tasks.base.task import Task
from headway.tasks.data.read import read_table
from headway.tasks.infer_task import infer_task
from headway.ui.browser.app import build_app
from headway.ui.browser.tabs import predict
from headway.ui.browser.tabs.train_form import choose_task
from headway.ui.cli import main
from headway.ui.http.api import create_api
from headway.ui.model_registry import ModelRegistry
from headway.ui.runs.jobs import Jobs

PAGE = Path(__file__).resolve().parents[2] / "docs/adding-a-task.md"
ROWS = [{"text": f"the {'quick brown fox' if i % 2 else 'cat sat'} {'today ' * (i % 3)}", "stars": 1 + 4 * (i % 2)}
        for i in range(24)]  # fmt: skip
TEXTS = ["the quick brown fox", "the cat sat"]


def code() -> str:
    """The smallest task, as the guide has it."""
    (block,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S)
    return block


@dataclass(frozen=True)
class Fitted:
    """The smallest task, trained."""

    task: type[Task[Any, Any]]
    output: Path
    metrics: dict[str, float]


@pytest.fixture(scope="module")
def fitted(bert_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fitted]:
    folder = tmp_path_factory.mktemp("smallest")
    path = folder / "star_rating.py"
    path.write_text(code(), encoding="utf-8")
    spec = importlib.util.spec_from_file_location("star_rating", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patched:
        patched.setitem(sys.modules, "star_rating", module)
        spec.loader.exec_module(module)
        patched.setitem(TASKS, module.StarRating.name, module.StarRating)
        config = TrainConfig(epochs=20, batch_size=8, learning_rate=5e-3, precision="fp32", device="cpu")
        model = module.StarRating().on(bert_folder)
        trained = model.fit(ROWS, ROWS, output=folder / "my-stars", config=config)
        yield Fitted(module.StarRating, folder / "my-stars", trained.metrics)


def test_it_has_at_most_60_lines_of_code_and_is_listed_nowhere_else():
    assert 30 < sum(bool(line.strip()) for line in code().splitlines()) <= 60
    assert "star-rating" not in TASKS


def test_it_supplies_what_is_abstract_and_nothing_else(fitted: Fitted):
    defined = {name for name in vars(fitted.task) if not name.startswith("_") and hasattr(Task, name)}
    assert defined - {"label_columns", "higher_is_better"} == set(Task.__abstractmethods__)
    assert all(hasattr(fitted.task, name) for name in ("name", "title", "inputs", "architecture"))


def test_it_learns(fitted: Fitted):
    assert fitted.metrics["mae"] < 0.5  # always predicting the mean has 2


def test_it_loads_predicts_and_evaluates(fitted: Fitted):
    model = load(fitted.output)
    many, few = model.predict(TEXTS)
    assert many.stars > few.stars + 3
    assert model.predict(TEXTS[0]) == many
    assert model.evaluate(ROWS).metrics["mae"] == pytest.approx(fitted.metrics["mae"], abs=1e-5)
    assert model.task.mean == 3.0  # pyright: ignore[reportAttributeAccessIssue]


def test_a_reset_keeps_the_options_and_forgets_the_data(fitted: Fitted):
    trained = fitted.task.from_json({"max_length": 20, "mean": 3.5})
    assert trained.reset() == fitted.task(max_length=20)


def test_its_head_is_trained_further(fitted: Fitted, tmp_path: Path):
    again = fitted.task().on(fitted.output)
    prepared = next(iter(again.train(ROWS, output=tmp_path / "out", max_steps=1, device="cpu")))
    assert any("is trained further" in note for note in prepared.notes)  # pyright: ignore[reportAttributeAccessIssue]


def test_the_folder_opens_in_transformers_with_the_same_output(fitted: Fitted):
    tokenizer = transformers.AutoTokenizer.from_pretrained(fitted.output)
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(fitted.output).eval()
    output = theirs(**tokenizer(TEXTS[0], return_tensors="pt")).logits.item()
    assert load(fitted.output).predict(TEXTS[0]).stars == pytest.approx(3.0 + output, abs=1e-4)


def test_its_card_says_what_it_is_and_the_lines_for_transformers_run(fitted: Fitted, monkeypatch: pytest.MonkeyPatch):
    card = (fitted.output / "README.md").read_text(encoding="utf-8")
    assert "pipeline_tag: star-rating" in card
    assert "Task: star rating." in card
    assert 'headway predict my-stars "A text."' in card
    assert "| mae |" in card
    blocks = re.findall(r"```python\n(.*?)```", card, re.S)
    assert len(blocks) == 2
    monkeypatch.chdir(fitted.output.parent)
    for block in blocks:
        exec(compile(block, "README.md", "exec"), {})


def test_the_commands_work(fitted: Fitted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd):
    monkeypatch.chdir(tmp_path)
    data = tmp_path / "reviews.jsonl"
    data.write_text("".join(f"{json.dumps(row)}\n" for row in ROWS))
    assert main(["check", "star-rating", "--data", str(data)]) == 0
    assert main(["evaluate", str(fitted.output), "--data", str(data)]) == 0
    assert "mae" in capfd.readouterr().out
    assert main(["predict", str(fitted.output), TEXTS[0], "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["stars"] > 4
    assert main(["inspect", str(fitted.output), TEXTS[0], "--output", str(tmp_path / "inside.html")]) == 0
    assert main(["probe", str(fitted.output), "--data", str(data), "--task", "star-rating"]) == 2


def test_it_is_served_over_http(fitted: Fitted):
    api = create_api(ModelRegistry([fitted.output], built_in=False))
    client = TestClient(api)
    response = client.post("/predict", json={"inputs": TEXTS})
    assert response.status_code == 200, response.text
    assert response.json()["task"] == "star-rating"
    expected = [one.stars for one in load(fitted.output).predict(TEXTS)]
    assert [one["stars"] for one in response.json()["predictions"]] == pytest.approx(expected, abs=1e-4)
    api.state.serving.close(10)


def test_the_browser_app_shows_it(fitted: Fitted, tmp_path: Path):
    registry = ModelRegistry([fitted.output], built_in=False)
    with Jobs(tmp_path) as jobs:
        assert build_app(registry, jobs).blocks
    about, text, *_ = predict.choose_model(registry, 1, registry.entries()[0].name)
    assert "Star rating" in about
    assert text.label == "Text"
    drawn = predict.predict(registry, registry.entries()[0].name, TEXTS[0])
    assert f"{load(fitted.output).predict(TEXTS[0]).stars}"[:4] in drawn
    assert choose_task(registry, "star-rating", None, None)


def test_a_missing_class_variable_or_method_is_an_error():
    methods = dict.fromkeys(Task.__abstractmethods__, lambda *_, **__: None)
    with pytest.raises(TypeError, match="Nameless must define the class variables name, title, inputs"):
        type("Nameless", (Task,), {**methods, "architecture": "ForSequenceClassification"})
    with pytest.raises(TypeError, match=r"abstract method.* score"):
        type("Scoreless", (Task,), {name: one for name, one in methods.items() if name != "score"})()


def test_the_task_of_a_file_can_still_be_inferred(fitted: Fitted):
    table = read_table([{"text": f"a text {i}", "label": "ab"[i % 2]} for i in range(8)])
    assert infer_task(table).task == "text-classification"
