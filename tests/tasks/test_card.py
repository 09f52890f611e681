"""Model cards: their facts are those of the model, and their code runs."""

import contextlib
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from headway.core.training.training_config import TrainConfig
from headway.tasks import TextClassification, load
from headway.tasks.base.card import _table
from headway.tasks.base.card_text import fenced
from huggingface_hub import ModelCard

FAST = TrainConfig(max_steps=4, batch_size=8, learning_rate=5e-3, precision="fp32", device="cpu", save_steps=1000)
TEXTS = ["my parcel has arrived", "where is the money", "the money is here", "thank you", "send it back"]


def rows(form: str) -> list[dict[str, Any]]:
    texts = [f"{TEXTS[i % 5]} {i}" for i in range(40)]
    labels: dict[str, list[Any]] = {
        "one": ["post" if "parcel" in text else "bank|other" for text in texts],
        "several": [[name for name in ("the", "is") if name in text] for text in texts],
        "pair": ["yes" if "parcel" in text else "no" for text in texts],
        "number": [20 + len(text) / 4 for text in texts],
    }
    pairs = {"sentence2": "the cat sat"} if form == "pair" else {}
    return [{"text": text, "label": label, **pairs} for text, label in zip(texts, labels[form], strict=True)]


@pytest.fixture(scope="module", params=["one", "several", "pair", "number"])
def folder(request: pytest.FixtureRequest, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("cards") / f"tiny-{request.param}"
    TextClassification().on(tiny_model).fit(rows(request.param), output=output, config=FAST, eval_fraction=0.5)
    return output


@pytest.fixture
def text(folder: Path) -> str:
    return (folder / "README.md").read_text(encoding="utf-8")


def test_the_hub_reads_the_metadata(folder: Path):
    card = ModelCard.load(folder / "README.md")
    info = json.loads((folder / "headway.json").read_text())
    kind = json.loads((folder / "config.json").read_text())["model_type"]
    assert card.data.pipeline_tag == "text-classification"
    assert card.data.library_name == "transformers"
    assert card.data.tags == ["headway", kind]
    assert card.data.base_model is None  # a local folder is not a model that others can find
    assert card.data.language is None
    assert card.data.metrics == list(info["metrics"])
    results = {result.metric_type: result.metric_value for result in card.data.eval_results}
    assert results == pytest.approx(info["metrics"], abs=1e-4)
    assert card.data.model_name == folder.name


def test_metrics_and_labels_are_those_of_the_model(folder: Path, text: str):
    info = json.loads((folder / "headway.json").read_text())
    for name, value in info["metrics"].items():
        assert f"| {name.replace('_', ' ')} | {value:.4f} |" in text
    for row in info["per_label"]:
        name = row["label"].replace("|", "\\|")
        assert f"| {name} | {row['precision']:.4f} |" in text
        assert f"`{row['label']}`" in text
    assert f"20 of the 40 rows of `the given rows` (fingerprint `{info['data']['train']['fingerprint']}`)" in text
    assert "| learning rate | 0.005 |" in text
    assert "| max steps | 4 |" in text
    assert "| epochs |" not in text
    assert str(folder.parent) not in text


def test_the_card_names_what_was_chosen_on_the_evaluation_data(folder: Path, text: str):
    task = load(folder).task
    assert isinstance(task, TextClassification)
    assert ("scored with the thresholds fitted to other held-out rows" in text) == bool(task.thresholds)
    assert ("scored with the temperature" in text) == (task.temperature != 1)
    assert re.search(r"The best step \(\d of 4\) was chosen on the same rows", text)
    for label, threshold in zip(task.labels, task.thresholds, strict=False):
        assert f"- `{label}` {threshold:.3f}" in text


def test_the_code_for_headway_and_for_transformers_gives_the_same_predictions(
    folder: Path, text: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(folder.parent)
    ours, theirs = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    names: dict[str, Any] = {}
    with contextlib.redirect_stdout(io.StringIO()):
        exec(ours, names)
        exec(theirs, names)
    model, found = names["model"], names["result"]
    asked = ("A text.", "Another text.") if model.task.paired else "A text."
    expected = model.predict(asked)
    if isinstance(found, float):
        assert found == pytest.approx(expected.value, abs=1e-4)
    else:
        assert model.task.temperature == 1  # too few examples were held out
        assert {one["label"]: one["score"] for one in found} == pytest.approx(expected.scores, abs=1e-4)


def test_the_card_of_a_model_without_evaluation_data_says_so(bert_folder: Path, tmp_path: Path):
    TextClassification().on(bert_folder).fit(rows("one"), output=tmp_path / "out", config=FAST, eval_fraction=0)
    text = (tmp_path / "out/README.md").read_text()
    assert "There was no evaluation data, so no metric was computed." in text
    assert "metrics" not in text
    assert "the best weights" not in text


def test_the_card_of_a_copied_model_has_no_section_about_training(bert_folder: Path, tmp_path: Path):
    TextClassification().on(bert_folder).fit(rows("one"), output=tmp_path / "out", config=FAST)
    (tmp_path / "out/headway.json").unlink()
    load(tmp_path / "out").save(tmp_path / "copy")
    text = (tmp_path / "copy/README.md").read_text()
    assert "a copy of `out`" in text
    assert "## Results" not in text
    assert "## Training" not in text


def test_a_base_model_from_the_hub_is_in_the_metadata(
    bert_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("headway.tasks.base.model.find_model", lambda _: bert_folder)
    TextClassification().on("someone/tiny-bert").fit(rows("one"), output=tmp_path / "out", config=FAST)
    assert ModelCard.load(tmp_path / "out/README.md").data.base_model == "someone/tiny-bert"


@pytest.mark.parametrize("long_texts", ["windows", "cut"])
def test_the_card_says_how_long_texts_are_read(bert_folder: Path, tmp_path: Path, long_texts: str):
    task = TextClassification(max_length=24, long_texts=long_texts)
    task.on(bert_folder).fit(rows("one"), output=tmp_path / "out", config=FAST)
    text = (tmp_path / "out/README.md").read_text()
    assert "more than 24 tokens" in text
    assert ("overlapping windows" in text) == (long_texts == "windows")
    assert ("is truncated" in text) == (long_texts == "cut")


def test_special_characters_in_table_cells_are_escaped():
    assert _table(("a", "b"), [("x|y", "line\nbreak")]).splitlines() == [
        "| a | b |",
        "| --- | --- |",
        "| x\\|y | line break |",
    ]


def test_labels_and_names_are_escaped(bert_folder: Path, tmp_path: Path):
    markdown = ["`a`", "*b* [c](http://x.y) <script>", "d|e", "f\x1b[31mg", "``h", "_i_ j_k"]
    data = [{"text": f"my parcel {i}", "label": markdown[i % 6]} for i in range(60)]
    folder = tmp_path / "a `model`; rm -rf *"
    TextClassification().on(bert_folder).fit(data, output=folder, config=FAST, eval_fraction=0.5)
    text = (folder / "README.md").read_text(encoding="utf-8")
    for line in (
        "# a \\`model\\`; rm -rf \\*",
        "- `` `a` ``",
        "- `*b* [c](http://x.y) <script>`",
        "- ``` ``h ```",
        "- `f␛[31mg`",
    ):
        assert line in text.splitlines()
    for cell in ("\\*b\\* \\[c\\](http://x.y) &lt;script>", "d\\|e", "\\_i\\_ j_k"):
        assert f"| {cell} |" in text
    assert "\x1b" not in text
    assert "headway predict 'a `model`; rm -rf *'" in text
    assert 'load("a `model`; rm -rf *")' in text


def test_a_block_of_code_ends_where_it_ends():
    assert fenced("sh", "echo ```\n```") == "````sh\necho ```\n```\n````"


def test_a_card_lists_some_of_many_labels_and_says_what_the_other_files_are(tiny_model: Path, tmp_path: Path):
    data = [{"text": f"text {i}", "label": f"label-{i % 60}"} for i in range(120)] + [{"text": "none", "label": ""}]
    TextClassification().on(tiny_model).fit(data, output=tmp_path / "many", config=FAST, eval_fraction=0)
    card = (tmp_path / "many" / "README.md").read_text("utf-8")
    assert "These are 50 of 60" in card
    assert card.count("- `label-") == 50
    assert "`left_out.csv` lists the rows that were left out (1)" in card
    assert "`training_rows.hashes` contains hashes of the training texts" in card
