"""One training run of the browser app, as it lies on the disk: what was asked for, and how far it is.

    runs/NAME                   the model, once it is whole (tasks/model_folder.py)
    runs/.jobs/ID/job.json      what was asked for; never changed
                  data/         the uploaded files
                  work/         where it trains: checkpoints (core/training_state.py), and the model before it is whole
                  ticket.json   it waits for its turn
                  lock          held by the process that trains, for as long as it lives
                  stop          the process is asked to end; at once, if it says so
                  events.jsonl  what the run has told
                  log.txt       what the process has printed
                  account.json  where the model is wrong
                  end.json      how the process ended

All that a run is follows from these files, so that a server that is killed and comes back knows as much as before.
Whether its process lives is told by the lock, which the operating system takes from a process that dies: the number
of a process may be given to another one, a lock is not. What is half-done lies in the run's own folder, so that what
another run, of the command line perhaps, has beside runs/NAME is never taken for its own.
"""

import fcntl
import json
import os
import shutil
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from ...core.atomic_files import atomic_file, disk_errors
from ...core.errors import HeadwayError

State = Literal["waiting", "running", "stopping", "stopped", "failed", "died", "done"]
ACTIVE: tuple[State, ...] = ("waiting", "running", "stopping")
LOG_SHOWN = 64 * 1024  # bytes of a log that is shown, from its end
NO_WORD = (
    "The training process ended without a word: it was killed, the machine was switched off or its memory was full. "
    "What was saved until then is kept."
)
AT_ONCE = "at once"


@dataclass(frozen=True)
class Request:
    """What a person asks for."""

    name: str  # of the model's folder
    task: str
    model: str  # to start from: a folder, a built-in name or a hub id
    data: Path
    eval_data: Path | None = None
    columns: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)  # of the task
    training: Mapping[str, Any] = field(default_factory=dict)  # fields of TrainConfig
    eval_fraction: float = 0.1
    header: bool | None = None
    shown_model: str = ""  # the name under which a person knows it

    def to_json(self) -> dict[str, Any]:
        """The request as plain JSON types; of the files their names."""
        return {
            **asdict(self),
            "data": self.data.name,
            "eval_data": self.eval_data and self.eval_data.name,
        }


@dataclass(frozen=True)
class Status:
    """How a run is."""

    state: State
    message: str = ""  # for a person, where there is something to say

    @property
    def active(self) -> bool:
        """Whether it computes or will."""
        return self.state in ACTIVE


class Job:
    """A training run by its folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.id = folder.name
        self.runs = folder.parent.parent

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Job) and other.folder == self.folder

    def __hash__(self) -> int:
        return hash(self.folder)

    @cached_property
    def request(self) -> Request:
        """What was asked for."""
        stored = json.loads((self.folder / "job.json").read_text(encoding="utf-8"))
        files = {name: self.data_folder / stored[name] if stored[name] else None for name in ("data", "eval_data")}
        return Request(**{**stored, **files})

    @property
    def data_folder(self) -> Path:
        """Where the uploaded files are."""
        return self.folder / "data"

    @property
    def output(self) -> Path:
        """Where the model will be."""
        return self.runs / self.request.name

    @property
    def work_folder(self) -> Path:
        """Where it trains: all in it is of this run alone."""
        return self.folder / "work"

    @property
    def unpublished(self) -> Path:
        """Where training puts the model when it is whole, for `publish`."""
        return self.work_folder / self.request.name

    @property
    def has_model(self) -> bool:
        """Whether its model is there, whole."""
        ended = self._read("end.json") or {}
        published = ended.get("state") == "done" and not self.unpublished.exists()
        return published and (self.output / "headway.json").exists()

    @property
    def checkpoint_step(self) -> int | None:
        """The step that the run can go on from; None: only from the beginning."""
        from ...core.training.training_state import newest_checkpoint

        found = newest_checkpoint(self.run_folder)
        return None if found is None else int(found.name.rpartition("-")[2])

    @property
    def run_folder(self) -> Path:
        """Where its checkpoints are until the model is whole."""
        return self.unpublished.with_name(f"{self.request.name}.running")

    def clear(self) -> None:
        """Deletes what a killed process has left half-written, and what it could go on from once there is a model."""
        for path in self.work_folder.glob("*"):
            if self.has_model or path not in (self.run_folder, self.unpublished):
                shutil.rmtree(path, ignore_errors=True)

    def refuse_taken(self) -> None:
        """Raises HeadwayError if something else stands where the model is to be."""
        if self.output.exists():
            raise HeadwayError(
                f"There is a {self.request.name} in the folder of runs already, which another run has made. Give that "
                "folder another name, and go on with this run: what it has learnt is kept."
            )

    def publish(self) -> None:
        """Puts the whole model where everybody finds it, and ends the run.

        Raises:
            HeadwayError: something stands there, or it may not be written.
        """
        self.refuse_taken()
        self.end("done", "")
        with disk_errors(self.output):
            self.unpublished.rename(self.output)
        self.clear()

    # -- how it is

    def status(self) -> Status:
        """How it is now."""
        # Where there is nothing to be found its process may have begun between two of the looks: look once more.
        return self._look() or self._look() or (self.stopped if self.stopped_at_once else Status("died", NO_WORD))

    def _look(self) -> Status | None:
        if self.alive:
            return Status("stopping" if self.stop_file.exists() else "running")
        if self.has_model:
            return Status("done")
        if self.ticket.exists():
            return Status("waiting")
        ended = self._read("end.json")
        if not ended or (ended["state"] == "done" and self.unpublished.exists()):
            return None  # or the process was killed when it was about to publish the model
        return Status(ended["state"], ended["message"])

    @property
    def stopped(self) -> Status:
        """How it is if it was stopped."""
        step = self.checkpoint_step
        return Status("stopped", "Nothing was saved yet." if step is None else f"It can go on from step {step:,}.")

    @property
    def alive(self) -> bool:
        """Whether a process trains."""
        try:
            with self._lock_file(fcntl.LOCK_SH | fcntl.LOCK_NB):  # shared: several may ask at once
                return False
        except BlockingIOError:
            return True

    @property
    def asked_at(self) -> float:
        """When it was put into the queue, in seconds since 1970; infinite where it is not in it."""
        ticket = self._read("ticket.json")
        return ticket["asked"] if ticket else float("inf")

    @property
    def account(self) -> dict[str, Any] | None:
        """Where the model is wrong on the held-out data, if that was found out."""
        return self._read("account.json")

    @property
    def log(self) -> str:
        """The end of what the process has printed."""
        path = self.folder / "log.txt"
        if not path.exists():
            return ""
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - LOG_SHOWN))
            return file.read().decode("utf-8", errors="replace")

    def _read(self, name: str) -> dict[str, Any] | None:
        path = self.folder / name
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None

    # -- what is done to it

    @property
    def ticket(self) -> Path:
        """There while it waits."""
        return self.folder / "ticket.json"

    @property
    def stop_file(self) -> Path:
        """There once it is asked to end."""
        return self.folder / "stop"

    @property
    def stopped_at_once(self) -> bool:
        """Whether it was asked to end without saving."""
        return self.stop_file.exists() and self.stop_file.read_text() == AT_ONCE

    def queue(self) -> None:
        """Puts it, or puts it again, at the end of the queue."""
        (self.folder / "end.json").unlink(missing_ok=True)
        self.stop_file.unlink(missing_ok=True)
        (self.folder / "lock").write_text("")
        self.write("ticket.json", {"asked": time.time()})

    def end(self, state: State, message: str) -> None:
        """Says how it ended."""
        self.write("end.json", {"state": state, "message": message})
        self.ticket.unlink(missing_ok=True)

    def write(self, name: str, content: Mapping[str, Any]) -> None:
        """A small file, whole or not there."""
        with atomic_file(self.folder / name, overwrite=True) as path:
            path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")

    def kill(self) -> None:
        """Ends its process at once; the last checkpoint is kept."""
        if self.alive and (number := (self.folder / "lock").read_text()):
            os.kill(int(number), signal.SIGKILL)

    @contextmanager
    def held(self) -> Iterator[None]:
        """The process that trains holds the lock meanwhile; waits for another one that has it."""
        with self._lock_file(fcntl.LOCK_EX) as file:
            os.truncate(file, 0)
            os.write(file, str(os.getpid()).encode())
            yield

    @contextmanager
    def _lock_file(self, how: int) -> Iterator[int]:
        file = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(file, how)
            yield file
        finally:
            os.close(file)


class History:
    """What a run has told, read as it grows; each reading reads only what is new."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.prepared: dict[str, Any] = {}
        self.started: dict[str, Any] = {}
        self.last: dict[str, Any] = {}  # the last step
        self.losses: list[tuple[int, float]] = []  # (step, loss) of each step
        self.evaluations: list[dict[str, Any]] = []
        self.saved: int | None = None  # the step of the last checkpoint
        self.trained: dict[str, Any] = {}
        self._read = 0

    def read(self) -> None:
        """Takes in what was told since the last time."""
        try:
            with self.path.open("rb") as file:
                file.seek(self._read)
                new = file.read()
        except FileNotFoundError:
            return
        whole, newline, _ = new.rpartition(b"\n")  # the last line may still be under the pen
        self._read += len(whole) + len(newline)
        for line in whole.splitlines():
            self._take(json.loads(line))

    def _take(self, event: dict[str, Any]) -> None:
        kind = event.get("event")
        if kind == "prepared":
            self.prepared = event
        elif kind == "started":
            self.started, self.last = event, {}
            begin = event["resumed_from"] or 0  # what came after the checkpoint comes again
            self.losses = [one for one in self.losses if one[0] <= begin]
            self.evaluations = [one for one in self.evaluations if one["step"] <= begin]
        elif kind == "step":
            self.last = event
            if event["loss"] is not None:
                self.losses.append((event["step"], event["loss"]))
        elif kind == "evaluated":
            self.evaluations.append(event)
        elif kind == "saved":
            self.saved = event["step"]
        elif kind == "trained":
            self.trained = event

    @property
    def step(self) -> int:
        """The last step that is done."""
        return self.last.get("step") or self.started.get("resumed_from") or 0

    @property
    def total(self) -> int | None:
        """How many steps there are; None: not known yet."""
        return self.started.get("total_steps")
