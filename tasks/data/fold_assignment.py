"""The assignment of rows to the folds of a cross-validation, stratified by label, without dividing groups."""

import numpy as np

from ...core.errors import HeadwayError


def assign_folds(labels: np.ndarray, count: int, seed: int, groups: np.ndarray) -> np.ndarray:
    """Assigns whole groups to folds, so that the folds have about the same number of rows of each label.

    Groups come in descending order of their size, equal ones in random order; each goes to the fold that has the
    smallest share of the group's labels so far. A label of which all rows are in one group cannot be predicted by
    models that have not seen this group: the group is in no fold, unless this is true of most rows (numeric targets).

    Args:
        labels: the number of the label of each row, -1 if it has none, (N,).
        count: the number of folds.
        seed: of the random order.
        groups: the number of the group of each row, from 0 without gaps, (N,).

    Returns:
        The fold of each row, from 0; -1: in no fold. (N,).

    Raises:
        HeadwayError: there are fewer groups than folds.
    """
    classes = _classes(labels, groups)
    sizes = np.bincount(groups)
    alone = np.zeros(len(sizes), dtype=bool)
    alone[groups[classes < 0]] = True
    usable = int((~alone).sum())
    if usable < count:
        raise HeadwayError(
            f"--folds {count}: only {usable} groups of rows can be held out (rows with equal texts, or of one group, "
            f"are not divided). {f'Use --folds {usable}' if usable > 1 else 'Omit --folds'}, or give more rows."
        )
    totals = np.bincount(np.maximum(classes, 0)).tolist()
    rows_of = np.split(np.argsort(groups, kind="stable"), np.cumsum(sizes)[:-1])
    shuffled = np.random.default_rng(seed).permutation(len(sizes))
    filled = [[0] * len(totals) for _ in range(count)]
    rows_in = [0] * count
    folds = np.full(len(labels), -1)
    for group in shuffled[np.argsort(-sizes[shuffled], kind="stable")].tolist():
        if alone[group]:
            continue
        rows = rows_of[group]
        members = classes[rows].tolist()
        shares = [sum(have[label] / totals[label] for label in members) for have in filled]
        fold = min(range(count), key=lambda one: (shares[one], rows_in[one]))
        folds[rows] = fold
        rows_in[fold] += len(rows)
        for label in members:
            filled[fold][label] += 1
    return folds


def _classes(labels: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """The number of the class of each row, 0 if it has no label; -1: the label occurs in one group only."""
    classes = labels + 1
    pairs = np.unique(np.column_stack([classes, groups]), axis=0)
    num_groups = np.bincount(pairs[:, 0], minlength=classes.max() + 1)
    alone = (num_groups[classes] == 1) & (classes > 0)
    return np.where(alone, 0 if 2 * alone.sum() > len(labels) else -1, classes)
