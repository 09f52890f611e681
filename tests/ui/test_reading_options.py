"""The options for reading a file on every command that reads one, on the command line and in a YAML file."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from openpyxl import Workbook

TASK = "text-classification"
WORDS = [("schöne", "good"), ("dull", "bad")] * 30
ROWS = [("text", "label"), *[(f"a {word} film number {number}", label) for number, (word, label) in enumerate(WORDS)]]


@pytest.fixture
def latin(folder: Path) -> Path:
    """A file that only the given encoding and separator make two columns of readable text."""
    path = folder / "latin.txt"
    path.write_bytes("\n".join("#".join(row) for row in ROWS).encode("cp1252"))
    return path


@pytest.fixture
def sheets(folder: Path) -> Path:
    """A workbook with two sheets of rows."""
    book = Workbook()
    for title in ("First", "Second"):
        sheet = book.create_sheet(title)
        for row in ROWS:
            sheet.append(row)
    book.save(folder / "sheets.xlsx")
    return folder / "sheets.xlsx"


def commands(model, data):
    return [
        ["check", TASK, "--data", data, "--eval-data", data],
        ["evaluate", model, "--data", data],
        ["predict", model, "--data", data, "--text", "text", "--output", "predicted.jsonl"],
        ["embed", model, "--data", data, "--output", "vectors.npy"],
        ["search", model, "film", "--data", data],
        ["probe", model, "--data", data, "--seeds", "1"],
        ["inspect", model, "--heads", "--data", data],
    ]


@pytest.mark.parametrize("number", range(7))
def test_every_command_that_reads_a_file_has_the_options(headway, trained, latin, sheets, number):
    command = commands(trained, latin)[number]
    ran = headway(*command, "--encoding", "cp1252", "--delimiter", "#")
    assert ran.code == 0, ran.err
    command = commands(trained, sheets)[number]
    if command[0] == "predict":
        command[-1] = "others.jsonl"
    if command[0] == "embed":
        command[-1] = "others.npy"
    refused = headway(*command)
    assert refused.code == 2
    assert 'several sheets have rows: "First", "Second". Name one with --sheet.' in refused.err
    assert headway(*command, "--sheet", "second").code == 0
    assert "--delimiter has no meaning for Excel" in headway(*command, "--sheet", "2", "--delimiter", ";").err


def test_training_stores_the_options_and_repeats_with_them(headway, trained, latin, folder):
    options = ["--encoding", "cp1252", "--delimiter", "#", "--max-steps", "1"]
    ran = headway("train", TASK, "--data", latin, "--model", trained, "--output", "first", *options)
    assert ran.code == 0, ran.err
    stored = yaml.safe_load((folder / "first" / "run.yaml").read_text())
    assert (stored["encoding"], stored["delimiter"]) == ("cp1252", "#")
    ran = headway("train", "--config", "first/run.yaml", "--output", "second")
    assert ran.code == 0, ran.err
    assert "60 rows, CSV" in ran.out


def test_what_was_inferred_is_shown_by_every_command(headway, trained, folder):
    path = folder / "german.csv"
    path.write_bytes("\n".join(";".join(row) for row in ROWS).encode("cp1252"))
    encoding, separator = "encoding: Windows-1252", "separator: semicolon (detected; --delimiter overrules)"
    report = json.loads(headway("check", TASK, "--data", path, "--json").out)
    assert report["notes"][1].startswith(encoding)
    assert report["notes"][2] == separator
    assert json.loads(headway("evaluate", trained, "--data", path, "--json").out)["notes"][1] == separator
    ran = headway("predict", trained, "--data", path, "--json")
    assert encoding in ran.err
    assert separator in ran.err
    assert json.loads(ran.out.splitlines()[0])["text"] == "a schöne film number 0"


def test_options_for_a_file_are_refused_without_one(headway, trained):
    for command in (["predict", trained, "a text"], ["embed", trained, "a text"]):
        refused = headway(*command, "--encoding", "utf-8")
        assert refused.code == 2
        assert "--encoding applies to a data file" in refused.err


def test_a_table_on_stdin_is_read_as_one(trained, folder):
    command = [sys.executable, "-m", "headway.ui.cli", "predict", str(trained), "--data", "-", "--json"]
    ran = subprocess.run(command, input="id,text\n1,a fine film\n2,a dull film\n", capture_output=True, text=True)
    rows = [json.loads(line) for line in ran.stdout.splitlines()]
    assert [(row["id"], row["text"]) for row in rows] == [("1", "a fine film"), ("2", "a dull film")]


def test_options_of_training_from_scratch_are_refused_without_it(headway, trained, reviews):
    command = ["train", TASK, "--data", reviews, "--model", trained, "--output", "o"]
    for option in (["--max-positions", "64"], ["--vocabulary", "words"], ["--learn-tokenizer", "300"]):
        refused = headway(*command, *option)
        assert refused.code == 2
        assert f"{option[0]} is for training from scratch" in refused.err
