"""The tab Prompt: GPT-2, or BERT at masks, chooses a label after an instruction and a few examples; GPT-2 also writes.

It shows the prompt as it is sent, the calibrated probabilities beside the uncalibrated ones, and the metrics of the
prompt on a labelled file.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import gradio as gr

from ....core.errors import HeadwayError
from ....tasks import FillMask, Prompt, read_table
from ....tasks.prompting.calibration import CONTEXTUAL, NONE
from ....tasks.prompting.demonstrations import BALANCED, CHOICES
from ....tasks.prompting.neighbours import NEIGHBOURS
from ....tasks.prompting.prompt import PromptModel
from ....tasks.prompting.scoring import DIRECT, KNN, PMI, SCORINGS
from ....tasks.prompting.templates import BUILT_IN, Template
from ....tasks.samples import sample_prompt
from ...terminal import prompt_rows
from ..background import process_file
from ..drawing import alert, caption, draw_code, draw_display, draw_table, hint
from ..events import FILES, bind, current_tab, message_of, refresh_models
from ..kept_form import QUIET, keep_form
from ..outdated import asked_js, changed_js, mark_outdated
from ..tab_context import TabContext
from .generate import language_models

if TYPE_CHECKING:
    from ....tasks.prompting.prepared_prompt import PreparedPrompt
    from ...model_registry import ModelRegistry

TITLE = "Prompt"
CHOOSE, GENERATE = "Choose a label", "Generate an answer"
MAX_SHOTS = 8
MAX_ROWS = 200  # evaluated by default
SEEDS = 5
DEFAULT_TEMPLATE = "sentiment"
NO_TEXT = "(text)"
NO_ANSWER = "The answer appears here."
NO_METRICS = "The metrics with their confidence intervals appear here."
WIDTHS: dict[bool, list[str | int]] = {False: ["70%", "30%"], True: ["38%", "38%", "24%"]}  # by whether it has pairs
HEADERS = {False: ["Text", "Answer"], True: ["Text", "Second text", "Answer"]}


@dataclass(frozen=True)
class PromptForm:
    """The values of the form, in the order of its components."""

    model: str | None
    description: str
    kind: str  # CHOOSE or GENERATE
    labels: str
    rows: list[list[Any]]
    layout: str
    shots: int
    choice: str
    scoring: str
    neighbours: float | None  # for KNN
    domain: str  # for PMI
    orders: int
    calibrate: bool
    length: int

    @property
    def template(self) -> Template:
        """The parsed template."""
        return Template.parse(self.layout)

    @property
    def examples(self) -> list[dict[str, str]]:
        """The complete rows of the table, by field."""
        names = list(_columns(self.template))
        rows = [dict(zip(names, (str(cell or "").strip() for cell in row), strict=False)) for row in self.rows]
        return [row for row in rows if len(row) == len(names) and all(row.values())]

    def prompt(self) -> Prompt:
        """The options of the prompt."""
        generates = self.kind == GENERATE
        labels = tuple(part.strip() for part in self.labels.split(",") if part.strip())
        return Prompt(
            labels=() if generates else tuple(one.partition("=")[0].strip() for one in labels),
            verbalize=() if generates else tuple(one for one in labels if "=" in one),
            template=self.layout,
            description=self.description,
            shots=int(self.shots),
            choice=self.choice,
            scoring=DIRECT if generates else self.scoring,
            neighbours=None if generates or self.scoring != KNN or not self.neighbours else int(self.neighbours),
            domain=None if generates or self.scoring != PMI else self.domain.strip() or None,
            orders=1 if generates else int(self.orders),
            calibration=CONTEXTUAL if self.calibrate and self.scoring == DIRECT and not generates else NONE,
            write=generates,
            max_new_tokens=int(self.length),
        )


# The components.


def draw(context: TabContext) -> None:
    """Draws the tab."""
    registry, tab = context.registry, current_tab()
    names = prompted_models(registry)
    preset = load_preset(DEFAULT_TEMPLATE)
    with gr.Row():
        model = gr.Dropdown(
            names, value=next(iter(names), None), label="Model", allow_custom_value=True, min_width=240
        )
        built_in = gr.Dropdown(list(BUILT_IN), value=DEFAULT_TEMPLATE, label="Built-in template", min_width=160)
    with gr.Row(equal_height=False):
        with gr.Column(min_width=300):
            setup, add = _draw_setup(preset)
        with gr.Column(min_width=300):
            text = gr.Textbox(preset.input.get("text", ""), label="Text", lines=3, max_lines=12)
            pair = gr.Textbox("", label="Second text", lines=2, max_lines=8, visible=False)
            run = gr.Button("Run", variant="primary")
            errors = gr.HTML()
            output = gr.HTML(hint(NO_ANSWER), elem_id="prompt-output", min_height=100)
            gr.HTML("<h4>Prompt</h4>")
            sent = gr.HTML(elem_id="sent")
    form = [model, *setup.values()]
    with gr.Accordion("Evaluation on a labelled file", open=False), gr.Row(equal_height=False):
        _draw_evaluation(registry, form)

    rows, layout = setup["rows"], setup["layout"]
    shown = [setup["description"], setup["kind"], rows, layout, text, pair]
    bind(built_in.input, show_preset, [built_in], shown, errors, queue=None, show_progress="hidden")
    bind(add.click, add_row, [rows], [rows], errors, queue=None, show_progress="hidden")
    opened = refresh_models(model, partial(prompted_models, registry), tab.select)
    question = [text, pair, *form]
    changed = changed_js("prompt-output", question)
    for trigger in (opened.then, [one.change for one in question]):
        bind(trigger, partial(preview, registry), question, [sent], errors, show_progress="hidden", js=changed)
    bind(layout.blur, fit_table, [layout, rows], [rows, pair], errors, queue=None, show_progress="hidden")
    restored = keep_form(context.page, "prompt", [*question, built_in])
    bind(restored.then, fit_table, [layout, rows], [rows, pair], errors, queue=None, show_progress="hidden")
    options: dict[str, Any] = {"js": asked_js("prompt-output", question), "on_error": [hint(NO_ANSWER)]}
    answered = bind([run.click, text.submit], partial(answer, registry), question, [output], errors, **options)
    mark_outdated([answered], question, "prompt-output", watched=[])


def _draw_setup(preset: "Preset") -> tuple[dict[str, Any], gr.Button]:
    """Draws the components of the form without the model; returns them by field, and the button that adds a row."""
    components: dict[str, Any] = {
        "description": gr.Textbox(preset.description, label="Instruction", lines=2, max_lines=6)
    }
    with gr.Row():
        components["kind"] = gr.Radio([CHOOSE, GENERATE], value=preset.kind, label="Answer", min_width=200)
        components["labels"] = gr.Textbox(
            "", label="Labels", info="Separated by commas. Default: the answers of the examples.", min_width=200
        )
    components["rows"] = gr.Dataframe(
        preset.rows,
        headers=HEADERS[False],
        column_widths=WIDTHS[False],
        type="array",
        label="Examples",
        interactive=True,
        wrap=True,
        max_height=320,
        buttons=[],
        elem_id="examples",
    )
    add = gr.Button("Add example", size="sm")
    shots = gr.Slider(0, MAX_SHOTS, 4, step=1, label="Examples in the prompt", info="0: the instruction only.")
    with gr.Accordion("More options", open=False):
        components["layout"] = gr.Textbox(
            preset.layout, label="Template", info="Fields: {text}, {pair} (optional), {label} for the answer.", lines=2
        )
        components |= {
            "shots": shots,
            "choice": gr.Dropdown(list(CHOICES), value=BALANCED, label="Selection of the examples"),
            **_draw_scoring(),
            "orders": gr.Slider(
                1,
                8,
                1,
                step=1,
                label="Orders of the examples",
                info="Number of random orders over which the probabilities are averaged.",
            ),
            "calibrate": gr.Checkbox(
                True,
                label="Calibrate",
                info="Corrects the model's preference for some labels, which is measured without a text. Only with "
                "direct scoring.",
            ),
            "length": gr.Slider(1, 200, 20, step=1, label="Maximum new tokens"),
        }
    return components, add


def _draw_scoring() -> dict[str, Any]:
    """Draws how labels are scored, and the options of this, which are hidden unless they apply."""
    components: dict[str, Any] = {
        "scoring": gr.Dropdown(
            list(SCORINGS),
            value=DIRECT,
            label="Scoring of the labels",
            info="direct: the label after the text. channel: the text after each label; try it with few examples. "
            "knn: the labels of the examples with the most similar next token; it needs more examples than the "
            "prompt shows. pmi: direct, divided by the likelihood of the label without the text.",
        ),
        "neighbours": gr.Number(
            NEIGHBOURS,
            precision=0,
            minimum=1,
            label="Neighbours",
            info="Number of examples that vote.",
            visible=False,
        ),
        "domain": gr.Textbox(
            "",
            label="Text for the prior",
            info="A short text that the labels could follow. Default: what the template has between the text and "
            "the label.",
            visible=False,
        ),
    }
    scoring, own = components["scoring"], [components["neighbours"], components["domain"]]
    scoring.input(show_scoring, scoring, own, **QUIET)
    return components


def _draw_evaluation(registry: "ModelRegistry", form: list[Any]) -> None:
    with gr.Column(min_width=300):
        file = gr.File(label="CSV, TSV, Excel, JSON, JSON lines or Parquet", height=140)
        rows = gr.Slider(20, 2000, MAX_ROWS, step=20, label="Maximum rows")
        start = gr.Button("Evaluate", variant="primary")
    with gr.Column(min_width=300):
        errors = gr.HTML()
        metrics = gr.HTML(hint(NO_METRICS), elem_id="metrics", min_height=100)
    bind(
        start.click,
        partial(evaluate_file, registry),
        [file, rows, *form],
        [metrics],
        errors,
        queue=FILES,
        on_error=[hint(NO_METRICS)],
    )


# The form.


def prompted_models(registry: "ModelRegistry") -> list[str]:
    """The GPT-2 models, and the masked language models."""
    masked = [entry.name for entry in registry.entries() if entry.task == FillMask.name]
    return [*language_models(registry), *masked]


@dataclass(frozen=True)
class Preset:
    """The form values of a built-in template."""

    description: str
    kind: str
    rows: list[list[str]]
    layout: str
    paired: bool
    input: dict[str, str]


def load_preset(name: str) -> Preset:
    """A built-in template with its examples."""
    template = BUILT_IN[name]
    examples, text = sample_prompt(name)
    rows = [
        [one["text"], *([one["pair"]] if template.paired else []), template.words.get(one["label"], one["label"])]
        for one in examples
    ]
    kind = GENERATE if template.writes else CHOOSE
    return Preset(template.description, kind, rows, template.text, template.paired, text)


def show_preset(name: str) -> tuple[Any, ...]:
    """Updates of the form for a built-in template."""
    preset = load_preset(name)
    rows = _table(preset.rows, preset.paired)
    pair = gr.Textbox(value=preset.input.get("pair", ""), visible=preset.paired)
    return preset.description, preset.kind, rows, preset.layout, preset.input.get("text", ""), pair


def _table(rows: list[list[Any]], paired: bool) -> Any:
    headers = HEADERS[paired]
    return gr.Dataframe(value=rows, headers=headers, column_count=len(headers), column_widths=WIDTHS[paired])


def show_scoring(scoring: str) -> tuple[Any, Any]:
    """Shows the options of a way to score labels, and hides those of the others."""
    return gr.Number(visible=scoring == KNN), gr.Textbox(visible=scoring == PMI)


def add_row(rows: list[list[Any]]) -> list[list[Any]]:
    """The rows with an empty one at the end."""
    return [*rows, [""] * (len(rows[0]) if rows else len(HEADERS[False]))]


def fit_table(layout: str, rows: list[list[Any]]) -> tuple[Any, Any]:
    """Updates of the table and the second text for a template with or without {pair}."""
    paired = Template.parse(layout).paired
    width = len(HEADERS[paired])
    if rows and len(rows[0]) == width:
        return gr.skip(), gr.Textbox(visible=paired)
    fitted = [[row[0], *([""] if paired else []), row[-1]] for row in rows]
    return _table(fitted, paired), gr.Textbox(visible=paired)


# The answers.


def _model(registry: "ModelRegistry", form: PromptForm) -> PromptModel:
    if not form.model:
        raise HeadwayError("Choose a model.")
    prompt = form.prompt()
    if not form.examples and not prompt.labels and not prompt.writes:
        raise HeadwayError("There are no labels. Enter labels separated by commas, or add examples with answers.")
    return PromptModel(prompt, *registry.prompted_model(form.model), form.model)


def _prepare(registry: "ModelRegistry", form: PromptForm) -> "PreparedPrompt":
    model = _model(registry, form)
    return model.prepare(form.examples or None, _columns(form.template), paired=form.template.paired)


def _columns(template: Template) -> dict[str, str]:
    """The column of each field of an example; both have the same name."""
    names = ("text", "pair", "label") if template.paired else ("text", "label")
    return {name: name for name in names}


def _inputs(form: PromptForm, text: str, pair: str) -> list[Any]:
    return [(text, pair)] if form.template.paired else [text]


def preview(registry: "ModelRegistry", text: str, pair: str, *values: Any) -> str:
    """The prompt as the model reads it, or an error message."""
    try:
        form = PromptForm(*values)
        prepared = _prepare(registry, form)
        (example,) = prepared.reader.texts(_inputs(form, text or NO_TEXT, pair or NO_TEXT))
        shown, dropped = prepared.preview(example)
        examples = "example does" if dropped == 1 else "examples do"
        more = f"{dropped} more {examples} not fit into the model's context." if dropped else ""
        return draw_code(shown) + caption(more)
    except HeadwayError as error:
        return alert(message_of(error))


def answer(registry: "ModelRegistry", text: str, pair: str, *values: Any) -> str:
    """The answer for one text."""
    form = PromptForm(*values)
    if not text.strip() or (form.template.paired and not pair.strip()):
        raise HeadwayError("The text is empty. Enter a text.")
    prepared = _prepare(registry, form)
    (prediction,) = prepared.predict(prepared.reader.texts(_inputs(form, text, pair)))
    shown = draw_display(prediction.display({"text": text, "pair": pair}))
    return shown + caption(" ".join(prepared.warnings))


def evaluate_file(registry: "ModelRegistry", file: str | None, max_rows: int, *values: Any) -> Iterator[str]:
    """The metrics of the prompt on the rows of a file, and their interpretation, after the progress."""
    if not file:
        raise HeadwayError("Upload a file with texts and labels.")
    form = PromptForm(*values)
    model = _model(registry, form)
    table = yield from process_file(file, partial(read_table, file, limit=int(max_rows)))
    found = model.evaluate(table, form.examples or None, seeds=SEEDS)
    rows = [{name: value for name, value in row.items() if value != ""} for row in prompt_rows(found)]
    shown = draw_table(rows, f"Metrics on {len(found.examples):,} rows")
    yield shown + "".join(f"<p>{caption(sentence)}</p>" for sentence in found.verdict)
