"""Headway where the system answers like Windows (tests/simulated_windows), in separate processes."""

import http.client
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from headway.core.platform_files import is_usable_name
from headway.ui.model_registry import FOLDERS
from headway.ui.runs.jobs import safe_name

TESTS = Path(__file__).parents[1]
pytestmark = pytest.mark.linux

IMPORT_ALL = """
import importlib, sys
for name in sys.argv[1:]:
    importlib.import_module(name)
import headway.core.platform_files as files
assert files.sys.platform == "win32" and not hasattr(files, "fcntl")
"""

TRAIN_AND_USE = """
import signal, subprocess, sys
from pathlib import Path
from headway.core.errors import HeadwayError
from headway.core.training.output_lock import OutputLock
from headway.core.training.training_events import Step
from headway.ui.cli import main
from headway.ui.training_view import TrainingView
from sitecustomize import BREAK

LOCK = "from pathlib import Path; from headway.core.training.output_lock import OutputLock; import sys"
ENTER = f"{LOCK}; OutputLock(Path(sys.argv[1])).__enter__()"
show, steps = TrainingView.show, []

def check_and_stop(view, event):
    show(view, event)
    if isinstance(event, Step):
        steps.append(event.step)
        if steps == [1]:
            try:
                OutputLock(Path("model")).__enter__()
            except HeadwayError as error:
                assert "is being trained by process" in str(error)
            else:
                raise AssertionError("locked twice")
            found = subprocess.run([sys.executable, "-c", ENTER, "model"], capture_output=True, text=True)
            assert "is being trained by process" in found.stderr, found.stderr
            signal.raise_signal(BREAK)

TrainingView.show = check_and_stop
train = ["train", "text-classification", "--data", "reviews.csv", "--model", sys.argv[1], "--output", "model",
         "--max-steps", "6", "--batch-size", "8"]
assert main(train) == 143
assert 1 <= steps[-1] < 6
assert sorted(path.name for path in Path().glob("*model*")) == ["model.running"]
assert main([*train, "--resume"]) == 0
assert steps == [1, 2, 3, 4, 5, 6]
assert main([*train, "--overwrite"]) == 0
assert main(["predict", "model", "--data", "reviews.csv", "--output", "found.csv"]) == 0
assert len(Path("found.csv").read_text(encoding="utf-8").splitlines()) == 65
assert main(["predict", "model", "--data", "reviews.csv", "--output", "found.csv", "--overwrite"]) == 0
assert main(["evaluate", "model", "--data", "reviews.csv"]) == 0
assert main(["embed", sys.argv[1], "--data", "reviews.csv", "--output", "vectors.npy"]) == 0
assert main(["check", "text-classification", "--data", "reviews.csv"]) == 0
assert main(["train", "fill-mask", "--data", "corpus.txt", "--model", sys.argv[1], "--output", "words",
             "--max-steps", "2", "--batch-size", "4"]) == 0
assert main(["evaluate", "words", "--data", "corpus.txt"]) == 0
assert main(["predict", "model", "--data", "reviews.csv", "--output", "aux.csv"]) == 2
Path("many.csv").write_text("text,label\\n" + "a good film,good\\na bad film,bad\\n" * 2500, encoding="utf-8")
many = ["many.csv" if part == "reviews.csv" else "other" if part == "model" else part for part in train]
assert main(many) == 0  # more rows than stay in memory
made = {path.name for path in Path().iterdir()} - {"reviews.csv", "many.csv", "corpus.txt", "script.py"}
assert made == {"model", "other", "found.csv", "vectors.npy", "words"}, made
"""

RUN_JOBS = """
import sys, time
from pathlib import Path
from headway.ui.model_registry import ModelRegistry
from headway.ui.runs.job import Request
from headway.ui.runs.jobs import Jobs

def until(condition):
    end = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < end, job.log
        time.sleep(0.05)

data = Path("reviews.csv").rename("ä.csv")
with Jobs(Path("runs")) as jobs, Jobs(Path("runs")) as second:
    training = {"max_steps": 100_000, "batch_size": 8, "precision": "fp32"}
    job = jobs.submit(Request("a", "text-classification", sys.argv[1], data, training=training))
    until(lambda: jobs.history(job).step)
    assert second.status(job).state == "running"
    jobs.stop(job)
    until(lambda: not jobs.status(job).active)
    assert jobs.status(job).state == "stopped", job.log
    assert job.checkpoint_step
    assert "ä.csv: 64 rows" in job.log
    jobs.resume(job)
    until(lambda: (jobs.history(job).step or 0) > job.checkpoint_step)
    jobs.kill(job)
    until(lambda: not jobs.status(job).active)
    assert jobs.status(job).state == "stopped", jobs.status(job)
    jobs.remove(job)
    job = jobs.submit(Request("b", "text-classification", sys.argv[1], data, training={"max_steps": 2}))
    until(lambda: not jobs.status(job).active)
    assert jobs.status(job).state == "done", job.log
    registry = ModelRegistry(runs=Path("runs"), built_in=False)
    assert registry.task_model("b").predict("a good film").label
    assert len(registry.embedder("b").embed("a good film")) == 32
    assert jobs.rename_model("b", "c") == "c"
    assert registry.task_model("c").predict("a good film").label
    jobs.delete_model("c")
"""

READ_LARGE_FILE = """
from pathlib import Path
from headway.ui.browser.background import checked_rows

def result(generator):
    while True:
        try:
            next(generator)
        except StopIteration as end:
            return end.value

if __name__ == "__main__":
    Path("large.csv").write_text("text,label\\n" + "a good film,good\\n" * 100_000, encoding="utf-8")
    stream, count = result(checked_rows("large.csv", Path()))
    assert count == sum(1 for _ in stream) == 100_000
"""


def environment() -> dict[str, str]:
    path = os.pathsep.join([str(TESTS / "simulated_windows"), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**os.environ, "PYTHONPATH": path, "PYTHONWARNDEFAULTENCODING": "1", "OMP_NUM_THREADS": "1"}


def run_on_windows(script: str, *arguments: Any) -> None:
    Path("script.py").write_text(script, encoding="utf-8")
    command = [sys.executable, "script.py", *map(str, arguments)]
    ran = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=200)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_every_module_can_be_imported():
    root = TESTS.parent
    files = [path for room in ("core", "tasks", "ui") for path in (root / room).rglob("*.py")]
    names = [".".join(["headway", *path.relative_to(root).with_suffix("").parts]) for path in files]
    assert len(names) > 200
    run_on_windows(IMPORT_ALL, *(name.removesuffix(".__init__") for name in names))


def test_a_run_is_locked_interrupted_and_resumed_and_its_model_used(tiny, reviews, folder):
    (folder / "corpus.txt").write_text("what a lovely film, such a great song\n" * 40, encoding="utf-8")
    run_on_windows(TRAIN_AND_USE, tiny)


def test_a_run_of_the_browser_is_started_stopped_resumed_and_cancelled(tiny, reviews):
    run_on_windows(RUN_JOBS, tiny)


def test_a_large_file_is_read_in_a_new_process():
    run_on_windows(READ_LARGE_FILE)


@pytest.mark.parametrize("command", ["serve", "ui"])
def test_a_server_answers_until_a_signal_stops_it(command, trained_once):
    more = {"serve": (), "ui": ("--no-open",)}[command]
    with subprocess.Popen(
        [sys.executable, "-m", "headway.ui.cli", command, str(trained_once), *more],
        env={**environment(), "PYTHONUNBUFFERED": "1"}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        try:
            port = int(process.stdout.readline().partition("://")[2].partition(":")[2].split("/")[0].split()[0])
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
            path = {"serve": "/predict", "ui": "/api/predict"}[command]
            connection.request(
                "POST", path, json.dumps({"inputs": ["a good film"]}), {"Content-Type": "application/json"}
            )
            assert json.loads(connection.getresponse().read())["predictions"][0]["label"] == "good"
            connection.close()
            process.send_signal(signal.SIGTERM)
            _, errors = process.communicate(timeout=60)
        finally:
            process.kill()
    assert (process.returncode, errors) == (0, "")


@pytest.mark.parametrize(
    "name", ["con", "Aux", "nul.txt", "COM1", "lpt¹.csv", "a:b", "a?", "end.", "end ", "a\tb", 'a"b']
)
def test_a_name_that_windows_forbids_is_known(name: str):
    assert not is_usable_name(name)
    assert is_usable_name(safe_name(name))


@pytest.mark.parametrize("name", ["console", "model.v2", ".model.lock", "naïve", "com10", "a b"])
def test_other_names_are_usable(name: str):
    assert is_usable_name(name)


@pytest.mark.parametrize(("folder", "end"), [("/home/me/models/", "a.bin"), ("C:\\Users\\me\\", "a.bin")])
def test_folders_of_the_server_are_removed_from_messages(folder: str, end: str):
    assert FOLDERS.sub("", f"{folder}{end} is damaged (hub: 404)") == f"{end} is damaged (hub: 404)"
