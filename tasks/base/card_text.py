"""The parts of a model card that depend on the task, and those of a task that writes none itself."""

import json
import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...core.checkpoints.families.registry import architecture_of
from ...core.visible import visible

if TYPE_CHECKING:
    from ...core.models.heads import Network
    from .task import Task

MAX_LABELS = 50  # listed in a card


@dataclass(frozen=True)
class CardText:
    """The task's parts of a model card; each is Markdown."""

    summary: str  # what the model does, as a sentence
    answers: str  # its labels, or what else it predicts
    shell: str  # how to use it on the command line
    python: str  # how to use it in Python, where `model` is loaded
    transformers: str  # how to use it in plain transformers
    limits: tuple[str, ...] = ()


def bullets(items: Iterable[str]) -> str:
    """A Markdown list."""
    return "\n".join(f"- {item}" for item in items)


def label_list(labels: Iterable[str]) -> str:
    """A Markdown list of labels, each already in Markdown; of many only the first ones."""
    every = list(labels)
    if len(every) <= MAX_LABELS:
        return bullets(every)
    return f"{bullets(every[:MAX_LABELS])}\n\nThese are {MAX_LABELS} of {len(every):,}; all are in `config.json`."


# Labels and names of files are the user's: in Markdown, shell and Python they must stay what they are.


def escape(text: str) -> str:
    """A text on one line, escaped for Markdown."""
    line = visible(" ".join(text.split())).replace("&", "&amp;").replace("<", "&lt;")
    return re.sub(r"([\\`*\[\]|~])|(?<!\w)_|_(?!\w)", r"\\\g<0>", line)


def code(text: str) -> str:
    """A text on one line as code, between more backticks than it has in a row."""
    line = visible(" ".join(text.split()))
    fence = "`" * (1 + max(map(len, re.findall("`+", line)), default=0))
    space = " " if line[:1] == "`" or line[-1:] == "`" else ""
    return f"{fence}{space}{line}{space}{fence}"


def fenced(language: str, lines: str) -> str:
    """A block of code, between more backticks than it has in a row."""
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", lines)), default=0))
    return f"{fence}{language}\n{visible(lines)}\n{fence}"


def shell_word(name: str) -> str:
    """A name as one word of a command line."""
    return shlex.quote(name)


def string(name: str) -> str:
    """A name as a string of Python."""
    return json.dumps(name, ensure_ascii=False)


def generic_card(task: "Task[Any, Any]", network: "Network", name: str) -> CardText:
    """The card of any task, from its title, its fields and its labels."""
    texts = [f'"A {field.label.lower()}."' for field in task.fields]
    given = texts[0] if len(texts) == 1 else f"({', '.join(texts)})"
    flags = "".join(f" --{field.name} {text}" for field, text in zip(task.fields[1:], texts[1:], strict=True))
    published = architecture_of(network.config, network.head)
    return CardText(
        summary=f"Task: {task.title.lower()}.",
        answers="The labels:\n\n" + label_list(code(label) for label in task.label_names)
        if task.label_names
        else "It predicts without a fixed set of labels.",
        shell=f"headway predict {shell_word(name)} {texts[0]}{flags}",
        python=f"print(model.predict({given}))",
        transformers="\n".join(
            (
                f"from transformers import AutoTokenizer, {published}",
                "",
                f"tokenizer = AutoTokenizer.from_pretrained({string(name)})",
                f"model = {published}.from_pretrained({string(name)})",
                f'print(model(**tokenizer({", ".join(texts)}, return_tensors="pt")))',
            )
        ),
        limits=("Predictions are less reliable for texts that differ from the training data.",),
    )
