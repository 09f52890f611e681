"""Training runs that are killed, at random moments and before every file operation, end as if they had not been.

Each run is a forked process that trains a tiny model through the command line, with `--resume`. It is killed one to
four times, and then left alone. The model folder must be that of an uninterrupted run, bit for bit, with no other file
beside it.
"""

import importlib
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
from campaign_options import cases, random_of
from headway.core.training import training_state
from headway.ui.cli import main

pytestmark = pytest.mark.campaign
KILLS = 300  # at random moments, of all kinds of runs together
SECONDS = 60.0  # after which a run hangs
COMPARED = ("model.safetensors", "config.json", "tokenizer.json", "log.jsonl")
TEXTS = ["the quick brown fox", "my parcel, please", "the cat sat on the mat", "a lazy dog", "please send it back"] * 8
COMMON = ("--batch-size", "8", "--save-steps", "2", "--eval-steps", "3", "--precision", "fp32", "--device", "cpu")
RUNS: dict[str, tuple[str, ...]] = {
    "classification": ("text-classification", "--model", "BASE", "--max-steps", "10", *COMMON),
    # With token ids in files, a new vocabulary and an untrained model beside the run's folder.
    "from scratch": (
        "fill-mask", "--size", "tiny", "--learn-tokenizer", "60", "--documents", "lines", "--max-steps", "6", *COMMON,
    ),
}  # fmt: skip


@pytest.fixture(scope="module", params=RUNS)
def run(request: pytest.FixtureRequest, bert_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> "Run":
    return Run(request.param, tmp_path_factory.mktemp("run"), bert_folder)


# What the command imports. A forked process that finds it imported takes a third of the time.
SLOW = (
    "accelerate.tracking", "torch._dynamo", "headway.tasks", "headway.ui.commands.train", "headway.ui.training_view",
    "sklearn.linear_model", "sklearn.metrics", "scipy.optimize", "pandas", "pydantic.main", "charset_normalizer",
)  # fmt: skip


class Run:
    """A command that trains a model, and the uninterrupted run of it."""

    def __init__(self, name: str, folder: Path, base: Path) -> None:
        self.name, self.folder = name, folder
        for module in SLOW:
            importlib.import_module(module)
        if name == "classification":
            data = folder / "data.jsonl"
            rows = [{"text": text, "label": "xyz"[i % 3]} for i, text in enumerate(TEXTS)]
            data.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
        else:
            data = folder / "data.txt"
            data.write_text("\n".join(TEXTS))
        self.arguments = [str(base) if word == "BASE" else word for word in RUNS[name]] + ["--data", str(data)]
        self.place = folder / "place"
        assert self.finish(), (folder / "messages.txt").read_text()
        began = time.perf_counter()
        self.clear()
        assert self.finish()
        self.seconds = time.perf_counter() - began
        self.uninterrupted = self.content()
        assert len(self.uninterrupted) == len(COMPARED)

    def content(self) -> dict[str, bytes]:
        """The files of the model that must not depend on interruptions."""
        return {name: (self.place / "model" / name).read_bytes() for name in COMPARED}

    def clear(self) -> None:
        shutil.rmtree(self.place, ignore_errors=True)

    def start(self, prepare: Callable[[], object] = lambda: None) -> int:
        """Starts the command in a forked process."""
        child = os.fork()
        if child:
            return child
        code = 1
        try:
            with (self.folder / "messages.txt").open("w") as messages:
                os.dup2(messages.fileno(), 1)
                os.dup2(messages.fileno(), 2)
            self.place.mkdir(exist_ok=True)
            os.chdir(self.place)
            prepare()
            code = main(["train", *self.arguments, "--output", "model", "--resume"])
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def finish(self) -> bool:
        """Runs the command to its end; whether a model is there."""
        if _wait(self.start(), SECONDS) == 0:
            return True
        return "is finished; there is nothing to resume" in (self.folder / "messages.txt").read_text()

    def check(self, case: str) -> None:
        """Resumes a killed run and compares its end with the uninterrupted one's."""
        before = {path.name for path in self.place.iterdir()} if self.place.exists() else set()
        assert self.finish(), f"{case} left {before}: {(self.folder / 'messages.txt').read_text()}"
        assert self.content() == self.uninterrupted, f"{case} left {before}: another model"
        if "model.running" not in before and "model" in before:  # the run had ended, only its cleaning had not
            return
        assert {path.name for path in self.place.iterdir()} == {"model"}, f"{case} left {before}"


def _wait(child: int, seconds: float) -> int:
    """The status of a process at its end; it is killed if it takes too long."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return status
        time.sleep(0.002)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    pytest.fail(f"no end after {seconds} s")


def test_a_run_that_is_killed_at_random_moments_ends_the_same(run: Run):
    kills = runs = 0
    while kills < len(cases(KILLS // len(RUNS))):
        random = random_of(run.name, runs)
        run.clear()
        for _ in range(random.choice((1, 2, 3, 4))):
            child = run.start()
            time.sleep(random.uniform(0, run.seconds))
            if os.waitpid(child, os.WNOHANG)[0]:
                break  # it has ended
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            kills += 1
        run.check(f"run {runs}, killed at random")
        runs += 1
    print(f"{run.name}: {kills} kills in {runs} runs")


class KillPoint:
    """Kills the process before its file operation number `last`; counts the operations otherwise."""

    OPERATIONS = ("open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate", "os.chmod")

    def __init__(self, place: Path, last: int | None) -> None:
        self.place, self.last, self.count = str(place), last, 0

    def install(self) -> None:
        """Watches the operations of this process."""
        sys.addaudithook(self._audited)
        safetensors.torch.save_file = training_state.save_file = self._half(safetensors.torch.save_file)
        append = training_state.Log.append

        def append_half(log: Any, record: Any) -> None:
            if log.path is not None:
                size = log.path.stat().st_size
                log.file.write(json.dumps(record).encode()[:20])
                self.reach()
                log.file.truncate(size)
            append(log, record)

        training_state.Log.append = append_half

    def reach(self) -> None:
        """One operation."""
        self.count += 1
        if self.count == self.last:
            os.kill(os.getpid(), signal.SIGKILL)

    def _audited(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event not in self.OPERATIONS or (event == "open" and not arguments[2] & (os.O_WRONLY | os.O_RDWR)):
            return
        path = os.path.abspath(os.fsdecode(arguments[0])) if isinstance(arguments[0], str | bytes | Path) else ""
        if path.startswith(self.place):
            self.reach()

    def _half(self, save: Callable[..., None]) -> Callable[..., None]:
        def save_half(tensors: Any, path: Path, *options: Any, **named: Any) -> None:
            self.reach()
            save(tensors, path, *options, **named)
            whole = path.read_bytes()
            os.truncate(path, len(whole) // 2)  # which is audited
            self.reach()
            path.write_bytes(whole)

        return save_half


def points(run: Run) -> Iterator[int]:
    """The file operations of an uninterrupted run, by number; in a short campaign, some of them."""
    run.clear()
    report = run.folder / "count.txt"

    def count() -> None:
        point = KillPoint(run.place, None)
        point.install()
        exit_process = os._exit

        def report_and_exit(code: int) -> None:
            report.write_text(str(point.count))
            exit_process(code)

        os._exit = report_and_exit

    assert _wait(run.start(count), SECONDS) == 0
    total = int(report.read_text())
    assert total > 100
    chosen = random_of(run.name, "points").sample(range(1, total + 1), len(cases(total)))
    print(f"{run.name}: {len(chosen)} of {total} operations")
    return iter(sorted(chosen))


def test_a_run_that_is_killed_before_any_file_operation_ends_the_same(run: Run):
    for number in points(run):
        run.clear()
        status = _wait(run.start(KillPoint(run.place, number).install), SECONDS)
        assert os.WIFSIGNALED(status), f"operation {number}: {(run.folder / 'messages.txt').read_text()}"
        run.check(f"operation {number}")
