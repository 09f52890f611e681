"""headway quickstart: train, evaluate and predict on sample messages from the package, without the internet."""

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any

import typer

from ..options import OVERWRITE, with_options
from .train import DEFAULT_MODELS

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
        Path | None, typer.Option(metavar="FOLDER", help=f"The model folder to write. Default: {OUTPUT}.")
    ] = None,
    overwrite: Annotated[bool, OVERWRITE] = False,
) -> None:
    """Train a model on sample messages and try it, in about a minute.

    The model learns to classify customer messages into six categories. The data is part of the package.
    """
    from ...core.atomic_files import new_path, remove_folder
    from ...core.training.output_lock import OutputLock
    from ...core.training.training_config import TrainConfig
    from ...tasks import TextClassification, samples
    from ..terminal import command, predict_command, screen, section, show_next, show_prediction
    from ..training_view import TrainingView

    console = screen()
    data = Path(str(samples.__file__)).with_name("messages.csv")
    notes = ["The model learns to classify customer messages into six categories."]
    if output is None:
        output = OUTPUT if overwrite else _unused(OUTPUT)
        if output != OUTPUT:
            notes.append(f"{OUTPUT} exists already: this model is saved as {output} (--overwrite replaces {OUTPUT}).")
    output = new_path(output)
    section(console, "Quick start", *notes)
    task = TextClassification()
    model = task.on(DEFAULT_MODELS[task.models[0]])
    config = TrainConfig(seed=SEED, **TRAINING)
    with TrainingView(console) as view, OutputLock(output) as model.output_lock:
        run = model.train(data, output=output, eval_fraction=HELD_OUT, config=config, overwrite=overwrite)
        try:
            with closing(run):
                view.follow(run)
        except KeyboardInterrupt:
            remove_folder(output.with_name(f"{output.name}.running"))
            raise
    section(console, "Three new messages")
    for text, prediction in zip(NEW_TEXTS, model.predict(list(NEW_TEXTS)), strict=True):
        show_prediction(console, [text], prediction)
    show_next(
        console,
        predict_command(output, model.task.fields),
        command("check", task.name, "--data", "YOUR-FILE.csv"),
        command("train", task.name, "--data", "YOUR-FILE.csv", "--output", "my-model"),
    )


def _unused(wanted: Path) -> Path:
    """The first of `wanted`, `wanted`-2, `wanted`-3, ... that holds neither a model nor an interrupted run."""
    number, name = 1, wanted.name
    while wanted.exists() or wanted.with_name(f"{wanted.name}.running").exists():
        number += 1
        wanted = wanted.with_name(f"{name}-{number}")
    return wanted


def quickstart_command() -> Callable[..., None]:
    """Builds the command with all its options."""
    return with_options(quickstart)
