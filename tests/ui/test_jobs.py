"""Training runs in processes of their own: queued, stopped, killed, found again by another server, gone on with."""

import errno
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from headway.core.errors import HeadwayError
from headway.core.training.training_config import TrainConfig
from headway.tasks import TextClassification, load
from headway.ui.model_registry import ModelRegistry
from headway.ui.runs import worker
from headway.ui.runs.job import History, Job, Request
from headway.ui.runs.jobs import Jobs, safe_name
from reviews import write_reviews
from safetensors.torch import load_file

TRAINING: dict[str, Any] = {
    "epochs": 4.0, "batch_size": 8, "learning_rate": 0.005, "precision": "fp32", "save_steps": 3
}  # fmt: skip
PATIENCE = 60.0  # seconds


class Forked:
    """A training process that needs no time to start: a copy of this one, in which all is imported already."""

    def __init__(self, job: Job) -> None:
        self.returncode: int | None = None
        self.pid = os.fork()
        if self.pid == 0:
            code = 1
            try:
                sys.stdout = sys.stderr = (job.folder / "log.txt").open("a", buffering=1)
                code = worker.main([str(job.folder)])
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)

    def poll(self) -> int | None:
        if self.returncode is None:
            done, status = os.waitpid(self.pid, os.WNOHANG)
            self.returncode = os.waitstatus_to_exitcode(status) if done else None
        return self.returncode

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)


class QuickJobs(Jobs):
    """As in the app, but for how a process is started."""

    def _launch(self, job: Job) -> Any:
        return Forked(job)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headway.ui.runs.jobs.SECONDS_BETWEEN_LOOKS", 0.02)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture
def jobs(folder: Path) -> Iterator[Jobs]:
    with QuickJobs(folder / "runs") as found:
        yield found
        for job in found.all():
            found.kill(job)
            until(lambda job=job: not found.status(job).active)


@pytest.fixture
def request_for(folder: Path, tiny: Path) -> Callable[..., Request]:
    """A request for a run on the reviews."""

    def make(name: str = "reviews", **training: Any) -> Request:
        uploads = folder / "uploads"
        uploads.mkdir(exist_ok=True)
        data = write_reviews(uploads / "reviews.csv")
        return Request(name, "text-classification", str(tiny), data, training={**TRAINING, **training})

    return make


@pytest.fixture(scope="module")
def unbroken(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    """The weights of a run that nothing happened to."""
    folder = tmp_path_factory.mktemp("unbroken")
    data = write_reviews(folder / "reviews.csv")
    TextClassification().on(tiny).fit(data, output=folder / "model", config=TrainConfig(**TRAINING))
    return load_file(folder / "model" / "model.safetensors")


def until(true: Callable[[], Any]) -> Any:
    began = time.monotonic()
    while not (found := true()):
        assert time.monotonic() - began < PATIENCE
        time.sleep(0.01)
    return found


def ended(jobs: Jobs, job: Job) -> str:
    until(lambda: not jobs.status(job).active)
    return jobs.status(job).state


def assert_same_weights(job: Job, expected: dict[str, torch.Tensor]) -> None:
    found = load_file(job.output / "model.safetensors")
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in found)


def slow_down(monkeypatch: pytest.MonkeyPatch, seconds: float = 0.05) -> None:
    """Makes each step of the runs begun from now on take a while."""
    tell = worker.Events.tell
    monkeypatch.setattr(worker.Events, "tell", lambda self, event: (tell(self, event), time.sleep(seconds)))


# A run.


def test_a_run_in_a_real_process_leaves_a_model_and_what_is_to_be_known_of_it(folder, request_for, unbroken):
    with Jobs(folder / "runs") as jobs:
        job = jobs.submit(request_for())
        assert ended(jobs, job) == "done", job.log
        history = jobs.history(job)
        assert history.step == history.total == len(history.losses) == 32
        assert history.prepared["task"] == "text-classification"
        assert [one["step"] for one in history.evaluations] == [8, 16, 24, 32]
        assert history.trained["metrics"]["accuracy"] == 1.0
    assert_same_weights(job, unbroken)
    assert load(job.output).predict("what a lovely film").label == "good"
    assert job.account == {"confusion": {"labels": ["bad", "good"], "counts": [[3, 0], [0, 3]]}, "mistakes": []}
    assert "32 steps" in job.log
    assert [one.name for one in ModelRegistry(runs=jobs.runs, built_in=False).entries()] == ["reviews"]
    assert sorted(path.name for path in jobs.runs.iterdir()) == [".jobs", "reviews"]
    settings = (job.output / "run.yaml").read_text()
    assert "task: text-classification" in settings
    assert "learning-rate: 0.005" in settings


def test_a_module_among_the_uploaded_files_is_never_imported(folder, request_for):
    for name in ("torch.py", "json.py", "sitecustomize.py"):
        shutil.copy(request_for().data, folder / name)
    with Jobs(folder / "runs") as jobs:
        job = Job(jobs.folder / "20250101-000000-000000-abcd")
        (job.folder / "data").mkdir(parents=True)
        for place in (job.folder, job.data_folder):
            (place / "json.py").write_text(f"open({str(folder / 'run')!r}, 'w')")
        process = Jobs._launch(jobs, job)  # there is no job.json and no ticket: it ends where it would begin
        assert process.wait(PATIENCE) == 0, job.log
    assert not (folder / "run").exists()


def test_one_computes_at_a_time_and_the_others_know_their_place(jobs, request_for, monkeypatch):
    slow_down(monkeypatch)
    first, second, third = (jobs.submit(request_for()) for _ in range(3))
    assert [one.request.name for one in (first, second, third)] == ["reviews", "reviews-2", "reviews-3"]
    until(lambda: jobs.history(first).step)
    assert [jobs.status(one).state for one in (first, second, third)] == ["running", "waiting", "waiting"]
    assert (jobs.place(second), jobs.place(third)) == (1, 2)
    jobs.stop(second)
    assert jobs.status(second).state == "stopped"
    assert jobs.place(third) == 1
    with pytest.raises(HeadwayError, match="under way"):
        jobs.remove(first)
    jobs.stop(first)
    assert ended(jobs, first) == "stopped"
    until(lambda: jobs.history(third).step)
    assert not jobs.history(second).losses
    assert [one.id for one in jobs.all()] == sorted((one.id for one in (first, second, third)), reverse=True)


# Interruptions.


def test_a_run_that_is_stopped_goes_on_from_that_very_step(jobs, request_for, unbroken, monkeypatch):
    with monkeypatch.context() as patch:
        slow_down(patch)
        job = jobs.submit(request_for())
        until(lambda: jobs.history(job).step >= 4)
        jobs.stop(job)
        assert ended(jobs, job) == "stopped"
    step = jobs.history(job).step
    assert job.checkpoint_step == step < 32
    assert f"step {step}" in jobs.status(job).message
    assert not job.has_model
    jobs.resume(job)
    assert ended(jobs, job) == "done", job.log
    assert [step for step, _ in jobs.history(job).losses] == list(range(1, 33))
    assert jobs.history(job).started["resumed_from"] == step
    assert_same_weights(job, unbroken)


@pytest.mark.parametrize(
    "moment", ["prepared", "step 2", "step 8", "saved", "step 32", "writing", "whole", "publishing", "trained"]
)
def test_a_process_that_is_killed_at_any_moment_goes_on_as_if_nothing_was(
    jobs, request_for, unbroken, monkeypatch, moment
):
    def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    tell = worker.Events.tell

    def told(self: Any, event: dict[str, Any]) -> None:
        name = event["event"] + (f" {event['step']}" if event["event"] == "step" else "")
        tell(self, event)
        if name == moment:
            self._file.write(b'{"event": "st')  # half a line
            die()

    with monkeypatch.context() as patch:
        patch.setattr(worker.Events, "tell", told)
        if moment == "writing":
            patch.setattr(
                "headway.core.atomic_files.sync_folder", lambda folder: folder.name.startswith(".reviews.") and die()
            )
        if moment == "whole":
            patch.setattr(Job, "publish", lambda _: die())
        if moment == "publishing":
            patch.setattr("headway.ui.runs.job.disk_errors", lambda _: die())
        job = jobs.submit(request_for())
        state = ended(jobs, job)
        assert (state, job.has_model) == (("done", True) if moment == "trained" else ("died", False))
    if state == "died":
        assert "killed" in jobs.status(job).message
        assert [one.name for one in ModelRegistry(runs=jobs.runs, built_in=False).entries()] == []
        jobs.resume(job)
        assert ended(jobs, job) == "done", job.log
        assert [step for step, _ in jobs.history(job).losses] == list(range(1, 33))
    assert_same_weights(job, unbroken)
    QuickJobs(jobs.runs).close()
    assert sorted(path.name for path in jobs.runs.iterdir()) == [".jobs", "reviews"]


def test_a_run_goes_on_without_its_server_and_the_next_server_finds_it(folder, request_for, monkeypatch):
    slow_down(monkeypatch, 0.02)
    with QuickJobs(folder / "runs") as before:
        running, waiting = before.submit(request_for()), before.submit(request_for("other", max_steps=2))
        until(lambda: before.history(running).step)
        (process,) = before._processes.values()
    assert not before._thread.is_alive()
    assert running.alive
    with QuickJobs(folder / "runs") as after:
        assert [one.id for one in after.all()] == [one.id for one in before.all()]
        assert (after.status(running).state, after.status(waiting).state) == ("running", "waiting")
        assert after.history(running).step
        after.stop(running)
        os.waitpid(process.pid, 0)  # only this process can bury its children
        assert ended(after, running) == "stopped"
        assert ended(after, waiting) == "done"


def test_a_run_that_waits_is_begun_when_a_server_comes_back(folder, request_for):
    (folder / "runs" / ".jobs").mkdir(parents=True)
    with QuickJobs(folder / "runs") as first, QuickJobs(folder / "runs") as second:
        assert first._leads()  # and the other one leaves the queue to it, which sleeps here
        job = second.submit(request_for(max_steps=2))
        time.sleep(0.1)
        assert second.status(job).state == "waiting"
    with QuickJobs(folder / "runs") as third:
        assert ended(third, job) == "done"


def test_a_process_that_died_while_nobody_looked_is_told_of(folder, request_for, monkeypatch):
    slow_down(monkeypatch)
    with QuickJobs(folder / "runs") as before:
        job = before.submit(request_for())
        until(lambda: before.history(job).step)
        (process,) = before._processes.values()
    process.kill()
    os.waitpid(process.pid, 0)
    with QuickJobs(folder / "runs") as after:
        status = after.status(job)
        assert status.state == "died"
        assert "without a word" in status.message


def test_the_number_of_a_process_that_now_belongs_to_another_one_is_not_mistaken(jobs, request_for, monkeypatch):
    slow_down(monkeypatch)
    job = jobs.submit(request_for())
    until(lambda: jobs.history(job).step)
    jobs.kill(job)
    assert ended(jobs, job) == "stopped"
    other = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    (job.folder / "lock").write_text(str(other.pid))
    assert not job.alive
    jobs.kill(job)
    job.kill()
    assert other.poll() is None
    other.communicate(b"\n")
    assert other.returncode == 0


def test_a_run_that_is_stopped_at_once_is_stopped_and_not_said_to_have_died(folder, request_for, monkeypatch):
    slow_down(monkeypatch)
    with QuickJobs(folder / "runs") as before:
        mine = before.submit(request_for())
        until(lambda: before.history(mine).saved)
        before.kill(mine)
        assert ended(before, mine) == "stopped"
        assert before.status(mine).message == f"It can go on from step {mine.checkpoint_step}."
        others = before.submit(request_for("others", save_steps=1000))
        until(lambda: before.history(others).step)
        (process,) = before._processes.values()
    with QuickJobs(folder / "runs") as after:  # which has not started it
        after.kill(others)
        os.waitpid(process.pid, 0)
        assert after.status(others).state == "stopped"
        assert after.status(others).message == "Nothing was saved yet."


def test_what_other_runs_have_beside_the_model_is_left_alone(folder, request_for):
    with QuickJobs(folder / "runs") as jobs:
        job = jobs.submit(request_for(max_steps=2))
        assert ended(jobs, job) == "done", job.log
    names = ("reviews.running/checkpoint-000003", ".reviews.tokens-0", ".reviews.x.new")
    theirs = [jobs.runs / name for name in names]
    for path in theirs:  # of `headway train --output runs/reviews --overwrite`
        path.mkdir(parents=True)
    with QuickJobs(folder / "runs") as jobs:
        assert jobs.status(job).state == "done"
        jobs.remove(job)
    assert all(path.is_dir() for path in theirs)
    assert (jobs.runs / "reviews" / "headway.json").exists()


def test_a_model_that_another_run_has_made_meanwhile_is_not_replaced(jobs, request_for, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(jobs, "_move_on", lambda: False)
        job = jobs.submit(request_for(max_steps=2))
        other = job.output
        other.mkdir()
        (other / "headway.json").write_text("{}")
    jobs._wake.set()
    assert ended(jobs, job) == "failed"
    assert "which another run has made" in jobs.status(job).message
    assert (other / "headway.json").read_text() == "{}"
    other.rename(other.with_name("theirs"))
    jobs.resume(job)
    assert ended(jobs, job) == "done", job.log


# What a person can do wrong, and what a machine can.


@pytest.mark.parametrize(
    ("said", "name"),
    [
        ("../../etc/passwd", "etc-passwd"),
        ("/", "model"),
        ("..", "model"),
        (".hidden", "hidden"),
        ("-rf", "rf"),
        ("a\0b\nc", "a-b-c"),
        ("my reviews (2)", "my-reviews-2"),
        ("reviews.running", "reviews"),
        ("<img src=x onerror=alert(1)>", "img-src-x-onerror-alert-1"),
        ("отзывы 评论", "отзывы-评论"),
    ],
)
def test_a_name_never_leads_out_of_the_folder_of_runs(jobs, request_for, monkeypatch, said, name):
    monkeypatch.setattr(jobs, "_move_on", lambda: False)
    assert safe_name(said) == name
    job = jobs.submit(request_for(said))
    assert job.output == jobs.runs / name
    assert len(safe_name("語" * 300).encode()) <= 120


def test_names_that_are_taken_get_numbers(jobs, request_for, monkeypatch):
    monkeypatch.setattr(jobs, "_move_on", lambda: False)
    (jobs.runs / "Reviews").mkdir(parents=True)
    (jobs.runs / "reviews-2.running").mkdir()
    names = [jobs.submit(request_for(), taken=["reviews-3"]).request.name for _ in range(2)]
    assert names == ["reviews-4", "reviews-5"]


@pytest.mark.parametrize("name", ["~root.csv", "..csv", "hub:x.csv", "-.csv", "a b;rm.CSV", "x" * 240 + ".csv"])
def test_an_uploaded_file_gets_a_name_without_a_meaning(jobs, request_for, monkeypatch, name):
    monkeypatch.setattr(jobs, "_move_on", lambda: False)
    asked = request_for()
    data = asked.data.rename(asked.data.with_name(name))
    job = jobs.submit(Request("reviews", asked.task, asked.model, data, eval_data=data))
    files = sorted(job.data_folder.iterdir())
    assert len(files) == 2
    assert all(file.name[0] not in ".-~" and file.parent == job.data_folder for file in files)
    assert job.request.data.read_bytes() == data.read_bytes()


def test_a_broken_file_is_explained_in_one_sentence(jobs, request_for):
    asked = request_for()
    asked.data.write_text(asked.data.read_text() + 'what a "film,good,too,many\n')
    job = jobs.submit(asked)
    assert ended(jobs, job) == "failed"
    assert jobs.status(job).message.startswith("reviews.csv, line 66")
    assert "Traceback" not in job.log
    assert jobs.status(job).message in job.log
    jobs.remove(job)
    assert jobs.all() == []
    assert [path.name for path in jobs.runs.rglob("*")] == [".jobs", "queue"]
    with pytest.raises(HeadwayError, match="not in the list"):
        jobs.find(job.id)


def test_an_error_of_ours_is_in_the_log(jobs, request_for, monkeypatch):
    monkeypatch.setattr("headway.tasks.TaskModel.train", lambda *_, **__: 1 / 0)
    job = jobs.submit(request_for())
    assert ended(jobs, job) == "died"
    assert "error in Headway itself" in jobs.status(job).message
    assert "ZeroDivisionError" in job.log


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"training": {"epochs": -1.0}}, "epochs"),
        ({"options": {"max_length": 2}}, "max-length"),
        ({"options": {"nonsense": 2}}, "nonsense"),
        ({"data": Path("gone.csv")}, "Upload it again"),
        ({"data": Path("reviews.csv.gz")}, "Unpack it"),
    ],
)
def test_what_cannot_be_asked_for_is_refused_at_once(jobs, request_for, change, words):
    with pytest.raises(HeadwayError, match=words):
        jobs.submit(Request(**{**request_for().__dict__, **change}))
    assert jobs.all() == []


def test_a_folder_that_cannot_be_written_is_named(folder, request_for, monkeypatch):
    (folder / "file").write_text("")
    with Jobs(folder / "file" / "runs") as jobs, pytest.raises(HeadwayError, match="cannot be written"):
        jobs.submit(request_for())

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shutil, "copyfile", full)
    with Jobs(folder / "runs") as jobs:
        with pytest.raises(HeadwayError, match="disk is full"):
            jobs.submit(request_for())
        assert jobs.all() == []
        assert list(jobs.folder.iterdir()) == []


def test_a_disk_that_fills_up_while_training_is_told_of_and_what_was_saved_is_kept(jobs, request_for, monkeypatch):
    tell = worker.Events.tell

    def told(self: Any, event: dict[str, Any]) -> None:
        tell(self, event)
        if event["event"] == "saved" and event["step"] == 6:
            resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))

    with monkeypatch.context() as patch:
        patch.setattr(worker.Events, "tell", told)
        job = jobs.submit(request_for())
        assert ended(jobs, job) == "failed"
    assert "the disk is full" in jobs.status(job).message
    assert job.checkpoint_step == 6
    jobs.resume(job)
    assert ended(jobs, job) == "done"


def test_what_a_killed_server_left_half_done_is_deleted(folder, request_for):
    half = folder / "runs" / ".jobs" / ".20250101-000000-000000-abcd.xyz.new"
    half.mkdir(parents=True)
    (half / "job.json").write_text("{")
    unfinished = folder / "runs" / ".reviews.abc.new"
    unfinished.mkdir()
    shutil.copy(request_for().data, unfinished / "config.json")
    (unfinished / "headway.json").write_text("{}")
    with QuickJobs(folder / "runs") as jobs:
        assert jobs.all() == []
        assert not half.exists()
        assert ModelRegistry(runs=jobs.runs, built_in=False).entries() == []


def test_a_history_leaves_out_what_comes_again_and_half_a_line(tmp_path):
    path = tmp_path / "events.jsonl"
    history = History(path)
    history.read()
    assert (history.step, history.total) == (0, None)

    def tell(*events: dict[str, Any]) -> None:
        with path.open("a") as file:
            file.writelines(json.dumps(event) + "\n" for event in events)

    def step(number: int, loss: float | None) -> dict[str, Any]:
        return {"event": "step", "step": number, "loss": loss}

    tell({"event": "started", "total_steps": 4, "resumed_from": None}, step(1, 0.5), step(2, 0.4), step(3, None))
    with path.open("a") as file:
        file.write('{"event": "step", "st')
    history.read()
    assert history.losses == [(1, 0.5), (2, 0.4)]
    assert history.step == 3
    path.write_text(path.read_text().rpartition("\n")[0] + "\n")
    tell({"event": "started", "total_steps": 4, "resumed_from": 1}, step(2, 0.3))
    history.read()
    assert history.losses == [(1, 0.5), (2, 0.3)]
