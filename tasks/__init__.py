"""Tasks: the heads and everything around them, and the list of tasks."""

from pathlib import Path
from typing import Any

from .base.model import TaskModel
from .base.task import Task
from .classification.classification import TextClassification
from .classification.next_sentence import NextSentencePrediction
from .data.read import read_table
from .embedding.embedder import Embedder
from .embedding.similarity import SentenceSimilarity
from .evaluation.rules import RuleOptions, fit_rules, measure_rules, save_rules
from .language_modeling.fill_mask import FillMask
from .language_modeling.text_generation import TextGeneration
from .multiple_choice.multiple_choice import MultipleChoice
from .prompting.prompt import Prompt
from .question_answering.question_answering import QuestionAnswering
from .ranking import rank
from .tagging.tagging import TokenClassification
from .text_to_text.text_to_text import TextToText

__all__ = [
    "TASKS",
    "Embedder",
    "FillMask",
    "MultipleChoice",
    "NextSentencePrediction",
    "Prompt",
    "QuestionAnswering",
    "RuleOptions",
    "SentenceSimilarity",
    "TaskModel",
    "TextClassification",
    "TextGeneration",
    "TextToText",
    "TokenClassification",
    "fit_rules",
    "load",
    "measure_rules",
    "rank",
    "read_table",
    "save_rules",
]

# In the order of lists and forms; forms start with the first one.
TASKS: dict[str, type[Task[Any, Any]]] = {
    task.name: task
    for task in (
        TextClassification,
        TokenClassification,
        QuestionAnswering,
        MultipleChoice,
        SentenceSimilarity,
        NextSentencePrediction,
        FillMask,
        TextGeneration,
        TextToText,
    )
}


def load(model: str | Path, *, device: str = "auto", **options: Any) -> TaskModel:
    """Loads a model that predicts: a folder that Headway saved, or a published checkpoint with a head.

    Args:
        model: the folder, or a hub id.
        device: auto (the accelerator if there is one), cpu, cuda, cuda:1, mps or xpu.
        **options: of its task, instead of the stored ones (`TaskModel.set_options`).

    Raises:
        HeadwayError: there is no such model or device, it cannot be read, it has no head of a known task, or no such
            option.
    """
    opened = TaskModel.load(model, TASKS, device)
    opened.set_options(**options)
    return opened
