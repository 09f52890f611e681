"""The part of the tab Evaluate for the labels of the file: those that are probably wrong, and a corrected copy."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from ....core.errors import HeadwayError
from ....core.training.training_config import TrainConfig
from ....tasks import TASKS
from ....tasks.evaluation.corrections import write_corrected
from ....tasks.evaluation.label_errors import LabelErrors, find_label_errors
from ...commands.label_errors import DEFAULT_MODEL
from ..background import require_upload, run_in_background
from ..drawing import caption, hint
from ..events import FILES, bind
from ..form import DEFAULT, read_number
from ..kept_form import QUIET
from ..pasted_cells import upload_folder
from ..review import ACCEPT_JS, ACCEPTED_JS, REVIEW_JS, draw_review
from .evaluate_data import LabelledFile, form_errors, label_columns
from .train_form import model_to_open

if TYPE_CHECKING:
    from ....tasks.base.task import Task
    from ...model_registry import ModelRegistry

NO_SUSPECTS = "The labels that are probably wrong appear here."


@dataclass(frozen=True)
class Search:
    """What was searched, and what was found."""

    file: str
    task: str  # its name; empty: inferred
    columns: dict[str, Any]
    found: LabelErrors


def draw_labels_part(
    registry: "ModelRegistry", data: LabelledFile
) -> tuple[gr.Dropdown, list[Any], Callable[[], Any]]:
    """Draws the part.

    Args:
        registry: the models.
        data: the labelled file.

    Returns:
        The list of models, the outputs, and a function that returns their empty values.
    """
    model, task, folds = _draw_choices(registry)
    with gr.Row(elem_classes="hw-buttons"):
        start = gr.Button("Find label errors", variant="primary", min_width=120)
        cancel = gr.Button("Cancel", visible=False, min_width=120)
    errors = gr.HTML()
    search = gr.State(None)
    accepted = gr.Textbox(visible=False)
    with gr.Row(visible=False, equal_height=False, elem_classes="hw-controls") as controls:
        above = gr.Number(0.9, minimum=0, maximum=1, step=0.05, label="Probability of the likely label", min_width=200)
        accept = gr.Button("Accept all above", min_width=160)
        write = gr.Button("Write corrected copy", variant="primary", min_width=160)
    download = gr.DownloadButton("Download", visible=False, elem_id="download-corrected")
    written = gr.HTML()
    shown = gr.HTML(hint(NO_SUSPECTS), elem_id="suspects", js_on_load=REVIEW_JS)
    outputs = [shown, search, controls, cancel, download, written]
    given = [model, task, folds, data.file, data.labels]
    options: dict[str, Any] = {"queue": FILES, "on_error": [hint(NO_SUSPECTS), *_hidden()]}
    finding = bind(start.click, partial(find, registry), given, outputs, errors, **options)
    cancel.click(empty, None, outputs, cancels=[finding], **QUIET)
    accept.click(None, above, None, js=ACCEPT_JS, **QUIET)
    options = {"queue": FILES, "js": ACCEPTED_JS, "on_error": [gr.update(visible=False), ""]}
    bind(write.click, write_copy, [accepted, search], [download, written], errors, **options)
    return model, outputs, empty


def _draw_choices(registry: "ModelRegistry") -> tuple[gr.Dropdown, gr.Dropdown, gr.Textbox]:
    names = reader_names(registry)
    checkable = [(task.title, name) for name, task in TASKS.items() if task().has_labels_to_check]
    with gr.Row():
        model = gr.Dropdown(
            names,
            value=DEFAULT_MODEL if DEFAULT_MODEL in names else next(iter(names), None),
            label="Model",
            info="It predicts each label without having been trained on its row. Of a model that was trained with "
            "folds on this file, the stored predictions are used.",
            allow_custom_value=True,
            min_width=240,
            elem_id="label-model",
        )
        task = gr.Dropdown(
            [(DEFAULT, ""), *checkable], value="", label="Task", info="Default: inferred from the file.", min_width=160
        )
        folds = gr.Textbox(
            placeholder=DEFAULT,
            label="Folds",
            info="Fine-tune the model with this number of folds, which takes longer and errs less. Default: linear "
            "models on its vectors.",
            min_width=240,
        )
    return model, task, folds


def reader_names(registry: "ModelRegistry") -> list[str]:
    """The models whose vectors can be used."""
    return [entry.name for entry in registry.text_readers()]


def empty() -> tuple[Any, ...]:
    """No suspects."""
    return hint(NO_SUSPECTS), *_hidden()


def _hidden() -> tuple[Any, ...]:
    hidden = gr.update(visible=False)
    return None, hidden, hidden, hidden, ""


def find(registry: "ModelRegistry", name: str | None, task: str | None, *given: Any) -> Iterator[tuple[Any, ...]]:
    """The suspects of a file, after the progress; they are searched for in another process.

    Args:
        registry: the models.
        name: of the model.
        task: name of the task; empty: inferred.
        *given: the number of folds, the file and the label columns.
    """
    folds, file, labels = given
    if not name or not file:
        raise HeadwayError("Choose a model, and upload a file with texts and labels.")
    count = read_number("Folds", folds, int)
    require_upload(file)
    model, columns = model_to_open(registry, name), label_columns(labels)
    folders, hidden = {model: name, file: Path(file).name}, gr.update(visible=False)
    with form_errors(file, folders):
        running = run_in_background(_find, file, model, task or "", columns, (count, registry.device))
        while True:
            try:
                seconds = next(running)
            except StopIteration as end:
                found = end.value
                break
            yield caption(f"Searching, {seconds:.0f} s …"), None, hidden, gr.update(visible=True), hidden, ""
    controls = gr.update(visible=bool(found.suspects))
    yield draw_review(found, folders), Search(file, task or "", columns, found), controls, hidden, hidden, ""


def _task(name: str) -> "Task[Any, Any] | None":
    return TASKS[name]() if name else None


def _find(file: str, model: str, task: str, columns: dict[str, Any], how: tuple[int | None, str]) -> LabelErrors:
    folds, device = how
    config = TrainConfig(device=device)
    return find_label_errors(
        file, model=model, task=_task(task), columns=columns, folds=folds, config=config, device=device
    )


def write_copy(accepted: str, search: Search | None) -> tuple[Any, str]:
    """A copy of the file with the likely label of each accepted suspect.

    Args:
        accepted: the numbers of the suspects, as JSON.
        search: in which they were found.
    """
    if search is None:
        raise HeadwayError("Search for label errors first.")
    require_upload(search.file)
    source = Path(search.file)
    output = upload_folder("corrected") / f"{source.stem}-corrected{source.suffix}"
    with form_errors(search.file, {str(output): output.name}):
        chosen = [search.found.suspects[number].correction() for number in json.loads(accepted or "[]")]
        if not chosen:
            raise HeadwayError("No label is accepted. Accept at least one.")
        copy = write_corrected(source, chosen, output, task=_task(search.task), columns=search.columns)
    rows = "1 row has" if copy.changed == 1 else f"{copy.changed:,} rows have"
    said = f"{rows} another label in {output.name}; everything else is as in {source.name}."
    return gr.DownloadButton(f"Download {output.name}", value=str(output), visible=True), caption(said)
