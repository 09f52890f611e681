"""User errors: one line on stderr that says what, where and how to fix it, exit code 2, and no files written."""

import errno
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from full_disk import file_size_limit
from safetensors.torch import load_file, save_file

TASK = "text-classification"
GOOD = "a fine film,good\na dull film,bad\n"

# name: (file, its content, more arguments, parts of the message)
BAD_FILES: dict[str, tuple[str, str | bytes | None, tuple[str, ...], tuple[str, ...]]] = {
    "a file that is not there": (
        "raeding.csv",
        None,
        (),
        ("raeding.csv: no such file", "Did you mean reading.csv?"),
    ),
    "an empty file": ("bad.csv", "", (), ("bad.csv", "empty", "Give a file")),
    "a file of empty lines": ("bad.csv", "\n \n\n", (), ("bad.csv", "empty", "Give a file")),
    "only a header": ("bad.csv", "text,label\n", (), ("bad.csv, line 1", "only a header", "Add rows")),
    "a wrong column name": (
        "bad.csv",
        f"text,label\n{GOOD}",
        ("--label", "lable"),
        ("bad.csv", 'no column "lable"', 'Did you mean --label "label"?'),
    ),
    "a column number beyond the last": ("bad.csv", GOOD, ("--no-header", "--text", "5"), ("bad.csv", "0 to 1")),
    "an image": ("bad.csv", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", (), ("bad.csv", "PNG image", "Give a file")),
    "a spreadsheet": ("bad.xlsx", b"PK\x03\x04 and so on", (), ("bad.xlsx", "spreadsheet", "save the sheet as .xlsx")),
    "a binary file": ("bad.csv", b"text,label\na\0b,good\n", (), ("bad.csv, line 2", "NUL byte", "Save it as CSV")),
    "a damaged character": (
        "bad.csv",
        "text,label\na fine café,good\na café,bad\n".encode() + b"caf\xe9,good\n",
        (),
        ("bad.csv, line 4", "not UTF-8", "Correct the line"),
    ),
    "a broken line of JSON": (
        "bad.jsonl",
        '{"text": "a", "label": "x"}\n{"text": "b", "label": \n',
        (),
        ("bad.jsonl, line 2", "invalid JSON", "Correct or delete it"),
    ),
    "a row with too many fields": (
        "bad.csv",
        f"text,label\n{GOOD}a long, dull film,bad\n",
        (),
        ("bad.csv, line 4", "3 fields where 2 are expected", "write such a text as"),
    ),
    "a row with too few fields": (
        "bad.csv",
        f"text,label\n{GOOD}a long dull film\n",
        (),
        ("bad.csv, line 4", "1 field where 2 are expected", "likely cause"),
    ),
    "an unlabelled row": (
        "bad.csv",
        f"text,label\n{GOOD}a long film,\n",
        ("--strict",),
        ("bad.csv, line 4", "1 row without a label", "omit --strict"),
    ),
    "no label in any row": (
        "bad.csv",
        "text,label\na film,\na meal,\n",
        (),
        ("bad.csv, lines 2 and 3", "2 rows without a label", "Name other columns"),
    ),
    "one class only": (
        "bad.csv",
        "text,label\na film,good\na meal,good\n",
        (),
        ("bad.csv", "every row has the label 'good'", "--label"),
    ),
    "an empty text": (
        "bad.csv",
        f"text,label\n{GOOD},bad\n",
        ("--strict",),
        ("bad.csv, line 4", "1 row without a text", "omit --strict"),
    ),
    "a text of spaces": (
        "bad.csv",
        f"text,label\n{GOOD}   ,bad\n",
        ("--strict",),
        ("bad.csv, line 4", "1 row without a text", "omit --strict"),
    ),
    "NaN for a label": (
        "bad.csv",
        f"text,label\n{GOOD}a film,NaN\n",
        ("--strict",),
        ("bad.csv, line 4", "1 row without a label", "omit --strict"),
    ),
    "NaN among numbers": (
        "bad.csv",
        "text,label\na film,0.5\na meal,nan\na song,1.5\n",
        ("--strict",),
        ("bad.csv, line 3", "1 row without a label", "omit --strict"),
    ),
    "NaN for a text": (
        "bad.jsonl",
        '{"text": "a", "label": "x"}\n{"text": NaN, "label": "y"}\n',
        ("--strict",),
        ("bad.jsonl, line 2", "1 row without a text", "omit --strict"),
    ),
    "the same number in every row": (
        "bad.csv",
        "text,label\na film,0.5\na meal,0.5\n",
        (),
        ("bad.csv", "every label is 0.5", "--label"),
    ),
    "a label that training has not seen": (
        "dev.csv",
        "text,label\na film,good\na meal,ugly\n",
        ("--data", "reading.csv", "--eval-data", "dev.csv", "--strict"),
        ("dev.csv, line 3", "'ugly'", "(bad, good)", "Correct it"),
    ),
    "a name list that is too short": (
        "ids.csv",
        "text,label\na film,0\na meal,1\na song,2\n",
        ("--label-names", "names.txt"),
        ("ids.csv, line 4", "'2'", "(bad, good)", "Correct it"),
    ),
}


@pytest.fixture(autouse=True)
def _files(folder: Path, tiny: Path) -> None:
    """Valid files and a model."""
    (folder / "reading.csv").write_text(f"text,label\n{GOOD}a good film,good\na bad film,bad\n")
    (folder / "names.txt").write_text("bad\ngood\n")
    shutil.copytree(tiny, folder / "tiny")


def snapshot(folder: Path) -> dict[str, bytes | None]:
    """All files of a folder with their content."""
    return {str(path): path.read_bytes() if path.is_file() else None for path in sorted(folder.rglob("*"))}


@pytest.fixture
def refused(headway, folder: Path) -> Callable[..., str]:
    """Runs a command that must fail with one line on stderr and change no file; returns the line."""

    def run(*arguments: object) -> str:
        before = snapshot(folder)
        ran = headway(*arguments)
        assert ran.code == 2
        assert ran.out == ""
        assert re.fullmatch(r"headway: .+\n", ran.err), ran.err
        assert snapshot(folder) == before
        return ran.err

    return run


def train(*more: object) -> tuple[object, ...]:
    return ("train", TASK, "--data", "reading.csv", "--model", "tiny", "--output", "runs/model", *more)


@pytest.mark.parametrize("name", BAD_FILES)
def test_training_refuses_invalid_data(refused, name):
    file, content, more, words = BAD_FILES[name]
    if content is not None:
        Path(file).write_bytes(content.encode() if isinstance(content, str) else content)
    line = refused(*train("--data", file, *more))
    for word in words:
        assert word in line


@pytest.mark.parametrize("name", [name for name, bad in BAD_FILES.items() if bad[2] in ((), ("--strict",))])
def test_check_reports_the_same_errors_in_one_line(headway, folder, name):
    file, content, more, words = BAD_FILES[name]
    if content is not None:
        Path(file).write_bytes(content.encode() if isinstance(content, str) else content)
    before = snapshot(folder)
    ran = headway("check", TASK, "--data", file, *more)
    assert ran.code == 2
    assert words[0] in ran.out + ran.err
    assert len(ran.err.splitlines()) == 1
    assert snapshot(folder) == before


@pytest.mark.parametrize("command", ["evaluate", "predict"])
@pytest.mark.parametrize(
    "name",
    ["a file that is not there", "an empty file", "an image", "a broken line of JSON", "a row with too many fields"],
)
def test_a_trained_model_refuses_invalid_files(refused, trained, command, name):
    file, content, _, words = BAD_FILES[name]
    if content is not None:
        Path(file).write_bytes(content.encode() if isinstance(content, str) else content)
    output = ["--output", "answers.jsonl"] if command == "predict" else []
    line = refused(command, trained, "--data", file, *output)
    for word in words:
        assert word in line


def test_evaluation_refuses_an_unknown_label_on_request(refused, trained):
    Path("test.csv").write_text("text,label\na film,good\na meal,ugly\n")
    line = refused("evaluate", trained, "--data", "test.csv", "--unknown-labels", "error")
    assert "test.csv, line 3" in line
    assert "'ugly'" in line


# Models.


def drop_a_tensor(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    del tensors["encoder.layer.0.attention.self.key.weight"]
    save_file(tensors, folder / "model.safetensors")


def misshape_a_tensor(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    name = "encoder.layer.0.attention.self.key.weight"
    save_file({**tensors, name: tensors[name][:5].clone()}, folder / "model.safetensors")


def cut_the_weights(folder: Path) -> None:
    weights = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(weights[: len(weights) // 2])


def empty_the_weights(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"")


def change_the_kind(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "t5"}))


def break_the_config(folder: Path) -> None:
    (folder / "config.json").write_text('{"model_type": "bert",\n')


def lose_the_vocabulary(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()


BROKEN_MODELS: dict[Callable[[Path], None], tuple[str, ...]] = {
    drop_a_tensor: ("model.safetensors", "'encoder.layer.0.attention.self.key.weight' is missing", "copy or download"),
    misshape_a_tensor: ("model.safetensors", "self.key.weight' has the shape (5, 32)", "(32, 32)", "copy or download"),
    cut_the_weights: ("model.safetensors", "damaged or cut off", "download it again"),
    empty_the_weights: ("model.safetensors", "damaged or cut off", "download it again"),
    change_the_kind: ("config.json", "'t5'", "Headway reads BERT"),
    break_the_config: ("config.json, line 2", "not valid JSON", "Copy the file again"),
    lose_the_vocabulary: ("tiny", "no tokenizer", "Copy these files"),
}


@pytest.mark.parametrize("damage", BROKEN_MODELS, ids=lambda damage: damage.__name__)
def test_a_broken_model_is_refused(refused, damage):
    damage(Path("tiny"))
    line = refused(*train())
    for word in BROKEN_MODELS[damage]:
        assert word in line


@pytest.mark.parametrize("damage", [cut_the_weights, change_the_kind], ids=lambda damage: damage.__name__)
def test_a_broken_trained_model_is_refused(refused, trained, damage):
    damage(trained)
    line = refused("predict", trained, "a film")
    for word in BROKEN_MODELS[damage]:
        assert word in line


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("tinny", ("no model 'tinny'", "Give the path of a model folder")),
        ("./tinny", ("no model folder tinny", "Check the path")),
        ("reading.csv", ("reading.csv is a file", "a model is a folder")),
    ],
)
def test_a_missing_model_is_refused(refused, model, words):
    for command in (
        train("--model", model),
        ("predict", model, "a film"),
        ("evaluate", model, "--data", "reading.csv"),
    ):
        line = refused(*command)
        for word in words:
            assert word in line


def test_a_model_without_a_task_head_cannot_predict(refused):
    assert "headway train TASK --model tiny" in refused("predict", "tiny", "a film")


def test_without_a_built_in_model_the_model_is_required(refused, monkeypatch):
    monkeypatch.setattr("headway.core.checkpoints.hub.BUILT_IN", {})
    line = refused("train", TASK, "--data", "reading.csv", "--output", "model")
    assert "--model is missing" in line
    assert "bert-base-uncased" in line


# Output.


def test_an_existing_output_is_not_overwritten(refused):
    Path("model").mkdir()
    Path("model/thesis.txt").write_text("years of work")
    line = refused(*train("--output", "model"))
    assert "model already exists" in line
    assert "--overwrite" in line
    assert "not a model folder" in refused(*train("--output", "model", "--overwrite"))


def test_an_output_file_needs_a_known_ending(refused, trained):
    line = refused("predict", trained, "a film", "--output", "answers.pdf")
    assert "answers.pdf" in line
    assert ".jsonl, .csv, .tsv or .xlsx" in line


@pytest.mark.posix
@pytest.mark.parametrize(
    ("bytes_left", "steps", "what"),
    [(5_000, ("--max-steps", "100", "--save-steps", "1000"), "log.jsonl"), (20_000, (), "checkpoint-000001")],
)
def test_a_full_disk_stops_training_and_leaves_no_files(headway, folder, bytes_left, steps, what):
    before = snapshot(folder)
    with file_size_limit(bytes_left):
        ran = headway(*train("--output", "model", *steps))
    assert ran.code == 2
    assert re.fullmatch(rf"headway: model\.running/{what}: the disk is full .* Free some space .*\n", ran.err), ran.err
    assert snapshot(folder) == before


@pytest.mark.posix
def test_a_full_disk_stops_prediction_and_leaves_no_files(headway, folder, trained):
    Path("many.jsonl").write_text('{"text": "a rather fine film"}\n' * 200)
    before = snapshot(folder)
    with file_size_limit(4_000):
        ran = headway("predict", trained, "--data", "many.jsonl", "--output", "answers.jsonl")
    assert ran.code == 2
    assert re.fullmatch(r"headway: answers\.jsonl: the disk is full .* Free some space .*\n", ran.err), ran.err
    assert snapshot(folder) == before


# Arguments.


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("trian",), ("'trian'", "'train'", "headway --help")),
        (("train",), ("TASK", "headway train --help")),
        (("train", TASK, "--data", "reading.csv"), ("--output", "headway train --help")),
        (train("--epoch", "3"), ("--epoch", "--epochs", "headway train --help")),
        (train("--epochs", "three"), ("--epochs three", "a number")),
        (train("--epochs", "-1"), ("epochs", "-1", "above 0")),
        (train("--batch-size", "2.5"), ("--batch-size 2.5", "an integer")),
        (train("--eval-fraction", "2"), ("--eval-fraction 2", "from 0 to below 1")),
        (train("--schedule", "square"), ("schedule", "square", "linear, cosine, constant")),
        (train("--class-weight", "heavy"), ("class_weight='heavy'", "balanced")),
        (train("--long-texts", "fold"), ("long_texts='fold'", "one of windows, cut")),
        (train("--max-length", "900"), ("--max-length 900", "at most 32")),
        (train("--device", "abacus"), ("device", "abacus", "cpu, cuda")),
        (train("--resume", "--overwrite"), ("--resume", "--overwrite")),
        (train("--label-names", "nams.txt"), ("nams.txt: no such file", "names.txt")),
        (("train", "text-clasification", *train()[2:]), ("'text-clasification'", "Did you mean text-classification?")),
        (("check", "sorting", "--data", "reading.csv"), ("'sorting'", "text-classification")),
        (("predict", "tiny"), ("predict MODEL", "--data FILE")),
        (("predict", "tiny", "a film", "--data", "reading.csv"), ("predict MODEL", "--data FILE")),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, tuple) else None,
)
def test_an_invalid_argument_is_explained(refused, arguments, words):
    line = refused(*arguments)
    for word in words:
        assert word in line


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [("--trackers", "notebook", ("notebook", "Install")), ("--device", "mps:7", ("mps:7", "auto"))],
)
def test_options_that_this_machine_does_not_support_are_refused_before_files_are_written(
    headway, folder, option, value, words
):
    before = snapshot(folder)
    ran = headway(*train("--output", "model", option, value))
    assert ran.code == 2
    assert re.fullmatch(r"headway: .+\n", ran.err), ran.err
    for word in words:
        assert word in ran.err
    assert snapshot(folder) == before


CLOSED = [
    ("train", TASK, "--data", "closed/F", "--output", "m"),
    ("train", TASK, "--data", "F", "--output", "closed/m"),
    ("train", TASK, "--data", "F", "--output", "m", "--config", "closed/run.yaml"),
    ("evaluate", "closed/m", "--data", "F"),
    ("predict", "closed/m", "a text"),
    ("prompt", "closed/m", "a text", "--examples", "F"),
    ("generate", "closed/m", "a text"),
    ("inspect", "closed/m", "a text"),
    ("probe", "closed/m", "--data", "F"),
    ("embed", "closed/m", "--data", "F", "--output", "v.npz"),
    ("rank", "closed/m", "a text", "--data", "F"),
    ("search", "closed/m", "a text", "--data", "F"),
    ("export", "closed/m", "--output", "m.onnx"),
    ("check", TASK, "--data", "closed/F"),
    ("quickstart", "--output", "closed/m"),
    ("serve", "closed/m"),
    ("ui", "closed/m"),
]


@pytest.mark.parametrize("command", CLOSED, ids=lambda command: " ".join(command[:3]))
def test_a_path_in_a_folder_that_may_not_be_entered_is_named(refused, monkeypatch, command):
    Path("F").write_text("text,label\na,x\nb,y\n")
    before = os.stat

    def stat(path, *args, **options):
        if not isinstance(path, int) and "closed" in Path(os.fsdecode(path)).parts:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return before(path, *args, **options)

    monkeypatch.setattr(os, "stat", stat)
    assert "cannot be accessed (Permission denied)" in refused(*command)


def test_a_second_text_is_refused_by_a_model_of_single_texts(refused, trained):
    assert "--pair: the model reads only text" in refused("predict", trained, "a film", "--pair", "a meal")


# Each list holds the one before ten times: a text of it would have ten thousand million parts.
ALIASES = "labels: &a0 [x, x]\n" + "".join(f"labels-{i}: &a{i + 1} [{', '.join([f'*a{i}'] * 10)}]\n" for i in range(9))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("epocs: 3\n", ("run.yaml", "epocs", "Did you mean epochs?")),
        ("learning-rat: 0.1\n", ("run.yaml", "learning-rat", "Did you mean learning-rate?")),
        ("colour: red\n", ("run.yaml", "colour", "headway train --help")),
        ("epochs: many\n", ("--epochs many", "a number")),
        ("multi-label: 3\n", ("run.yaml", "multi-label", "true or false")),
        ("epochs: [3\n", ("run.yaml", "invalid YAML", "Correct the file")),
        ("- epochs\n", ("run.yaml", "option: value")),
        ("epochs: " + "[" * 3000, ("run.yaml", "invalid YAML")),
        ("data: 2026-02-30\n", ("run.yaml", "invalid YAML", "day")),
        ("seed: " + "1" * 5000, ("run.yaml", "invalid YAML")),
        (ALIASES, ("run.yaml", "labels-0 must be one value or a list of values")),
        ("data: {a: b}\n", ("run.yaml", "data must be one value or a list of values")),
        (None, ("run.yaml", "no such file")),
    ],
)
def test_an_invalid_configuration_file_is_refused(refused, content, words):
    if content is not None:
        Path("run.yaml").write_text(content)
    line = refused(*train("--config", "run.yaml"))
    for word in words:
        assert word in line


# In a separate process, as users run it.


def test_the_program_itself_prints_one_line(folder):
    file, content, _, words = BAD_FILES["a row with too many fields"]
    Path(file).write_text(str(content))
    before = snapshot(folder)
    command = [sys.executable, "-m", "headway.ui.cli", *map(str, train("--data", file))]
    ran = subprocess.run(command, capture_output=True, text=True)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert re.fullmatch(r"headway: .+\n", ran.stderr), ran.stderr
    assert all(word in ran.stderr for word in words)
    assert snapshot(folder) == before
