"""The process in which a training run of the browser app computes: `python -P -m headway.ui.runs.worker FOLDER`.

It reads what was asked for from the run's folder (job.py), trains, and writes what happens there. The server may go
and come back meanwhile.
"""

import json
import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...core.atomic_files import disk_errors
from ...core.errors import HeadwayError
from .job import Job, Request

if TYPE_CHECKING:
    from ..training_view import TrainingView


class Events:
    """The file of events, a line each, on the disk before the next one comes."""

    def __init__(self, path: Path) -> None:
        with disk_errors(path):
            self._file = path.open("a+b", buffering=0)
            self._file.seek(0)
            whole = self._file.read().rfind(b"\n") + 1
            self._file.truncate(whole)  # a process that was killed may have left half a line
        self._path = path

    def tell(self, event: Mapping[str, Any]) -> None:
        """Adds one."""
        line = memoryview(json.dumps(event, ensure_ascii=False, default=str).encode() + b"\n")
        with disk_errors(self._path):
            while line:
                line = line[self._file.write(line) :]

    def close(self) -> None:
        """Nothing can be added afterwards."""
        self._file.close()


def train(job: Job) -> None:
    """Trains, and says how it ended."""
    asked: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: asked.append(number))
    from ..terminal import screen
    from ..training_view import TrainingView

    with TrainingView(screen()) as view:
        try:
            job.refuse_taken()
            if job.unpublished.exists():
                job.publish()  # the process before this one was killed when all was done but that
            else:
                _follow(job, view, lambda: bool(asked) or job.stop_file.exists())
        except KeyboardInterrupt:
            job.end(job.stopped.state, job.stopped.message)
            print("stopped", flush=True)
        except HeadwayError as error:
            print(error, flush=True)
            if not job.has_model:
                job.end("failed", str(error))


def _follow(job: Job, view: "TrainingView", stop: Any) -> None:
    from ...core.training.training_config import TrainConfig
    from ...tasks import TASKS, TaskModel
    from ...tasks.base.error_analysis import account_of
    from ...tasks.base.results import Prepared, Trained

    request = job.request
    os.chdir(job.data_folder)  # messages then name the files as the person knows them
    model = TaskModel.plug(TASKS[request.task].from_json(request.options), request.model)
    events = Events(job.folder / "events.jsonl")
    try:
        for event in model.train(
            Path(request.data.name),
            request.eval_data and Path(request.eval_data.name),
            output=job.unpublished,
            columns=request.columns,
            eval_fraction=request.eval_fraction,
            config=TrainConfig(**request.training),
            resume=True,  # from the beginning, where there is nothing to go on from
            header=request.header,
            settings=settings_of(request),
            stop=stop,
        ):
            if isinstance(event, Trained):
                if found := model.held_out:
                    job.write("account.json", account_of(model.task, found.predictions, found.examples))
                job.publish()
                event = replace(event, output=job.output)
            events.tell(event.to_json())
            view.show(event)
            if isinstance(event, Prepared) and stop():
                raise KeyboardInterrupt
    finally:
        events.close()


def settings_of(request: Request) -> dict[str, Any]:
    """What run.yaml holds: the same run for `headway train --config`."""
    from ...core.options import options_of
    from ...tasks import TASKS

    files = {option.name: option.file for option in options_of(TASKS[request.task]) if option.file}
    options = {files.get(name, name): _names_file(request) if name in files else value
               for name, value in request.options.items()}  # fmt: skip
    given = {
        "task": request.task,
        "data": str(request.data),
        "eval_data": request.eval_data and str(request.eval_data),
        "model": request.model,
        "eval_fraction": request.eval_fraction,
        "header": request.header,
        **request.columns,
        **options,
        **request.training,
    }
    return {name.replace("_", "-"): value for name, value in given.items() if value is not None}


def _names_file(request: Request) -> str:
    return str(request.data.with_name("label-names.txt"))


def main(argv: list[str] | None = None) -> int:
    """Trains what is asked for in a run's folder, if it still is."""
    job = Job(Path((sys.argv[1:] if argv is None else argv)[0]))
    with job.held():
        if not job.ticket.exists():
            return 0  # another process was faster
        job.ticket.unlink()
        job.clear()
        train(job)
    return 0


if __name__ == "__main__":
    sys.exit(main())
