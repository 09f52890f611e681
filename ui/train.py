"""headway train: from a labelled file to a model folder."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..core.errors import HeadwayError
from .options import (
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
    from .render import TrainingView

DEFAULT_MODEL = "mini-bert"
INTERRUPTED = 130  # 128 + SIGINT, as shells have it
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
    from ..core.sources import BUILT_IN
    from ..core.training_config import TrainConfig
    from ..tasks import TaskModel
    from .render import TrainingView, ask, command, print_json, screen, show_next

    config = TrainConfig(**training)
    plugged = make_task(task, task_options)
    if model is None and DEFAULT_MODEL not in BUILT_IN:
        raise HeadwayError(
            "--model is missing. Give the folder of a BERT or GPT-2, or a name on the Hub such as bert-base-uncased."
        )
    console = screen(to_stderr=json)
    task_model = TaskModel.plug(plugged, model or DEFAULT_MODEL)
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
            settings=_settings({"model": DEFAULT_MODEL, **given}),
        )
        try:
            trained = view.follow(events)
        except KeyboardInterrupt as interruption:
            view.close()
            print(f"headway: {_explain_interruption(view)}", file=sys.stderr)
            raise typer.Exit(INTERRUPTED) from interruption
    show_next(console, ask(output, task_model.task.fields), command("evaluate", output, "--data", "FILE"))
    if json:
        print_json({name: value for name, value in trained.to_json().items() if name != "event"})


def _settings(given: dict[str, Any]) -> dict[str, Any]:
    """What run.yaml holds: all that was asked for, in a way that does not depend on where it is run."""
    settings = {name: value for name, value in given.items() if name not in NOT_OF_THE_RUN}
    for name in PATHS:
        if name in settings and (path := Path(settings[name]).expanduser()).exists():
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
