"""The labelled file of the tab Evaluate, its label and slice columns, and what the parts of the tab share."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from ....core.errors import HeadwayError
from ....tasks import read_table
from ....tasks.data.rows import SAMPLE_ROWS
from ..background import is_large, process_file
from ..drawing import caption, hint
from ..events import FILES, bind, message_of
from ..model_panels import FORMATS, draw_paste
from ..run_drawing import form_message

if TYPE_CHECKING:
    from ....tasks import TaskModel
    from ...model_registry import ModelRegistry, StoredModel

MAX_NAMES = 20  # columns that are listed
NO_FILE = "Upload a file with texts and labels."


@dataclass(frozen=True)
class LabelledFile:
    """The components of the file, and the event that reads its columns."""

    file: gr.File
    labels: gr.Dropdown
    slices: gr.Dropdown
    read: Any


def draw_labelled_file() -> LabelledFile:
    """Draws the upload and the choice of columns."""
    with gr.Row(equal_height=False):
        with gr.Column(min_width=300):
            file = gr.File(label=f"Labelled file: {FORMATS}", height=140, elem_id="labelled")
            errors = gr.HTML(render=False)
            draw_paste(file, errors, elem_id="paste-labelled")
        with gr.Column(min_width=300):
            errors.render()
            about = gr.HTML(hint(NO_FILE))
            chosen: dict[str, Any] = {"value": [], "multiselect": True, "allow_custom_value": True}
            labels = gr.Dropdown([], label="Label", info="Columns of the labels. Default: inferred.", **chosen)
            slices = gr.Dropdown(
                [],
                label="Slices",
                info="Columns: in reports and comparisons, the rows with each of their values are shown separately.",
                elem_id="slices",
                **chosen,
            )
    outputs = [about, labels, slices]
    options: dict[str, Any] = {"queue": FILES, "on_error": _nothing(), "show_progress": "hidden"}
    return LabelledFile(file, labels, slices, bind(file.change, read_columns, [file], outputs, errors, **options))


def read_columns(file: str | None) -> Iterator[tuple[Any, ...]]:
    """The names of the columns of an uploaded file, and the choices of both lists."""
    if not file:
        yield _nothing()
        return
    reading = process_file(file, partial(read_table, file, limit=SAMPLE_ROWS))
    while True:
        try:
            message = next(reading)
        except StopIteration as end:
            table = end.value
            break
        yield message, gr.skip(), gr.skip()
    columns = list(table.columns)
    more = f" and {len(columns) - MAX_NAMES} more" if len(columns) > MAX_NAMES else ""
    about = caption(f"{Path(file).name} ({table.kind}): {', '.join(columns[:MAX_NAMES])}{more}")
    yield about, _choices(columns), _choices(columns)


def _nothing() -> tuple[Any, ...]:
    return hint(NO_FILE), _choices(()), _choices(())


def _choices(columns: Sequence[str]) -> dict[str, Any]:
    return gr.update(choices=list(columns), value=[])


def model_for(registry: "ModelRegistry", name: str, file: str) -> "TaskModel | StoredModel":
    """An open model for a file that is read in this process; for a large one, what another process opens.

    Raises:
        HeadwayError: the model does not exist or cannot be opened.
    """
    opened = registry.task_model(name)
    return registry.stored(name) if is_large(file) else opened


def label_columns(labels: Sequence[str] | None) -> dict[str, Any]:
    """The chosen label columns as the functions of tasks take them."""
    return {"label": list(labels)} if labels else {}


@contextmanager
def form_errors(file: str, folders: Mapping[str, str]) -> Iterator[None]:
    """Messages with the labels of the form, and with names instead of paths.

    Args:
        file: the uploaded file.
        folders: of the models -> their names in the form.
    """
    try:
        yield
    except HeadwayError as error:
        raise HeadwayError(form_message(without_paths(message_of(error), file, folders))) from error


def without_paths(text: str, file: str, folders: Mapping[str, str]) -> str:
    """A text with the names of the file and of the models instead of their paths."""
    for path, name in {file: Path(file).name, **folders}.items():
        text = text.replace(path, name)
    return text
