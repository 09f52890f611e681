"""headway train: from a labelled file to a model folder."""

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ...core.errors import HeadwayError
from ..options import (
    HEADER,
    JSON,
    chosen_columns,
    column_options,
    make_task,
    read_value,
    task_options,
    training_options,
    with_options,
)

if TYPE_CHECKING:
    from ...tasks import TaskModel
    from ..training_view import TrainingView

DEFAULT_MODELS = {"bert": "mini-bert", "gpt2": "mini-gpt2"}
DEFAULT_MODEL = DEFAULT_MODELS["bert"]
INTERRUPTED = 130  # 128 + SIGINT, as shells have it
SCRATCH: dict[str, Any] = {"rich_help_panel": "From scratch (fill-mask, text-generation)"}
PATHS = ("data", "eval-data", "model", "label-names")
NOT_OF_THE_RUN = ("output", "resume", "overwrite", "json", "debug", "offline", "config")


def train(
    task: Annotated[str, typer.Argument(metavar="TASK", help="What is to be learnt. See: headway tasks")],
    data: Annotated[str, typer.Option(metavar="FILE", help="Labelled rows: CSV, TSV, JSON, JSON lines, Parquet, ...")],
    output: Annotated[Path, typer.Option(metavar="FOLDER", help="Where the model goes.")],
    eval_data: Annotated[
        str | None, typer.Option(metavar="FILE", help="The same, held out. Left out: a part of the data.")
    ] = None,
    model: Annotated[str | None, typer.Option(metavar="NAME", help="What to start from. See: headway models")] = None,
    eval_fraction: Annotated[
        float,
        typer.Option(
            metavar="NUMBER", parser=read_value("eval_fraction", float), help="Part of the data to hold out."
        ),
    ] = 0.1,
    header: Annotated[bool | None, HEADER] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run that was interrupted.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the model that is there.")] = False,
    size: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Begin with random weights of this size: tiny, mini, ..., base or 124M.", **SCRATCH
        ),
    ] = None,
    learn_tokenizer: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            parser=read_value("learn_tokenizer", int, optional=True),
            help="Learn a vocabulary of so many tokens from the data; left out with --size: that of --model.",
            **SCRATCH,
        ),
    ] = None,
    vocabulary: Annotated[
        str,
        typer.Option(
            metavar="KIND", help="What a token is: pieces of words, or words between white space.", **SCRATCH
        ),
    ] = "pieces",
    max_positions: Annotated[
        int,
        typer.Option(
            metavar="N",
            parser=read_value("max_positions", int),
            help="Longest sequence of a new model.",
            **SCRATCH,
        ),
    ] = 512,
    json: Annotated[bool, JSON] = False,
    *,
    columns: dict[str, Any],
    task_options: dict[str, Any],
    training: dict[str, Any],
    given: dict[str, Any],
) -> None:
    """Train a model on your labelled file.

    It says first what it takes for the text and for the label, and what is wrong with the data. All that was asked
    for is saved beside the model as run.yaml; headway train --config FOLDER/run.yaml --output OTHER does it again.
    """
    from ...core.atomic_files import new_path
    from ...core.checkpoints.hub import BUILT_IN
    from ...core.training.training_config import TrainConfig
    from ...tasks import TaskModel
    from ...tasks.base.model import refuse_used
    from ..terminal import ask, command, print_json, screen, show_next
    from ..training_view import TrainingView

    output = new_path(output)
    config = TrainConfig(**training)
    plugged = make_task(task, task_options)
    console = screen(to_stderr=json)
    begun = output.with_name(f"{output.name}.begun")
    default = DEFAULT_MODELS[plugged.models[0]]
    if size is not None:
        refuse_used(output, overwrite=overwrite, resume=resume)
        task_model = _from_scratch(
            plugged,
            data,
            folder=begun,
            size=size,
            vocab_size=learn_tokenizer,
            tokenizer_of=model,
            vocabulary=vocabulary,
            max_positions=max_positions,
            columns=chosen_columns(columns),
            eval_fraction=0.0 if eval_data else eval_fraction,
            header=header,
            seed=config.seed,
            keep=resume,
        )
    elif learn_tokenizer is not None:
        raise HeadwayError("--learn-tokenizer is for a model from scratch. Say its --size, for example mini.")
    elif model is None and default not in BUILT_IN:
        raise HeadwayError(
            "--model is missing. Give the folder of a BERT or GPT-2, or a name on the Hub such as bert-base-uncased."
        )
    else:
        task_model = TaskModel.plug(plugged, model or default)
    with TrainingView(console) as view:
        events = task_model.train(
            data,
            eval_data,
            output=output,
            columns=chosen_columns(columns),
            eval_fraction=eval_fraction,
            config=config,
            overwrite=overwrite,
            resume=resume,
            header=header,
            settings=_settings(given if size or model else {"model": default, **given}),
        )
        try:
            trained = view.follow(events)
        except KeyboardInterrupt as interruption:
            view.close()
            print(f"headway: {_explain_interruption(view)}", file=sys.stderr)
            raise typer.Exit(INTERRUPTED) from interruption
    shutil.rmtree(begun, ignore_errors=True)
    show_next(console, ask(output, task_model.task.fields), command("evaluate", output, "--data", "FILE"))
    if json:
        print_json({name: value for name, value in trained.to_json().items() if name != "event"})


def _from_scratch(task: Any, data: str, **options: Any) -> "TaskModel":
    from ...tasks.language_modeling.from_scratch import plug_from_scratch

    if not task.self_supervised:
        raise HeadwayError(
            f"--size begins with random weights, from which {task.name} learns too little. Say --model."
        )
    return plug_from_scratch(task, data, **options)


def _settings(given: dict[str, Any]) -> dict[str, Any]:
    """What run.yaml holds: all that was asked for, in a way that does not depend on where it is run."""
    from ...core.atomic_files import user_path

    settings = {name: value for name, value in given.items() if name not in NOT_OF_THE_RUN}
    for name in PATHS:
        if name in settings and (path := user_path(settings[name])).exists():
            settings[name] = str(path.absolute())
    return settings


def _explain_interruption(view: "TrainingView") -> str:
    where = "before the first step" if view.step is None else f"at step {view.step:,}"
    if view.saved_step is None:
        return f"interrupted {where}. No checkpoint was saved yet: nothing is kept."
    kept = f"The checkpoint of step {view.saved_step:,} is kept"
    return f"interrupted {where}. {kept}: the same command with --resume goes on from there."


def train_command() -> Callable[..., None]:
    """The command with all its options."""
    return with_options(train, columns=column_options(), task_options=task_options(), training=training_options())
