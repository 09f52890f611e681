"""Cloze prompts on mini-bert: zero and four shots, and training with `--prompt-template` beside plain fine-tuning.

    python tests/benchmarks/cloze.py [--draws 3] [--rows 300] [--sets sst2,trec]

Templates and words are those of LM-BFF (Gao et al. 2021, https://arxiv.org/abs/2012.15723, table 1). Each draw takes 8
or 32 rows of each class from the training part with its own seed; both kinds of training have the same rows and their
defaults, without rows held out. Needs the labelled files (HEADWAY_DATA). Prints a line per figure.
"""

import argparse
import os
import random
import statistics
from collections.abc import Sequence

os.environ["HF_HUB_OFFLINE"] = "1"  # before any import that reads it

import torch
from few_shot import Row, rows_of
from headway.tasks import Prompt, TextClassification

MODEL = "mini-bert"
TEMPLATES = {
    "sst2": ("{text} It was {label}.", {"0": "terrible", "1": "great"}),
    "trec": (
        "{label}: {text}",
        {"ABBR": "expression", "DESC": "description", "ENTY": "entity", "HUM": "human", "LOC": "location",
         "NUM": "number"},
    ),
}  # fmt: skip
PER_CLASS = (8, 32)


def draw(rows: Sequence[Row], per_class: int, seed: int) -> list[Row]:
    """Some rows of each class."""
    shuffled = random.Random(seed).sample(rows, len(rows))
    labels = sorted({row["label"] for row in rows})
    return [row for label in labels for row in [one for one in shuffled if one["label"] == label][:per_class]]


def prompted(name: str, shots: int, train: Sequence[Row], test: Sequence[Row], draws: int) -> dict[str, float]:
    """The accuracies of a prompt, calibrated and not, and that of the most common label."""
    template, words = TEMPLATES[name]
    prompt = Prompt(labels=tuple(words), verbalize=words, template=template, shots=shots)
    examples = draw(train, 8, 0) if shots else None
    found = prompt.on(MODEL, device="cpu").evaluate(list(test), examples, seeds=draws if shots else 1)
    return {row: figures["accuracy"].mean for row, figures in found.figures.items()}


def trained(name: str, train: Sequence[Row], test: Sequence[Row], seed: int, *, cloze: bool) -> float:
    """The accuracy after training."""
    template, words = TEMPLATES[name]
    options = {"prompt_template": template, "verbalize": words} if cloze else {}
    model = TextClassification(**options).on(MODEL)
    model.fit(list(train), eval_fraction=0, seed=seed, device="cpu", progress=False)
    predictions = model.predict([row["text"] for row in test])
    return statistics.mean(one.label == row["label"] for one, row in zip(predictions, test, strict=True))


def main() -> None:
    """Prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--sets", default=",".join(TEMPLATES))
    parser.add_argument("--rows", type=int, default=300, help="test rows")
    given = parser.parse_args()
    torch.set_num_threads(1)
    sets = {name: rows_of(name) for name in given.sets.split(",")}
    for name, (train, test) in sets.items():
        test = random.Random(0).sample(test, min(given.rows, len(test)))
        for shots in (0, 4):
            found = prompted(name, shots, train, test, given.draws)
            print(
                f"{name}, {shots} shots:", ", ".join(f"{row} {value:.3f}" for row, value in found.items()), flush=True
            )
        for per_class in PER_CLASS:
            drawn = [draw(train, per_class, seed) for seed in range(given.draws)]
            for cloze in (False, True):
                scores = [trained(name, rows, test, seed, cloze=cloze) for seed, rows in enumerate(drawn)]
                spread = statistics.stdev(scores) if len(scores) > 1 else 0.0
                kind = "--prompt-template" if cloze else "fine-tuning"
                print(
                    f"{name}, {per_class} per class, {kind}: {statistics.mean(scores):.3f} ± {spread:.3f}", flush=True
                )


if __name__ == "__main__":
    main()
