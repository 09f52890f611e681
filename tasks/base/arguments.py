"""Arguments that a function does not have: the message names the one that was meant."""

import difflib
import inspect
import re
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from ...core.errors import ArgumentError, HeadwayError
from ...core.options import options_of
from ...core.training.training_config import TrainConfig
from ..data.read_options import ReadOptions
from .task import Task

P = ParamSpec("P")
R = TypeVar("R")

# Names from scikit-learn, Keras, transformers and earlier versions -> the names used here.
MEANT = {
    "chosen": "columns",
    "y": "labels",
    "target": "labels",
    "targets": "labels",
    "train_data": "data",
    "train_dataset": "data",
    "eval_dataset": "eval_data",
    "validation_data": "eval_data",
    "val_data": "eval_data",
    "test_dataset": "test_data",
    "validation_split": "eval_fraction",
    "test_size": "test_fraction",
    "test_split": "test_fraction",
    "output_dir": "output",
    "save_to": "output",
    "path": "output",
    "overwrite_output_dir": "overwrite",
    "resume_from_checkpoint": "resume",
    "lr": "learning_rate",
    "n_epochs": "epochs",
    "num_epochs": "epochs",
    "num_train_epochs": "epochs",
    "steps": "max_steps",
    "bs": "batch_size",
    "per_device_train_batch_size": "batch_size",
    "accumulation_steps": "gradient_accumulation_steps",
    "gradient_checkpointing": "checkpoint_activations",
    "lr_scheduler_type": "schedule",
    "scheduler": "schedule",
    "warmup": "warmup_ratio",
    "random_state": "seed",
    "early_stopping": "patience",
    "early_stopping_patience": "patience",
    "report_to": "trackers",
    "fp16": 'precision="fp16"',
    "bf16": 'precision="bf16"',
    "verbose": "progress",
    "thresholds": "threshold",
    "cv": "folds",
    "n_splits": "folds",
    "num_folds": "folds",
}


def check_arguments(function: str, given: Iterable[str], known: Collection[str], task: Task[Any, Any]) -> None:
    """Checks the names of the arguments of a call.

    Args:
        function: its name.
        given: names of the arguments.
        known: names of the arguments that the function has.
        task: of the model, whose fields and options may have been meant.

    Raises:
        ArgumentError: the function has no such argument; the message names the one that was meant.
    """
    for name in given:
        if name not in known:
            raise ArgumentError(f"{function}() has no argument {name}. {_suggestion(name, known, task)}")


@contextmanager
def names_arguments(task: Task[Any, Any]) -> Iterator[None]:
    """Adds a note to an error that names options of the command line: what they are called in Python.

    Args:
        task: of the model, whose fields and options may be named.
    """
    try:
        yield
    except HeadwayError as error:
        flags = dict.fromkeys(re.findall(r"(?<![\w-])--([a-z][a-z-]+)", str(error)))
        if flags and not getattr(error, "__notes__", None):
            error.add_note(f"In Python: {', '.join(f'{_python_name(flag, task)} for --{flag}' for flag in flags)}.")
        raise


def _python_name(flag: str, task: Task[Any, Any]) -> str:
    """How an option of the command line is given in Python."""
    name = flag.replace("-", "_")
    if name in ("label", "group", *(field.name for field in task.fields)):
        return f'columns={{"{name}": ...}}'
    if name in ("multi_label", "regression"):
        return f'{type(task).__name__}(problem_type="{name}{"_classification" * (name == "multi_label")}")'
    for one in options_of(type(task)):
        if name in (one.name, one.public_name.replace("-", "_")):
            return f"{type(task).__name__}({one.name}=...)"
    return "on(...)" if name == "model" else f"{name}="


def check_train_arguments(options: Iterable[str], task: Task[Any, Any], known: Collection[str]) -> None:
    """As `check_arguments`, for those of `fit` that may be fields of TrainConfig or ReadOptions."""
    check_arguments("fit", options, [*known, *_names(TrainConfig), *_names(ReadOptions)], task)


def explains_arguments(method: Callable[P, R]) -> Callable[P, R]:
    """Decorator of a method of `Predictor`: an unknown argument raises ArgumentError."""
    parameters = inspect.signature(method).parameters
    known = [*parameters, *(_names(ReadOptions) if "reading" in parameters else ())]

    @wraps(method)
    def checked(*args: P.args, **given: P.kwargs) -> R:
        task: Task[Any, Any] = args[0].task  # pyright: ignore[reportAttributeAccessIssue]
        check_arguments(method.__name__, given, known, task)
        with names_arguments(task):
            return method(*args, **given)

    return checked


def _names(options: type) -> list[str]:
    return [found.name for found in options_of(options)]


def _suggestion(name: str, known: Collection[str], task: Task[Any, Any]) -> str:
    meant = MEANT.get(name, "")
    if meant.partition("=")[0] in known:
        return f"Use {meant if '=' in meant else f'{meant}='}."
    if "columns" in known and name.removesuffix("_column") in {"label", *(field.name for field in task.fields)}:
        return f'Name a column with columns={{"{name.removesuffix("_column")}": ...}}.'
    if name in {found.name for found in options_of(type(task))}:
        return f"It is an option of the task: {type(task).__name__}({name}=...)."
    names = [one for one in known if one not in ("self", "options", "reading")]
    near = difflib.get_close_matches(name, names, n=1)
    return f"Did you mean {near[0]}=?" if near else f"Its arguments are: {', '.join(names)}."
