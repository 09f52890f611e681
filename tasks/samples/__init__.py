"""Sample data sets that ship with the package."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..data.read import stream_rows

if TYPE_CHECKING:
    from ..base.task import Task

FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Sample:
    """A data file of this folder.

    Args:
        title: what it holds.
        task: name of a task that can be trained on it.
    """

    title: str
    task: str


SAMPLES = {
    "messages.csv": Sample("Customer messages by topic", "text-classification"),
    "topics.csv": Sample("Reviews with several labels", "text-classification"),
    "pairs.csv": Sample("Sentence pairs", "text-classification"),
    "entities.conll": Sample("Named entities", "token-classification"),
    "questions.json": Sample("Questions with contexts", "question-answering"),
    "endings.csv": Sample("Contexts with three endings", "multiple-choice"),
    "sentences.csv": Sample("Sentences that follow each other or not", "next-sentence-prediction"),
    "requests.csv": Sample("Orders and polite questions", "text-to-text"),
    "melodies.txt": Sample("Melodies as texts of events", "text-generation"),
}


def sample_texts(task: "Task", count: int = 4) -> list[dict[str, str]]:
    """Up to `count` inputs for a model of a task, by the names of its fields; empty if the task has no sample."""
    if task.sample is None:
        return []
    stream = stream_rows(FOLDER / task.sample)
    columns = task.columns(stream, {}, need_label=False).texts
    found: list[dict[str, str]] = []
    for _, row in stream:
        texts = {name: _to_text(row[column]) for name, column in columns.items()}
        # Neighbouring rows often have a text in common, such as the passage of a question.
        if all(texts.values()) and all(one[name] != text for one in found for name, text in texts.items()):
            found.append(texts)
        if len(found) == count:
            break
    return found


def sample_melodies(count: int = 4) -> list[str]:
    """The first `count` melodies as events."""
    return (FOLDER / "melodies.txt").read_text(encoding="utf-8").splitlines()[:count]


def sample_prompt(template: str) -> tuple[list[dict[str, str]], dict[str, str]]:
    """Labelled examples for a built-in prompt template, and a text to label; each has text, pair and label."""
    rows = [row for _, row in stream_rows(FOLDER / "prompts.csv") if row["template"] == template]
    examples = [{name: str(row[name] or "") for name in ("text", "pair", "label")} for row in rows]
    labelled = [one for one in examples if one["label"]]
    return labelled, next((one for one in examples if not one["label"]), {})


def _to_text(cell: object) -> str:
    """A text unchanged; a list of words joined by spaces, except before punctuation."""
    if not isinstance(cell, list):
        return str(cell or "")
    text = " ".join(map(str, cell))
    for mark in ".,;:!?":
        text = text.replace(f" {mark}", mark)
    return text
