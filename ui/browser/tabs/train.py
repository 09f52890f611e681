"""The tab Train: from an uploaded file to a model, step by step, and the runs that are under way or over.

The form is made of what tasks and the training loop declare. Training runs in processes of its own (jobs.py): this
page only looks at them, so that it can be closed and opened again at any time.
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr
from gradio.utils import get_upload_folder

from ....core.checkpoints.hub import BUILT_IN, HUB_ID
from ....core.errors import HeadwayError
from ....core.options import Option, options_of
from ....tasks import TASKS, read_table
from ....tasks.base.check import check_data
from ....tasks.infer_task import infer_task
from ....tasks.samples import FOLDER as SAMPLES
from ...commands.quickstart import TRAINING as FOR_BUILT_IN
from ...commands.train import DEFAULT_MODELS
from ...options import column_options, task_options, training_options
from ...runs.job import Request
from ..drawing import PICK, draw_choices, hint, note, quiet
from ..events import FILES, bind
from ..form import draw_option, read_options
from ..run_drawing import LABEL, draw_report, draw_rows, spoken
from ..runs_panel import draw_runs, run_choices
from ..tab_context import TabContext

if TYPE_CHECKING:
    from ....tasks.base.task import Task
    from ....tasks.data.columns import ColumnMapping
    from ....tasks.data.rows import Table
    from ...model_registry import ModelRegistry
    from ...runs.jobs import Jobs

TITLE = "Train"
STYLE = (Path(__file__).parents[2] / "pages" / "train.css").read_text(encoding="utf-8")
LOOKED_AT = 1000  # rows, for the columns and the task
MAIN = ("epochs", "learning_rate", "batch_size")  # the options at first sight
# They would speak to other machines, or name a path on this one.
NOT_HERE = ("trackers", "teacher")
HEADERS = {"It is told": None, "The first row names the columns": True, "There is no such row": False}
FEW_WORDS = {"messages.csv": "Messages, sorted by what they are about", "entities.conll": "Names in sentences",
             "questions.json": "Questions about texts", "pairs.csv": "Pairs of sentences"}  # fmt: skip
NO_FILE = "The first rows and a check of the data appear here."


@dataclass(frozen=True)
class Form:
    """The components that a run is made of."""

    data: gr.File
    held_out: gr.File
    task: gr.Dropdown
    header: gr.Dropdown
    fraction: gr.Slider
    columns: dict[str, gr.Dropdown]
    model: gr.Dropdown
    name: gr.Textbox
    training: dict[str, Any]
    options: dict[str, Any]

    @property
    def inputs(self) -> list[Any]:
        """All of them, in the order in which `Filled.read` takes their values."""
        fixed = [self.data, self.held_out, self.task, self.header, self.fraction, self.model, self.name]
        return [*fixed, *self.columns.values(), *self.training.values(), *self.options.values()]

    @property
    def about_data(self) -> list[Any]:
        """What the look at the data depends on and changes."""
        return [self.task, *self.columns.values()]


@dataclass(frozen=True)
class Filled:
    """What the form says."""

    data: Path | None
    held_out: Path | None
    task: str
    header: bool | None
    fraction: float
    model: str
    name: str
    columns: dict[str, Any]
    training: dict[str, Any]
    options: dict[str, Any]

    @classmethod
    def read(cls, values: Sequence[Any]) -> "Filled":
        """From the values of `Form.inputs`."""
        data, held_out, task, header, fraction, model, name, *rest = values
        given = iter(rest)
        columns = {option.name: next(given) for option in column_options()}
        training = {option.name: next(given) for option in _training_options()}
        options = {option.name: next(given) for option in _task_options()}
        task = task or "text-classification"
        return cls(
            data and Path(data),
            held_out and Path(held_out),
            task,
            HEADERS[header],
            fraction,
            model or "",
            name or "",
            chosen_columns(task, columns),
            read_options(_training_options(), training),
            read_options([one for one in options_of(TASKS[task]) if one.name not in NOT_HERE], options),
        )

    def plugged(self) -> "Task":
        """The task with its options."""
        return TASKS[self.task].from_json(self.options)


def _training_options() -> list[Option]:
    return [option for option in training_options() if option.name not in NOT_HERE]


def _task_options() -> list[Option]:
    return [option for option in task_options() if option.name not in NOT_HERE]


def chosen_columns(task: str, said: Mapping[str, Any]) -> dict[str, Any]:
    """The columns that a person named, or let stand; those that the task does not read are left out."""
    names = [field.name for field in TASKS[task].inputs]
    chosen = {name: said[name] for name in names if said.get(name) is not None}
    label = {} if TASKS[task].self_supervised or not said.get("label") else {"label": list(said["label"])}
    return {**chosen, **label}


# The page.


def draw(context: TabContext) -> None:
    """Draws the tab."""
    gr.HTML(f"<style>{STYLE}</style>", elem_classes="hw-nothing")
    with gr.Accordion("A new run", open=True, elem_id="new-run") as new:
        form, told, start, looks = _draw_form(context)
    runs, timer, refresh = draw_runs(context)
    started = bind(
        start.click, partial(begin, context.registry, context.jobs), form.inputs, [new, runs, timer], told, queue=None
    )
    refresh(started.success)
    _bind_form(context, form, told, looks)


def _draw_form(context: TabContext) -> tuple[Form, gr.HTML, gr.Button, dict[str, Any]]:
    with gr.Row(equal_height=False):
        with gr.Column(min_width=300):
            gr.HTML('<h3 class="hw-steps">1. Your data</h3>')
            data = gr.File(label="A file with examples and their answers", height=140, elem_id="data")
            samples = gr.HTML(draw_choices(list(FEW_WORDS.values()), "No file at hand? Begin with a sample"),
                              js_on_load=PICK)  # fmt: skip
            with gr.Accordion("Held-out examples and the header", open=False, elem_id="held-out"):
                held_out = gr.File(label="A second file, to measure on", height=110)
                fraction = gr.Slider(
                    0, 0.5, 0.1, step=0.05, label="Without it: part of the first file that is held out"
                )
                header = gr.Dropdown(list(HEADERS), value=next(iter(HEADERS)), label="Does a row name the columns?")
        with gr.Column(min_width=300):
            first = gr.HTML(hint(NO_FILE), elem_id="first-rows")
    with gr.Column(visible=False) as rest:
        gr.HTML('<h3 class="hw-steps">2. What is to be learnt</h3>')
        with gr.Row(equal_height=False):
            with gr.Column(min_width=300):
                names = [(task.title, name) for name, task in TASKS.items()]
                task = gr.Dropdown(names, value="text-classification", label="Task", elem_id="task")
                guessed = gr.HTML()
                labels = {name: label for task_name in TASKS for name, label in _fields(task_name).items()}
                gr.HTML(quiet("Which column holds what:"))
                with gr.Row():
                    columns = {
                        option.name: gr.Dropdown(
                            [],
                            value=[] if option.name == "label" else None,
                            label=labels.get(option.name, LABEL),
                            multiselect=option.name == "label",
                            min_width=140,
                            visible=False,
                            elem_id=f"column-{option.name}",
                        )
                        for option in column_options()
                    }
            with gr.Column(min_width=300):
                report = gr.HTML(elem_id="report")
        gr.HTML('<h3 class="hw-steps">3. The model</h3>')
        with gr.Row():
            model = gr.Dropdown(
                model_names(context.registry, "text-classification"),
                value=default_model(context.registry, "text-classification"),
                label="Begin from",
                info="A small one that is built in, one of yours, or one that was trained here",
                allow_custom_value=context.registry.hub,
                min_width=240,
                elem_id="base",
            )
            name = gr.Textbox(label="Name", info="Under which you find the model again", min_width=200)
        with gr.Row():
            known = {option.name: option for option in _training_options()}
            main = {name: draw_option(known[name]) for name in MAIN}
        with gr.Accordion("More options", open=False):
            with gr.Row():
                others = {name: draw_option(known[name]) for name in known if name not in MAIN}
            with gr.Row():
                of_task = options_of(TASKS["text-classification"])
                visible = {option.name for option in of_task}
                options = {
                    option.name: draw_option(option, visible=option.name in visible) for option in _task_options()
                }
        training = {name: main.get(name, others.get(name)) for name in known}
        start = gr.Button("Start training", variant="primary", elem_id="start")
    told = gr.HTML(elem_id="train-told")
    form = Form(data, held_out, task, header, fraction, columns, model, name, training, options)
    looks = {"samples": samples, "first": first, "rest": rest, "guessed": guessed, "report": report}
    return form, told, start, looks


def _bind_form(context: TabContext, form: Form, told: gr.HTML, looks: dict[str, Any]) -> None:
    registry = context.registry
    settings = [form.training[name] for name in MAIN]
    read = [looks["first"], looks["rest"], looks["guessed"], *form.about_data]
    of_task = [form.model, *form.options.values(), *settings]
    quick: dict[str, Any] = {"show_progress": "minimal"}

    def look(bound: Any) -> None:
        """After whatever changes what is read: the check, which takes longer."""
        bind(bound.success, partial(check, registry), form.inputs, [looks["report"]], told, queue=FILES, **quick)

    bind(looks["samples"].click, take_sample, [], [form.data], told, queue=None, show_progress="hidden")
    uploaded = bind(
        [form.data.change], partial(read_file, True), form.inputs, [*read, form.name], told, queue=FILES, **quick
    )
    chosen = bind(uploaded.success, partial(choose_task, registry), [form.task], of_task, told, queue=None, **quick)
    look(chosen)
    again = partial(read_file, False), form.inputs, [*read, form.name], told
    changed = bind(form.task.input, *again, queue=FILES, **quick)
    look(bind(changed.success, partial(choose_task, registry), [form.task], of_task, told, queue=None, **quick))
    look(bind(form.header.input, *again, queue=FILES, **quick))
    picked = [column.input for column in form.columns.values()]
    look(bind(picked, redraw, form.inputs, [looks["first"]], told, queue=FILES, **quick))
    look(bind([form.held_out.change], lambda: (), [], [], told, queue=None, **quick))
    # In the page itself, without asking the server: an answer that came later would undo what was typed meanwhile.
    suggested = form.model.input(None, form.model, settings, js=suggest_in_page(), show_progress="hidden", queue=False)
    look(suggested)
    context.page.load(
        lambda task: gr.Dropdown(choices=list(model_names(registry, task))),
        form.task,
        form.model,
        show_progress="hidden",
        queue=False,
        api_visibility="private",
    )


# The data.


def take_sample(event: gr.EventData) -> str:
    """The sample that was clicked, as if it had been uploaded."""
    name = list(FEW_WORDS)[event.choice]
    folder = Path(get_upload_folder()) / "headway-samples"
    folder.mkdir(parents=True, exist_ok=True)
    return str(shutil.copy(SAMPLES / name, folder / name))


def read_file(guess: bool, *values: Any) -> tuple[Any, ...]:
    """The first rows, the task and the columns of the uploaded file; what cannot be read is said in their place."""
    filled = Filled.read(values)
    hidden = [_hidden(name) for name in _column_names()]
    if filled.data is None:
        return hint(NO_FILE), gr.Column(visible=False), "", filled.task, *hidden, filled.name
    try:
        table = read_table(filled.data, header=filled.header, limit=LOOKED_AT)
    except HeadwayError as error:
        return note(plainly(error, filled)), gr.Column(visible=False), "", filled.task, *hidden, filled.name
    name, why = filled.task, ""
    if guess:
        found = infer_task(table)
        name = found.task
        why = quiet(f"A guess, because {found.why}. Choose another task if it is none.")
    shown, columns = _settle(table, name, {}, filled)
    stem = filled.data.name.partition(".")[0]
    return shown, gr.Column(visible=True), why, name, *column_choices(table, name, columns), stem


def _fields(task: str) -> dict[str, str]:
    """What the texts that a task reads are called."""
    return {field.name: field.label for field in TASKS[task].inputs}


def _hidden(column: str) -> gr.Dropdown:
    several = column == "label"
    return gr.Dropdown(visible=False, choices=[], value=[] if several else None, multiselect=several)


def _column_names() -> list[str]:
    return [option.name for option in column_options()]


def _settle(table: "Table", task: str, said: Mapping[str, Any], filled: Filled) -> "tuple[str, ColumnMapping | None]":
    """The first rows with what their columns hold, and that itself where it can be told."""
    try:
        columns = TASKS[task]().columns(table, said, need_label=not TASKS[task].self_supervised)
    except HeadwayError as error:
        return note(plainly(error, filled)) + draw_rows(table, None, _fields(task)), None
    return draw_rows(table, columns, _fields(task)), columns


def column_choices(table: "Table", task: str, columns: "ColumnMapping | None") -> list[Any]:
    """What the form lets a person choose for each column, with what was found."""
    named = table.header or table.columns != tuple(str(number) for number in range(len(table.columns)))
    choices = [(one if named else _describe(table, one), one) for one in table.columns]
    fields = {field.name: field for field in TASKS[task].inputs}
    made = []
    for name in _column_names():
        if name == "label":
            label = columns.label if columns else None
            value = [label] if isinstance(label, str) else list(label or ())
            shown = not TASKS[task].self_supervised
            made.append(gr.Dropdown(choices=choices, value=value, visible=shown, multiselect=True))
        elif name in fields:
            free = [] if fields[name].required else [("none", "")]
            found = columns.texts.get(name, None if fields[name].required else "") if columns else None
            made.append(gr.Dropdown(choices=[*free, *choices], value=found, visible=True))
        else:
            made.append(_hidden(name))
    return made


def _describe(table: "Table", column: str) -> str:
    """A column without a name, by its number and what is first in it."""
    first = " ".join(str(table.rows[0].get(column) or "").split())
    return f"{int(column) + 1}: {first[:24]}{'…' * (len(first) > 24)}"


def redraw(*values: Any) -> str:
    """The first rows, after a column was chosen."""
    filled = Filled.read(values)
    if filled.data is None:
        return hint(NO_FILE)
    table = read_table(filled.data, header=filled.header, limit=LOOKED_AT)
    return _settle(table, filled.task, filled.columns, filled)[0]


def check(registry: "ModelRegistry", *values: Any) -> str:
    """What a look over the whole data finds."""
    filled = Filled.read(values)
    if filled.data is None:
        return ""
    model = registry.find(filled.model).folder if filled.model else None
    try:
        report = check_data(
            filled.plugged(),
            filled.data,
            filled.held_out,
            columns=filled.columns,
            header=filled.header,
            model=model,
        )
    except HeadwayError as error:
        return note(plainly(error, filled))
    return _without_folders(draw_report(report), filled)


def plainly(error: HeadwayError, filled: Filled) -> str:
    """What is wrong, in the page's words, with the files as the person knows them."""
    return spoken(_without_folders(str(error), filled))


def _without_folders(text: str, filled: Filled) -> str:
    for path in (filled.data, filled.held_out):
        if path is not None:
            text = text.replace(f"{path.parent}/", "")
    return text


# The model.


def model_names(registry: "ModelRegistry", task: str | None) -> list[str]:
    """The models that a task can be plugged onto."""
    kinds = TASKS[task or "text-classification"].models
    return [entry.name for entry in registry.entries() if entry.model in kinds]


def default_model(registry: "ModelRegistry", task: str) -> str | None:
    """The built-in one of the task's kind, or else the first."""
    names = model_names(registry, task)
    built_in = DEFAULT_MODELS[TASKS[task].models[0]]
    return built_in if built_in in names else next(iter(names), None)


def choose_task(registry: "ModelRegistry", task: str) -> tuple[Any, ...]:
    """What the form becomes for a task: its models, its options, and the settings that fit the model."""
    known = {option.name for option in options_of(TASKS[task])}
    model = default_model(registry, task)
    options = [gr.update(visible=option.name in known) for option in _task_options()]
    return gr.Dropdown(choices=list(model_names(registry, task)), value=model), *options, *suggest(model)


def suggest(model: str | None) -> tuple[Any, ...]:
    """Settings that suit a model: the small ones that are built in learn faster than published ones may."""
    defaults = {option.name: option.default for option in training_options()}
    return tuple({**defaults, **(FOR_BUILT_IN if model in BUILT_IN else {})}[name] for name in MAIN)


def suggest_in_page() -> str:
    """`suggest` as a function of Javascript."""
    known = [(model, suggest(model)) for model in BUILT_IN]
    return f"model => new Map({json.dumps(known)}).get(model) ?? {json.dumps(suggest(None))}"


def model_to_open(registry: "ModelRegistry", name: str) -> str:
    """A model on the shelf as training opens it: the name of a published one, and of all others the folder.

    Raises:
        HeadwayError: it is not on the shelf.
    """
    entry = registry.find(name)
    of_the_hub = HUB_ID.fullmatch(name) and entry.folder.name != name and not Path(name).exists()
    return name if name in BUILT_IN or of_the_hub else str(entry.folder.resolve())


def begin(registry: "ModelRegistry", jobs: "Jobs", *values: Any) -> tuple[Any, ...]:
    """Puts the run into the queue; the form makes way for it."""
    filled = Filled.read(values)
    if filled.data is None:
        raise HeadwayError("There is no file yet. Upload one, or begin with a sample.")
    if not filled.model:
        raise HeadwayError("Choose a model to begin from.")
    request = Request(
        name=filled.name or filled.data.stem,
        task=filled.task,
        model=model_to_open(registry, filled.model),
        data=filled.data,
        eval_data=filled.held_out,
        columns=filled.columns,
        options=filled.options,
        training=filled.training,
        eval_fraction=filled.fraction,
        header=filled.header,
        shown_model=filled.model,
    )
    try:
        job = jobs.submit(request, taken=[entry.name for entry in registry.entries()])
    except HeadwayError as error:
        raise HeadwayError(plainly(error, filled)) from error
    return gr.Accordion(open=False), gr.Radio(choices=run_choices(jobs), value=job.id), gr.Timer(active=True)
