"""The data check of the tab Train: of the first rows of a large file, then of the whole file."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import gradio as gr

from ....core.errors import HeadwayError
from ....tasks import TASKS, read_table
from ....tasks.base.check import check_data
from ..background import LARGE, run_in_background
from ..drawing import alert, caption, hint
from ..run_drawing import draw_report
from .train_data import message_for, without_folders
from .train_form import FormValues, model_to_open

if TYPE_CHECKING:
    from ....tasks.data.report import DataReport
    from ...model_registry import ModelRegistry

SAMPLE_ROWS = 2000  # of a large file, checked first


def check(registry: "ModelRegistry", *values: Any) -> Iterator[tuple[Any, ...]]:
    """The report of the data check, the button Cancel and the button Start."""
    form = FormValues.read(values)
    if form.data is None or not form.data.exists():
        yield "", gr.Button(visible=False), gr.Button(interactive=False)
        return
    if missing := missing_columns(form):
        message = f"Choose the {' and the '.join(missing)} of each row under “Columns”, or choose another task."
        yield hint(message), gr.Button(visible=False), gr.Button(interactive=False)
        return
    try:
        yield from _reports(registry, form)
    except HeadwayError as error:
        yield alert(message_for(error, form)), gr.Button(visible=False), gr.Button(interactive=False)


def missing_columns(form: FormValues) -> list[str]:
    """The labels of the required texts for which no column is chosen."""
    return [
        f"column of the {field.label.lower()}"
        for field in TASKS[form.task].inputs
        if field.required and not form.columns.get(field.name)
    ]


def _reports(registry: "ModelRegistry", form: FormValues) -> Iterator[tuple[Any, ...]]:
    model = model_to_open(registry, form.model) if form.model else None
    files = [path for path in (form.data, form.held_out, form.test) if path is not None]
    if sum(path.stat().st_size for path in files) <= LARGE:
        yield _result(_check(form, model, None), form)
        return
    size = f"{sum(path.stat().st_size for path in files) / 1e6:,.0f} MB"
    sample, cancel = "", gr.Button(visible=True)
    for limit, rows in ((SAMPLE_ROWS, f"the first {SAMPLE_ROWS:,} rows"), (None, f"all rows ({size})")):
        running = run_in_background(_check, form, model, limit)
        while True:
            try:
                message = caption(f"Checking {rows}, {next(running):.0f} s …")
            except StopIteration as end:
                report, _, start = _result(end.value, form)
                break
            yield message + sample, cancel, gr.skip()
        if limit is None:
            yield report, gr.Button(visible=False), start
        else:
            sample = caption(f"Of the first {SAMPLE_ROWS:,} rows:") + report
            yield sample, cancel, start


def _check(form: FormValues, model: str | None, limit: int | None) -> "DataReport":
    """Checks the first rows, or all if there is no limit."""
    task, files = form.create_task(), (form.data, form.held_out, form.test)
    if limit is None or task.self_supervised:
        return check_data(task, *files, columns=form.columns, model=model, **form.reading.given)
    tables = [path and read_table(path, form.reading, limit=limit) for path in files]
    return check_data(task, *tables, columns=form.columns, model=model)


def _result(report: "DataReport", form: FormValues) -> tuple[Any, ...]:
    usable = report.examples > 0 and not report.errors
    shown = without_folders(draw_report(report), form)
    return shown, gr.Button(visible=False), gr.Button(interactive=usable)
