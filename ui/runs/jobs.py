"""The queue of training runs of the browser app: one run at a time, each in a separate process.

The state is on disk (job.py). A thread starts the next run; it sleeps while the queue is empty. If several servers use
the same folder, the first one does this. A training process outlives its server.
"""

import os
import re
import secrets
import shutil
import subprocess
import sys
import threading
from collections.abc import Collection
from contextlib import ExitStack
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from ...core.atomic_files import atomic_folder, disk_errors
from ...core.errors import HeadwayError
from ...core.platform_files import LockFile, is_usable_name, rename
from ...core.visible import visible
from ..onednn_cache import CACHE_VARIABLES
from .job import AT_ONCE, History, Job, Request, Status
from .processes import start_independent

POLL_SECONDS = 0.5  # while a run is active
MAX_NAME_BYTES = 120  # file systems allow 255, and related folders have longer names
ID = re.compile(r"\d{8}-\d{6}-\d{6}-[0-9a-f]{4}")
DISTRIBUTED_VARIABLES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
ARCHIVES = ("gz", "xz", "bz2", "zip", "zst")


class Jobs:
    """The training runs in a folder, including those of earlier servers. Call `close` at the end.

    Args:
        runs: folder of the finished models, created with the first run.
    """

    def __init__(self, runs: Path) -> None:
        self.runs = runs.absolute()
        self.folder = self.runs / ".jobs"
        self._lock = threading.RLock()
        self._processes: dict[str, subprocess.Popen[bytes]] = {}  # started by this server
        self._histories: dict[str, History] = {}
        self._queue_file: LockFile | None = None  # open while this server starts the runs
        self._wake = threading.Event()
        self._closing = False
        self._clean_up()
        self._thread = threading.Thread(target=self._work, name="training queue", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stops the queue. A running process continues; the next server starts the waiting runs."""
        self._closing = True
        self._wake.set()
        self._thread.join()
        with self._lock:
            for process in self._processes.values():
                process.returncode = process.poll() or 0  # it outlives the server; avoids a ResourceWarning
            self._processes.clear()
            if self._queue_file is not None:
                self._queue_file.close()
                self._queue_file = None

    # Reading.

    def all(self) -> list[Job]:
        """All runs, newest first."""
        if not self.folder.is_dir():
            return []
        names = sorted((path.name for path in self.folder.iterdir() if ID.fullmatch(path.name)), reverse=True)
        return [Job(self.folder / name) for name in names]

    def find(self, id: str) -> Job:
        """Finds a run by id.

        Raises:
            HeadwayError: the run does not exist.
        """
        found = next((job for job in self.all() if job.id == id), None)
        if found is None:
            raise HeadwayError("This run was removed from the list. Choose another one.")
        return found

    def status(self, job: Job) -> Status:
        """The current status of a run."""
        with self._lock:
            self._reap()
            found = job.status()
            if job.id in self._processes and found.state not in ("running", "stopping"):
                return Status("running")  # its process is just starting or ending
            return found

    def runs_before(self, job: Job) -> int:
        """Number of runs that come before a waiting one."""
        others = [other for other in self.all() if other != job]
        waiting = sum(other.ticket.exists() and _queue_key(other) < _queue_key(job) for other in others)
        return waiting + sum(other.alive for other in others)

    def history(self, job: Job) -> History:
        """The events of a run until now."""
        with self._lock:
            found = self._histories.setdefault(job.id, History(job.folder / "events.jsonl"))
            found.read()
            return found

    # Control.

    def submit(self, request: Request, taken: Collection[str] = ()) -> Job:
        """Puts a run into the queue and copies its files.

        Args:
            request: the run; its name becomes a valid folder name, with a number appended if a model has that name.
            taken: further names that are in use.

        Raises:
            HeadwayError: an option is invalid, a file is missing or compressed, or the disk is full or not writable.
        """
        from ...core.training.training_config import TrainConfig
        from ...tasks import TASKS

        options = TASKS[request.task].from_json(request.options).to_json()  # raises for invalid options
        TrainConfig(**request.training)
        _ = request.repeats  # raises for invalid numbers
        with ExitStack() as locked, disk_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            job = Job(self.folder / f"{datetime.now():%Y%m%d-%H%M%S-%f}-{secrets.token_hex(2)}")
            with atomic_folder(job.folder) as new:
                (new / "data").mkdir()
                if options.get("labels"):  # before the uploads, which may have the same name
                    names = "\n".join(options["labels"])
                    (new / "data" / "label-names.txt").write_text(f"{names}\n", encoding="utf-8")
                data = _copy_upload(request.data, new / "data", "data")
                held_out = request.eval_data and _copy_upload(request.eval_data, new / "data", "held-out")
                test = request.test_data and _copy_upload(request.test_data, new / "data", "test")
                locked.enter_context(self._lock)  # until the folder, which reserves the name, is in place
                request = replace(request, name=self._free_name(safe_name(request.name), taken))
                created = Job(new)
                created.write("job.json", replace(request, data=data, eval_data=held_out, test_data=test).to_json())
                created.enqueue()
        self._wake.set()
        return job

    def stop(self, job: Job) -> None:
        """Stops a run after the current step with a checkpoint, or removes it from the queue."""
        with self._lock:
            if job.alive or job.id in self._processes:
                job.stop_file.touch()
            elif job.ticket.exists():
                job.end("stopped", "Removed from the queue.")

    def kill(self, job: Job) -> None:
        """Kills a run; the steps since its last checkpoint are lost."""
        with self._lock:
            self.stop(job)
            if job.stop_file.exists():
                job.stop_file.write_text(AT_ONCE, encoding="utf-8")  # so that its end is reported as stopped
            if job.id in self._processes:
                self._processes[job.id].kill()
            else:
                job.kill()

    def resume(self, job: Job) -> None:
        """Puts an unfinished run back into the queue, to continue from its last checkpoint.

        Raises:
            HeadwayError: the run is active or finished.
        """
        with self._lock:
            status = self.status(job)
            if status.active:
                raise HeadwayError(f"{job.request.name} is already in the queue or running. Wait until it has ended.")
            if status.state == "done":
                raise HeadwayError(f"{job.request.name} is finished. Start a new run to train it again.")
            with disk_errors(job.folder):
                job.enqueue()
        self._wake.set()

    def remove(self, job: Job) -> None:
        """Removes a run with its uploaded files and checkpoints; a finished model stays.

        Raises:
            HeadwayError: the run is active.
        """
        with self._lock:
            if self.status(job).active:
                raise HeadwayError(f"{job.request.name} is in the queue or running. Stop it first.")
            removed = job.folder.with_name(f".{job.id}.removed")
            rename(job.folder, removed)  # atomic: the run disappears from the list even if deleting fails
            shutil.rmtree(removed, ignore_errors=True)
            self._histories.pop(job.id, None)

    # Finished models.

    def rename_model(self, name: str, wanted: str, taken: Collection[str] = ()) -> str:
        """Renames a finished model and its run; returns the new name, which is a valid and free folder name.

        Raises:
            HeadwayError: the model is gone, or the folder cannot be written.
        """
        with self._lock, disk_errors(self.runs):
            new = self._free_name(safe_name(wanted), taken)
            rename(self._require_model(name), self.runs / new)
            for job in self.all():
                if job.request.name == name:
                    job.write("job.json", replace(job.request, name=new).to_json())
            return new

    def delete_model(self, name: str) -> None:
        """Deletes the folder of a finished model; its run stays in the list.

        Raises:
            HeadwayError: the model is gone, or the folder cannot be written.
        """
        with self._lock, disk_errors(self.runs):
            removed = self.runs / f".{name}.{secrets.token_hex(4)}.removed"
            rename(self._require_model(name), removed)  # atomic: it disappears even if deleting fails
            shutil.rmtree(removed, ignore_errors=True)

    def _require_model(self, name: str) -> Path:
        folder = self.runs / name
        if not (folder / "headway.json").exists():
            raise HeadwayError(f"The model {name} does not exist any more. Choose another one.")
        return folder

    # The queue.

    def _work(self) -> None:
        while True:
            self._wake.clear()
            if self._closing:
                return
            active = True
            try:
                active = self._advance()
            except HeadwayError as error:  # a full disk may have room later
                print(f"headway: {visible(str(error))}", file=sys.stderr)
            self._wake.wait(POLL_SECONDS if active else None)

    def _advance(self) -> bool:
        """Starts the next run if none is running; returns whether any run is active."""
        with self._lock:
            self._reap()
            jobs = self.all()
            waiting = sorted((job for job in jobs if job.ticket.exists()), key=_queue_key)
            running = bool(self._processes) or any(job.alive for job in jobs)
            if waiting and not running and self._is_leader():
                self._start(waiting[0])
            return running or bool(waiting)

    def _is_leader(self) -> bool:
        """Whether this server starts the runs: the first one of this folder that is alive."""
        if self._queue_file is None:
            file = LockFile(self.folder / "queue")
            try:
                file.lock()
            except BlockingIOError:
                file.close()
                return False
            self._queue_file = file
        return True

    def _start(self, job: Job) -> None:
        try:
            self._processes[job.id] = self._launch(job)
        except OSError as error:
            job.end("failed", f"The training process could not be started ({error}). Free some memory and try again.")

    def _launch(self, job: Job) -> "subprocess.Popen[bytes]":
        removed = (*DISTRIBUTED_VARIABLES, *CACHE_VARIABLES)  # training is faster with the full kernel cache
        environment = {name: value for name, value in os.environ.items() if name not in removed}
        # -P: Python imports no module from the working directory, which contains uploaded files.
        command = [sys.executable, "-P", "-m", f"{__package__}.worker", str(job.folder)]
        return start_independent(command, folder=job.folder, environment=environment, log=job.folder / "log.txt")

    def _reap(self) -> None:
        """Records the end of this server's processes that have exited."""
        for id, process in list(self._processes.items()):
            if process.poll() is not None:
                del self._processes[id]
                self._record_end(Job(self.folder / id), process.returncode)

    def _record_end(self, job: Job, code: int) -> None:
        """Records the end of a process that could not do so itself."""
        if not (job.folder / "job.json").exists() or (job.folder / "end.json").exists():
            return
        if job.kill_requested and code:  # on Windows, the code of a killed process is 1
            job.end(job.stopped_status.state, job.stopped_status.message)
        elif code < 0:
            job.end(
                "died",
                f"The training process was killed (signal {-code}; 9 often means that the memory was full). "
                "The last checkpoint is kept.",
            )
        else:
            job.end("died", "The training process failed with an internal error of Headway. See the log below.")

    def _clean_up(self) -> None:
        """Deletes the partial files of a killed server or process."""
        if not self.folder.is_dir():
            return
        for leftover in self.folder.glob(".*"):
            if re.fullmatch(rf"\.{ID.pattern}\.(removed|.*\.new)", leftover.name):
                shutil.rmtree(leftover, ignore_errors=True)
        for job in self.all():
            if not job.alive:
                job.clear()

    def _free_name(self, wanted: str, taken: Collection[str]) -> str:
        """The first of `wanted`, `wanted-2`, `wanted-3`, ... that is not in use."""
        used = {name.casefold() for name in taken} | {job.request.name.casefold() for job in self.all()}
        used |= {path.name.casefold().removesuffix(".running") for path in self.runs.iterdir()}
        name, number = wanted, 1
        while name.casefold() in used:
            number += 1
            name = f"{wanted}-{number}"
        return name


def _queue_key(job: Job) -> tuple[float, str]:
    return job.queued_at, job.id


def safe_name(text: str) -> str:
    """Turns any text into a folder name of letters, digits, dots, dashes and underscores, usable on every system."""
    name = re.sub(r"[^\w.-]+", "-", text).strip(".-_").encode()[:MAX_NAME_BYTES].decode(errors="ignore").strip(".-_")
    while name.casefold().endswith((".running", ".begun")):
        name = name.rpartition(".")[0].strip(".-_")
    return name if name and is_usable_name(name) else f"model-{name}".rstrip("-")


def _copy_upload(upload: Path, folder: Path, role: str) -> Path:
    """Copies an uploaded file under a safe name; keeps the suffix, which determines the format.

    Args:
        upload: the file.
        folder: for the copy.
        role: added to its name if there is a file of that name; some file systems ignore the case of names.
    """
    ending = re.sub(r"\W", "", upload.suffix.lower())
    if ending in ARCHIVES:
        raise HeadwayError(f"{upload.name} is compressed. Unpack it and upload its content.")
    stem = safe_name(upload.name.removesuffix(upload.suffix))
    kept = folder / (f"{stem}.{ending}" if ending else stem)
    if kept.exists():
        kept = kept.with_name(f"{kept.stem}-{role}{kept.suffix}")
    try:
        shutil.copyfile(upload, kept)
    except FileNotFoundError as error:
        raise HeadwayError(f"{upload.name} was deleted from the server. Upload it again.") from error
    return kept
