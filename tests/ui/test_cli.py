"""The command line, from a data file to predictions."""

import csv
import io
import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import dataclass, fields
from pathlib import Path

import pytest
import yaml
from headway import tasks
from headway.core.generation.generation_config import GenerationConfig
from headway.core.options import option, options_of
from headway.core.training.output_lock import OutputLock
from headway.core.training.training_config import TrainConfig
from headway.tasks import TextClassification
from headway.ui import cli, terminal
from headway.ui.options import ALIASES, task_options, training_options
from headway.ui.training_view import TrainingView
from safetensors.torch import load_file

TASK = "text-classification"
QUICK = ("--epochs", "1", "--precision", "fp32")
RESULT_KEYS = {"output", "metrics", "examples", "steps", "seconds", "tokens_per_second"}


def only_json(text: str) -> dict:
    (line,) = text.splitlines()
    return json.loads(line)


def weights_equal(first: Path, second: Path) -> bool:
    one, other = load_file(first / "model.safetensors"), load_file(second / "model.safetensors")
    return one.keys() == other.keys() and all(one[name].equal(other[name]) for name in one)


# Help and lists.


def test_help_lists_every_command(headway):
    ran = headway("--help")
    assert ran.code == 0
    assert all(name in ran.out for name in cli.COMMANDS)


def test_without_a_command_the_help_is_shown(headway):
    assert headway() == headway("--help")


def test_help_is_fast_and_imports_no_large_library():
    code = """
import sys, time
from headway.ui.cli import main
main(["--help"])
assert time.process_time() < 0.5, time.process_time()
print(*sorted({name.split(".")[0] for name in sys.modules}), file=sys.stderr)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    large = {"torch", "transformers", "tokenizers", "datasets", "accelerate", "sklearn", "numpy", "gradio"}
    assert large.isdisjoint(run.stderr.split())


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_every_command_has_a_help_page(headway, command):
    ran = headway(command, "--help")
    assert ran.code == 0
    assert "--config" in ran.out
    assert ran.err == ""


def test_every_option_of_training_is_an_option_of_train_with_its_help(headway, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    out = headway("train", "--help").out
    for field in fields(TrainConfig):
        assert f"--{field.name.replace('_', '-')} " in out
        assert field.metadata["help"] in out


@pytest.mark.parametrize(("command", "when"), [("train", "before"), ("predict", "after"), ("evaluate", "after")])
def test_every_option_of_every_task_is_an_option_of_a_command(headway, monkeypatch, command, when):
    monkeypatch.setenv("COLUMNS", "300")
    out = headway(command, "--help").out
    for task in tasks.TASKS.values():
        for found in options_of(task, when):
            assert f"--{found.public_name.replace('_', '-')} " in out
        for text in task.inputs:
            assert f"--{text.name} " in out


def test_every_alias_refers_to_an_existing_option():
    options = (*training_options(), *task_options(), *options_of(GenerationConfig))
    names = {one.public_name.replace("_", "-") for one in options}
    names |= {"model", "data", "eval-data", "test-data", "output", "overwrite"}
    assert {meaning.partition("=")[0] for meaning in ALIASES.values()} <= names


def test_the_version_is_that_of_the_package(headway):
    from importlib.metadata import version

    assert headway("--version").out == f"headway {version('headway')}\n"


def test_tasks_lists_every_task(headway):
    assert [row["task"] for row in only_json(headway("tasks", "--json").out)["tasks"]] == list(tasks.TASKS)


def test_models_lists_the_built_in_models_and_the_other_sources(headway, monkeypatch, tiny):
    from headway.core.checkpoints import hub

    monkeypatch.setitem(hub.BUILT_IN, "tiny-one", tiny)
    out = headway("models").out
    assert "tiny-one" in out
    assert "FOLDER" in out
    assert "bert-base-uncased" in out


# Training.


def test_a_model_trained_on_a_file_predicts_the_right_labels(headway, reviews, tiny):
    ran = headway("train", TASK, "--data", reviews, "--model", tiny, "--output", "model", "--epochs", "8",
                  "--learning-rate", "0.005", "--batch-size", "8", "--precision", "fp32")  # fmt: skip
    assert ran.code == 0
    assert ran.err == ""
    ran = headway("predict", "model", "what a lovely song", "a really awful game")
    assert [line.split()[0] for line in ran.out.splitlines()] == ["good", "bad"]


def test_training_prints_what_it_inferred_its_progress_and_its_results(headway, reviews, tiny):
    out = headway("train", TASK, "--data", reviews, "--model", tiny, "--output", "model", *QUICK).out
    assert 'label: column "label" (by name)' in out  # what was inferred
    assert "each text has one label" in out
    assert re.search(r"good +what a good film", out)  # the first rows
    assert "labels: good (29), bad (29)" in out  # the check
    assert re.search(r"new text classification head \(\d tensors\)", out)
    assert re.search(r"step 2 of 2 +loss \d\.\d+ +[\d,]+ tokens/s +0:00 left", out)
    assert re.search(r"epoch +1\.00 +accuracy \d\.\d+", out)  # a line for each evaluation
    assert re.search(r"good( +\d\.\d{3}){3} +3", out)  # the table of labels
    assert 'headway predict model "your text"' in out
    assert "\x1b" not in out  # no colours outside a terminal


def test_training_and_evaluation_say_that_nothing_was_learnt(headway, reviews, tiny):
    weak = ("--max-steps", "1", "--learning-rate", "1e-7", "--eval-data", reviews)
    ran = headway("train", TASK, "--data", reviews, "--model", tiny, "--output", "model", *weak)
    assert ran.code == 0
    shown = " ".join(ran.out.split())
    assert "Warning Nothing was learnt" in shown
    assert "Few steps (1): increase --epochs or --max-steps." in shown
    assert "1e-07 is low" in shown
    assert "Nothing was learnt" in " ".join(headway("evaluate", "model", "--data", reviews).out.split())
    result = only_json(headway("evaluate", "model", "--data", reviews, "--json").out)
    assert "Few steps (1)" in result["nothing_learnt"]


def test_with_json_stdout_is_one_line_of_json(headway, reviews, tiny):
    ran = headway("train", TASK, "--data", reviews, "--model", tiny, "--output", "model", *QUICK, "--json")
    result = only_json(ran.out)
    assert result.keys() >= RESULT_KEYS
    assert result["output"] == "model"
    assert (result["examples"], result["eval_examples"], result["steps"]) == (58, 6, 2)
    assert 0 <= result["metrics"]["accuracy"] <= 1
    assert "epoch" in ran.err


def test_test_rows_are_reported_by_file_by_fraction_and_from_a_run_file(headway, reviews, tiny):
    start = "train", TASK, "--data", reviews, "--model", tiny, *QUICK
    ran = headway(*start, "--output", "model", "--test-fraction", "0.25", "--json")
    result = only_json(ran.out)
    sizes = result["examples"], result["eval_examples"], result["test_examples"]
    assert sizes == (42, 6, 16)
    assert (result["metrics_from"], result["scored_on"]) == ("test", "16 test rows that chose nothing")
    assert "6 rows are held out for evaluation and 16 for the test" in " ".join(ran.err.split())
    shown = " ".join(headway(*start, "--output", "second", "--test-data", reviews, "--eval-data", reviews).out.split())
    assert "Evaluation on 64 test rows that chose nothing" in shown
    assert "64 of 64 test texts are also in the training or evaluation data" in shown
    again = headway("train", "--config", "model/run.yaml", "--output", "third", "--json")
    assert only_json(again.out)["metrics"] == result["metrics"]
    refused = headway(*start, "--output", "fourth", "--test-fraction", "0.95")
    assert refused.code == 2
    assert "--eval-fraction 0.1 and --test-fraction 0.95" in " ".join(refused.err.split())


def test_options_reach_the_task_and_the_training_loop(headway, reviews, tiny):
    headway("train", TASK, "--data", reviews, "--model", tiny, "--output", "model", "--max-length", "16",
            "--long-texts", "cut", "--class-weight", "balanced", "--max-steps", "3", "--batch-size", "4",
            "--learning-rate", "1e-4", "--schedule", "cosine", "--max-grad-norm", "none", "--seed", "7")  # fmt: skip
    info = json.loads(Path("model/headway.json").read_text())
    assert info["options"]["max_length"] == 16
    assert info["options"]["long_texts"] == "cut"
    assert info["options"]["class_weight"] == "balanced"
    training = info["training"]
    assert (training["max_steps"], training["batch_size"], training["learning_rate"]) == (3, 4, 1e-4)
    assert (training["schedule"], training["max_grad_norm"], training["seed"]) == ("cosine", None, 7)


def test_the_option_names_of_transformers_are_accepted(headway, reviews, tiny):
    headway("train", TASK, "--train_file", reviews, "--model_name_or_path", tiny, "--output_dir", "model",
            "--num_train_epochs=1", "--per_device_train_batch_size", "16", "--warmup_ratio", "0.5",
            "--max_seq_length", "20", "--lr-scheduler-type", "constant")  # fmt: skip
    info = json.loads(Path("model/headway.json").read_text())
    assert info["options"]["max_length"] == 20
    training = info["training"]
    assert (training["epochs"], training["batch_size"], training["warmup_ratio"]) == (1, 16, 0.5)
    assert training["schedule"] == "constant"


def test_a_batch_size_per_device_is_refused_in_a_distributed_run(headway, reviews, monkeypatch):
    for name, value in {"WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "localhost", "MASTER_PORT": "29500"}.items():
        monkeypatch.setenv(name, value)
    ran = headway("train", TASK, "--data", reviews, "--per-device-train-batch-size", "8", "--output", "model")
    assert ran.code == 2
    assert "--batch-size" in ran.err


def test_columns_can_be_given_by_index_and_texts_can_be_pairs(headway, tiny):
    lines = [f"{i}\t{text}\ta {text.split()[-1]}\t{label}" for i, (text, label) in enumerate(PAIRS)]
    Path("pairs.tsv").write_text("\n".join(lines) + "\n")
    ran = headway("train", TASK, "--data", "pairs.tsv", "--no-header", "--text", "1", "--pair", "2", "--label", "3",
                  "--model", tiny, "--output", "model", *QUICK)  # fmt: skip
    assert ran.code == 0
    assert '--pair "its second text"' in ran.out
    assert headway("predict", "model", "what a film", "--pair", "a film").code == 0
    assert "--pair" in headway("predict", "model", "what a film").err


PAIRS = [(f"what a {a} {b}", a) for a in ("good", "bad") for b in ("film", "meal", "song", "walk")] * 3


def test_columns_of_0_and_1_become_a_multi_label_task(headway, tiny):
    rows = [f"{text},{int(label == 'good')},{int('film' in text)}" for text, label in PAIRS]
    Path("flags.csv").write_text("\n".join(["message,nice,film", *rows]) + "\n")
    ran = headway("train", TASK, "--data", "flags.csv", "--label", "nice,film", "--model", tiny, "--output", "model",
                  *QUICK, "--json")  # fmt: skip
    assert {row["label"] for row in only_json(ran.out)["per_label"]} == {"nice", "film"}
    answer = only_json(headway("predict", "model", "what a good film", "--json").out)
    assert set(answer["scores"]) == {"nice", "film"}
    assert set(answer["labels"]) <= {"nice", "film"}


def test_the_problem_type_can_be_set_explicitly(headway, tiny):
    Path("stars.csv").write_text("\n".join(["text,label", *(f"{t},{1 + 4 * (y == 'good')}" for t, y in PAIRS)]) + "\n")
    command = ("train", TASK, "--data", "stars.csv", "--model", tiny, *QUICK)
    headway(*command, "--output", "classes")
    headway(*command, "--output", "number", "--regression")
    assert only_json(headway("predict", "classes", "a meal", "--json").out)["label"] in ("1", "5")
    assert isinstance(only_json(headway("predict", "number", "a meal", "--json").out)["value"], float)
    assert re.match(r"-?\d+\.\d\d +a meal", headway("predict", "number", "a meal").out)


def test_label_ids_are_named_by_a_file(headway, tiny):
    Path("ids.csv").write_text("\n".join(["text,label", *(f"{t},{int(y == 'good')}" for t, y in PAIRS)]) + "\n")
    Path("names.txt").write_text("negative\npositive\n")
    headway("train", TASK, "--data", "ids.csv", "--label-names", "names.txt", "--model", tiny, "--output", "model",
            *QUICK)  # fmt: skip
    assert json.loads(Path("model/config.json").read_text())["id2label"] == {"0": "negative", "1": "positive"}


# Configuration files.


def test_a_run_is_repeated_bit_for_bit_from_its_run_file_in_another_folder(headway, reviews, tiny, monkeypatch):
    ran = headway("train", TASK, "--data", reviews, "--model", os.path.relpath(tiny), "--output", "first", "--epochs",
                  "2", "--max-length", "24", "--max-grad-norm", "none", "--text", "text")  # fmt: skip
    assert ran.code == 0
    Path("elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    assert headway("train", "--config", "../first/run.yaml", "--output", "second").code == 0
    assert weights_equal(Path("../first"), Path("second"))
    assert yaml.safe_load(Path("../first/run.yaml").read_text()) == yaml.safe_load(Path("second/run.yaml").read_text())


def test_a_configuration_file_accepts_every_name_of_an_option_and_the_command_line_takes_precedence(
    headway, reviews, tiny
):
    settings = {"task": TASK, "data": str(reviews), "model": str(tiny), "num_train_epochs": 3, "batch-size": 16}
    more = {"learning_rate": 1e-3, "label": "label", "header": True, "json": True, "multi-label": False}
    Path("run.yaml").write_text(yaml.safe_dump(settings | more))
    ran = headway("train", "--config", "run.yaml", "--output", "model", "--epochs", "1")
    assert ran.code == 0
    assert only_json(ran.out)["steps"] == 4
    assert json.loads(Path("model/headway.json").read_text())["training"]["learning_rate"] == 1e-3


def test_a_list_in_a_configuration_file_equals_a_repeated_option(headway, tiny):
    rows = [f"{text},{int(label == 'good')},{int('film' in text)}" for text, label in PAIRS]
    Path("flags.csv").write_text("\n".join(["message,nice,film", *rows]) + "\n")
    Path("run.yaml").write_text("data: flags.csv\nlabel: [nice, film]\n")
    report = only_json(headway("check", TASK, "--config", "run.yaml", "--json").out)
    assert set(report["label_counts"]) == {"nice", "film"}


# Interruption.


def interrupt_after(monkeypatch, saves: int) -> None:
    """Simulates Ctrl-C right after a number of checkpoints."""
    show, seen = TrainingView.show, []

    def show_and_interrupt(self, event):
        show(self, event)
        seen.append(type(event).__name__)
        if seen.count("Saved") == saves and seen[-1] in ("Saved", "Step"):
            raise KeyboardInterrupt

    monkeypatch.setattr(TrainingView, "show", show_and_interrupt)


def test_an_interrupted_run_says_how_to_resume_and_resumes_exactly(headway, reviews, tiny, monkeypatch):
    command = ("train", TASK, "--data", reviews, "--model", tiny, *QUICK, "--epochs", "3", "--output")
    assert headway(*command, "whole").code == 0
    with monkeypatch.context() as patch:
        interrupt_after(patch, 2)
        ran = headway(*command, "model")
    assert ran.code == 130
    assert ran.err == (
        "headway: interrupted at step 4. The checkpoint of step 4 is saved; "
        "run the same command with --resume to continue.\n"
    )
    assert not Path("model").exists()
    assert headway(*command, "model").code == 2  # an interrupted run is not overwritten by accident
    ran = headway(*command, "model", "--resume")
    assert ran.code == 0
    assert "resumed after step 4" in ran.out
    assert weights_equal(Path("whole"), Path("model"))


def test_an_interruption_before_the_first_checkpoint_leaves_no_files(headway, folder, reviews, tiny, monkeypatch):
    interrupt_after(monkeypatch, 0)
    before = set(folder.iterdir())
    ran = headway("train", TASK, "--data", reviews, "--model", tiny, *QUICK, "--output", "model")
    assert ran.code == 130
    assert "nothing is kept" in ran.err
    assert set(folder.iterdir()) == before


def enable_ctrl_c():
    """Background processes of a shell ignore SIGINT, and tests may run in one."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.posix
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_training_after_the_current_step_with_one_line(reviews, tiny, number, code):
    command = [sys.executable, "-m", "headway.ui.cli", "train", TASK, "--data", str(reviews), "--model", str(tiny)]
    with subprocess.Popen(
        [*command, "--output", "model", "--max-steps", "100000", "--save-steps", "90000"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"},
        preexec_fn=enable_ctrl_c,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        for line in process.stdout:
            if "epoch" in line:
                process.send_signal(number)
                break
        _, errors = process.communicate(timeout=60)
    assert process.returncode == code
    assert re.fullmatch(r"headway: interrupted at step ([\d,]+)\. The checkpoint of step \1 is saved.*\n", errors)
    assert sorted(path.name for path in Path().glob("*model*")) == ["model.running"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("command", [("tasks",), ("train", TASK, "--data", "F", "--output", "m/n")])
def test_a_signal_ends_every_command_with_one_line(headway, folder, monkeypatch, command, number, code):
    monkeypatch.setattr("headway.tasks.TaskModel.plug", lambda *_: signal.raise_signal(number))
    monkeypatch.setattr("headway.ui.terminal.table", lambda *_: signal.raise_signal(number))
    before, files = signal.getsignal(number), set(folder.iterdir())
    ran = headway(*command)
    assert ran.code == code
    assert re.fullmatch(r"headway: interrupted.*\n", ran.err)
    assert signal.getsignal(number) == before
    assert set(folder.iterdir()) == files


def test_a_second_run_towards_an_output_deletes_nothing_of_the_first(headway, folder, reviews, tiny):
    command = ("train", TASK, "--data", reviews, "--model", tiny, *QUICK, "--output", "model")
    assert headway(*command).code == 0
    (folder / "model.running/checkpoint-000001").mkdir(parents=True)
    (folder / "model.running/checkpoint-000001/state.json").write_text("{}")
    with OutputLock(folder / "model"):
        before = sorted(folder.rglob("*"))
        for option in ("--overwrite", "--resume"):
            ran = headway(*command, option)
            assert ran.code == 2
            assert re.fullmatch(rf"headway: model is being trained by process {os.getpid()} on .*\n", ran.err)
        assert sorted(folder.rglob("*")) == before


def test_a_killed_run_from_scratch_leaves_no_files_after_the_next_run(headway, folder, reviews, tiny):
    for name in ("model.begun", ".model.tokens-0", ".model.abcdefgh.new", ".model.running.01234567.old"):
        (folder / name).mkdir()
    (folder / ".model.lock").write_text("")
    before = set(folder.iterdir())
    assert headway("train", TASK, "--data", reviews, "--model", tiny, *QUICK, "--output", "model").code == 0
    assert sorted(path.name for path in folder.iterdir() if path not in before) == ["model"]
    assert not [path for path in folder.iterdir() if ".model." in path.name or path.name == "model.begun"]


# Evaluation and prediction.


def test_evaluate_prints_the_metrics_and_a_table_of_labels(headway, trained, reviews):
    ran = headway("evaluate", trained, "--data", reviews)
    assert re.search(r"bad( +\d\.\d{3}){3} +32", ran.out)
    assert re.search(r"accuracy 0\.9|accuracy 1\.0", ran.out)
    result = only_json(headway("evaluate", trained, "--data", reviews, "--json").out)
    assert result["examples"] == 64
    assert result["metrics"]["accuracy"] > 0.9
    assert [row["label"] for row in result["per_label"]] == ["bad", "good"]


def test_a_single_text_gets_the_score_of_every_label(headway, trained):
    out = headway("predict", trained, "what a lovely song").out
    assert re.match(r"good +0\.\d\d +what a lovely song\n", out)
    assert re.search(r"bad +0\.\d+", out)


def test_json_has_one_line_per_text(headway, trained):
    lines = headway("predict", trained, "such a fine book", "such a dull book", "--json").out.splitlines()
    answers = [json.loads(line) for line in lines]
    assert [answer["text"] for answer in answers] == ["such a fine book", "such a dull book"]
    assert [answer["label"] for answer in answers] == ["good", "bad"]
    for answer in answers:
        assert answer["score"] == max(answer["scores"].values())


@pytest.mark.parametrize("ending", ["jsonl", "csv", "tsv"])
def test_the_columns_of_a_file_are_kept_beside_the_predictions(headway, trained, ending):
    Path("in.csv").write_text('id,text,label\n7,"what a good, good book",?\n8,such a dull book,?\n')
    ran = headway("predict", trained, "--data", "in.csv", "--output", f"out.{ending}")
    assert ran.code == 0
    assert "2 predictions" in ran.out
    text = Path(f"out.{ending}").read_text(encoding="utf-8")
    if ending == "jsonl":
        rows = [json.loads(line) for line in text.splitlines()]
    else:
        rows = list(csv.DictReader(io.StringIO(text), delimiter="\t" if ending == "tsv" else ","))
    assert [(row["id"], row["text"], row["label"]) for row in rows] == [
        ("7", "what a good, good book", "?"),
        ("8", "such a dull book", "?"),
    ]
    assert [row["predicted_label"] for row in rows] == ["good", "bad"]


def test_json_summarises_the_output_of_predict(headway, trained, reviews):
    result = only_json(headway("predict", trained, "--data", reviews, "--output", "out.jsonl", "--json").out)
    assert (result["output"], result["examples"]) == ("out.jsonl", 64)


def test_an_output_file_is_only_overwritten_on_request(headway, trained, reviews):
    Path("out.jsonl").write_text("precious")
    ran = headway("predict", trained, "--data", reviews, "--output", "out.jsonl")
    assert ran.code == 2
    assert "--overwrite" in ran.err
    assert Path("out.jsonl").read_text() == "precious"
    assert headway("predict", trained, "--data", reviews, "--output", "out.jsonl", "--overwrite").code == 0


def test_without_an_output_the_predictions_are_printed(headway, trained, reviews):
    lines = headway("predict", trained, "--data", reviews).out.splitlines()
    assert len(lines) == 64
    assert lines[0].endswith("what a good film")


@pytest.mark.parametrize("arguments", [("-",), ("--data", "-")])
def test_texts_are_read_from_stdin(headway, trained, monkeypatch, arguments):
    texts = b"it was a lovely film\nsuch a fine meal\n\nsuch a dull film\n"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(texts)))
    lines = headway("predict", trained, *arguments).out.splitlines()
    assert [line.split()[0] for line in lines] == ["good", "good", "bad"]


def test_rows_of_json_are_read_from_stdin(headway, trained, monkeypatch):
    rows = b'{"id": 1, "text": "it was a lovely film"}\n{"id": 2, "text": "such a dull film"}\n'
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(rows)))
    lines = headway("predict", trained, "--data", "-", "--json").out.splitlines()
    assert [(json.loads(line)["id"], json.loads(line)["label"]) for line in lines] == [(1, "good"), (2, "bad")]


def test_texts_that_look_like_options_follow_a_double_dash(headway, trained):
    assert "--a_good_film" in headway("predict", trained, "--", "--a_good_film").out


@pytest.fixture
def _terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulates a terminal with 60 columns."""
    from rich.console import Console

    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setattr(Console, "is_terminal", property(lambda _: True))


@pytest.mark.usefixtures("_terminal")
def test_a_terminal_shows_a_progress_bar(headway, reviews, tiny):
    out = headway("train", TASK, "--data", reviews, "--model", tiny, "--output", "model", *QUICK).out
    assert "━" in out
    assert re.search(r"\d of 2", out)
    assert "tokens/s" in out
    assert "step 2 of 2" not in out  # the lines that replace the bar outside a terminal


@pytest.mark.usefixtures("_terminal")
def test_a_terminal_shows_the_number_of_predictions(headway, trained, reviews):
    ran = headway("predict", trained, "--data", reviews, "--output", "out.jsonl")
    assert re.search(r"64 predictions +[\d,]+ per second", ran.err)


@pytest.mark.usefixtures("_terminal")
def test_long_texts_are_truncated_to_one_line_of_a_terminal(headway, trained):
    line = headway("predict", trained, "a lovely film " * 10, "a fine meal").out.splitlines()[0]
    assert line.endswith("…")
    assert len(line) <= 60 + len("\x1b[1m\x1b[0m")


@pytest.mark.posix
def test_a_closed_pipe_prints_no_error(trained, reviews):
    reviews.write_text("text,label\n" + "a rather good film and a long story about it,good\n" * 4000)
    command = f"{sys.executable} -m headway.ui.cli predict {trained} --data {reviews} --json"
    run = subprocess.run(
        f"set -o pipefail; {command} | head -n 1", shell=True, executable="/bin/bash", capture_output=True, text=True
    )
    assert run.stderr == ""
    assert len(run.stdout.splitlines()) == 1
    assert run.returncode == cli.CLOSED_PIPE


# Data checks.


def test_check_reports_the_labels_and_the_rows_with_errors(headway, reviews):
    ran = headway("check", TASK, "--data", reviews)
    assert ran.code == 0
    assert "labels: good (32), bad (32)" in ran.out
    reviews.write_text(reviews.read_text() + "\n".join(["a strange film,", "a dull film,bad", ",good"]) + "\n")
    ran = headway("check", TASK, "--data", reviews)
    assert ran.code == 0
    assert "1 row without a label is left out (--strict refuses them): reviews.csv, line 66." in ran.out
    ran = headway("check", TASK, "--data", reviews, "--strict", "--left-out", "list.csv")
    assert Path("list.csv").read_text().splitlines()[1] == '"reviews.csv, line 66",without a label'
    assert ran.code == 2
    assert "line 66" in ran.out
    assert "line 68" in ran.out
    assert ran.err == "headway: reviews.csv cannot be used for training: fix the 2 errors listed above first.\n"


def test_check_measures_texts_in_characters_or_in_tokens_of_a_model(headway, reviews, tiny):
    assert only_json(headway("check", TASK, "--data", reviews, "--json").out)["lengths"]["unit"] == "characters"
    report = only_json(headway("check", TASK, "--data", reviews, "--model", tiny, "--json").out)
    assert report["lengths"]["unit"] == "tokens"


# A new task.


@dataclass(frozen=True)
class Sparkling(TextClassification):
    """A task with an additional option."""

    sparkle: int = option(3, "How much it sparkles.")
    name = "sparkling"


def test_a_new_task_needs_no_change_to_the_command_line(headway, reviews, tiny, monkeypatch):
    monkeypatch.setitem(tasks.TASKS, "sparkling", Sparkling)
    monkeypatch.setenv("COLUMNS", "300")
    assert "How much it sparkles. Default: 3." in headway("train", "--help").out
    command = ("--data", reviews, "--model", tiny, *QUICK, "--sparkle", "5", "--output", "model")
    assert headway("train", "sparkling", *command).code == 0
    assert json.loads(Path("model/headway.json").read_text())["options"]["sparkle"] == 5
    ran = headway("train", TASK, *command, "--overwrite")
    assert ran.code == 2
    assert ran.err.startswith(f"headway: --sparkle is not an option of {TASK}. Its options are: --max-length, ")


# The environment.


def test_offline_sets_the_variable_that_the_hub_library_reads(headway, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    headway("models", "--offline")
    assert os.environ["HF_HUB_OFFLINE"] == "1"


def test_only_the_main_process_prints(headway, trained, monkeypatch):
    monkeypatch.setattr(terminal, "launch_rank", lambda: 1)
    assert headway("predict", trained, "a fine film").out == ""
    assert headway("predict", trained, "a fine film", "--json").out == ""
    assert headway("tasks").out == ""


def test_characters_that_the_terminal_cannot_encode_are_replaced(trained, monkeypatch):
    shown = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(shown, encoding="ascii"))
    assert cli.main(["predict", str(trained), "what a good café"]) == 0
    assert b"what a good caf?" in shown.getvalue()


def test_debug_prints_the_traceback(headway):
    ran = headway("check", TASK, "--data", "nothing.csv", "--debug")
    assert ran.code == 2
    assert "Traceback" in ran.err
    assert ran.err.splitlines()[-1].startswith("headway: nothing.csv: no such file")


@pytest.mark.slow
def test_two_processes_train_one_model_and_one_prints(reviews, tiny):
    command = f"train {TASK} --data {reviews} --model {tiny} --output model --epochs 1 --json --device cpu"
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "headway.ui.cli"]
    run = subprocess.run(
        [*launch, *command.split()], capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert run.returncode == 0, run.stderr
    assert only_json(run.stdout)["steps"] == 2
    assert run.stderr.count("Learning curve") == 1


def test_bf16_gives_nearly_the_same_accuracy_as_fp32(headway, trained, reviews):
    asked = ["evaluate", trained, "--data", reviews, "--json"]
    full, half = (json.loads(headway(*asked, "--precision", name).out.splitlines()[-1]) for name in ("fp32", "bf16"))
    assert half["metrics"]["accuracy"] == pytest.approx(full["metrics"]["accuracy"], abs=0.05)
    ran = headway("predict", trained, "a text", "--precision", "int3")
    assert ran.code == 2
    assert "--precision int3: say fp32, bf16 or int8." in ran.err
