"""headway quickstart: the whole way once, on messages that come with the package and without the internet."""

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .options import with_options
from .train import DEFAULT_MODEL

if TYPE_CHECKING:
    from ..tasks.data import Table

TASK = "text-classification"
OUTPUT = Path("headway-quickstart")
HELD_OUT = 0.2
SEED = 0
NEW_TEXTS = (
    "Where is my order? It was supposed to arrive on Tuesday.",
    "The app closes by itself as soon as I open my photos.",
    "Thank you so much, your colleague sorted it out in two minutes!",
)
PRETRAINED_TRAINING: dict[str, Any] = {"epochs": 4, "batch_size": 16, "learning_rate": 1e-4}
# Found by trying sizes, rates and dropouts over five splits: on so few messages a second layer learns less, not more.
FRESH_SIZES = {"hidden_size": 128, "num_layers": 1, "num_heads": 4, "intermediate_size": 512, "max_positions": 128}
FRESH_DROPOUT = 0.3
FRESH_VOCABULARY = 1500
FRESH_TRAINING: dict[str, Any] = {
    "precision": "fp32",
    "epochs": 20,
    "batch_size": 16,
    "learning_rate": 1e-3,
    "eval_steps": 46,
}


def quickstart(
    output: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help=f"Where the model goes. Left out: {OUTPUT}.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the model that is there.")] = False,
) -> None:
    """See it all in a minute: train on sample messages, look at the result.

    A model learns to tell six kinds of customer messages apart, from a file that comes with the package.
    """
    from ..core.sources import BUILT_IN
    from ..core.training_config import TrainConfig
    from ..tasks import TextClassification, read_table, samples
    from .render import TrainingView, ask, command, screen, section, show_answer, show_next

    console = screen()
    data = Path(str(samples.__file__)).with_name("messages.csv")
    told = ["A model learns to tell six kinds of customer messages apart."]
    if output is None:
        output = OUTPUT if overwrite else _free(OUTPUT)
        if output != OUTPUT:
            told.append(f"{OUTPUT} is there already: this model goes to {output} (--overwrite replaces the other).")
    with tempfile.TemporaryDirectory(prefix="headway-") as folder:
        training, base = PRETRAINED_TRAINING, Path(DEFAULT_MODEL)
        if DEFAULT_MODEL not in BUILT_IN:
            training, base = FRESH_TRAINING, _make_fresh(Path(folder) / "random-bert", read_table(data))
            told.append(
                "It starts from random weights and has never read English before, so it cannot become good at it: "
                "a pretrained model does far better on your own data."
            )
        section(console, "Quick start", *told)
        model = TextClassification().on(base)
        with TrainingView(console) as view:
            try:
                config = TrainConfig(seed=SEED, **training)
                view.follow(
                    model.train(data, output=output, eval_fraction=HELD_OUT, config=config, overwrite=overwrite)
                )
            except KeyboardInterrupt:
                shutil.rmtree(output.with_name(f"{output.name}.running"), ignore_errors=True)
                raise
    section(console, "Three new messages")
    for text, prediction in zip(NEW_TEXTS, model.predict(list(NEW_TEXTS)), strict=True):
        show_answer(console, [text], prediction)
    pretrained = DEFAULT_MODEL if DEFAULT_MODEL in BUILT_IN else "bert-base-uncased"
    show_next(
        console,
        ask(output, model.task.fields),
        command("check", TASK, "--data", "YOUR-FILE.csv"),
        command("train", TASK, "--data", "YOUR-FILE.csv", "--model", pretrained, "--output", "my-model"),
    )


def _free(wanted: Path) -> Path:
    """The first of the folders wanted, wanted-2, wanted-3, ... where no model is, finished or not."""
    number, name = 1, wanted.name
    while wanted.exists() or wanted.with_name(f"{wanted.name}.running").exists():
        number += 1
        wanted = wanted.with_name(f"{name}-{number}")
    return wanted


def _make_fresh(folder: Path, table: "Table") -> Path:
    """A small BERT with random weights, and a vocabulary that is learnt from the rows that it will be trained on."""
    import torch

    from ..core.bert import Bert, BertConfig
    from ..core.checkpoint import save_checkpoint
    from ..core.heads import Network
    from ..core.vocabulary import learn_wordpiece
    from ..tasks.data import split_rows

    kept, _ = split_rows([row["label"] for row in table.rows], HELD_OUT, SEED)
    tokenizer = learn_wordpiece((table.rows[i]["text"] for i in kept), FRESH_VOCABULARY)
    dropout = dict.fromkeys(("dropout", "attention_dropout", "head_dropout"), FRESH_DROPOUT)
    torch.manual_seed(SEED)
    backbone = Bert(BertConfig(vocab_size=tokenizer.vocab_size, **FRESH_SIZES, **dropout))
    folder.mkdir()
    save_checkpoint(folder, Network(backbone))
    tokenizer.save(folder)
    return folder


def quickstart_command() -> Callable[..., None]:
    """The command with all its options."""
    return with_options(quickstart)
