"""Random train/test splits, stratified by label or by group."""

import random
from collections import Counter
from collections.abc import Hashable, Sequence

from ...core.errors import HeadwayError

Label = Hashable | None


def split_rows(
    labels: Sequence[Label], fraction: float, seed: int, groups: Sequence[Hashable | None] | None = None
) -> tuple[list[int], list[int]]:
    """Splits rows into train and evaluation rows, with about the same proportion of each label in both.

    Args:
        labels: Label of each row; None: unlabelled. A label that occurs once stays in train, unless most do (numeric
            targets): these are then split like one class.
        fraction: Share of evaluation rows, between 0 and 1. It is smaller if train would lose a class.
        seed: Seed of the random choice.
        groups: Group of each row; None: the row is its own group. Groups are not divided. Nothing is held out if there
            is only one group, or each group would take a class from train.

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
    rows_by_group: dict[Hashable, list[int]] = {}
    for row in range(len(labels)):
        group = None if groups is None else groups[row]
        rows_by_group.setdefault((group, row if group is None else None), []).append(row)
    rng = random.Random(seed)
    if len(rows_by_group) == len(labels):
        held_out = _sample_rows(labels, fraction, rng)
    else:
        held_out = _sample_groups(labels, fraction, rng, list(rows_by_group.values()))
    return [row for row in range(len(labels)) if row not in held_out], sorted(held_out)


def _sample_rows(labels: Sequence[Label], fraction: float, rng: random.Random) -> set[int]:
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
    return {row for rows, size in zip(classes, sizes, strict=True) for row in rng.sample(rows, size)}


def _sample_groups(labels: Sequence[Label], fraction: float, rng: random.Random, groups: list[list[int]]) -> set[int]:
    """Takes groups in random order if they bring the labels closer to their proportions; else the smallest group."""
    counts = Counter(labels)
    shuffled = [(rows, Counter(labels[row] for row in rows)) for rows in groups]
    rng.shuffle(shuffled)
    held_out: list[int] = []
    held_out_counts: Counter[Label] = Counter()

    def leaves_all_classes(group_counts: Counter[Label]) -> bool:
        return all(counts[label] - held_out_counts[label] > count for label, count in group_counts.items())

    for rows, group_counts in shuffled:
        # The change of the squared distance to the target counts if the group is added.
        missing = {label: counts[label] * fraction - held_out_counts[label] for label in group_counts}
        change = sum(count * (count - 2 * missing[label]) for label, count in group_counts.items())
        if change < 0 and leaves_all_classes(group_counts):
            held_out += rows
            held_out_counts += group_counts
    possible = (rows for rows, group_counts in shuffled if leaves_all_classes(group_counts))
    return set(held_out or min(possible, key=len, default=[]))


def _rows_by_class(labels: Sequence[Label]) -> tuple[list[list[int]], list[int]]:
    """The rows of each class, and the number of rows of each class that must stay in train."""
    by_label: dict[Label, list[int]] = {}
    for row, label in enumerate(labels):
        by_label.setdefault(label, []).append(row)
    unlabelled = by_label.pop(None, [])
    unique = [rows[0] for rows in by_label.values() if len(rows) == 1]
    classes = [rows for rows in by_label.values() if len(rows) > 1]
    min_train = [1] * len(classes)
    most_are_unique = 2 * len(unique) > len(labels) - len(unlabelled)
    unstratified = unlabelled + (unique if most_are_unique else [])
    if unstratified:
        min_train.append(0 if classes else 1)
        classes.append(unstratified)
    return classes, min_train
