"""The training runs of the browser app: a queue of which one computes at a time, each in a process of its own.

All that is known lies on the disk (job.py). The queue is moved on by a thread that sleeps while nothing is under way;
of several servers over one folder, the first does it. A process that trains outlives its server.
"""

import fcntl
import os
import re
import secrets
import shutil
import subprocess
import sys
import threading
from collections.abc import Collection
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from ...core.atomic_files import atomic_folder, disk_errors
from ...core.errors import HeadwayError
from ..onednn_cache import CACHE_VARIABLES
from .job import AT_ONCE, History, Job, Request, Status

SECONDS_BETWEEN_LOOKS = 0.5  # while something is under way
LONGEST_NAME = 120  # bytes; file systems take 255, and the folders beside it have longer names
ID = re.compile(r"\d{8}-\d{6}-\d{6}-[0-9a-f]{4}")
LAUNCHERS = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
PACKED = ("gz", "xz", "bz2", "zip", "zst")


class Jobs:
    """Training runs over a folder; finds those of an earlier server again and goes on with the queue.

    Args:
        runs: where finished models go; made when the first run is asked for.

    Call `close` at the end: a run under way goes on by itself.
    """

    def __init__(self, runs: Path) -> None:
        self.runs = runs.absolute()
        self.folder = self.runs / ".jobs"
        self._lock = threading.RLock()
        self._processes: dict[str, subprocess.Popen[bytes]] = {}  # that this server has started
        self._histories: dict[str, History] = {}
        self._queue_file: int | None = None  # open while this server moves the queue
        self._wake = threading.Event()
        self._closing = False
        self._tidy()
        self._thread = threading.Thread(target=self._work, name="training queue", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stops moving the queue; a run under way goes on, and what waits is begun by the next server."""
        self._closing = True
        self._wake.set()
        self._thread.join()
        with self._lock:
            for process in self._processes.values():
                process.returncode = process.poll() or 0  # it outlives its server, which is no reason to warn
            self._processes.clear()
            if self._queue_file is not None:
                os.close(self._queue_file)
                self._queue_file = None

    # -- what there is

    def all(self) -> list[Job]:
        """Every run, the newest first."""
        if not self.folder.is_dir():
            return []
        names = sorted((path.name for path in self.folder.iterdir() if ID.fullmatch(path.name)), reverse=True)
        return [Job(self.folder / name) for name in names]

    def find(self, id: str) -> Job:
        """The run with this id.

        Raises:
            HeadwayError: there is none.
        """
        found = next((job for job in self.all() if job.id == id), None)
        if found is None:
            raise HeadwayError("This run is not in the list any more. Choose another one.")
        return found

    def status(self, job: Job) -> Status:
        """How a run is now."""
        with self._lock:
            self._bury()
            found = job.status()
            if job.id in self._processes and found.state not in ("running", "stopping"):
                return Status("running")  # its process is on its way, here or away
            return found

    def place(self, job: Job) -> int:
        """How many runs come before one that waits."""
        others = [other for other in self.all() if other != job]
        waiting = sum(other.ticket.exists() and _turn(other) < _turn(job) for other in others)
        return waiting + sum(other.alive for other in others)

    def history(self, job: Job) -> History:
        """What a run has told until now."""
        with self._lock:
            found = self._histories.setdefault(job.id, History(job.folder / "events.jsonl"))
            found.read()
            return found

    # -- what people ask for

    def submit(self, request: Request, taken: Collection[str] = ()) -> Job:
        """Puts a run into the queue; its files are copied.

        Args:
            request: its name is made one that a folder can have; where there is such a model it gets a number.
            taken: names that are not to be given either.

        Raises:
            HeadwayError: an option is not possible, a file is gone or packed, the disk is full or not writable.
        """
        from ...core.training.training_config import TrainConfig
        from ...tasks import TASKS

        options = TASKS[request.task].from_json(request.options).to_json()  # refused here, and not minutes later
        TrainConfig(**request.training)
        with self._lock, disk_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            request = replace(request, name=self._free(safe_name(request.name), taken))
            job = Job(self.folder / f"{datetime.now():%Y%m%d-%H%M%S-%f}-{secrets.token_hex(2)}")
            with atomic_folder(job.folder) as new:
                (new / "data").mkdir()
                data = _keep(request.data, new / "data")
                held_out = request.eval_data and _keep(request.eval_data, new / "data")
                if options.get("labels"):
                    names = "\n".join(options["labels"])
                    (new / "data" / "label-names.txt").write_text(f"{names}\n", encoding="utf-8")
                made = Job(new)
                made.write("job.json", replace(request, data=data, eval_data=held_out).to_json())
                made.queue()
        self._wake.set()
        return job

    def stop(self, job: Job) -> None:
        """Lets a run save a checkpoint after the step it is at and end there; takes one that waits off the queue."""
        with self._lock:
            if job.alive or job.id in self._processes:
                job.stop_file.touch()
            elif job.ticket.exists():
                job.end("stopped", "Taken off the queue.")

    def kill(self, job: Job) -> None:
        """Ends a run at once; what it has learnt since its last checkpoint is lost."""
        with self._lock:
            self.stop(job)
            if job.stop_file.exists():
                job.stop_file.write_text(AT_ONCE)  # so that its end is known as what was asked for
            if job.id in self._processes:
                self._processes[job.id].kill()
            else:
                job.kill()

    def resume(self, job: Job) -> None:
        """Puts a run that has ended without a model back into the queue; it goes on from its last checkpoint.

        Raises:
            HeadwayError: it is under way, or finished.
        """
        with self._lock:
            status = self.status(job)
            if status.active:
                raise HeadwayError(f"{job.request.name} is under way already. Wait for it.")
            if status.state == "done":
                raise HeadwayError(f"{job.request.name} is finished. Start a new run to train it again.")
            with disk_errors(job.folder):
                job.queue()
        self._wake.set()

    def remove(self, job: Job) -> None:
        """Takes a run off the list, with its uploaded files and its checkpoints; a finished model stays.

        Raises:
            HeadwayError: it is under way.
        """
        with self._lock:
            if self.status(job).active:
                raise HeadwayError(f"{job.request.name} is under way. Stop it first.")
            gone = job.folder.with_name(f".{job.id}.removed")
            job.folder.rename(gone)  # from here on it is not on the list, whatever happens
            shutil.rmtree(gone, ignore_errors=True)
            self._histories.pop(job.id, None)

    # -- the queue

    def _work(self) -> None:
        while True:
            self._wake.clear()
            if self._closing:
                return
            busy = True
            try:
                busy = self._move_on()
            except HeadwayError as error:  # a disk that is full now may have room again
                print(f"headway: {error}", file=sys.stderr)
            self._wake.wait(SECONDS_BETWEEN_LOOKS if busy else None)

    def _move_on(self) -> bool:
        """Begins the next run if none computes; says whether there is anything to come back for."""
        with self._lock:
            self._bury()
            jobs = self.all()
            waiting = sorted((job for job in jobs if job.ticket.exists()), key=_turn)
            computes = bool(self._processes) or any(job.alive for job in jobs)
            if waiting and not computes and self._leads():
                self._begin(waiting[0])
            return computes or bool(waiting)

    def _leads(self) -> bool:
        """Whether this is the server that moves the queue: the first one over this folder that still lives."""
        if self._queue_file is None:
            file = os.open(self.folder / "queue", os.O_RDWR | os.O_CREAT, 0o644)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(file)
                return False
            self._queue_file = file
        return True

    def _begin(self, job: Job) -> None:
        try:
            self._processes[job.id] = self._launch(job)
        except OSError as error:
            job.end("failed", f"The training process could not be started ({error}). Free some memory and try again.")

    def _launch(self, job: Job) -> "subprocess.Popen[bytes]":
        not_its = (*LAUNCHERS, *CACHE_VARIABLES)  # training is faster with all kernels that it has use for
        environment = {name: value for name, value in os.environ.items() if name not in not_its}
        with (job.folder / "log.txt").open("ab") as log:
            return subprocess.Popen(
                # -P: modules are never looked for in the folder that the process is in, where files come from outside.
                [sys.executable, "-P", "-m", f"{__package__}.worker", str(job.folder)],
                cwd=job.folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C in the server's terminal is not for it
            )

    def _bury(self) -> None:
        """Takes note of the processes of ours that have ended."""
        for id, process in list(self._processes.items()):
            if process.poll() is not None:
                del self._processes[id]
                self._tell_end(Job(self.folder / id), process.returncode)

    def _tell_end(self, job: Job, code: int) -> None:
        """Says of a process of ours how it ended, where it could not do so itself."""
        if not (job.folder / "job.json").exists() or (job.folder / "end.json").exists():
            return
        if code < 0 and job.stopped_at_once:
            job.end(job.stopped.state, job.stopped.message)
        elif code < 0:
            job.end(
                "died",
                f"The training process was killed (signal {-code}; 9 often means that the memory was full). "
                "What was saved until then is kept.",
            )
        else:
            job.end("died", "The training process failed because of an error in Headway itself: see the log below.")

    def _tidy(self) -> None:
        """Deletes what a killed server or process has left half-done."""
        if not self.folder.is_dir():
            return
        for leftover in self.folder.glob(".*"):
            if re.fullmatch(rf"\.{ID.pattern}\.(removed|.*\.new)", leftover.name):
                shutil.rmtree(leftover, ignore_errors=True)
        for job in self.all():
            if not job.alive:
                job.clear()

    def _free(self, wanted: str, taken: Collection[str]) -> str:
        """The first of wanted, wanted-2, wanted-3, ... that nothing has."""
        used = {name.casefold() for name in taken} | {job.request.name.casefold() for job in self.all()}
        used |= {path.name.casefold().removesuffix(".running") for path in self.runs.iterdir()}
        name, number = wanted, 1
        while name.casefold() in used:
            number += 1
            name = f"{wanted}-{number}"
        return name


def _turn(job: Job) -> tuple[float, str]:
    return job.asked_at, job.id


def safe_name(said: str) -> str:
    """A name for a folder, whatever a person has typed: letters, digits, dots, dashes and underscores."""
    name = re.sub(r"[^\w.-]+", "-", said).strip(".-_").encode()[:LONGEST_NAME].decode(errors="ignore").strip(".-_")
    while name.casefold().endswith((".running", ".begun")):
        name = name.rpartition(".")[0].strip(".-_")
    return name or "model"


def _keep(upload: Path, folder: Path) -> Path:
    """Copies an uploaded file under a name that is safe, and keeps the ending that tells its format."""
    ending = re.sub(r"\W", "", upload.suffix.lower())
    if ending in PACKED:
        raise HeadwayError(f"{upload.name} is packed. Unpack it and upload what is in it.")
    stem = safe_name(upload.name.removesuffix(upload.suffix))
    kept = folder / (f"{stem}.{ending}" if ending else stem)
    if kept.exists():
        kept = kept.with_name(f"{kept.stem}-held-out{kept.suffix}")
    try:
        shutil.copyfile(upload, kept)
    except FileNotFoundError as error:
        raise HeadwayError(f"{upload.name} is not on the server any more. Upload it again.") from error
    return kept
