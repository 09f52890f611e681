"""The parts of a model card that depend on the task, and those of a task that writes none itself."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...core.checkpoints.weight_names import architecture_of

if TYPE_CHECKING:
    from ...core.models.heads import Network
    from .task import Task


@dataclass(frozen=True)
class CardText:
    """The task's parts of a model card; each is Markdown."""

    summary: str  # what the model does, as a sentence
    answers: str  # its labels, or what else it predicts
    shell: str  # how to use it on the command line
    python: str  # how to use it in Python, where `model` is loaded
    transformers: str  # how to use it in plain transformers
    fitted: str = ""  # what was fitted to the evaluation data, as the beginning of a sentence
    limits: tuple[str, ...] = ()


def bullets(items: Iterable[str]) -> str:
    """A Markdown list."""
    return "\n".join(f"- {item}" for item in items)


def generic_card(task: "Task[Any, Any]", network: "Network", name: str) -> CardText:
    """The card of any task, from its title, its fields and its labels."""
    texts = [f'"A {field.label.lower()}."' for field in task.fields]
    given = texts[0] if len(texts) == 1 else f"({', '.join(texts)})"
    flags = "".join(f" --{field.name} {text}" for field, text in zip(task.fields[1:], texts[1:], strict=True))
    published = architecture_of(network.config, network.head)
    return CardText(
        summary=f"Task: {task.title.lower()}.",
        answers="The labels:\n\n" + bullets(f"`{label}`" for label in task.label_names)
        if task.label_names
        else "It predicts without a fixed set of labels.",
        shell=f"headway predict {name} {texts[0]}{flags}",
        python=f"print(model.predict({given}))",
        transformers="\n".join(
            (
                f"from transformers import AutoTokenizer, {published}",
                "",
                f'tokenizer = AutoTokenizer.from_pretrained("{name}")',
                f'model = {published}.from_pretrained("{name}")',
                f'print(model(**tokenizer({", ".join(texts)}, return_tensors="pt")))',
            )
        ),
        limits=("Predictions are less reliable for texts that differ from the training data.",),
    )
