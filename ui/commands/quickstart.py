"""headway quickstart: the whole way once, on messages that come with the package and without the internet."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from ..options import with_options
from .train import DEFAULT_MODEL

TASK = "text-classification"
OUTPUT = Path("headway-quickstart")
HELD_OUT = 0.2
SEED = 0
NEW_TEXTS = (
    "Where is my order? It was supposed to arrive on Tuesday.",
    "The app closes by itself as soon as I open my photos.",
    "Thank you so much, your colleague sorted it out in two minutes!",
)
TRAINING: dict[str, Any] = {"epochs": 6, "batch_size": 16, "learning_rate": 3e-4}


def quickstart(
    output: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help=f"Where the model goes. Left out: {OUTPUT}.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the model that is there.")] = False,
) -> None:
    """See it all in a minute: train on sample messages, look at the result.

    A model learns to tell six kinds of customer messages apart, from a file that comes with the package.
    """
    from ...core.atomic_files import new_path
    from ...core.training.training_config import TrainConfig
    from ...tasks import TextClassification, samples
    from ..terminal import ask, command, screen, section, show_answer, show_next
    from ..training_view import TrainingView

    console = screen()
    data = Path(str(samples.__file__)).with_name("messages.csv")
    told = ["A model learns to tell six kinds of customer messages apart."]
    if output is None:
        output = OUTPUT if overwrite else _free(OUTPUT)
        if output != OUTPUT:
            told.append(f"{OUTPUT} is there already: this model goes to {output} (--overwrite replaces the other).")
    output = new_path(output)
    section(console, "Quick start", *told)
    model = TextClassification().on(DEFAULT_MODEL)
    with TrainingView(console) as view:
        try:
            config = TrainConfig(seed=SEED, **TRAINING)
            view.follow(model.train(data, output=output, eval_fraction=HELD_OUT, config=config, overwrite=overwrite))
        except KeyboardInterrupt:
            shutil.rmtree(output.with_name(f"{output.name}.running"), ignore_errors=True)
            raise
    section(console, "Three new messages")
    for text, prediction in zip(NEW_TEXTS, model.predict(list(NEW_TEXTS)), strict=True):
        show_answer(console, [text], prediction)
    show_next(
        console,
        ask(output, model.task.fields),
        command("check", TASK, "--data", "YOUR-FILE.csv"),
        command("train", TASK, "--data", "YOUR-FILE.csv", "--output", "my-model"),
    )


def _free(wanted: Path) -> Path:
    """The first of the folders wanted, wanted-2, wanted-3, ... where no model is, finished or not."""
    number, name = 1, wanted.name
    while wanted.exists() or wanted.with_name(f"{wanted.name}.running").exists():
        number += 1
        wanted = wanted.with_name(f"{name}-{number}")
    return wanted


def quickstart_command() -> Callable[..., None]:
    """The command with all its options."""
    return with_options(quickstart)
