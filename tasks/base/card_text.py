"""The task's part of a model card."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class CardText:
    """What a task says about a model of its own; each part is Markdown."""

    summary: str  # what the model does, as a sentence
    answers: str  # its labels, or what else comes out
    shell: str  # how to ask it on the command line
    python: str  # and in Python, with `model` loaded
    transformers: str  # and without Headway
    fitted: str = ""  # what was fitted to the evaluation data, as the beginning of a sentence
    limits: tuple[str, ...] = ()


def bullets(items: Iterable[str]) -> str:
    """A Markdown list."""
    return "\n".join(f"- {item}" for item in items)
