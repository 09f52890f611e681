"""The tab Look inside: what a model looks at in a text, what each layer would have said, what the answer rests on.

It is the page of `headway inspect`, in a frame that may run its own script and do nothing else; it can be downloaded.
"""

import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from ....core.errors import HeadwayError
from ....tasks import TASKS
from ....tasks.inspection import outputs_of
from ....tasks.samples import sample_texts
from ...commands.inspect_page import describe, inspect_texts, render_page
from ..drawing import PICK, draw_choices, draw_frame, facts, hint
from ..events import bind, keep_listed, this_tab
from ..tab_context import TabContext

if TYPE_CHECKING:
    from ....tasks.inspection import Inspected
    from ...model_registry import ModelRegistry

TITLE = "Look inside"
OWN = "its own answer"
MOST_OUTPUTS = 30  # that can be explained, in the list
EMPTY = (
    "Where each token looks, what each layer would have said, which words the answer rests on, what the model holds."
)


def draw(context: TabContext) -> None:
    """Draws the tab."""
    registry, tab = context.registry, this_tab()
    most = max(len(task.inputs) for task in TASKS.values())
    names = [entry.name for entry in registry.entries()]
    with gr.Row():
        model = gr.Dropdown(names, value=None, label="Model", allow_custom_value=True, min_width=240)
        explained = gr.Dropdown([OWN], value=OWN, label="Explain", visible=False, min_width=160)
    about = gr.HTML()
    texts = [gr.Textbox("", visible=False, lines=2, max_lines=10) for _ in range(most)]
    with gr.Row():
        start = gr.Button("Look", variant="primary", min_width=120)
        download = gr.DownloadButton("Download it", visible=False, min_width=120)
    examples = gr.HTML(js_on_load=PICK)
    told = gr.HTML()
    shown = gr.HTML(hint(EMPTY), elem_id="inside", min_height=120)

    bind(
        model.change,
        partial(choose, registry, most),
        [model],
        [about, explained, *texts, examples, shown, download],
        told,
        show_progress="hidden",
    )
    seen = [shown, download, explained]
    bind([start.click, texts[0].submit], partial(look_at, registry), [model, explained, *texts], seen, told)
    picked = bind(examples.click, partial(pick, registry, most), [model], texts, told, show_progress="hidden")
    bind(picked.success, partial(look_at, registry), [model, explained, *texts], seen, told)
    keep_listed(model, lambda: [entry.name for entry in registry.entries()], tab.select)


def choose(registry: "ModelRegistry", most: int, name: str | None) -> tuple[Any, ...]:
    """What the form becomes for a model."""
    if not name:
        raise HeadwayError("Choose a model first.")
    opened = registry.inspected(name)
    shown = [
        gr.Textbox(label=field.label if field.required else f"{field.label} (may be empty)", visible=True)
        for field in opened.fields
    ]
    hidden = [gr.Textbox(visible=False) for _ in range(most - len(shown))]
    kind, _, sizes = describe(opened).partition("; ")
    outputs = gr.Dropdown(choices=[OWN], value=OWN, visible=False)
    samples = [" / ".join(" ".join(text.split()) for text in one.values()) for one in _samples(opened)]
    examples = draw_choices(samples, "Examples")
    return (facts({kind: sizes}), outputs, *shown, *hidden, examples, hint(EMPTY), gr.DownloadButton(visible=False))


def _samples(opened: "Inspected") -> list[dict[str, str]]:
    """Texts to look at; for a model that answers nothing of one text, those of a model of its kind."""
    if opened.model is not None:
        return sample_texts(opened.model.task)
    task = TASKS["text-generation" if opened.causal else "fill-mask"]
    return sample_texts(task())


def pick(registry: "ModelRegistry", most: int, name: str, event: gr.EventData) -> Any:
    """The texts of the example that was clicked."""
    opened = registry.inspected(name)
    sample = _samples(opened)[event.choice]
    given = [sample.get(field.name, "") for field in opened.fields]
    texts = (*given, *([""] * (most - len(given))))
    return texts if most > 1 else texts[0]


def look_at(
    registry: "ModelRegistry", name: str | None, explain: str | None, *texts: str | None
) -> Iterator[tuple[Any, ...]]:
    """The page about some texts: in its frame, to download, and what else in it can be explained."""
    if not name:
        raise HeadwayError("Choose a model first.")
    opened = registry.inspected(name)
    given = {field.name: text for field, text in zip(opened.fields, texts, strict=False) if text and text.strip()}
    for field in opened.fields:
        if field.required and field.name not in given:
            raise HeadwayError(f"{field.label} is empty. Write something there, or click on an example.")
    outputs: list[str] = []
    if opened.task is not None:
        outputs = [one.name for one in outputs_of(opened, opened.read(**given))][:MOST_OUTPUTS]
    chosen = explain if explain in outputs else None
    page = render_page(inspect_texts(opened, given, chosen))
    choices = gr.Dropdown(choices=[OWN, *outputs], value=chosen or OWN, visible=bool(outputs))
    with tempfile.TemporaryDirectory(prefix="headway-") as folder:
        path = Path(folder) / f"{Path(name).name}-inside.html"
        path.write_text(page, encoding="utf-8")
        # What is downloaded is copied before the generator goes on.
        yield draw_frame(page, "A look inside"), gr.DownloadButton(value=path, visible=True), choices
