"""Panels for an upload from the clipboard, and for renaming or deleting a model trained here."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import gradio as gr

from ...core.errors import HeadwayError
from .drawing import caption
from .events import bind
from .pasted_cells import write_pasted

if TYPE_CHECKING:
    from ..model_registry import ModelRegistry
    from ..runs.jobs import Jobs
    from .tab_context import TabContext

FORMATS = "CSV, TSV, Excel, JSON, JSON lines, Parquet, CoNLL or SQuAD"


def draw_paste(file: gr.File, errors: gr.HTML, *, elem_id: str) -> None:
    """A box for cells of a spreadsheet, which become the file."""
    with gr.Accordion("Paste from a spreadsheet", open=False, elem_id=elem_id):
        pasted = gr.Textbox(
            lines=3,
            max_lines=8,
            show_label=False,
            placeholder="Copy the cells, with the column names, and paste them here.",
        )
    bind(pasted.input, write_pasted, [pasted], [file], errors, queue=None, show_progress="hidden")


def draw_management(context: "TabContext", names: Callable[[], Sequence[str]]) -> None:
    """The panel for renaming and deleting the chosen model."""
    registry, jobs, model = context.registry, context.jobs, context.model
    errors = gr.HTML()
    name = gr.Textbox(label="New name")
    with gr.Row():
        rename = gr.Button("Rename", min_width=100)
        delete = gr.Button("Delete …", variant="stop", min_width=100)
    with gr.Row(visible=False) as question:
        gr.HTML(caption("The model folder is deleted from the disk. This cannot be undone."))
        confirm = gr.Button("Delete the model", variant="stop", min_width=100)
        keep = gr.Button("Keep it", min_width=100)
    quick: dict[str, Any] = {"queue": None, "show_progress": "hidden"}
    renamed = bind(rename.click, partial(rename_model, registry, jobs), [model, name], [name, model], errors, **quick)
    deleted = bind(confirm.click, partial(delete_model, registry, jobs), [model], [question, model], errors, **quick)
    for changed in (renamed, deleted):
        bind(
            changed.success,
            lambda chosen: gr.Dropdown(choices=list(names()), value=chosen),
            [model],
            [model],
            errors,
            **quick,
        )
    bind(delete.click, lambda chosen: _ask(registry, chosen), [model], [question], errors, **quick)
    bind(keep.click, lambda: gr.Row(visible=False), [], [question], errors, **quick)


def _ask(registry: "ModelRegistry", name: str | None) -> gr.Row:
    registry.trained_here(name or "")
    return gr.Row(visible=True)


def rename_model(registry: "ModelRegistry", jobs: "Jobs", name: str | None, wanted: str) -> tuple[str, str]:
    """Renames a model trained here; returns an empty text box and the new name."""
    entry = registry.trained_here(name or "")
    if not wanted.strip():
        raise HeadwayError("Enter the new name.")
    return "", jobs.rename_model(entry.folder.name, wanted, taken=[one.name for one in registry.entries()])


def delete_model(registry: "ModelRegistry", jobs: "Jobs", name: str | None) -> tuple[gr.Row, str | None]:
    """Deletes a model trained here; returns the hidden question and the next model."""
    jobs.delete_model(registry.trained_here(name or "").folder.name)
    others = [one.name for one in registry.entries() if one.task is not None]
    return gr.Row(visible=False), next(iter(others), None)
