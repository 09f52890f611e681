"""How well-formed the music is that a small model writes: python tests/benchmarks/events.py [--epochs 50]

A GPT-2 is trained from scratch on the melodies of tasks/samples without the last ten, and continues the beginnings of
those, ten times each. The baselines draw each word by its frequency, and by the word before it. A text that the limit
of tokens cuts off is cut after its last note-off, so that a note that has just begun is not an error.
"""

import argparse
import random
import tempfile
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

import torch
from headway.core.generation.generation import generate
from headway.core.generation.generation_config import GenerationConfig
from headway.core.training.training_config import TrainConfig
from headway.tasks import TextGeneration
from headway.tasks.events.event_files import Piece, PieceCounts, check_pieces
from headway.tasks.language_modeling.from_scratch import on_new_model
from headway.tasks.language_modeling.loading import load_language_model
from headway.tasks.samples import FOLDER

HELD_OUT, BEGINNING, SAMPLES, NEW_WORDS = 10, 12, 10, 100
SEED = 0


def trained(texts: Sequence[str], folder: Path, epochs: int, size: str) -> Path:
    """A model folder."""
    (folder / "pieces.txt").write_text("\n".join(texts), encoding="utf-8")
    task = TextGeneration(documents="lines", max_length=256)
    scratch = {"size": size, "vocab_size": 400, "vocabulary": "words", "seed": SEED}
    model = on_new_model(task, folder / "pieces.txt", folder=folder / "new", **scratch)
    config = TrainConfig(epochs=epochs, batch_size=4, learning_rate=3e-3, seed=SEED)
    model.fit(folder / "pieces.txt", output=folder / "model", config=config)
    return folder / "model"


def drawn(texts: Sequence[str], beginnings: Sequence[str], order: int) -> list[str]:
    """Continuations by the frequency of each word (order 0) or by that after the word before it (order 1)."""
    chance = random.Random(SEED)
    following: defaultdict[tuple[str, ...], Counter[str]] = defaultdict(Counter)
    for text in texts:
        words = text.split()
        for i in range(1, len(words)):
            following[tuple(words[i - order : i])][words[i]] += 1
    found = []
    for beginning in beginnings:
        words = beginning.split()
        for _ in range(NEW_WORDS):
            counts = following[tuple(words[len(words) - order :])]
            if not counts:
                break
            words += chance.choices(list(counts), list(counts.values()))
        found.append(" ".join(words))
    return found


def without_rest(text: str) -> list[str]:
    """The words up to the last note-off."""
    words = text.split()
    last = max((i for i, word in enumerate(words) if word.startswith("note_off")), default=len(words) - 1)
    return words[: last + 1]


def row(name: str, texts: Sequence[str]) -> str:
    """A line of the table."""
    found: PieceCounts = check_pieces(Piece(name, without_rest(text)) for text in texts)
    return f"| {name} | {found.share:.0%} | {100 * found.errors.total / found.words:.1f} |"


def main() -> None:
    """Trains the model and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument("--size", default="tiny")
    chosen = parser.parse_args()
    melodies = (FOLDER / "melodies.txt").read_text(encoding="utf-8").splitlines()
    random.Random(SEED).shuffle(melodies)
    texts, held_out = melodies[:-HELD_OUT], melodies[-HELD_OUT:]
    beginnings = [" ".join(text.split()[:BEGINNING]) for text in held_out for _ in range(SAMPLES)]
    rows = [
        row("each word by its frequency", drawn(texts, beginnings, 0)),
        row("by the word before", drawn(texts, beginnings, 1)),
    ]
    with tempfile.TemporaryDirectory() as name:
        network, tokenizer = load_language_model(str(trained(texts, Path(name), chosen.epochs, chosen.size)))
        for temperature in (1.0, 0.7):
            torch.manual_seed(SEED)
            config = GenerationConfig(max_new_tokens=NEW_WORDS, temperature=temperature, seed=SEED)
            found = generate(network, tokenizer, beginnings, config)
            new = [f"{start} {one.text}" for start, (one,) in zip(beginnings, found, strict=True)]
            rows.append(row(f"{chosen.size}, {chosen.epochs} epochs, temperature {temperature}", new))
    print("| continuations | well-formed | errors in 100 words |\n|---|---|---|", *rows, sep="\n")


if __name__ == "__main__":
    main()
