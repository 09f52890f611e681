"""headway train: from a data file to a model folder."""

from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ...core.errors import HeadwayError
from ..options import (
    JSON,
    OVERWRITE,
    TASK,
    TRAINING_DATA,
    chosen_columns,
    column_options,
    make_task,
    read_value,
    reading_options,
    task_options,
    training_options,
    with_options,
)

if TYPE_CHECKING:
    from rich.console import Console

    from ...core.training.training_events import Event
    from ...tasks import TaskModel
    from ...tasks.base.results import Trained
    from ..interrupts import StopRequest
    from ..training_view import TrainingView

DEFAULT_MODELS = {"bert": "mini-bert", "gpt2": "mini-gpt2"}
MAX_POSITIONS = 512  # of a new model
SCRATCH: dict[str, Any] = {"rich_help_panel": "Training from scratch (language models)"}
PATHS = ("data", "eval-data", "test-data", "model", "label-names")
NOT_IN_RUN_FILE = ("output", "resume", "overwrite", "json", "debug", "offline", "config")


def train(
    task: Annotated[str, TASK],
    data: Annotated[str, TRAINING_DATA],
    output: Annotated[Path, typer.Option(metavar="FOLDER", help="The model folder to write.")],
    eval_data: Annotated[
        str | None, typer.Option(metavar="FILE", help="Held-out data. Default: --eval-fraction of the training data.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(metavar="NAME", help="The model to start from. See: headway models")
    ] = None,
    eval_fraction: Annotated[
        float,
        typer.Option(
            metavar="NUMBER", parser=read_value("eval_fraction", float), help="Fraction of the data to hold out."
        ),
    ] = 0.1,
    test_data: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Test data, which chooses nothing: the metrics are measured on it. Default: --test-fraction of the "
            "training data.",
        ),
    ] = None,
    test_fraction: Annotated[
        float | None,
        typer.Option(
            metavar="NUMBER",
            parser=read_value("test_fraction", float, optional=True),
            help="Fraction of the data to hold out for the test; 0: none, and the metrics are measured on the rows "
            "that choose the best step. Default: 0.1 from 2,000 rows on.",
        ),
    ] = None,
    folds: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            parser=read_value("folds", int, optional=True),
            help="Cross-validation: each row is predicted by a model that was not trained on it (out_of_fold.jsonl in "
            "the model folder). The model itself is trained on all rows.",
        ),
    ] = None,
    seeds: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            parser=read_value("seeds", int, optional=True),
            help="Train with this number of seeds, show mean and spread, and keep the model with the median score.",
        ),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue an interrupted run.")] = False,
    overwrite: Annotated[bool, OVERWRITE] = False,
    size: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Start from random weights of this size: tiny, mini, ..., base or 124M.", **SCRATCH
        ),
    ] = None,
    learn_tokenizer: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            parser=read_value("learn_tokenizer", int, optional=True),
            help="Learn a vocabulary of this size from the data. Default: use the tokenizer of --model.",
            **SCRATCH,
        ),
    ] = None,
    vocabulary: Annotated[
        str,
        typer.Option(
            metavar="KIND",
            help="Tokens of the learned vocabulary: pieces (subwords) or words (separated by white space).",
            **SCRATCH,
        ),
    ] = "pieces",
    max_positions: Annotated[
        int,
        typer.Option(
            metavar="N",
            parser=read_value("max_positions", int),
            help="Maximum sequence length of the new model.",
            **SCRATCH,
        ),
    ] = MAX_POSITIONS,
    json: Annotated[bool, JSON] = False,
    *,
    columns: dict[str, Any],
    reading: dict[str, Any],
    task_options: dict[str, Any],
    training: dict[str, Any],
    given: dict[str, Any],
) -> None:
    """Train a model on a data file.

    The inferred columns and a check of the data are printed before training starts. All options are saved as run.yaml
    in the model folder; repeat the run with: headway train --config FOLDER/run.yaml --output OTHER
    """
    from ...core.atomic_files import new_path
    from ...core.training.failures import failing_together
    from ...core.training.output_lock import OutputLock
    from ...core.training.training_config import TrainConfig
    from ...tasks.base.training_run import initial_folder, refuse_output
    from ..interrupts import StopRequest
    from ..terminal import command, predict_command, print_json, screen, show_next

    output = new_path(output)
    config = TrainConfig(**training)
    new_task = make_task(task, task_options)
    console = screen(to_stderr=json)
    source = {"columns": chosen_columns(columns), **reading}
    held_out = {"test_data": test_data, "eval_fraction": eval_fraction, "test_fraction": test_fraction}
    default = DEFAULT_MODELS[new_task.models[0]]
    with failing_together(), OutputLock(output) as lock, StopRequest() as stop, initial_folder(output) as initial:
        refuse_output(output, overwrite=overwrite, resume=resume)
        if size is not None:
            task_model = _from_scratch(
                new_task,
                data,
                folder=initial,
                size=size,
                vocab_size=learn_tokenizer,
                tokenizer_of=model,
                vocabulary=vocabulary,
                max_positions=max_positions,
                held_out=(0.0 if eval_data else eval_fraction, 0.0 if test_data else test_fraction),
                seed=config.seed,
                keep=resume,
                **source,
            )
        else:
            _refuse_scratch_options(learn_tokenizer, vocabulary, max_positions)
            task_model = _from_model(new_task, model, default)
        task_model.output_lock = lock
        events = task_model.train(
            data,
            eval_data,
            output=output,
            **held_out,
            config=config,
            overwrite=overwrite,
            resume=resume,
            folds=folds,
            seeds=seeds,
            stop=stop,
            settings=_run_file(given if size or model else {"model": default, **given}),
            **source,
        )
        trained = _follow(console, events, stop)
    fields = task_model.task.fields
    show_next(console, predict_command(output, fields), command("evaluate", output, "--data", "FILE"))
    if json:
        print_json({name: value for name, value in trained.to_json().items() if name != "event"})


def _from_scratch(task: Any, data: str, **options: Any) -> "TaskModel":
    from ...tasks.language_modeling.from_scratch import on_new_model

    if task.new_model is None:
        raise HeadwayError(f"--size starts from random weights, which is too little for {task.name}. Use --model.")
    return on_new_model(task, data, **options)


def _refuse_scratch_options(learn_tokenizer: int | None, vocabulary: str, max_positions: int) -> None:
    given = {
        "--learn-tokenizer": learn_tokenizer is not None,
        "--vocabulary": vocabulary != "pieces",
        "--max-positions": max_positions != MAX_POSITIONS,
    }
    for name, is_given in given.items():
        if is_given:
            raise HeadwayError(f"{name} is for training from scratch. Add --size, for example --size mini.")


def _from_model(task: Any, model: str | None, default: str) -> "TaskModel":
    from ...core.checkpoints.hub import BUILT_IN
    from ...tasks import TaskModel

    if model is None and default not in BUILT_IN:
        raise HeadwayError(
            "--model is missing. Give the folder of a model, or a name on the Hub such as bert-base-uncased. "
            "headway models lists more."
        )
    return TaskModel.plug(task, model or default)


def _follow(console: "Console", events: "Generator[Event, None, None]", stop: "StopRequest") -> "Trained":
    """Shows a run until it ends; an interruption says whether the run can be resumed."""
    from ..training_view import TrainingView

    with TrainingView(console) as view, closing(events):
        try:
            trained = view.follow(stop.watch(events))
            return replace(trained, notes=(*view.notes, *trained.notes))
        except KeyboardInterrupt as interruption:
            view.close()
            raise stop.interruption(interruption, _explain_interruption(view)) from interruption


def _explain_interruption(view: "TrainingView") -> str:
    when = "before the first step" if view.step is None else f"at step {view.step:,}"
    if view.finished_runs:
        again = "run the same command with --resume to continue"
        return f"interrupted {when}. {view.finished_runs} of the runs are finished; {again}."
    if view.saved_step is None:
        return f"interrupted {when}. No checkpoint was saved yet, so nothing is kept."
    saved = f"The checkpoint of step {view.saved_step:,} is saved"
    return f"interrupted {when}. {saved}; run the same command with --resume to continue."


def _run_file(given: dict[str, Any]) -> dict[str, Any]:
    """The content of run.yaml: the given options, with absolute paths so that it works from any folder."""
    from ...core.atomic_files import user_path

    settings = {name: value for name, value in given.items() if name not in NOT_IN_RUN_FILE}
    for name in PATHS:
        if name in settings and (path := user_path(settings[name])).exists():
            settings[name] = str(path.absolute())
    return settings


def train_command() -> Callable[..., None]:
    """Builds the command with all its options."""
    return with_options(
        train,
        reading=reading_options(),
        columns=column_options(group=True),
        task_options=task_options(),
        training=training_options(),
    )
