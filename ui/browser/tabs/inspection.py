"""The tab Inspect: the attention, the predictions of each layer and the attributions of a model for a text.

It shows the page of `headway inspect` in a sandboxed frame and offers it for download.
"""

import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from ....core.errors import HeadwayError
from ....tasks import TASKS
from ....tasks.events.event_words import WORDS
from ....tasks.inspection import explainable_outputs
from ....tasks.samples import sample_melodies, sample_texts
from ...commands.inspect_page import describe, inspect_texts, render_page
from ..drawing import CHOICE_CLICK_JS, draw_facts, draw_frame, hint
from ..events import bind, current_tab, refresh_models
from ..kept_form import keep_form
from ..outdated import asked_js, mark_outdated
from ..tab_context import TabContext
from .predict import draw_examples, example_inputs, example_texts, field_label, read_texts

if TYPE_CHECKING:
    from ....tasks.inspection import InspectedModel
    from ...model_registry import ModelRegistry

TITLE = "Inspect"
PREDICTION = "prediction"
MAX_OUTPUTS = 30  # that can be chosen for the attributions
NO_PAGE = "Attention, predictions of each layer, attributions and parameters appear here."


def draw(context: TabContext) -> None:
    """Draws the tab."""
    registry, tab = context.registry, current_tab()
    num_fields = max(len(task.inputs) for task in TASKS.values())
    names = [entry.name for entry in registry.text_readers()]
    with gr.Row():
        model = gr.Dropdown(names, value=None, label="Model", allow_custom_value=True, min_width=240)
        explained = gr.Dropdown([PREDICTION], value=PREDICTION, label="Explain", visible=False, min_width=160)
    about = gr.HTML()
    texts = [gr.Textbox("", visible=False, lines=2, max_lines=10) for _ in range(num_fields)]
    with gr.Row():
        start = gr.Button("Inspect", variant="primary", min_width=120)
        download = gr.DownloadButton("Download", visible=False, min_width=120)
    examples = gr.HTML(js_on_load=CHOICE_CLICK_JS)
    errors = gr.HTML()
    shown = gr.HTML(hint(NO_PAGE), elem_id="inspection", min_height=120)

    bind(
        model.change,
        partial(choose_model, registry, num_fields),
        [model],
        [about, explained, *texts, examples, shown, download],
        errors,
        on_error=[""],
        show_progress="hidden",
    )
    question = [model, explained, *texts]
    inspect_event = partial(inspect, registry), question, [shown, download, explained], errors
    options: dict[str, Any] = {
        "js": asked_js("inspection", question), "on_error": [hint(NO_PAGE), gr.update(visible=False)]
    }  # fmt: skip
    inspected = bind([start.click, texts[0].submit], *inspect_event, **options)
    take = partial(take_example, registry, num_fields)
    taken = bind(examples.click, take, [model], texts, errors, show_progress="hidden")
    answered = [inspected, bind(taken.success, *inspect_event, **options)]
    mark_outdated(answered, question, "inspection", watched=[explained, *texts])
    keep_form(context.page, "inspect", [model, *texts])
    refresh_models(model, lambda: [entry.name for entry in registry.text_readers()], tab.select)


def choose_model(registry: "ModelRegistry", num_fields: int, name: str | None) -> tuple[Any, ...]:
    """Updates for a chosen model: its description, text boxes and examples, and an empty page."""
    if not name:
        raise HeadwayError("Choose a model.")
    opened = registry.inspected(name)
    shown = [gr.Textbox(label=field_label(field), visible=True) for field in opened.fields]
    hidden = [gr.Textbox(visible=False) for _ in range(num_fields - len(shown))]
    kind, _, sizes = describe(opened).partition("; ")
    outputs = gr.Dropdown(choices=[PREDICTION], value=PREDICTION, visible=False)
    examples = draw_examples(_samples(opened))
    about, no_download = draw_facts({kind: sizes}), gr.DownloadButton(visible=False)
    return (about, outputs, *shown, *hidden, examples, hint(NO_PAGE), no_download)


def _samples(opened: "InspectedModel") -> list[dict[str, str]]:
    """Example texts of the model's task; without a task, those of the language-model task of its architecture.

    A model whose words are events of music gets melodies.
    """
    if any(opened.tokenizer.id_of(word) is not None for word in WORDS):
        return [{"text": melody} for melody in sample_melodies()]
    if opened.model is not None:
        return example_inputs(opened.model)
    architecture = ("gpt2",) if opened.causal else ("bert",)
    task = next(task for task in TASKS.values() if task.self_supervised and task.models == architecture)
    return sample_texts(task())


def take_example(registry: "ModelRegistry", num_fields: int, name: str, event: gr.EventData) -> Any:
    """The texts of the clicked example."""
    opened = registry.inspected(name)
    return example_texts(_samples(opened)[event.choice], opened.fields, num_fields)


def inspect(
    registry: "ModelRegistry", name: str | None, explain: str | None, *texts: str | None
) -> Iterator[tuple[Any, ...]]:
    """The inspection page in its frame and for download, and the outputs that can be explained."""
    if not name:
        raise HeadwayError("Choose a model.")
    opened = registry.inspected(name)
    given = read_texts(opened.fields, texts)
    outputs: list[str] = []
    if opened.task is not None:
        outputs = [one.name for one in explainable_outputs(opened, opened.encode(**given))][:MAX_OUTPUTS]
    chosen = explain if explain in outputs else None
    page = render_page(inspect_texts(opened, given, chosen))
    choices = gr.Dropdown(choices=[PREDICTION, *outputs], value=chosen or PREDICTION, visible=bool(outputs))
    with tempfile.TemporaryDirectory(prefix="headway-") as folder:
        path = Path(folder) / f"{Path(name).name}-inside.html"
        path.write_text(page, encoding="utf-8")
        # Gradio copies the file before the generator continues and deletes the folder.
        yield draw_frame(page, "Inspection"), gr.DownloadButton(value=path, visible=True), choices
