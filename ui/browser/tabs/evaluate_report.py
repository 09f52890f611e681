"""The part of the tab Evaluate for one model: metrics and errors, the report, and decision rules."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from ....core.errors import HeadwayError
from ....core.options import options_of
from ....tasks.base.error_analysis import analyze_errors
from ....tasks.base.model_folder import update_rules
from ....tasks.evaluation import ReportOptions, evaluate_with_report
from ....tasks.evaluation.rules import RuleOptions, measure_rules, propose_rules
from ...commands.report_file import write_report
from ...model_registry import StoredModel
from ..background import process_file
from ..drawing import caption, draw_frame, hint
from ..events import FILES, bind
from ..form import option_component, read_options
from ..pasted_cells import upload_folder
from ..run_drawing import LABELS, draw_metrics
from .evaluate_data import LabelledFile, form_errors, label_columns, model_for, without_paths

if TYPE_CHECKING:
    from ....tasks import TaskModel
    from ...model_registry import ModelRegistry

NO_SCORES = "The metrics and the errors, or the report, appear here."


def draw_report_part(
    registry: "ModelRegistry", data: LabelledFile
) -> tuple[gr.Dropdown, list[Any], Callable[[], Any]]:
    """Draws the part.

    Args:
        registry: the models.
        data: the labelled file.

    Returns:
        The list of models, the outputs, and a function that returns their empty values.
    """
    model = gr.Dropdown([], value=None, label="Model", allow_custom_value=True, elem_id="evaluated")
    with gr.Accordion("Decision rules", open=False, elem_id="decision-rules"), gr.Row():
        rules = [option_component(one) for one in options_of(RuleOptions)]
        reference = gr.File(label=LABELS["reference"], height=120, elem_id="training-texts")
        save = gr.Checkbox(label="Store", info="Predictions of the model follow the rules.", min_width=200)
    with gr.Row(elem_classes="hw-buttons"):
        start = gr.Button("Evaluate", variant="primary", min_width=120)
        write = gr.Button("Report", min_width=120)
        download = gr.DownloadButton("Download", visible=False, min_width=120, elem_id="download-report")
    errors = gr.HTML()
    shown = gr.HTML(hint(NO_SCORES), elem_id="scores", min_height=100)
    outputs = [shown, download]
    given = [model, data.file, data.labels, data.slices, save, *rules, reference]
    for button, function in ((start, evaluate), (write, make_report)):
        options: dict[str, Any] = {"queue": FILES, "on_error": [hint(NO_SCORES), gr.update(visible=False)]}
        bind(button.click, partial(function, registry), given, outputs, errors, **options)

    def empty() -> tuple[Any, ...]:
        return hint(NO_SCORES), gr.DownloadButton(visible=False)

    model.select(empty, None, outputs, queue=False, show_progress="hidden", api_visibility="private")
    return model, outputs, empty


@dataclass(frozen=True)
class _Question:
    """What is measured, and what is written."""

    file: str
    labels: Sequence[str]
    slices: Sequence[str]
    rules: RuleOptions
    reference: str | None  # the file of the training texts
    stored_in: Path | None  # the model folder in which the rules are stored
    report: Path | None  # the file of the report
    name: str  # of the model


def evaluate(registry: "ModelRegistry", *given: Any) -> Iterator[tuple[str, Any]]:
    """The metrics and errors of a model on a labelled file, after the progress, and no download.

    Args:
        registry: the models.
        *given: the values of the form: name of the model, file, label columns, slice columns, whether the fitted
            decision rules are stored, the values of RuleOptions, and the file of the training texts.
    """
    for shown in _answers(registry, _read(registry, *given)):
        yield shown, gr.DownloadButton(visible=False)


def make_report(registry: "ModelRegistry", *given: Any) -> Iterator[tuple[str, Any]]:
    """As `evaluate`, with the report of `headway evaluate --report` in a frame and for download."""
    question = _read(registry, *given, with_report=True)
    shown = ""
    for shown in _answers(registry, question):
        yield shown, gr.DownloadButton(visible=False)
    assert question.report is not None
    yield shown, gr.DownloadButton("Download report", value=str(question.report), visible=True)


def _read(registry: "ModelRegistry", *given: Any, with_report: bool = False) -> _Question:
    name, file, labels, slices, save, *rules = given
    if not name or not file:
        raise HeadwayError("Choose a model, and upload a file with texts and labels.")
    known = options_of(RuleOptions)
    values = {one.name: value for one, value in zip(known, rules, strict=False)}
    fitting = RuleOptions(**read_options(known, values))
    if save and not fitting.any:
        raise HeadwayError("There is no rule to store. Enter a coverage, or do not store.")
    reference = rules[len(known)] if len(rules) > len(known) else None
    stored_in = registry.trained_here(name).folder if save else None
    report = upload_folder("reports") / f"{Path(name).name}-report.html" if with_report else None
    return _Question(file, labels or (), slices or (), fitting, reference, stored_in, report, name)


def _answers(registry: "ModelRegistry", question: _Question) -> Iterator[str]:
    opened = model_for(registry, question.name, question.file)
    with form_errors(question.file, {str(registry.find(question.name).folder): question.name}):
        yield (yield from process_file(question.file, _answer, opened, question))


def _answer(opened: "TaskModel | StoredModel", question: _Question) -> str:
    """The metrics or the report; the model, which others use, has other rules only if they are stored."""
    model = opened.open() if isinstance(opened, StoredModel) else opened
    columns, described = label_columns(question.labels), None
    if question.report is None:
        found = model.evaluate(question.file, columns=columns, progress=False)
    else:
        options = ReportOptions(question.slices)
        found, described = evaluate_with_report(model, question.file, options=options, columns=columns, progress=False)
    if question.rules.any:
        proposed = propose_rules(model, found, question.rules, question.reference)
        scores = proposed.scores
        if question.stored_in is not None:
            update_rules(str(question.stored_in), proposed.rules, proposed.distance)
    else:
        scores = measure_rules(model, found)
    stored = ["The rules are stored: predictions follow them from now on."] if question.stored_in is not None else []

    def named(text: str) -> str:
        return without_paths(text, question.file, {})

    said = [named(note) for note in (*scores.sentences(), *stored)]
    if question.report is not None and described is not None:
        write_report(question.report, described)
        page = question.report.read_text(encoding="utf-8")
        return "".join(map(caption, said)) + draw_frame(page, f"Report on {question.name}")
    analysis = {} if model.task.self_supervised else analyze_errors(model.task, found.predictions, found.examples)
    for one in analysis.get("mistakes", ()):
        one["where"] = named(one["where"])
    notes = [*said, *map(named, found.notes)]
    title = f"Metrics on {found.num_examples:,} examples of {Path(question.file).name}"
    return draw_metrics({**found.to_json(), "notes": notes}, title, analysis)
