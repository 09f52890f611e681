"""In the tab Predict: labels that the user names, for classifiers of pairs that know entailment."""

from functools import partial
from typing import TYPE_CHECKING, Any

import gradio as gr

from ....core.errors import HeadwayError
from ....core.options import options_of
from ....tasks import ZeroShotClassification
from ....tasks.base.sharing import with_options
from ....tasks.data.labels import MULTI_LABEL, SINGLE_LABEL
from ..drawing import draw_display, hint, truncation
from ..events import bind
from ..outdated import asked_js, mark_outdated

if TYPE_CHECKING:
    from ...model_registry import ModelRegistry

NO_ANSWER = "The labels and their scores appear here."
OPTIONS = {one.name: one for one in options_of(ZeroShotClassification, "after")}


def draw_zero_shot(registry: "ModelRegistry", model: gr.Dropdown) -> None:
    """The form and its result."""
    with gr.Row(equal_height=False):
        with gr.Column(min_width=300):
            text = gr.Textbox(label="Text", value="The match was decided in the last minute.", lines=2, max_lines=14)
            labels = gr.Textbox(
                label="Labels (separated by commas, or one per line)", value="sport, politics", max_lines=14
            )
            hypothesis = gr.Textbox(
                label="Hypothesis", value=OPTIONS["hypothesis"].default, info=OPTIONS["hypothesis"].help
            )
            several = gr.Checkbox(label="A text may have none or several of the labels")
            start = gr.Button("Choose labels", variant="primary")
        with gr.Column(min_width=300):
            errors = gr.HTML()
            answer = gr.HTML(hint(NO_ANSWER), elem_id="zero-shot-answer")
    question = [model, text, labels, hypothesis, several]
    options: dict[str, Any] = {"js": asked_js("zero-shot-answer", question), "on_error": [hint(NO_ANSWER)]}
    event = partial(choose_labels, registry), question, [answer], errors
    answered = bind([start.click, labels.submit], *event, **options)
    mark_outdated([answered], question, "zero-shot-answer", watched=[text, labels, hypothesis, several])


def offer_zero_shot(registry: "ModelRegistry", name: str | None) -> gr.Accordion:
    """Shows the form for classifiers of pairs that know entailment."""
    return gr.Accordion(visible=bool(name) and registry.knows_entailment(registry.find(str(name))))


def choose_labels(registry: "ModelRegistry", name: str | None, text: str, labels: str, *how: Any) -> str:
    """The labels of a text with their scores.

    Args:
        registry: the models.
        name: of the model.
        text: the text.
        labels: separated by commas or line breaks.
        *how: the hypothesis, and whether a text may have several labels.

    Raises:
        HeadwayError: a field is empty or not possible.
    """
    named = tuple(part.strip() for line in labels.splitlines() for part in line.split(",") if part.strip())
    if not name or not text.strip() or not named:
        raise HeadwayError("Choose a model, and enter a text and the labels to choose from.")
    hypothesis, several = how
    if len(named) == 1 and not several:
        raise HeadwayError("Enter at least two labels, or say that a text may have none or several of them.")
    kind = MULTI_LABEL if several else SINGLE_LABEL
    options = {"labels": named, "hypothesis": hypothesis, "problem_type": kind}
    model = with_options(registry.zero_shot(name), options)
    prediction = model.predict(text)
    return truncation(prediction.length) + draw_display(model.task.display(prediction, {"text": text}))
