"""headway compare: its output on the screen, as JSON and in a file; prompts that are saved and used again."""

import csv
import json

import openpyxl
import pytest
from tiny_gpt2 import make_gpt2

EXAMPLES = "text,label\nthe quick fox,good\nwhere is it,bad\nthank you,good\nmy parcel,bad\n"


@pytest.fixture(scope="module")
def writer(tmp_path_factory, byte_level_folder):
    return make_gpt2(byte_level_folder, tmp_path_factory.mktemp("gpt2"))


@pytest.fixture
def prompt(headway, writer, folder):
    (folder / "few.csv").write_text(EXAMPLES)
    ran = headway("prompt", writer, "--examples", "few.csv", "--shots", 2, "--save", "prompt.yaml")
    assert (ran.code, ran.out.strip()) == (0, "The prompt is saved in prompt.yaml")
    return "prompt.yaml"


def test_a_model_and_a_prompt_are_compared(headway, trained, reviews, prompt, folder):
    command = ["compare", trained, prompt, "--data", reviews, "--slice", "label", "--output", "differing.csv"]
    ran = headway(*command, "--json")
    found = json.loads(ran.out)
    assert ran.code == 0
    assert [one["name"] for one in found["models"]] == [str(trained), prompt]
    assert found["verdict"][0] in ran.err
    with (folder / "differing.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["place"] for row in rows] == [row["place"] for row in found["differing_rows"]]
    assert f"predicted by {trained}" in rows[0]
    again = headway(*command)
    assert (again.code, "already exists" in again.err) == (2, True)
    assert "rows per second" in headway(*command, "--overwrite").out


def test_a_saved_prompt_takes_the_place_of_a_model(headway, writer, prompt):
    direct = headway("prompt", writer, "the cat", "--examples", "few.csv", "--shots", 2, "--json")
    assert headway("prompt", prompt, "the cat", "--json").out == direct.out
    changed = headway("prompt", prompt, "the cat", "--calibration", "none", "--json")
    assert json.loads(changed.out)["scores"] == json.loads(direct.out)["uncalibrated"]


def test_a_prompt_is_not_saved_over_another_one(headway, writer, prompt, folder):
    before = (folder / prompt).read_text(encoding="utf-8")
    ran = headway("prompt", writer, "--labels", "a,b", "--save", prompt)
    assert (ran.code, (folder / prompt).read_text(encoding="utf-8")) == (2, before)
    assert headway("prompt", writer, "--labels", "a,b", "--save", prompt, "--overwrite").code == 0
    assert "labels:" in (folder / prompt).read_text(encoding="utf-8")


def test_one_model_is_not_enough(headway, trained, reviews):
    ran = headway("compare", trained, "--data", reviews)
    assert (ran.code, "at least two models" in ran.err) == (2, True)


@pytest.mark.parametrize("name", ["differing.csv", "differing.xlsx"])
def test_models_that_never_differ_give_a_table_with_a_header_alone(headway, trained, reviews, folder, name):
    ran = headway("compare", trained, trained, "--data", reviews, "--output", name)
    assert ran.code == 0
    assert "The models predict the same for all rows" in ran.out
    if name.endswith(".csv"):
        header, *rows = csv.reader((folder / name).read_text(encoding="utf-8").splitlines())
    else:
        header, *rows = openpyxl.load_workbook(folder / name).active.iter_rows(values_only=True)
    assert rows == []
    assert header[:2] == type(header)(["place", "gold"])
    assert len(header) == 6


def test_the_models_of_a_comparison_take_the_options_of_an_evaluation(headway, trained, reviews):
    ran = [headway(*command, "--data", reviews, "--threshold", "0.5") for command in (
        ["evaluate", trained], ["compare", trained, trained],
    )]  # fmt: skip
    assert [one.code for one in ran] == [2, 2]
    assert ran[0].err == ran[1].err
    assert "--threshold is only for models that predict several labels" in ran[0].err
