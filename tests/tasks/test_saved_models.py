"""Model folders saved by version 0.1 open and predict the same.

Each folder in saved_models/ is a tiny model of one kind, without its model card and training log. Its expected.json
holds inputs and the predictions of version 0.1.
"""

import json
from pathlib import Path
from typing import Any

import pytest
from headway.tasks import TASKS, Embedder, load

FOLDER = Path(__file__).with_name("saved_models")
SAVED = (
    "answers",
    "choices",
    "continuations",
    "entities",
    "frozen",
    "gpt2-one-label",
    "masked-words",
    "next-sentences",
    "number",
    "one-label",
    "pairs",
    "rewrites",
    "several-labels",
    "similarity",
)
TOLERANCE = 1e-5  # of floating-point numbers; strings and integers are equal


def assert_equal(found: Any, expected: Any, where: str) -> None:
    """Compares plain JSON, numbers with fractions by their distance."""
    if isinstance(expected, float):
        assert found == pytest.approx(expected, abs=TOLERANCE, rel=TOLERANCE / 10), where
    elif isinstance(expected, dict):
        assert list(found) == list(expected), where
        for name, value in expected.items():
            assert_equal(found[name], value, f"{where}.{name}")
    elif isinstance(expected, list):
        assert len(found) == len(expected), where
        for i, value in enumerate(expected):
            assert_equal(found[i], value, f"{where}[{i}]")
    else:
        assert found == expected, where


def read_expected(name: str) -> dict[str, Any]:
    return json.loads((FOLDER / name / "expected.json").read_text(encoding="utf-8"))


def test_there_is_a_saved_model_of_every_task():
    assert tuple(sorted(path.name for path in FOLDER.iterdir())) == SAVED
    saved = [json.loads((FOLDER / name / "headway.json").read_text(encoding="utf-8")) for name in SAVED]
    assert {one["task"] for one in saved} == set(TASKS)
    assert {one["headway"] for one in saved} == {"0.1.0"}


@pytest.mark.parametrize("name", SAVED)
def test_a_folder_that_version_0_1_saved_predicts_the_same(name: str):
    expected = read_expected(name)
    inputs = [tuple(one) if isinstance(one, list) else one for one in expected["inputs"]]
    found = [prediction.to_json() for prediction in load(FOLDER / name).predict(inputs)]
    # JSON turns tuples into lists, as in the expected predictions.
    assert_equal(json.loads(json.dumps(found)), expected["predictions"], name)


def test_a_folder_that_version_0_1_saved_gives_the_same_vectors():
    expected = read_expected("similarity")
    found = Embedder(FOLDER / "similarity").embed(expected["texts"])
    assert_equal(found.tolist(), expected["vectors"], "similarity")


@pytest.mark.parametrize("name", SAVED)
def test_a_folder_that_version_0_1_saved_can_be_saved_again(name: str, tmp_path: Path):
    again = tmp_path / "again"
    load(FOLDER / name).save(again)
    assert (again / "model.safetensors").read_bytes() == (FOLDER / name / "model.safetensors").read_bytes()
    before, after = (json.loads((folder / "headway.json").read_text("utf-8")) for folder in (FOLDER / name, again))
    for volatile in ("headway", "versions"):
        del before[volatile], after[volatile]
    defaults = json.loads(json.dumps(TASKS[after["task"]]().to_json()))  # of options that version 0.1 did not have
    before["options"] = {**{name: defaults[name] for name in after["options"]}, **before["options"]}
    assert after == before
