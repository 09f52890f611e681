"""headway samples: lists and copies the sample data files."""

import json
from pathlib import Path

import pytest
from headway.tasks import TASKS
from headway.tasks.samples import FOLDER, SAMPLES

PARTS_OF_FORMS = {"beginnings.csv", "gaps.csv", "prompts.csv"}  # too small to train on


def test_every_sample_is_listed_with_a_task(headway):
    files = {path.name for path in FOLDER.iterdir() if path.suffix in (".csv", ".json", ".conll", ".txt")}
    assert files - PARTS_OF_FORMS == SAMPLES.keys()
    assert {sample.task for sample in SAMPLES.values()} <= TASKS.keys()
    rows = json.loads(headway("samples", "--json").out)["samples"]
    assert [row["sample"] for row in rows] == list(SAMPLES)


@pytest.mark.parametrize("name", SAMPLES)
def test_the_check_that_follows_a_copy_finds_data_for_its_task(name, headway, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ran = headway("samples", name)
    assert ran.code == 0, ran.err
    assert f"headway check {SAMPLES[name].task} --data {name}" in ran.out
    assert (tmp_path / name).read_bytes() == (FOLDER / name).read_bytes()
    assert headway("check", SAMPLES[name].task, "--data", name).code == 0


def test_a_file_of_that_name_is_not_replaced(headway, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("messages.csv").write_text("mine")
    ran = headway("samples", "messages.csv")
    assert ran.code == 2
    assert "already exists" in ran.err
    assert Path("messages.csv").read_text() == "mine"
    assert headway("samples", "messages.csv", "--output", "copies/first.csv").code == 0
    assert headway("samples", "messages.csv", "--overwrite").code == 0
    assert Path("messages.csv").read_bytes() == Path("copies/first.csv").read_bytes()


def test_an_unknown_sample_is_refused_with_the_names(headway):
    ran = headway("samples", "message.csv")
    assert ran.code == 2
    assert "messages.csv, topics.csv" in " ".join(ran.err.split())
