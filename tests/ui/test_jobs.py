"""Training runs: the queue, interruptions, restarts of the server, errors, and their files."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from headway.core.errors import HeadwayError
from headway.core.training.training_config import TrainConfig
from headway.tasks import TextClassification, load
from headway.ui.model_registry import ModelRegistry
from headway.ui.runs import worker
from headway.ui.runs.double_click import SubmitOnce
from headway.ui.runs.job import History, Job, Request
from headway.ui.runs.jobs import Jobs, safe_name
from reviews import write_reviews
from safetensors.torch import load_file

pytestmark = pytest.mark.posix

TRAINING: dict[str, Any] = {
    "epochs": 4.0, "batch_size": 8, "learning_rate": 0.005, "precision": "fp32", "save_steps": 3
}  # fmt: skip
TIMEOUT = 60.0  # seconds
ENDLESS = 1000.0  # epochs: a run that does not end before the test looks at it, however busy the cores are


class ForkedProcess:
    """A training process that starts at once: a fork of this one, with all modules already imported."""

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
    """The queue of the app with forked processes."""

    def _launch(self, job: Job) -> Any:
        return ForkedProcess(job)


@pytest.fixture(autouse=True)
def _fast_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headway.ui.runs.jobs.POLL_SECONDS", 0.02)
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
    """Creates a request for a run on the reviews."""

    def make(name: str = "reviews", **training: Any) -> Request:
        uploads = folder / "uploads"
        uploads.mkdir(exist_ok=True)
        data = write_reviews(uploads / "reviews.csv")
        return Request(name, "text-classification", str(tiny), data, training={**TRAINING, **training})

    return make


@pytest.fixture(scope="module")
def uninterrupted(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    """The weights of an uninterrupted run."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    data = write_reviews(folder / "reviews.csv")
    TextClassification().on(tiny).fit(data, output=folder / "model", config=TrainConfig(**TRAINING))
    return load_file(folder / "model" / "model.safetensors")


def until(condition: Callable[[], Any]) -> Any:
    start = time.monotonic()
    while not (found := condition()):
        assert time.monotonic() - start < TIMEOUT
        time.sleep(0.01)
    return found


def final_state(jobs: Jobs, job: Job) -> str:
    until(lambda: not jobs.status(job).active)
    return jobs.status(job).state


def assert_same_weights(job: Job, expected: dict[str, torch.Tensor]) -> None:
    found = load_file(job.output / "model.safetensors")
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in found)


def slow_down(monkeypatch: pytest.MonkeyPatch, seconds: float = 0.05, first: int = 0) -> None:
    """Slows down each step of the runs started from now on, from the first step named."""
    write = worker.EventLog.write

    def slowly(self: Any, event: dict[str, Any]) -> None:
        write(self, event)
        time.sleep(seconds if event.get("step", first) >= first else 0)

    monkeypatch.setattr(worker.EventLog, "write", slowly)


# A run.


def test_a_run_in_a_separate_process_leaves_a_model_events_and_an_error_analysis(folder, request_for, uninterrupted):
    with Jobs(folder / "runs") as jobs:
        job = jobs.submit(request_for())
        assert final_state(jobs, job) == "done", job.log
        history = jobs.history(job)
        assert history.step == history.total == len(history.losses) == 32
        assert history.prepared["task"] == "text-classification"
        assert [one["step"] for one in history.evaluations] == [8, 16, 24, 32]
        assert history.trained["metrics"]["accuracy"] == 1.0
    assert_same_weights(job, uninterrupted)
    assert load(job.output).predict("what a lovely film").label == "good"
    assert job.error_analysis == {"confusion": {"labels": ["bad", "good"], "counts": [[3, 0], [0, 3]]}, "mistakes": []}
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
        process = Jobs._launch(jobs, job)  # without a ticket it exits before it reads job.json
        assert process.wait(TIMEOUT) == 0, job.log
    assert not (folder / "run").exists()


def test_a_double_click_starts_one_run_and_a_later_click_another(jobs, request_for, monkeypatch):
    monkeypatch.setattr("headway.ui.runs.double_click.SECONDS", TIMEOUT)
    once = SubmitOnce(jobs)
    with ThreadPoolExecutor(2) as presses:
        first, second = presses.map(lambda _: once.submit(request_for()), range(2))
    assert first.id == second.id
    assert [one.id for one in jobs.all()] == [first.id]
    assert once.submit(request_for("other")).id != first.id
    monkeypatch.setattr("headway.ui.runs.double_click.SECONDS", 0)
    assert once.submit(request_for("other")).request.name == "other-2"


def test_one_run_trains_at_a_time_and_the_others_wait_in_order(jobs, request_for, monkeypatch):
    slow_down(monkeypatch)
    first, second, third = (jobs.submit(request_for(epochs=ENDLESS)) for _ in range(3))
    assert [one.request.name for one in (first, second, third)] == ["reviews", "reviews-2", "reviews-3"]
    until(lambda: jobs.history(first).step)
    assert [jobs.status(one).state for one in (first, second, third)] == ["running", "waiting", "waiting"]
    assert (jobs.runs_before(second), jobs.runs_before(third)) == (1, 2)
    jobs.stop(second)
    assert jobs.status(second).state == "stopped"
    assert jobs.runs_before(third) == 1
    with pytest.raises(HeadwayError, match="Stop it first"):
        jobs.remove(first)
    jobs.stop(first)
    assert final_state(jobs, first) == "stopped"
    until(lambda: jobs.history(third).step)
    assert not jobs.history(second).losses
    assert [one.id for one in jobs.all()] == sorted((one.id for one in (first, second, third)), reverse=True)


# Interruptions.


def test_a_stopped_run_resumes_from_the_same_step(jobs, request_for, uninterrupted, monkeypatch):
    with monkeypatch.context() as patch:
        slow_down(patch, 0.5, first=4)
        job = jobs.submit(request_for())
        until(lambda: jobs.history(job).step >= 4)
        jobs.stop(job)
        assert final_state(jobs, job) == "stopped"
    step = jobs.history(job).step
    assert job.checkpoint_step == step < 32
    assert f"step {step}" in jobs.status(job).message
    assert not job.has_model
    jobs.resume(job)
    assert final_state(jobs, job) == "done", job.log
    assert [step for step, _ in jobs.history(job).losses] == list(range(1, 33))
    assert jobs.history(job).started["resumed_from"] == step
    assert_same_weights(job, uninterrupted)


def test_a_stopped_cross_validation_resumes_after_the_finished_folds(jobs, request_for, monkeypatch):
    with monkeypatch.context() as patch:
        slow_down(patch)
        job = jobs.submit(replace(request_for(), folds=2))
        until(lambda: 1 in jobs.history(job).finished)
        jobs.stop(job)
        assert final_state(jobs, job) == "stopped", job.log
    assert jobs.status(job).message == "It can be resumed from fold 2."
    with QuickJobs(jobs.runs):
        assert job.resume_point == "fold 2"  # a new server deletes no finished fold
    jobs.resume(job)
    assert final_state(jobs, job) == "done", job.log
    history = jobs.history(job)
    assert history.finished[1]["before"]
    assert history.trained["folds"]["count"] == 2
    assert len((job.output / "out_of_fold.jsonl").read_text(encoding="utf-8").splitlines()) == 64
    assert job.error_analysis
    assert sum(map(sum, job.error_analysis["confusion"]["counts"])) == 64
    assert not list(job.work_folder.iterdir())


@pytest.mark.parametrize(
    "moment", ["prepared", "step 2", "step 8", "saved", "step 32", "writing", "complete", "publishing", "trained"]
)
def test_a_run_killed_at_any_moment_resumes_with_the_same_result(
    jobs, request_for, uninterrupted, monkeypatch, moment
):
    def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    write = worker.EventLog.write

    def patched(self: Any, event: dict[str, Any]) -> None:
        name = event["event"] + (f" {event['step']}" if event["event"] == "step" else "")
        write(self, event)
        if name == moment:
            self._file.write(b'{"event": "st')  # an incomplete line
            die()

    with monkeypatch.context() as patch:
        patch.setattr(worker.EventLog, "write", patched)
        if moment == "writing":
            patch.setattr(
                "headway.core.atomic_files.sync_folder", lambda folder: folder.name.startswith(".reviews.") and die()
            )
        if moment == "complete":
            patch.setattr(Job, "publish", lambda _: die())
        if moment == "publishing":
            patch.setattr("headway.ui.runs.job.disk_errors", lambda _: die())
        job = jobs.submit(request_for())
        state = final_state(jobs, job)
        assert (state, job.has_model) == (("done", True) if moment == "trained" else ("died", False))
    if state == "died":
        assert "killed" in jobs.status(job).message
        assert [one.name for one in ModelRegistry(runs=jobs.runs, built_in=False).entries()] == []
        jobs.resume(job)
        assert final_state(jobs, job) == "done", job.log
        assert [step for step, _ in jobs.history(job).losses] == list(range(1, 33))
    assert_same_weights(job, uninterrupted)
    QuickJobs(jobs.runs).close()
    assert sorted(path.name for path in jobs.runs.iterdir()) == [".jobs", "reviews"]


def test_a_run_outlives_its_server_and_the_next_server_finds_it(folder, request_for, monkeypatch):
    slow_down(monkeypatch, 0.02)
    with QuickJobs(folder / "runs") as before:
        running = before.submit(request_for(epochs=ENDLESS))
        waiting = before.submit(request_for("other", max_steps=2))
        until(lambda: before.history(running).step)
        (process,) = before._processes.values()
    assert not before._thread.is_alive()
    assert running.alive
    with QuickJobs(folder / "runs") as after:
        assert [one.id for one in after.all()] == [one.id for one in before.all()]
        assert (after.status(running).state, after.status(waiting).state) == ("running", "waiting")
        assert after.history(running).step
        after.stop(running)
        os.waitpid(process.pid, 0)  # only the parent process can reap its children
        assert final_state(after, running) == "stopped"
        assert final_state(after, waiting) == "done"


def test_a_waiting_run_starts_when_a_server_is_back(folder, request_for):
    (folder / "runs" / ".jobs").mkdir(parents=True)
    with QuickJobs(folder / "runs") as first, QuickJobs(folder / "runs") as second:
        assert first._is_leader()  # the second server leaves the queue to the first one, which sleeps here
        job = second.submit(request_for(max_steps=2))
        time.sleep(0.1)
        assert second.status(job).state == "waiting"
    with QuickJobs(folder / "runs") as third:
        assert final_state(third, job) == "done"


def test_a_process_that_died_without_a_server_is_reported(folder, request_for, monkeypatch):
    slow_down(monkeypatch)
    with QuickJobs(folder / "runs") as before:
        job = before.submit(request_for(epochs=ENDLESS))
        until(lambda: before.history(job).step)
        (process,) = before._processes.values()
    process.kill()
    os.waitpid(process.pid, 0)
    with QuickJobs(folder / "runs") as after:
        status = after.status(job)
        assert status.state == "died"
        assert "ended unexpectedly" in status.message


def test_a_process_id_that_now_belongs_to_another_process_is_not_killed(jobs, request_for, monkeypatch):
    slow_down(monkeypatch)
    job = jobs.submit(request_for(epochs=ENDLESS))
    until(lambda: jobs.history(job).step)
    jobs.kill(job)
    assert final_state(jobs, job) == "stopped"
    other = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    (job.folder / "lock").write_text(str(other.pid))
    assert not job.alive
    jobs.kill(job)
    job.kill()
    assert other.poll() is None
    other.communicate(b"\n")
    assert other.returncode == 0


def test_a_killed_run_is_reported_as_stopped(folder, request_for, monkeypatch):
    slow_down(monkeypatch)
    with QuickJobs(folder / "runs") as before:
        mine = before.submit(request_for(epochs=ENDLESS))
        until(lambda: before.history(mine).saved)
        before.kill(mine)
        assert final_state(before, mine) == "stopped"
        assert before.status(mine).message == f"It can be resumed from step {mine.checkpoint_step}."
        others = before.submit(request_for("others", save_steps=10**9, epochs=ENDLESS))
        until(lambda: before.history(others).step)
        (process,) = before._processes.values()
    with QuickJobs(folder / "runs") as after:  # did not start the process
        after.kill(others)
        os.waitpid(process.pid, 0)
        assert after.status(others).state == "stopped"
        assert after.status(others).message == "No checkpoint was saved."


def test_files_of_other_runs_beside_the_model_are_kept(folder, request_for):
    with QuickJobs(folder / "runs") as jobs:
        job = jobs.submit(request_for(max_steps=2))
        assert final_state(jobs, job) == "done", job.log
    names = ("reviews.running/checkpoint-000003", ".reviews.tokens-0", ".reviews.x.new")
    theirs = [jobs.runs / name for name in names]
    for path in theirs:  # of `headway train --output runs/reviews --overwrite`
        path.mkdir(parents=True)
    with QuickJobs(folder / "runs") as jobs:
        assert jobs.status(job).state == "done"
        jobs.remove(job)
    assert all(path.is_dir() for path in theirs)
    assert (jobs.runs / "reviews" / "headway.json").exists()


def test_a_model_of_another_run_is_not_replaced(jobs, request_for, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(jobs, "_advance", lambda: False)
        job = jobs.submit(request_for(max_steps=2))
        other = job.output
        other.mkdir()
        (other / "headway.json").write_text("{}")
    jobs._wake.set()
    assert final_state(jobs, job) == "failed"
    assert "from another run" in jobs.status(job).message
    assert (other / "headway.json").read_text() == "{}"
    other.rename(other.with_name("theirs"))
    jobs.resume(job)
    assert final_state(jobs, job) == "done", job.log


# Errors of users and machines.


@pytest.mark.parametrize(
    ("text", "name"),
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
def test_a_name_never_leads_out_of_the_runs_folder(jobs, request_for, monkeypatch, text, name):
    monkeypatch.setattr(jobs, "_advance", lambda: False)
    assert safe_name(text) == name
    job = jobs.submit(request_for(text))
    assert job.output == jobs.runs / name
    assert len(safe_name("語" * 300).encode()) <= 120


def test_a_name_in_use_gets_a_number(jobs, request_for, monkeypatch):
    monkeypatch.setattr(jobs, "_advance", lambda: False)
    (jobs.runs / "Reviews").mkdir(parents=True)
    (jobs.runs / "reviews-2.running").mkdir()
    names = [jobs.submit(request_for(), taken=["reviews-3"]).request.name for _ in range(2)]
    assert names == ["reviews-4", "reviews-5"]


@pytest.mark.parametrize("name", ["~root.csv", "..csv", "hub:x.csv", "-.csv", "a b;rm.CSV", "x" * 240 + ".csv"])
def test_an_uploaded_file_gets_a_safe_name(jobs, request_for, monkeypatch, name):
    monkeypatch.setattr(jobs, "_advance", lambda: False)
    request = request_for()
    data = request.data.rename(request.data.with_name(name))
    job = jobs.submit(Request("reviews", request.task, request.model, data, eval_data=data))
    files = sorted(job.data_folder.iterdir())
    assert len(files) == 2
    assert all(file.name[0] not in ".-~" and file.parent == job.data_folder for file in files)
    assert job.request.data.read_bytes() == data.read_bytes()


def test_a_broken_file_fails_the_run_with_one_sentence(jobs, request_for):
    request = request_for()
    request.data.write_text(request.data.read_text() + 'what a "film,good,too,many\n')
    job = jobs.submit(request)
    assert final_state(jobs, job) == "failed"
    assert jobs.status(job).message.startswith("reviews.csv, line 66")
    assert "Traceback" not in job.log
    assert jobs.status(job).message in job.log
    jobs.remove(job)
    assert jobs.all() == []
    assert [path.name for path in jobs.runs.rglob("*")] == [".jobs", "queue"]
    with pytest.raises(HeadwayError, match="removed from the list"):
        jobs.find(job.id)


def test_an_internal_error_is_in_the_log(jobs, request_for, monkeypatch):
    monkeypatch.setattr("headway.tasks.TaskModel.train", lambda *_, **__: 1 / 0)
    job = jobs.submit(request_for())
    assert final_state(jobs, job) == "died"
    assert "internal error of Headway" in jobs.status(job).message
    assert "ZeroDivisionError" in job.log


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"training": {"epochs": -1.0}}, "epochs"),
        ({"options": {"max_length": 2}}, "max-length"),
        ({"options": {"nonsense": 2}}, "nonsense"),
        ({"data": Path("gone.csv")}, "Upload it again"),
        ({"data": Path("reviews.csv.gz")}, "Unpack it"),
    ],
)
def test_an_invalid_request_is_refused_before_the_queue(jobs, request_for, change, message):
    with pytest.raises(HeadwayError, match=message):
        jobs.submit(Request(**{**request_for().__dict__, **change}))
    assert jobs.all() == []


def test_an_unwritable_folder_or_a_full_disk_is_an_error(folder, request_for, monkeypatch):
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


def test_a_disk_that_fills_up_during_training_fails_the_run_and_keeps_its_checkpoint(jobs, request_for, monkeypatch):
    write = worker.EventLog.write

    def patched(self: Any, event: dict[str, Any]) -> None:
        write(self, event)
        if event["event"] == "saved" and event["step"] == 6:
            import resource

            resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))

    with monkeypatch.context() as patch:
        patch.setattr(worker.EventLog, "write", patched)
        job = jobs.submit(request_for())
        assert final_state(jobs, job) == "failed"
    assert "the disk is full" in jobs.status(job).message
    assert job.checkpoint_step == 6
    jobs.resume(job)
    assert final_state(jobs, job) == "done"


def test_an_uploaded_file_with_the_name_of_the_file_of_labels_is_kept(folder, request_for, monkeypatch):
    monkeypatch.setattr(Jobs, "_start", lambda *_: None)
    request = request_for()
    data = request.data.rename(request.data.with_name("label-names.txt"))
    with Jobs(folder / "runs") as jobs:
        job = jobs.submit(replace(request, data=data, options={"labels": ["bad", "good"]}))
        assert job.request.data.read_bytes() == data.read_bytes()
        assert (job.data_folder / "label-names.txt").read_text(encoding="utf-8") == "bad\ngood\n"


def test_partial_files_of_a_killed_server_are_deleted(folder, request_for):
    partial = folder / "runs" / ".jobs" / ".20250101-000000-000000-abcd.xyz.new"
    partial.mkdir(parents=True)
    (partial / "job.json").write_text("{")
    unfinished = folder / "runs" / ".reviews.abc.new"
    unfinished.mkdir()
    shutil.copy(request_for().data, unfinished / "config.json")
    (unfinished / "headway.json").write_text("{}")
    with QuickJobs(folder / "runs") as jobs:
        assert jobs.all() == []
        assert not partial.exists()
        assert ModelRegistry(runs=jobs.runs, built_in=False).entries() == []


def test_a_history_skips_repeated_steps_and_an_incomplete_line(tmp_path):
    path = tmp_path / "events.jsonl"
    history = History(path)
    history.read()
    assert (history.step, history.total) == (0, None)

    def write(*events: dict[str, Any]) -> None:
        with path.open("a") as file:
            file.writelines(json.dumps(event) + "\n" for event in events)

    def step(number: int, loss: float | None) -> dict[str, Any]:
        return {"event": "step", "step": number, "loss": loss}

    write({"event": "started", "total_steps": 4, "resumed_from": None}, step(1, 0.5), step(2, 0.4), step(3, None))
    with path.open("a") as file:
        file.write('{"event": "step", "st')
    history.read()
    assert history.losses == [(1, 0.5), (2, 0.4)]
    assert history.step == 3
    path.write_text(path.read_text().rpartition("\n")[0] + "\n")
    write({"event": "started", "total_steps": 4, "resumed_from": 1}, step(2, 0.3))
    history.read()
    assert history.losses == [(1, 0.5), (2, 0.3)]


def test_other_users_are_not_blocked_while_a_large_file_is_copied(jobs, request_for, monkeypatch):
    copying, finish = threading.Event(), threading.Event()
    copy = shutil.copyfile

    def slow_copy(source: Path, target: Path) -> Any:
        copying.set()
        assert finish.wait(TIMEOUT)
        return copy(source, target)

    other = jobs.submit(request_for("other", max_steps=2))
    monkeypatch.setattr("headway.ui.runs.jobs.shutil.copyfile", slow_copy)
    submitting = threading.Thread(target=lambda: jobs.submit(request_for("large", max_steps=2)))
    submitting.start()
    try:
        assert copying.wait(TIMEOUT)
        reading = threading.Thread(target=lambda: jobs.status(other))
        reading.start()
        reading.join(TIMEOUT / 4)
        assert not reading.is_alive()
        assert jobs.all() == [other]  # the other run appears when its files are complete
    finally:
        finish.set()
        submitting.join()
    assert {job.request.name for job in jobs.all()} == {"other", "large"}
