"""The data of the tab Train: the uploaded or pasted file, its first rows, and the columns of the task."""

import os
import shutil
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from ....core.errors import HeadwayError
from ....tasks import TASKS, read_table
from ....tasks.infer_task import InferredTask, infer_task
from ....tasks.samples import FOLDER
from ...options import column_options
from ..background import process_file
from ..drawing import alert, caption, hint
from ..pasted_cells import upload_folder
from ..run_drawing import draw_rows, form_message
from .train_form import NO_DATA, OFFERED_SAMPLES, FormValues, field_labels

if TYPE_CHECKING:
    from ....tasks.data.columns import ColumnMapping
    from ....tasks.data.read_options import ReadOptions
    from ....tasks.data.rows import Table

MAX_ROWS = 1000  # read to infer the task and the columns


def take_sample(event: gr.EventData) -> str:
    """A copy of the clicked sample, in the place of an upload."""
    name = OFFERED_SAMPLES[event.choice]
    return str(shutil.copy(FOLDER / name, upload_folder("samples") / name))


def read_file(infer: bool, *values: Any) -> Iterator[tuple[Any, ...]]:
    """Updates for the uploaded file.

    Args:
        infer: whether to infer the task instead of using the chosen one.
        *values: values of the form.

    Yields:
        The first rows, the button Cancel, the next steps, the reason of the task, the task, its columns, the name, the
        file that was read, and the button Start.
    """
    form = FormValues.read(values)
    skipped = [gr.skip()] * (len(column_options(group=True)) + 4)
    if form.data is None:
        hidden = [_hidden_column(option.name) for option in column_options(group=True)]
        no_file = gr.Textbox(placeholder=""), "", gr.Button(interactive=False)
        yield hint(NO_DATA), _no_cancel(), gr.Column(visible=False), "", form.task, *hidden, *no_file
        return
    restored = form.read_from == str(form.data)  # the page was loaded again
    infer = infer and not restored
    try:
        given = form.data, form.reading, infer
        table, found = yield from _with_progress(form, _read_first_rows, *given, width=len(skipped))
    except HeadwayError as error:
        shown = alert(message_for(error, form))
        yield shown, _no_cancel(), gr.Column(visible=False), "", gr.skip(), *skipped[:-1], gr.Button(interactive=False)
        return
    task, reason = form.task, ""
    if found is not None:
        task = found.task
        reason = caption(f"Inferred from the file: {found.why}. Choose another task if this is wrong.")
    columns = _infer_columns(table, task, _kept_columns(table, task, form, restored=restored))
    shown = draw_rows(table, columns, field_labels(task))  # without columns, the report says which ones to choose
    name = gr.Textbox(placeholder=form.data.name.partition(".")[0])
    start = gr.Button(interactive=columns is not None)
    choices = column_choices(table, task, columns)
    yield shown, _no_cancel(), gr.Column(visible=True), reason, task, *choices, name, str(form.data), start


def _read_first_rows(data: Path, reading: "ReadOptions", infer: bool) -> "tuple[Table, InferredTask | None]":
    table = read_table(data, reading, limit=MAX_ROWS)
    return table, infer_task(table) if infer else None


def _with_progress(
    form: FormValues, function: Any, *arguments: Any, width: int
) -> Generator[tuple[Any, ...], None, Any]:
    """Calls a function, in a separate process for a large file; yields updates of the display and the button."""
    assert form.data is not None
    reading = process_file(form.data, function, *arguments)
    skipped = [gr.skip()] * (width + 2)
    while True:
        try:
            message = next(reading)
        except StopIteration as end:
            return end.value
        yield message, gr.Button(visible=True), *skipped


def _no_cancel() -> gr.Button:
    return gr.Button(visible=False)


def _kept_columns(table: "Table", task: str, form: FormValues, *, restored: bool) -> dict[str, Any]:
    """The columns chosen before that can stay: those of texts; after a reload also the label."""
    if form.read_from != str(form.data):
        return {}
    known = [*(field.name for field in TASKS[task].inputs), *([] if TASKS[task].self_supervised else ["group"])]
    kept = {name: form.columns[name] for name in known if form.columns.get(name) in (*table.columns, "")}
    label = form.columns.get("label") or []
    return kept | {"label": label} if restored and label and set(label) <= set(table.columns) else kept


def _hidden_column(column: str) -> gr.Dropdown:
    is_label = column == "label"
    return gr.Dropdown(visible=False, choices=[], value=[] if is_label else None, multiselect=is_label)


def _infer_columns(table: "Table", task: str, kept: Mapping[str, Any]) -> "ColumnMapping | None":
    """The columns; None if they cannot be inferred."""
    for chosen in (kept, {}):
        try:
            return TASKS[task]().columns(table, chosen, need_label=not TASKS[task].self_supervised)
        except HeadwayError:
            continue
    return None


def column_choices(table: "Table", task: str, columns: "ColumnMapping | None") -> list[Any]:
    """Updates of the column lists, with the inferred columns chosen."""
    named = table.header or table.columns != tuple(str(number) for number in range(len(table.columns)))
    choices = [(name if named else _describe_column(table, name), name) for name in table.columns]
    fields = {field.name: field for field in TASKS[task].inputs}
    updates = []
    for option in column_options(group=True):
        name = option.name
        if name == "label":
            label = columns.label if columns else None
            value = [label] if isinstance(label, str) else list(label or ())
            visible = not TASKS[task].self_supervised
            updates.append(gr.Dropdown(choices=choices, value=value, visible=visible, multiselect=True))
        elif name == "group":
            group = columns.group if columns else None
            visible = not TASKS[task].self_supervised
            updates.append(gr.Dropdown(choices=[("none", ""), *choices], value=group or "", visible=visible))
        elif name in fields:
            none = [] if fields[name].required else [("none", "")]
            found = columns.texts.get(name, None if fields[name].required else "") if columns else None
            updates.append(gr.Dropdown(choices=[*none, *choices], value=found, visible=True, label=fields[name].label))
        else:
            updates.append(_hidden_column(name))
    return updates


def _describe_column(table: "Table", column: str) -> str:
    """A column without a name: its number and the beginning of its first cell."""
    first = " ".join(str(table.rows[0].get(column) or "").split())
    return f"{int(column) + 1}: {first[:24]}{'…' * (len(first) > 24)}"


def redraw_rows(*values: Any) -> Iterator[tuple[Any, ...]]:
    """The first rows after a column was chosen, and the button Cancel."""
    form = FormValues.read(values)
    if form.data is None:
        yield hint(NO_DATA), _no_cancel()
        return
    table, _ = yield from _with_progress(form, _read_first_rows, form.data, form.reading, False, width=0)
    try:
        columns = TASKS[form.task]().columns(table, form.columns, need_label=not TASKS[form.task].self_supervised)
    except HeadwayError:
        columns = None  # the report says what is wrong
    yield draw_rows(table, columns, field_labels(form.task)), _no_cancel()


def message_for(error: HeadwayError, form: FormValues) -> str:
    """The message of an error with the labels of the form, and file names without folders."""
    return form_message(without_folders(str(error), form), field_labels(form.task))


def without_folders(text: str, form: FormValues) -> str:
    """A text in which the files of the form are named without their folders."""
    for path in (form.data, form.held_out, form.test):
        if path is not None:
            text = text.replace(f"{path.parent}{os.sep}", "")
    return text
