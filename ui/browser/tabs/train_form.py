"""The form of the tab Train: its components, reading their values, and the options that fit a task and a model."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from ....core.checkpoints.hub import BUILT_IN, HUB_ID, is_model_name
from ....core.checkpoints.joining import JOINED, parts_of
from ....core.options import Option, options_of
from ....tasks import TASKS
from ....tasks.data.read_options import ReadOptions
from ....tasks.samples import SAMPLES
from ...commands.train import DEFAULT_MODELS
from ...options import column_options, task_options, training_options
from ..drawing import CHOICE_CLICK_JS, caption, draw_choices, hint
from ..form import option_component, read_number, read_options
from ..presets import BALANCED, PRESETS, preset_of, presets_for
from ..run_drawing import title

if TYPE_CHECKING:
    from ....tasks.base.task import Task
    from ...model_registry import ModelRegistry

DEFAULT_TASK = next(iter(TASKS))
# They send data to other machines, or name a path on this one; the effort is chosen by the preset.
HIDDEN_OPTIONS = ("trackers", "teacher", "left_out", "effort")
HEADERS = {"Automatic": None, "First row": True, "None": False}
OFFERED_SAMPLES = ("messages.csv", "entities.conll", "questions.json", "pairs.csv")
NO_DATA = "The first rows and the data check appear here."


@dataclass(frozen=True)
class TrainForm:
    """The components of the form."""

    data: gr.File
    read_from: gr.Textbox  # path of the data from which the columns were inferred; not shown
    held_out: gr.File
    header: gr.Dropdown
    reading: dict[str, Any]
    fraction: gr.Slider
    test: gr.File
    test_fraction: gr.Textbox
    folds: gr.Textbox
    seeds: gr.Textbox
    task: gr.Dropdown
    columns: dict[str, gr.Dropdown]
    model: gr.Dropdown
    name: gr.Textbox
    preset: gr.Radio
    training: dict[str, Any]
    options: dict[str, Any]
    start: gr.Button

    @property
    def inputs(self) -> list[Any]:
        """All components with a value, in the order of `FormValues.read`."""
        fixed = [
            self.data, self.held_out, self.test, self.task, self.header, self.fraction, self.test_fraction,
            self.folds, self.seeds, self.model, self.name, self.read_from, self.preset,
        ]  # fmt: skip
        return [
            *fixed,
            *self.reading.values(),
            *self.columns.values(),
            *self.training.values(),
            *self.options.values(),
        ]


@dataclass(frozen=True)
class FormOutputs:
    """The parts of the form that show results."""

    samples: gr.HTML
    pasted: gr.Textbox
    first_rows: gr.HTML
    cancel: gr.Button
    steps: gr.Column  # the steps after the data
    reason: gr.HTML
    report: gr.HTML


@dataclass(frozen=True)
class FormValues:
    """The values of the form."""

    data: Path | None
    held_out: Path | None
    task: str
    reading: ReadOptions
    fraction: float
    test: Path | None
    test_fraction: float | None
    folds: int | None
    seeds: int | None
    model: str
    name: str
    read_from: str
    columns: dict[str, Any]
    training: dict[str, Any]
    options: dict[str, Any]

    @classmethod
    def read(cls, values: Sequence[Any]) -> "FormValues":
        """Reads the values of `TrainForm.inputs`.

        Raises:
            HeadwayError: a value is not a number where one is required.
        """
        data, held_out, test, task, header, fraction, test_fraction, folds, seeds, *rest = values
        model, name, read_from, preset, *rest = rest
        remaining = iter(rest)
        reading = {option.name: next(remaining) for option in shown_reading_options()}
        columns = {option.name: next(remaining) for option in column_options(group=True)}
        training = {option.name: next(remaining) for option in shown_training_options()}
        options = {option.name: next(remaining) for option in shown_task_options()}
        task = task or DEFAULT_TASK
        chosen = preset_of(preset, task)
        return cls(
            data and Path(data),
            held_out and Path(held_out),
            task,
            ReadOptions(header=HEADERS[header], **read_options(shown_reading_options(), reading)),
            fraction,
            test and Path(test),
            read_number("Test fraction", test_fraction),
            read_number("Folds", folds, int),
            read_number("Seeds", seeds, int),
            model or "",
            name or "",
            read_from or "",
            chosen_columns(task, columns),
            {**chosen.training, **read_options(shown_training_options(), training)},
            {**chosen.options, **read_options(_options_of_task(task), options)},
        )

    def create_task(self) -> "Task":
        """The task with its options."""
        return TASKS[self.task].from_json(self.options)


def shown_reading_options() -> list[Option]:
    """The options for reading a file, without that of the header, which has a separate list."""
    return [option for option in options_of(ReadOptions) if option.name not in ("header", *HIDDEN_OPTIONS)]


def shown_training_options() -> list[Option]:
    """The training options of the form."""
    return [option for option in training_options() if option.name not in HIDDEN_OPTIONS]


def shown_task_options() -> list[Option]:
    """The options of all tasks in the form."""
    return [option for option in task_options() if option.name not in HIDDEN_OPTIONS]


def _options_of_task(task: str) -> list[Option]:
    return [option for option in options_of(TASKS[task]) if option.name not in HIDDEN_OPTIONS]


def chosen_columns(task: str, chosen: Mapping[str, Any]) -> dict[str, Any]:
    """The chosen or inferred columns that the task reads."""
    names = [field.name for field in TASKS[task].inputs]
    texts = {name: chosen[name] for name in names if chosen.get(name) is not None}
    if TASKS[task].self_supervised:
        return texts
    label = {"label": list(chosen["label"])} if chosen.get("label") else {}
    return {**texts, **label, **({"group": chosen["group"]} if chosen.get("group") else {})}


def field_labels(task: str) -> dict[str, str]:
    """The labels of a task's input fields, by name."""
    return {field.name: field.label for field in TASKS[task].inputs}


# The components.


def draw_form(registry: "ModelRegistry") -> tuple[TrainForm, FormOutputs]:
    """Draws the form."""
    data, samples, pasted, first_rows, cancel = _draw_data_step()
    with gr.Column(visible=False) as steps:
        task, reason, columns, report = _draw_task_step()
        model_step = _draw_model_step(registry)
    form = TrainForm(**data, task=task, columns=columns, **model_step)
    return form, FormOutputs(samples, pasted, first_rows, cancel, steps, reason, report)


def _draw_data_step() -> tuple[dict[str, Any], gr.HTML, gr.Textbox, gr.HTML, gr.Button]:
    with gr.Row(equal_height=False):
        with gr.Column(min_width=300):
            gr.HTML('<h3 class="hw-step">1. Data</h3>')
            data = gr.File(label="Training data", height=140, elem_id="data")
            read_from = gr.Textbox(visible=False)
            samples = gr.HTML(
                draw_choices([SAMPLES[name].title for name in OFFERED_SAMPLES], "Samples"), js_on_load=CHOICE_CLICK_JS
            )
            with gr.Accordion("Paste from a spreadsheet", open=False, elem_id="paste"):
                pasted = gr.Textbox(
                    lines=3,
                    max_lines=8,
                    show_label=False,
                    placeholder="Copy the cells, with the column names, and paste them here.",
                )
            with gr.Accordion("Held-out data, folds and format", open=False, elem_id="held-out"):
                with gr.Row():
                    held_out = gr.File(label="Held-out data", height=110)
                    test = gr.File(label="Test data", height=110)
                fraction = gr.Slider(
                    0,
                    0.5,
                    0.1,
                    step=0.05,
                    label="Held-out fraction",
                    info="Share of the training data to hold out if there is no file of held-out data.",
                )
                test_fraction = gr.Textbox(
                    placeholder="0.1 from 2,000 rows on",
                    label="Test fraction",
                    info="Share of the training data to hold out for the test, which chooses nothing, if there is no "
                    "file of test data. 0: none.",
                )
                with gr.Row():
                    folds, seeds = _draw_repeats()
                header = gr.Dropdown(list(HEADERS), value=next(iter(HEADERS)), label="Header with the column names")
                with gr.Row():
                    reading = {option.name: option_component(option) for option in shown_reading_options()}
        with gr.Column(min_width=300):
            first_rows = gr.HTML(hint(NO_DATA), elem_id="first-rows")
            cancel = gr.Button("Cancel", size="sm", visible=False, elem_id="cancel-reading")
    data = {
        "data": data, "read_from": read_from, "held_out": held_out, "fraction": fraction, "test": test,
        "test_fraction": test_fraction, "folds": folds, "seeds": seeds, "header": header, "reading": reading,
    }  # fmt: skip
    return data, samples, pasted, first_rows, cancel


def _draw_repeats() -> tuple[gr.Textbox, gr.Textbox]:
    """Draws the numbers of folds and of seeds."""
    folds = gr.Textbox(
        placeholder="none",
        label="Folds",
        info="Cross-validation: each row is predicted by a model that was not trained on it. The model itself is "
        "trained on all rows. 5, for example.",
        min_width=200,
    )
    seeds = gr.Textbox(
        placeholder="one",
        label="Seeds",
        info="Train with this number of seeds, show mean and spread, and keep the model with the median score. 3, for "
        "example.",
        min_width=200,
    )
    return folds, seeds


def _draw_task_step() -> tuple[gr.Dropdown, gr.HTML, dict[str, gr.Dropdown], gr.HTML]:
    gr.HTML('<h3 class="hw-step">2. Task</h3>')
    labels = {name: label for task in TASKS for name, label in field_labels(task).items()}
    with gr.Row(equal_height=False):
        with gr.Column(min_width=300):
            names = [(task.title, name) for name, task in TASKS.items()]
            task = gr.Dropdown(names, value=DEFAULT_TASK, label="Task", elem_id="task")
            reason = gr.HTML()
            gr.HTML(caption("Columns"))
            with gr.Row():
                columns = {
                    option.name: gr.Dropdown(
                        [],
                        value=[] if option.name == "label" else None,
                        label=labels.get(option.name, title(option.name)),
                        multiselect=option.name == "label",
                        allow_custom_value=True,  # as for the base model
                        min_width=140,
                        visible=False,
                        elem_id=f"column-{option.name}",
                    )
                    for option in column_options(group=True)
                }
        with gr.Column(min_width=300):
            report = gr.HTML(elem_id="report")
    return task, reason, columns, report


def _draw_model_step(registry: "ModelRegistry") -> dict[str, Any]:
    gr.HTML('<h3 class="hw-step">3. Model</h3>')
    with gr.Row():
        model = gr.Dropdown(
            model_names(registry, DEFAULT_TASK),
            value=default_model(registry, DEFAULT_TASK),
            label="Base model",
            info="A built-in model, a model given at the start, or one trained here.",
            allow_custom_value=True,  # a restarted server does not know the list that it sent before
            min_width=240,
            elem_id="base",
        )
        name = gr.Textbox(label="Name", info="Name of the new model. Default: that of the data.", min_width=200)
    preset = gr.Radio(presets_for(DEFAULT_TASK), value=BALANCED, label="Preset", elem_id="preset")
    about = gr.HTML(caption(PRESETS[BALANCED].description))
    preset.change(None, preset, about, js=_descriptions_js(), show_progress="hidden", queue=False)
    with gr.Accordion("More options", open=False):
        gr.HTML(caption("Options that you change here take precedence over the preset."))
        with gr.Row():
            training = {option.name: option_component(option) for option in shown_training_options()}
        with gr.Row():
            visible = {option.name for option in _options_of_task(DEFAULT_TASK)}
            options = {
                option.name: option_component(option, visible=option.name in visible)
                for option in shown_task_options()
            }
    start = gr.Button("Start training", variant="primary", interactive=False, elem_id="start")
    return {
        "model": model, "name": name, "preset": preset, "training": training, "options": options, "start": start
    }  # fmt: skip


# Models.


def model_names(registry: "ModelRegistry", task: str | None) -> list[str]:
    """The models on which a task can be trained."""
    kinds, entries = TASKS[task or DEFAULT_TASK].models, registry.entries()
    found = [entry.name for entry in entries if entry.model in kinds]
    if "encoder-decoder" in kinds:  # others can be typed
        kept = [one for one in entries if one.name in BUILT_IN]
        encoders, decoders = ([one.name for one in kept if one.model == kind] for kind in ("bert", "gpt2"))
        found += [f"{encoder}{JOINED}{decoder}" for encoder in encoders for decoder in decoders]
    return found


def model_to_open(registry: "ModelRegistry", name: str) -> str:
    """A model as the training process opens it: a built-in name, a Hub id, a folder, or two of them joined by +.

    Raises:
        HeadwayError: the model does not exist.
    """
    names = {entry.name for entry in registry.entries()}
    parts = None if name in names else parts_of(name, lambda part: part in names or is_model_name(part))
    if parts is not None:
        return JOINED.join(model_to_open(registry, part) for part in parts)
    entry = registry.find(name)
    on_hub = HUB_ID.fullmatch(name) and entry.folder.name != name and not Path(name).exists()
    return name if name in BUILT_IN or on_hub else str(entry.folder.resolve())


def default_model(registry: "ModelRegistry", task: str) -> str | None:
    """The built-in model of the task's architecture, or else the first model."""
    names = model_names(registry, task)
    built_in = DEFAULT_MODELS[TASKS[task].models[0]]
    return built_in if built_in in names else next(iter(names), None)


def choose_task(registry: "ModelRegistry", task: str, model: str | None, preset: str | None) -> tuple[Any, ...]:
    """Updates for a task: its models, its presets and its options. What the task can use stays as chosen."""
    known = {option.name for option in _options_of_task(task)}
    names, presets = model_names(registry, task), presets_for(task)
    on_hub = registry.hub and model not in {entry.name for entry in registry.entries()}
    chosen: dict[str, Any] = {} if model in names or (model and on_hub) else {"value": default_model(registry, task)}
    options = [gr.update(visible=option.name in known) for option in shown_task_options()]
    kept: dict[str, Any] = {} if preset in presets else {"value": BALANCED}
    return gr.Dropdown(choices=names, **chosen), gr.Radio(choices=presets, **kept), *options


def _descriptions_js() -> str:
    """JavaScript that returns the description of a preset."""
    shown = {name: caption(preset.description) for name, preset in PRESETS.items()}
    return f"preset => ({json.dumps(shown)})[preset] ?? ''"
