"""Panels for the chosen model: its metrics on a labelled file, and renaming or deleting a model trained here."""

import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from ...core.errors import HeadwayError
from ...core.options import options_of
from ...tasks import load
from ...tasks.base.error_analysis import analyze_errors
from ...tasks.evaluation.rules import RuleOptions, measure_rules, propose_rules, store_rules
from .background import LARGE, process_file
from .drawing import caption, hint
from .events import FILES, bind
from .form import option_component, read_options
from .pasted_cells import write_pasted
from .run_drawing import draw_metrics

if TYPE_CHECKING:
    from ...tasks import TaskModel
    from ..model_registry import ModelRegistry
    from ..runs.jobs import Jobs
    from .tab_context import TabContext

FORMATS = "CSV, TSV, Excel, JSON, JSON lines, Parquet, CoNLL or SQuAD"
NO_SCORES = "The metrics and the errors appear here."


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


def draw_scoring(registry: "ModelRegistry", model: gr.Dropdown) -> None:
    """The panel for the metrics on a labelled file, and for decision rules that are fitted to it."""
    file = gr.File(label=FORMATS, height=140, elem_id="labelled")
    with gr.Accordion("Decision rules", open=False, elem_id="decision-rules"):
        rules = [option_component(one) for one in options_of(RuleOptions)]
        save = gr.Checkbox(label="Store", info="Predictions of the model follow the rules.")
    start = gr.Button("Evaluate", variant="primary")
    errors = gr.HTML()
    shown = gr.HTML(hint(NO_SCORES), elem_id="scores", min_height=100)
    given = [model, file, save, *rules]
    bind(start.click, partial(score, registry), given, [shown], errors, queue=FILES, on_error=[hint(NO_SCORES)])
    for cleared in (file.change, model.select):
        cleared(lambda: hint(NO_SCORES), None, shown, queue=False, show_progress="hidden", api_visibility="private")


def score(
    registry: "ModelRegistry", name: str | None, file: str | None, save: bool = False, *rules: str | None
) -> Iterator[str]:
    """The metrics and errors of a model on a labelled file, after the progress.

    Args:
        registry: the models.
        name: of the model.
        file: the labelled file.
        save: whether the fitted decision rules are stored.
        *rules: the values of RuleOptions in the form.
    """
    if not name or not file:
        raise HeadwayError("Choose a model, and upload a file with texts and labels.")
    known = options_of(RuleOptions)
    values = {one.name: value for one, value in zip(known, rules, strict=False)}
    fitting = RuleOptions(**read_options(known, values))
    if save and not fitting.any:
        raise HeadwayError("There is no rule to store. Enter a coverage, or do not store.")
    folder = registry.trained_here(name).folder if save else None
    registry.task_model(name)  # raises if it cannot be opened
    if Path(file).exists() and Path(file).stat().st_size > LARGE:
        opened = registry.find(name).folder, registry.precision, registry.device
        yield (yield from process_file(file, _score_alone, opened, file, fitting, folder))
    else:
        yield (yield from process_file(file, _score, registry.task_model(name), file, fitting, folder))


def _score_alone(opened: tuple[Path, str, str], file: str, fitting: RuleOptions, stored_in: Path | None) -> str:
    """As `_score`, with a model that is opened in this process from its folder, precision and device."""
    folder, precision, device = opened
    model = load(folder, device=device)
    model.precision = precision
    return _score(model, file, fitting, stored_in)


def _score(model: "TaskModel", file: str, fitting: RuleOptions, stored_in: Path | None) -> str:
    """The metrics, errors and decision rules; the model, which others use, has other rules only if they are stored."""
    found = model.evaluate(file)
    analysis = {} if model.task.self_supervised else analyze_errors(model.task, found.predictions, found.examples)
    folder = f"{Path(file).parent}{os.sep}"
    for one in analysis.get("mistakes", ()):
        one["where"] = one["where"].replace(folder, "")
    rules, scores = propose_rules(model, found, fitting) if fitting.any else (model.rules, measure_rules(model, found))
    if stored_in is not None:
        store_rules(str(stored_in), rules)
    title = f"Metrics on {len(found.examples):,} examples of {Path(file).name}"
    stored = ["The rules are stored: predictions follow them from now on."] if stored_in is not None else []
    notes = [note.replace(folder, "") for note in (*scores.sentences(), *stored, *found.notes)]
    return draw_metrics({**found.to_json(), "notes": notes}, title, analysis)


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
