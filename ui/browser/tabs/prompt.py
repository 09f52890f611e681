"""The tab Prompt: GPT-2 chooses a label, or writes an answer, after a description and a few worked examples.

The prompt is shown as it will be sent, the probabilities as the model has them beside the calibrated ones; a labelled
file tells how good the prompt is.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import gradio as gr

from ....core.errors import HeadwayError
from ....tasks import Prompt, read_table
from ....tasks.prompting.calibration import CONTEXTUAL, NONE
from ....tasks.prompting.demonstrations import BALANCED, CHOICES
from ....tasks.prompting.prompt import PromptModel
from ....tasks.prompting.templates import BUILT_IN, Template
from ....tasks.samples import sample_prompt
from ...terminal import prompt_rows
from ..drawing import draw_code, draw_table, draw_views, hint, note, quiet
from ..events import FILES, bind, keep_listed, this_tab, told
from ..tab_context import TabContext
from .write import language_models

if TYPE_CHECKING:
    from ....tasks.prompting.prepared_prompt import PreparedPrompt
    from ...model_registry import ModelRegistry

TITLE = "Prompt"
CHOOSE, WRITE = "Choose a label", "Write an answer"
FEW = 8  # worked examples at most
MOST_ROWS = 200  # of a file, that are measured at first
SEEDS = 5
FIRST = "sentiment"
NO_TEXT = "(your text)"
WIDTHS: dict[bool, list[str | int]] = {False: ["70%", "30%"], True: ["38%", "38%", "24%"]}
HEADERS = {False: ["Text", "Answer"], True: ["Text", "Second text", "Answer"]}


@dataclass(frozen=True)
class Setup:
    """What the form says, in the order of its components."""

    model: str | None
    description: str
    kind: str  # CHOOSE or WRITE
    labels: str
    rows: list[list[Any]]
    layout: str
    shots: int
    choice: str
    orders: int
    calibrate: bool
    length: int

    @property
    def template(self) -> Template:
        """The layout."""
        return Template.parse(self.layout)

    @property
    def examples(self) -> list[dict[str, str]]:
        """The rows of the table that are whole, under our names."""
        names = list(_columns(self.template))
        rows = [dict(zip(names, (str(cell or "").strip() for cell in row), strict=False)) for row in self.rows]
        return [row for row in rows if len(row) == len(names) and all(row.values())]

    def prompt(self) -> Prompt:
        """As `tasks` has it."""
        writes = self.kind == WRITE
        said = tuple(part.strip() for part in self.labels.split(",") if part.strip())
        return Prompt(
            labels=() if writes else tuple(one.partition("=")[0].strip() for one in said),
            verbalize=() if writes else tuple(one for one in said if "=" in one),
            template=self.layout,
            description=self.description,
            shots=int(self.shots),
            choice=self.choice,
            orders=1 if writes else int(self.orders),
            calibration=CONTEXTUAL if self.calibrate and not writes else NONE,
            write=writes,
            max_new_tokens=int(self.length),
        )


def draw(context: TabContext) -> None:
    """Draws the tab."""
    registry, tab = context.registry, this_tab()
    names = language_models(registry)
    begun = start_from(FIRST)
    with gr.Row():
        model = gr.Dropdown(
            names, value=next(iter(names), None), label="Model", allow_custom_value=True, min_width=240
        )
        begin = gr.Dropdown(list(BUILT_IN), value=FIRST, label="Start from", min_width=160)
    with gr.Row(equal_height=False):
        with gr.Column(min_width=300):
            description = gr.Textbox(begun.description, label="What to do", lines=2, max_lines=6)
            with gr.Row():
                kind = gr.Radio([CHOOSE, WRITE], value=begun.kind, label="The answer", min_width=200)
                labels = gr.Textbox(
                    "", label="Labels", info="Joined by commas; empty: those of the examples", min_width=200
                )
            rows = gr.Dataframe(
                begun.rows,
                headers=HEADERS[False],
                column_widths=WIDTHS[False],
                type="array",
                label="Worked examples",
                interactive=True,
                wrap=True,
                max_height=320,
                buttons=[],
                elem_id="examples",
            )
            add = gr.Button("Add an example", size="sm")
            shots = gr.Slider(0, FEW, 4, step=1, label="Worked examples in the prompt", info="0: none; 1: one; few")
            with gr.Accordion("More", open=False):
                layout = gr.Textbox(
                    begun.layout, label="Layout", info="{text}, perhaps {pair}, and {label} for the answer", lines=2
                )
                choice = gr.Dropdown(list(CHOICES), value=BALANCED, label="Which examples")
                orders = gr.Slider(1, 8, 1, step=1, label="Orders of the examples to average over")
                calibrate = gr.Checkbox(True, label="Calibrate: take out what the model says of any text")
                length = gr.Slider(1, 200, 20, step=1, label="Tokens of a written answer at most")
        with gr.Column(min_width=300):
            text = gr.Textbox(begun.asked.get("text", ""), label="Your text", lines=3, max_lines=12)
            pair = gr.Textbox("", label="Second text", lines=2, max_lines=8, visible=False)
            ask = gr.Button("Ask", variant="primary")
            failing = gr.HTML()
            answer = gr.HTML(hint("The answer appears here."), elem_id="prompted", min_height=100)
            gr.HTML("<h4>The prompt, as it is sent</h4>")
            sent = gr.HTML(elem_id="sent")
    with gr.Accordion("Score it on a file with labels", open=False), gr.Row(equal_height=False):
        with gr.Column(min_width=300):
            file = gr.File(label="CSV, TSV, JSON, JSON lines or Parquet", height=140)
            most = gr.Slider(20, 2000, MOST_ROWS, step=20, label="Rows at most")
            score = gr.Button("Score", variant="primary")
        with gr.Column(min_width=300):
            failed = gr.HTML()
            figures = gr.HTML(
                hint("How often it is right, with an interval, and what to make of it."),
                elem_id="figures",
                min_height=100,
            )

    setup = [model, description, kind, labels, rows, layout, shots, choice, orders, calibrate, length]
    bind(
        begin.change,
        show_start,
        [begin],
        [description, kind, rows, layout, text, pair],
        failing,
        queue=None,
        show_progress="hidden",
    )
    bind(add.click, add_row, [rows], [rows], failing, queue=None, show_progress="hidden")
    opened = keep_listed(model, partial(language_models, registry), tab.select)
    for trigger in (opened.then, [one.change for one in (*setup, text, pair)]):
        bind(trigger, partial(preview, registry), [text, pair, *setup], [sent], failing, show_progress="hidden")
    bind(layout.blur, match_layout, [layout, rows], [rows, pair], failing, queue=None, show_progress="hidden")
    bind([ask.click, text.submit], partial(answer_one, registry), [text, pair, *setup], [answer], failing)
    bind(score.click, partial(score_file, registry), [file, most, *setup], [figures], failed, queue=FILES)


# The form.


@dataclass(frozen=True)
class Start:
    """What a built-in template fills the form with."""

    description: str
    kind: str
    rows: list[list[str]]
    layout: str
    paired: bool
    asked: dict[str, str]


def start_from(name: str) -> Start:
    """A built-in template with its examples."""
    template = BUILT_IN[name]
    known, asked = sample_prompt(name)
    rows = [
        [one["text"], *([one["pair"]] if template.paired else []), template.words.get(one["label"], one["label"])]
        for one in known
    ]
    kind = WRITE if template.writes else CHOOSE
    return Start(template.description, kind, rows, template.text, template.paired, asked)


def show_start(name: str) -> tuple[Any, ...]:
    """The form as a built-in template fills it."""
    begun = start_from(name)
    rows = _table(begun.rows, begun.paired)
    pair = gr.Textbox(value=begun.asked.get("pair", ""), visible=begun.paired)
    return begun.description, begun.kind, rows, begun.layout, begun.asked.get("text", ""), pair


def _table(rows: list[list[Any]], paired: bool) -> Any:
    headers = HEADERS[paired]
    return gr.Dataframe(value=rows, headers=headers, column_count=len(headers), column_widths=WIDTHS[paired])


def add_row(rows: list[list[Any]]) -> list[list[Any]]:
    """One more empty row."""
    return [*rows, [""] * (len(rows[0]) if rows else len(HEADERS[False]))]


def match_layout(layout: str, rows: list[list[Any]]) -> tuple[Any, Any]:
    """The table and the second text as the layout asks for them."""
    paired = Template.parse(layout).paired
    width = len(HEADERS[paired])
    if rows and len(rows[0]) == width:
        return gr.skip(), gr.Textbox(visible=paired)
    fitted = [[row[0], *([""] if paired else []), row[-1]] for row in rows]
    return _table(fitted, paired), gr.Textbox(visible=paired)


# Asking.


def _model(registry: "ModelRegistry", setup: Setup) -> PromptModel:
    if not setup.model:
        raise HeadwayError("Choose a GPT-2 first.")
    prompt = setup.prompt()
    if not setup.examples and not prompt.labels and not prompt.writes:
        raise HeadwayError("There are no labels: write some, joined by commas, or add worked examples with answers.")
    return PromptModel(prompt, *registry.language_model(setup.model), setup.model)


def _prepare(registry: "ModelRegistry", setup: Setup) -> "PreparedPrompt":
    model = _model(registry, setup)
    return model.prepare(setup.examples or None, _columns(setup.template), paired=setup.template.paired)


def _columns(template: Template) -> dict[str, str]:
    """Of a worked example, under their own names."""
    names = ("text", "pair", "label") if template.paired else ("text", "label")
    return {name: name for name in names}


def _inputs(setup: Setup, text: str, pair: str) -> list[Any]:
    return [(text, pair)] if setup.template.paired else [text]


def preview(registry: "ModelRegistry", text: str, pair: str, *form: Any) -> str:
    """The prompt as the model reads it; what is missing, where something is."""
    try:
        setup = Setup(*form)
        prepared = _prepare(registry, setup)
        (example,) = prepared.reader.texts(_inputs(setup, text or NO_TEXT, pair or NO_TEXT))
        shown, dropped = prepared.preview(example)
        more = f"{dropped} more would not fit into what the model reads at once." if dropped else ""
        return draw_code(shown) + quiet(more)
    except HeadwayError as error:
        return note(told(error))


def answer_one(registry: "ModelRegistry", text: str, pair: str, *form: Any) -> str:
    """The answer to one text."""
    setup = Setup(*form)
    if not text.strip() or (setup.template.paired and not pair.strip()):
        raise HeadwayError("Your text is empty. Write something there.")
    prepared = _prepare(registry, setup)
    (prediction,) = prepared.predict(prepared.reader.texts(_inputs(setup, text, pair)))
    return draw_views(prediction.display({"text": text, "pair": pair})) + quiet(" ".join(prepared.warnings))


def score_file(registry: "ModelRegistry", file: str | None, most: int, *form: Any) -> str:
    """How good the prompt is on the rows of a file."""
    if not file:
        raise HeadwayError("Upload a file with texts and their labels first.")
    setup = Setup(*form)
    model = _model(registry, setup)
    table = read_table(file, limit=int(most))
    found = model.evaluate(table, setup.examples or None, seeds=SEEDS)
    rows = [{name: value for name, value in row.items() if value != ""} for row in prompt_rows(found)]
    shown = draw_table(rows, f"On {len(found.examples):,} rows")
    return shown + _sentences(found.verdict)


def _sentences(said: Sequence[str]) -> str:
    return "".join(f"<p>{quiet(one)}</p>" for one in said)
