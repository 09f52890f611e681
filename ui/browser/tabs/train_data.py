"""The data of the tab Train: reading the uploaded file, inferring task and columns, and the data check."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr
from gradio.utils import get_upload_folder

from ....core.errors import HeadwayError
from ....tasks import TASKS, read_table
from ....tasks.base.check import check_data
from ....tasks.infer_task import infer_task
from ....tasks.samples import FOLDER
from ...options import column_options
from ..drawing import alert, caption, hint
from ..run_drawing import draw_report, draw_rows, form_message
from .train_form import NO_DATA, SAMPLES, FormValues, field_labels

if TYPE_CHECKING:
    from ....tasks.data.columns import ColumnMapping
    from ....tasks.data.rows import Table
    from ...model_registry import ModelRegistry

MAX_ROWS = 1000  # read to infer the task and the columns


def take_sample(event: gr.EventData) -> str:
    """A copy of the clicked sample, in the place of an upload."""
    name = list(SAMPLES)[event.choice]
    folder = Path(get_upload_folder()) / "headway-samples"
    folder.mkdir(parents=True, exist_ok=True)
    return str(shutil.copy(FOLDER / name, folder / name))


def read_file(infer: bool, *values: Any) -> tuple[Any, ...]:
    """Updates for the uploaded file: its first rows, the next steps, the task, its columns and the model's name.

    Args:
        infer: whether to infer the task instead of using the chosen one.
        *values: values of the form.
    """
    form = FormValues.read(values)
    hidden = [_hidden_column(option.name) for option in column_options(group=True)]
    if form.data is None:
        return hint(NO_DATA), gr.Column(visible=False), "", form.task, *hidden, form.name
    try:
        table = read_table(form.data, header=form.header, limit=MAX_ROWS)
    except HeadwayError as error:
        return alert(message_for(error, form)), gr.Column(visible=False), "", form.task, *hidden, form.name
    task, reason = form.task, ""
    if infer:
        found = infer_task(table)
        task = found.task
        reason = caption(f"Inferred from the file: {found.why}. Choose another task if this is wrong.")
    shown, columns = _infer_columns(table, task, {}, form)
    stem = form.data.name.partition(".")[0]
    return shown, gr.Column(visible=True), reason, task, *column_choices(table, task, columns), stem


def _hidden_column(column: str) -> gr.Dropdown:
    is_label = column == "label"
    return gr.Dropdown(visible=False, choices=[], value=[] if is_label else None, multiselect=is_label)


def _infer_columns(
    table: "Table", task: str, chosen: Mapping[str, Any], form: FormValues
) -> "tuple[str, ColumnMapping | None]":
    """The first rows with the roles of their columns, and the columns; None if they cannot be inferred."""
    try:
        columns = TASKS[task]().columns(table, chosen, need_label=not TASKS[task].self_supervised)
    except HeadwayError as error:
        return alert(message_for(error, form)) + draw_rows(table, None, field_labels(task)), None
    return draw_rows(table, columns, field_labels(task)), columns


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
            visible = not TASKS[task].self_supervised
            updates.append(gr.Dropdown(choices=[("none", ""), *choices], value="", visible=visible))
        elif name in fields:
            none = [] if fields[name].required else [("none", "")]
            found = columns.texts.get(name, None if fields[name].required else "") if columns else None
            updates.append(gr.Dropdown(choices=[*none, *choices], value=found, visible=True))
        else:
            updates.append(_hidden_column(name))
    return updates


def _describe_column(table: "Table", column: str) -> str:
    """A column without a name: its number and the beginning of its first cell."""
    first = " ".join(str(table.rows[0].get(column) or "").split())
    return f"{int(column) + 1}: {first[:24]}{'…' * (len(first) > 24)}"


def redraw_rows(*values: Any) -> str:
    """The first rows after a column was chosen."""
    form = FormValues.read(values)
    if form.data is None:
        return hint(NO_DATA)
    table = read_table(form.data, header=form.header, limit=MAX_ROWS)
    return _infer_columns(table, form.task, form.columns, form)[0]


def check(registry: "ModelRegistry", *values: Any) -> str:
    """The report of the data check."""
    form = FormValues.read(values)
    if form.data is None:
        return ""
    model = registry.find(form.model).folder if form.model else None
    try:
        report = check_data(
            form.create_task(), form.data, form.held_out, columns=form.columns, header=form.header, model=model
        )
    except HeadwayError as error:
        return alert(message_for(error, form))
    return _without_folders(draw_report(report), form)


def message_for(error: HeadwayError, form: FormValues) -> str:
    """The message of an error with the labels of the form, and file names without folders."""
    return form_message(_without_folders(str(error), form))


def _without_folders(text: str, form: FormValues) -> str:
    for path in (form.data, form.held_out):
        if path is not None:
            text = text.replace(f"{path.parent}/", "")
    return text
