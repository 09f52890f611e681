"""Tasks: the heads and everything around them, and the list of tasks."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..core.checkpoints.hub import with_revision
from ..core.errors import HeadwayError
from ..core.options import options_of
from .base.model import TaskModel
from .base.sharing import with_task
from .base.task import Task
from .classification.classification import TextClassification
from .classification.next_sentence import NextSentencePrediction
from .data.read import read_table
from .embedding.embedder import Embedder
from .embedding.similarity import SentenceSimilarity
from .evaluation.compare import compare_sides
from .evaluation.comparison import Comparison
from .evaluation.rules import RuleOptions, fit_rules, measure_rules, save_rules
from .evaluation.sides import ModelSide, PromptSide, Side
from .language_modeling.fill_mask import FillMask
from .language_modeling.text_generation import TextGeneration
from .learning_curves.learning_curve import learning_curve
from .multiple_choice.multiple_choice import MultipleChoice
from .prompting.prompt import Prompt
from .prompting.saved_prompt import SavedPrompt, is_saved_prompt
from .question_answering.question_answering import QuestionAnswering
from .ranking import rank
from .tagging.tagging import TokenClassification
from .text_to_text.text_to_text import TextToText
from .zero_shot.zero_shot import ZeroShotClassification

__all__ = [
    "TASKS",
    "Embedder",
    "FillMask",
    "MultipleChoice",
    "NextSentencePrediction",
    "Prompt",
    "QuestionAnswering",
    "RuleOptions",
    "SavedPrompt",
    "SentenceSimilarity",
    "TaskModel",
    "TextClassification",
    "TextGeneration",
    "TextToText",
    "TokenClassification",
    "ZeroShotClassification",
    "compare",
    "fit_rules",
    "learning_curve",
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

# Options that trained models do not have: with them, a classifier of pairs is used for labels of the user.
ZERO_SHOT = {one.name for one in options_of(ZeroShotClassification, "after")} - {
    one.name for task in TASKS.values() for one in options_of(task, "after")
}


def load(model: str | Path, *, device: str = "auto", revision: str | None = None, **options: Any) -> TaskModel:
    """Loads a model that predicts: a folder that Headway saved, or a published checkpoint with a head.

    Args:
        model: the folder, or a hub id; a private model of the Hub needs a token (HF_TOKEN).
        device: auto (the accelerator if there is one), cpu, cuda, cuda:1, mps or xpu.
        revision: a branch, a tag or a commit of the model on the Hub; "NAME@REVISION" is the same.
        **options: of its task, instead of the stored ones (`TaskModel.set_options`). With `labels`, a classifier of
            pairs that knows entailment chooses from these labels (`ZeroShotClassification`).

    Raises:
        HeadwayError: there is no such model or device, it cannot be read, it has no head of a known task, or no such
            option.
    """
    opened = TaskModel.load(with_revision(model, revision), TASKS, device)
    if ZERO_SHOT.isdisjoint(options):
        opened.set_options(**options)
        return opened
    if "labels" not in options:
        first = min(ZERO_SHOT.intersection(options)).replace("_", "-")
        raise HeadwayError(f"--{first} is for labels of your own: add --labels sport,politics, or omit it.")
    return as_zero_shot(opened, opened.base, options)


def as_zero_shot(model: TaskModel, name: str, options: Mapping[str, Any] | None = None) -> TaskModel:
    """A classifier of pairs that knows entailment as a model for zero-shot classification.

    Args:
        model: the classifier.
        name: of it, for messages.
        options: of ZeroShotClassification; its labels can be set later.

    Raises:
        HeadwayError: the model is no classifier of pairs, or an option is not possible.
    """
    return with_task(model, ZeroShotClassification.of(model.task, name, options))


def compare(
    *models: Any,
    data: Any,
    columns: Mapping[str, Any] | None = None,
    slices: Sequence[str] = (),
    device: str = "auto",
    precision: str = "auto",
    options: Mapping[str, Any] | None = None,
    **reading: Any,
) -> Comparison:
    """Compares models on the same labelled rows, or language models on the same text; the first one is the reference.

    Args:
        *models: each a model of `load`, the name of one, a `SavedPrompt`, or the file of one.
        data: anything that `train` takes.
        columns: field name or "label" -> column, where the inferred one is wrong.
        slices: columns whose values make slices.
        device: of models given by name: auto, cpu, cuda, cuda:1, mps or xpu.
        precision: of models given by name: one of `headway.tasks.base.precision.PRECISION_CHOICES`.
        options: task options of models given by name, as for `load`: eval_outputs, threshold, ...
        **reading: fields of ReadOptions: header, encoding, ...

    Raises:
        HeadwayError: the models cannot be compared, or a model or the data cannot be read.
    """
    sides: list[Side] = []
    for number, model in enumerate(models, start=1):
        name = str(model) if isinstance(model, str | Path) else getattr(model, "base", f"prompt {number}")
        name = f"{name} ({number})" if any(name == one.name for one in sides) else name
        if is_saved_prompt(model):
            model = SavedPrompt.load(model)
        if isinstance(model, SavedPrompt):
            sides.append(PromptSide(model, name, device=device, precision=precision))
            continue
        if isinstance(model, str | Path):
            model = load(model, device=device, **(options or {}))
            model.precision = precision
        if not isinstance(model, TaskModel):
            raise HeadwayError(f"{name}: expected a model, the name of one or a SavedPrompt. Give one of these.")
        sides.append(ModelSide(model, name))
    return compare_sides(sides, data, columns=columns, by=slices, **reading)
