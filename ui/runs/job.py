"""A training run of the browser app on disk: its request and its progress.

    runs/NAME                   the finished model (tasks/base/model_folder.py)
    runs/.jobs/ID/job.json      the request; only its name changes, with that of the model
                  data/         the uploaded files
                  work/         checkpoints (core/training/training_state.py), finished folds or seeds
                                (tasks/base/repeats.py), and the model until it is complete
                  ticket.json   exists while the run waits in the queue
                  lock          locked by the training process while it runs
                  stop          exists when the process is asked to stop; with the content "at once", without saving
                  events.jsonl  the training events
                  log.txt       the output of the process
                  account.json  the error analysis of the model
                  end.json      how the process ended

These files are the whole state of a run, so a server that is killed and restarted continues with it. The lock shows
whether the training process is alive: the operating system releases it when the process dies, and unlike a process id
it is never reused. Partial files stay in the run's own folder, so they are never confused with those that another run,
such as one from the command line, keeps beside runs/NAME.
"""

import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ...core.atomic_files import atomic_file, disk_errors
from ...core.errors import HeadwayError
from ...core.platform_files import LockFile, rename
from .processes import kill_process

if TYPE_CHECKING:
    from ...tasks.base.repeats import Repeats

State = Literal["waiting", "running", "stopping", "stopped", "failed", "died", "done"]
ACTIVE: tuple[State, ...] = ("waiting", "running", "stopping")
MAX_LOG_BYTES = 64 * 1024  # shown, from the end of the log
UNEXPECTED_END = (
    "The training process ended unexpectedly: it was killed, the machine was switched off, or the memory was full. "
    "The last checkpoint is kept."
)
AT_ONCE = "at once"  # content of the file `stop`


@dataclass(frozen=True)
class Request:
    """The training run that a user asks for."""

    name: str  # name of the model folder
    task: str
    model: str  # initial model: a folder, a built-in name or a Hub id
    data: Path
    eval_data: Path | None = None
    columns: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)  # task options
    training: Mapping[str, Any] = field(default_factory=dict)  # fields of TrainConfig
    eval_fraction: float = 0.1
    test_data: Path | None = None
    test_fraction: float | None = None
    folds: int | None = None
    seeds: int | None = None
    header: bool | None = None
    reading: Mapping[str, Any] = field(default_factory=dict)  # further fields of ReadOptions
    shown_model: str = ""  # name of the initial model in the browser app

    @property
    def repeats(self) -> "Repeats | None":
        """The folds or the seeds, if there are several runs."""
        from ...tasks.base.repeats import Repeats

        return Repeats.of(self.folds, self.seeds)

    def to_json(self) -> dict[str, Any]:
        """The request as plain JSON types, with files by name."""
        return {
            **asdict(self),
            "data": self.data.name,
            "eval_data": self.eval_data and self.eval_data.name,
            "test_data": self.test_data and self.test_data.name,
        }


@dataclass(frozen=True)
class Status:
    """State of a run."""

    state: State
    message: str = ""  # for the user; empty if there is nothing to add

    @property
    def active(self) -> bool:
        """Whether the run is waiting, running or stopping."""
        return self.state in ACTIVE


class Job:
    """A training run in its folder."""

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
        """The request."""
        stored = json.loads((self.folder / "job.json").read_text(encoding="utf-8"))
        names = [name for name in ("data", "eval_data", "test_data") if stored.get(name)]
        files = {name: self.data_folder / stored[name] for name in names}
        return Request(**{**stored, **files})

    @property
    def data_folder(self) -> Path:
        """Folder of the uploaded files."""
        return self.folder / "data"

    @property
    def output(self) -> Path:
        """Folder of the finished model."""
        return self.runs / self.request.name

    @property
    def work_folder(self) -> Path:
        """Folder of the partial files, used by this run only."""
        return self.folder / "work"

    @property
    def unpublished(self) -> Path:
        """Folder where training writes the model, for `publish` to move."""
        return self.work_folder / self.request.name

    @property
    def has_model(self) -> bool:
        """Whether the finished model exists."""
        ended = self._read("end.json") or {}
        published = ended.get("state") == "done" and not self.unpublished.exists()
        return published and (self.output / "headway.json").exists()

    @property
    def checkpoint_step(self) -> int | None:
        """Step of the newest checkpoint; None if there is no checkpoint."""
        from ...core.training.training_state import newest_checkpoint

        found = newest_checkpoint(self.run_folder)
        return None if found is None else int(found.name.rpartition("-")[2])

    @property
    def resume_point(self) -> str | None:
        """Where an interrupted run continues: "step 1,200", "fold 3", ...; None: at the beginning."""
        if (step := self.checkpoint_step) is not None:
            return f"step {step:,}"
        repeats = self.request.repeats
        if repeats is None or self.repeat_folder is None or not self.repeat_folder.exists():
            return None
        finished = len(list(self.repeat_folder.glob("*/headway.json")))
        return f"{repeats.kind.removesuffix('s')} {finished + 1}" if finished < repeats.count else "the last step"

    @property
    def repeat_folder(self) -> Path | None:
        """Folder of the folds or the seeds during training; None for a single run."""
        repeats = self.request.repeats
        return repeats and self.unpublished.with_name(f"{self.request.name}.{repeats.kind}")

    @property
    def run_folder(self) -> Path:
        """Folder of the checkpoints during training."""
        return self.unpublished.with_name(f"{self.request.name}.running")

    def clear(self) -> None:
        """Deletes the partial files of a killed process, and the checkpoints once the model is finished."""
        for path in self.work_folder.glob("*"):
            if self.has_model or path not in (self.run_folder, self.unpublished, self.repeat_folder):
                shutil.rmtree(path, ignore_errors=True)

    def check_output_is_free(self) -> None:
        """Raises HeadwayError if the model's folder already exists."""
        if self.output.exists():
            raise HeadwayError(
                f"The folder of runs already contains {self.request.name} from another run. Rename that folder, then "
                "resume this run: its checkpoint is kept."
            )

    def publish(self) -> None:
        """Moves the complete model to its final folder and ends the run.

        Raises:
            HeadwayError: the folder already exists, another run trains it, or it cannot be written.
        """
        from ...core.training.output_lock import OutputLock

        with OutputLock(self.output):
            self.check_output_is_free()
            self.end("done", "")
            with disk_errors(self.output):
                rename(self.unpublished, self.output)
        self.clear()

    # State.

    def status(self) -> Status:
        """Reads the current state."""
        # The process may start or end between two of the checks; then no state is found, and a second try finds it.
        found = self._find_status() or self._find_status()
        return found or (self.stopped_status if self.kill_requested else Status("died", UNEXPECTED_END))

    def _find_status(self) -> Status | None:
        if self.alive:
            return Status("stopping" if self.stop_file.exists() else "running")
        if self.has_model:
            return Status("done")
        if self.ticket.exists():
            return Status("waiting")
        ended = self._read("end.json")
        if not ended or (ended["state"] == "done" and self.unpublished.exists()):
            return None  # the latter: killed just before it published the model
        return Status(ended["state"], ended["message"])

    @property
    def stopped_status(self) -> Status:
        """The status of a stopped run."""
        point = self.resume_point
        return Status("stopped", "No checkpoint was saved." if point is None else f"It can be resumed from {point}.")

    @property
    def alive(self) -> bool:
        """Whether the training process is running."""
        file = LockFile(self.lock_path)
        try:
            file.lock(shared=True)  # shared, so that concurrent checks do not block each other
        except BlockingIOError:
            return True
        finally:
            file.close()
        return False

    @property
    def queued_at(self) -> float:
        """Time of entering the queue in seconds since the epoch; infinite for a run outside the queue."""
        ticket = self._read("ticket.json")
        return ticket["asked"] if ticket else float("inf")

    @property
    def error_analysis(self) -> dict[str, Any] | None:
        """Errors of the model on the held-out data; None if there was no evaluation."""
        return self._read("account.json")

    @property
    def log(self) -> str:
        """The end of the output of the process."""
        path = self.folder / "log.txt"
        if not path.exists():
            return ""
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - MAX_LOG_BYTES))
            return file.read().decode("utf-8", errors="replace")

    def _read(self, name: str) -> dict[str, Any] | None:
        path = self.folder / name
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None

    # Control.

    @property
    def lock_path(self) -> Path:
        """File that the training process locks and writes its process id to."""
        return self.folder / "lock"

    @property
    def ticket(self) -> Path:
        """File that exists while the run waits in the queue."""
        return self.folder / "ticket.json"

    @property
    def stop_file(self) -> Path:
        """File that asks the process to stop."""
        return self.folder / "stop"

    @property
    def kill_requested(self) -> bool:
        """Whether the process was asked to stop without saving."""
        return self.stop_file.exists() and self.stop_file.read_text(encoding="utf-8") == AT_ONCE

    def enqueue(self) -> None:
        """Puts the run at the end of the queue."""
        (self.folder / "end.json").unlink(missing_ok=True)
        self.stop_file.unlink(missing_ok=True)
        self.lock_path.write_bytes(b"")
        self.write("ticket.json", {"asked": time.time()})

    def end(self, state: State, message: str) -> None:
        """Records how the run ended."""
        self.write("end.json", {"state": state, "message": message})
        self.ticket.unlink(missing_ok=True)

    def write(self, name: str, content: Mapping[str, Any]) -> None:
        """Writes a small file atomically."""
        with atomic_file(self.folder / name, overwrite=True) as path:
            path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")

    def kill(self) -> None:
        """Kills the process; the last checkpoint is kept."""
        if self.alive and (number := self.lock_path.read_bytes()):
            kill_process(int(number))

    @contextmanager
    def hold_lock(self) -> Iterator[None]:
        """Holds the lock of the training process; waits while another process holds it."""
        file = LockFile(self.lock_path)
        try:
            file.wait_and_lock()
            file.write(str(os.getpid()).encode())
            yield
        finally:
            file.close()


class History:
    """The events of a run; each `read` reads only the new ones."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.prepared: dict[str, Any] = {}
        self.repeat: dict[str, Any] = {}  # the current fold or seed
        self.finished: dict[int, dict[str, Any]] = {}  # the finished folds or seeds, by number
        self.started: dict[str, Any] = {}
        self.last: dict[str, Any] = {}  # the last step
        self.losses: list[tuple[int, float]] = []  # (step, loss) of each step
        self.evaluations: list[dict[str, Any]] = []
        self.notes: list[str] = []  # since the start
        self.saved: int | None = None  # the step of the last checkpoint
        self.trained: dict[str, Any] = {}
        self._read = 0

    def read(self) -> None:
        """Reads the events since the last call."""
        try:
            with self.path.open("rb") as file:
                file.seek(self._read)
                new = file.read()
        except FileNotFoundError:
            return
        complete, newline, _ = new.rpartition(b"\n")  # the last line may be incomplete
        self._read += len(complete) + len(newline)
        for line in complete.splitlines():
            self._add(json.loads(line))

    def _add(self, event: dict[str, Any]) -> None:
        kind = event.get("event")
        if kind == "prepared":
            self.prepared = event
        elif kind == "repeatstarted":
            self.repeat, self.started, self.last, self.losses, self.evaluations = event, {}, {}, [], []
        elif kind == "repeatfinished":
            self.finished[event["number"]] = event
        elif kind == "started":
            self.started, self.last, self.notes = event, {}, list(event.get("notes", ()))
            start = event["resumed_from"] or 0  # later steps are repeated
            self.losses = [one for one in self.losses if one[0] <= start]
            self.evaluations = [one for one in self.evaluations if one["step"] <= start]
        elif kind == "step":
            self.last = event
            if event["loss"] is not None:
                self.losses.append((event["step"], event["loss"]))
        elif kind == "note":
            self.notes.append(event["note"])
        elif kind == "evaluated":
            self.evaluations.append(event)
        elif kind == "saved":
            self.saved = event["step"]
        elif kind == "trained":
            self.trained = event

    @property
    def step(self) -> int:
        """The last completed step."""
        return self.last.get("step") or self.started.get("resumed_from") or 0

    @property
    def total(self) -> int | None:
        """Total number of steps; None while it is unknown."""
        return self.started.get("total_steps")
