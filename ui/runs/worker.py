"""The process of a training run of the browser app: `python -P -m headway.ui.runs.worker FOLDER`.

It reads the request from the run's folder (job.py), trains, and writes the events there. It does not depend on the
server, which may stop and restart meanwhile.
"""

import json
import os
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...core.atomic_files import disk_errors
from ...core.errors import HeadwayError
from ..interrupts import INTERRUPTIONS
from .job import Job, Request

if TYPE_CHECKING:
    from ..training_view import TrainingView


class EventLog:
    """The file of training events, one line of JSON each, written without buffering."""

    def __init__(self, path: Path) -> None:
        with disk_errors(path):
            self._file = path.open("a+b", buffering=0)
            self._file.seek(0)
            end = self._file.read().rfind(b"\n") + 1
            self._file.truncate(end)  # a killed process may leave an incomplete line
        self._path = path

    def write(self, event: Mapping[str, Any]) -> None:
        """Appends an event."""
        line = memoryview(json.dumps(event, ensure_ascii=False, default=str).encode() + b"\n")
        with disk_errors(self._path):
            while line:
                line = line[self._file.write(line) :]

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


def train(job: Job) -> None:
    """Runs the training and records how it ended."""
    signals: list[int] = []
    for number in INTERRUPTIONS:
        signal.signal(number, lambda number, _: signals.append(number))
    from ..terminal import screen
    from ..training_view import TrainingView

    with TrainingView(screen()) as view:
        try:
            job.check_output_is_free()
            if job.unpublished.exists():
                job.publish()  # the previous process was killed just before this step
            else:
                _run(job, view, lambda: bool(signals) or job.stop_file.exists())
        except KeyboardInterrupt:
            job.end(job.stopped_status.state, job.stopped_status.message)
            print("stopped", flush=True)
        except HeadwayError as error:
            print(error, flush=True)
            if not job.has_model:
                job.end("failed", str(error))


def _run(job: Job, view: "TrainingView", stop: Callable[[], bool]) -> None:
    from ...core.training.training_config import TrainConfig
    from ...tasks import TASKS, TaskModel
    from ...tasks.base.error_analysis import analyze_errors
    from ...tasks.base.results import Prepared, Trained

    request = job.request
    os.chdir(job.data_folder)  # so that messages name the files without folders
    model = TaskModel.plug(TASKS[request.task].from_json(request.options), request.model)
    events = EventLog(job.folder / "events.jsonl")
    try:
        for event in model.train(
            Path(request.data.name),
            request.eval_data and Path(request.eval_data.name),
            output=job.unpublished,
            columns=request.columns,
            test_data=request.test_data and Path(request.test_data.name),
            eval_fraction=request.eval_fraction,
            test_fraction=request.test_fraction,
            folds=request.folds,
            seeds=request.seeds,
            config=TrainConfig(**request.training),
            resume=True,  # starts from the beginning if there is no checkpoint
            header=request.header,
            **request.reading,
            settings=settings_of(request),
            stop=stop,
        ):
            if isinstance(event, Trained):
                if found := model.held_out:
                    job.write("account.json", analyze_errors(model.task, found.predictions, found.examples))
                job.publish()
                event = replace(event, output=job.output)
            events.write(event.to_json())
            view.show(event)
            if isinstance(event, Prepared) and stop():
                raise KeyboardInterrupt
    finally:
        events.close()


def settings_of(request: Request) -> dict[str, Any]:
    """The content of run.yaml, with which `headway train --config` repeats the run."""
    from ...core.options import options_of
    from ...tasks import TASKS

    file_options = {option.name: option.file for option in options_of(TASKS[request.task]) if option.file}
    options = {
        file_options.get(name, name): _labels_file(request) if name in file_options else value
        for name, value in request.options.items()
    }
    settings = {
        "task": request.task,
        "data": str(request.data),
        "eval_data": request.eval_data and str(request.eval_data),
        "model": request.model,
        "eval_fraction": request.eval_fraction,
        "test_data": request.test_data and str(request.test_data),
        "test_fraction": request.test_fraction,
        "folds": request.folds,
        "seeds": request.seeds,
        "header": request.header,
        **request.reading,
        **request.columns,
        **options,
        **request.training,
    }
    return {name.replace("_", "-"): value for name, value in settings.items() if value is not None}


def _labels_file(request: Request) -> str:
    return str(request.data.with_name("label-names.txt"))


def main(argv: list[str] | None = None) -> int:
    """Trains the run in the given folder if it is still waiting."""
    job = Job(Path((sys.argv[1:] if argv is None else argv)[0]))
    with job.hold_lock():
        if not job.ticket.exists():
            return 0  # another process has already started it
        job.ticket.unlink()
        job.clear()
        train(job)
    return 0


if __name__ == "__main__":
    sys.exit(main())
