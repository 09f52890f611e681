"""What the card of a text-classification model says about itself."""

from typing import TYPE_CHECKING

from torch import nn

from ...core.models.gpt2 import GPT2Config
from ..base.card_text import CardText, bullets
from ..data.labels import MULTI_LABEL, REGRESSION, SINGLE_LABEL

if TYPE_CHECKING:
    from ...core.models.heads import Network
    from .classification import TextClassification


def card_text(task: "TextClassification", network: "Network", name: str) -> CardText:
    """The card's parts: the labels, how to ask for them with Headway and without, and what to mind."""
    gpt2 = isinstance(network.config, GPT2Config)
    what = "a pair of texts" if task.paired else "a text"
    does = {
        SINGLE_LABEL: f"It puts {what} into one of {len(task.labels)} classes.",
        MULTI_LABEL: f"It gives {what} any number of {len(task.labels)} labels.",
        REGRESSION: f"It gives {what} a number.",
    }[task.problem_type or SINGLE_LABEL]
    return CardText(
        summary=does,
        answers=_answers(task),
        shell=f'headway predict {name} "A text."' + ' --pair "Another text."' * bool(task.paired),
        python=f"print(model.predict({_example(task)}))",
        transformers=_transformers(task, name, gpt2),
        fitted=_fitted(task),
        limits=tuple(_limits(task, network, gpt2)),
    )


def _example(task: "TextClassification") -> str:
    return '("A text.", "Another text.")' if task.paired else '"A text."'


def _answers(task: "TextClassification") -> str:
    if task.problem_type == REGRESSION:
        return "The answer is a number on the scale of the training data's labels."
    if task.thresholds:
        shown = zip(task.labels, task.thresholds, strict=True)
        return "The labels, and the probability from which each is given:\n\n" + bullets(
            f"`{label}` {threshold:.3f}" for label, threshold in shown
        )
    return "The labels:\n\n" + bullets(f"`{label}`" for label in task.labels)


def _transformers(task: "TextClassification", name: str, gpt2: bool) -> str:
    asked = _example(task)
    if task.paired:
        asked = '"A text.<|endoftext|>Another text."' if gpt2 else '{"text": "A text.", "text_pair": "Another text."}'
    lines = ["from transformers import pipeline", ""]
    if task.problem_type == REGRESSION:
        mean = f" + {task.target_mean!r}" if task.target_mean else ""
        lines += [
            f'pipe = pipeline("text-classification", model="{name}", function_to_apply="none")',
            f'result = pipe({asked}, top_k=1)[0]["score"]{mean}',
        ]
    else:
        lines += [f'pipe = pipeline("text-classification", model="{name}")', f"result = pipe({asked}, top_k=None)"]
    return "\n".join([*lines, "print(result)"])


def _fitted(task: "TextClassification") -> str:
    if task.thresholds:
        return "the thresholds were chosen"
    return "the temperature of the probabilities was chosen" if task.temperature != 1 else ""


def _limits(task: "TextClassification", network: "Network", gpt2: bool) -> list[str]:
    limit = task.limit(network.config.max_positions, "")
    long = (
        f"A text of more than {limit:,} tokens is cut: only its beginning is read."
        if task.long_texts == "cut"
        else f"A text of more than {limit:,} tokens is read in overlapping windows, whose outputs are averaged. "
        "Plain transformers cannot read it: cut it there."
    )
    limits = [long]
    if task.frozen:
        limits.append(
            "Only the classifier was fitted, by logistic regression on the vectors that the model had already; "
            "training all of it takes longer and mostly makes it better."
        )
    if task.temperature != 1:
        limits.append(
            f"Headway divides the logits by a temperature of {task.temperature:.3f}; plain transformers does not, so "
            "its probabilities are others, for the same labels."
        )
    if task.thresholds:
        limits.append("Plain transformers knows nothing of the labels' own thresholds.")
    classifier = network.get_submodule("head.classifier")
    if (
        task.problem_type == REGRESSION
        and isinstance(classifier, nn.Linear)
        and classifier.bias is None
        and task.target_mean
    ):
        limits.append(
            f"The published GPT-2 head has no bias: Headway adds {task.target_mean:g} to what it gives, and so must "
            "whoever uses the model without Headway."
        )
    if gpt2 and task.paired:
        limits.append("The two texts are joined by `<|endoftext|>`, as GPT-2 has no other sign for it.")
    limits.append("It knows texts like those it was trained on; of other kinds or languages it may be wrong and sure.")
    return limits
