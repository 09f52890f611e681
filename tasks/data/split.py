"""Random train/test splits, stratified by label or by group."""

import random
from array import array
from collections import Counter
from collections.abc import Hashable, Iterator, Sequence

import numpy as np

from ...core.errors import HeadwayError
from .digests import number_values

Label = Hashable | None


def split_rows(
    labels: Sequence[Label] | np.ndarray,
    fraction: float,
    seed: int,
    groups: Sequence[Hashable | None] | np.ndarray | None = None,
) -> tuple[list[int], list[int]]:
    """Splits rows into train and evaluation rows, with about the same proportion of each label in both.

    Args:
        labels: Label of each row; None: unlabelled; or an array as of `number_values`. A label that occurs once stays
            in train, unless most do (numeric targets): these are then split like one class.
        fraction: Share of evaluation rows, between 0 and 1. It is smaller if train would lose a class.
        seed: Seed of the random choice.
        groups: Group of each row; None: the row is its own group; or an array as of `number_values` without -1.
            Groups are not divided. Nothing is held out if there is only one group, or each group would take a class
            from train.

    Returns:
        The positions of the train rows and of the evaluation rows, both ascending.

    Raises:
        HeadwayError: There are fewer than two rows.
        ValueError: The fraction is not between 0 and 1.
    """
    if not 0 < fraction < 1:
        raise ValueError(f"fraction must be between 0 and 1, not {fraction}")
    if len(labels) < 2:
        raise HeadwayError("One row cannot be split into train and evaluation. Give more rows, or --eval-data.")
    classes = labels if isinstance(labels, np.ndarray) else number_values(labels)
    if groups is not None and not isinstance(groups, np.ndarray):
        groups = number_values((group, row if group is None else None) for row, group in enumerate(groups))
    rng = random.Random(seed)
    if groups is None or groups.max() + 1 == len(classes):
        rows = list(_sample_rows(classes, fraction, rng))
    else:
        rows = [_sample_groups(classes, fraction, rng, groups)]
    held_out = np.zeros(len(classes), dtype=bool)
    for some in rows:
        held_out[some] = True
    return np.flatnonzero(~held_out).tolist(), np.flatnonzero(held_out).tolist()


def split_parts(
    labels: np.ndarray, fractions: Sequence[float], seed: int, groups: np.ndarray
) -> tuple[list[int], list[list[int]]]:
    """Splits rows into train rows and several held-out parts, each as `split_rows` does.

    Args:
        labels: as of `number_values`, (N,).
        fractions: Share of each part in all rows; 0: the part is empty. Their sum is below 1.
        seed: Seed of the random choice.
        groups: as of `number_values`, (N,).

    Returns:
        The positions of the train rows, and those of the rows of each part, all ascending.
    """
    kept, parts, left = np.arange(len(labels)), [], 1.0
    for fraction in fractions:
        chosen = np.empty(0, dtype=np.int64)
        if fraction and len(kept) > 1:
            rest_groups = np.unique(groups[kept], return_inverse=True)[1]  # without those of the parts before
            train, held_out = split_rows(labels[kept], fraction / left, seed, rest_groups)
            kept, chosen = kept[train], kept[held_out]
        left -= fraction
        parts.append(chosen.tolist())
    return kept.tolist(), parts


def _sample_rows(labels: np.ndarray, fraction: float, rng: random.Random) -> Iterator[np.ndarray]:
    """The held-out rows of each class.

    Args:
        labels: the number of the label of each row, -1 if it has none, (N,).
        fraction: of the rows.
        rng: draws them.
    """
    classes, min_train = _rows_by_class(labels)
    total = max(1, round(len(labels) * fraction))
    sizes = [min(int(len(rows) * fraction), len(rows) - kept) for rows, kept in zip(classes, min_train, strict=True)]
    # Rows that rounding down left over are distributed by the largest remainder method.
    by_remainder = sorted(range(len(classes)), key=lambda i: (-(len(classes[i]) * fraction % 1), i))
    while sum(sizes) < total:
        extendable = [i for i in by_remainder if sizes[i] < len(classes[i]) - min_train[i]]
        if not extendable:
            break
        for i in extendable[: total - sum(sizes)]:
            sizes[i] += 1
    for rows, size in zip(classes, sizes, strict=True):
        yield rows[rng.sample(range(len(rows)), size)]


def _sample_groups(labels: np.ndarray, fraction: float, rng: random.Random, groups: np.ndarray) -> np.ndarray:
    """Takes groups in random order if they bring the labels closer to their proportions; else the smallest group.

    Args:
        labels: the number of the label of each row, -1 if it has none, (N,).
        fraction: of the rows.
        rng: draws the groups.
        groups: the number of the group of each row, (N,).
    """
    counts = np.bincount(labels + 1).tolist()  # of the rows without a label, then of each label
    by_group = np.argsort(groups, kind="stable")
    ends = array("q", np.cumsum(np.bincount(groups)).astype(np.int64).tobytes())
    labels_by_group = array("q", (labels[by_group] + 1).tobytes())
    shuffled = array("q", range(len(ends)))
    rng.shuffle(shuffled)
    held_out = array("q")
    held_out_counts = [0] * len(counts)

    def rows_of(group: int) -> slice:
        return slice(ends[group - 1] if group else 0, ends[group])

    def leaves_all_classes(group_counts: Counter[int]) -> bool:
        return all(counts[label] - held_out_counts[label] > count for label, count in group_counts.items())

    for group in shuffled:
        group_counts = Counter(labels_by_group[rows_of(group)])
        # The change of the squared distance to the target counts if the group is added.
        missing = {label: counts[label] * fraction - held_out_counts[label] for label in group_counts}
        change = sum(count * (count - 2 * missing[label]) for label, count in group_counts.items())
        if change < 0 and leaves_all_classes(group_counts):
            held_out.append(group)
            for label, count in group_counts.items():
                held_out_counts[label] += count
    if not held_out:
        possible = (group for group in shuffled if leaves_all_classes(Counter(labels_by_group[rows_of(group)])))
        smallest = min(possible, key=lambda group: ends[group] - (ends[group - 1] if group else 0), default=None)
        held_out = array("q", [] if smallest is None else [smallest])
    return np.flatnonzero(np.isin(groups, held_out))


def _rows_by_class(labels: np.ndarray) -> tuple[list[np.ndarray], list[int]]:
    """The rows of each class, and the number of rows of each class that must stay in train."""
    unlabelled = np.flatnonzero(labels < 0)
    counts = np.bincount(labels[labels >= 0])
    by_label = np.argsort(labels, kind="stable")[len(unlabelled) :]
    of_class = np.split(by_label, np.cumsum(counts)[:-1]) if len(counts) else []
    is_unique = np.isin(labels, np.flatnonzero(counts == 1))
    classes = [rows for rows in of_class if len(rows) > 1]
    min_train = [1] * len(classes)
    most_are_unique = 2 * is_unique.sum() > len(labels) - len(unlabelled)
    unstratified = np.concatenate([unlabelled, np.flatnonzero(is_unique & most_are_unique)])
    if len(unstratified):
        min_train.append(0 if classes else 1)
        classes.append(unstratified)
    return classes, min_train
