"""Random, stratified and grouped train/test splits of a table's rows."""

import random
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence

from ...core.errors import HeadwayError


def split_rows(
    labels: Sequence[Hashable | None],
    fraction: float,
    seed: int,
    groups: Sequence[Hashable | None] | None = None,
) -> tuple[list[int], list[int]]:
    """Splits rows in two with each label's share kept as well as whole rows allow: (train, evaluation) positions.

    Args:
        labels: one for each row; None: unlabelled. Where most labels occur once (measured numbers), those are
            split like one class; elsewhere a label that occurs once stays in train.
        fraction: the part for evaluation, above 0 and below 1; less is taken where train would lose a class.
        seed: the same seed gives the same split everywhere.
        groups: one for each row: rows with the same one stay together; None: a row by itself. Where all stay
            together, or any group would take a class from train, nothing is held out.

    Raises:
        HeadwayError: there are fewer than two rows.
    """
    if not 0 < fraction < 1:
        raise ValueError(f"fraction must lie between 0 and 1, not {fraction}")
    if len(labels) < 2:
        raise HeadwayError("One row cannot be split into train and evaluation. Give more rows, or --eval-data.")
    together: dict[Hashable, list[int]] = {}
    for row in range(len(labels)):
        group = None if groups is None else groups[row]
        together.setdefault((group, row if group is None else None), []).append(row)
    chance = random.Random(seed)
    alone = len(together) == len(labels)
    chosen = _choose_rows(labels, fraction, chance) if alone else _choose_groups(labels, fraction, chance, together)
    return [row for row in range(len(labels)) if row not in chosen], sorted(chosen)


def _choose_rows(labels: Sequence[Hashable | None], fraction: float, chance: random.Random) -> set[int]:
    classes, kept = _rows_by_class(labels)
    wanted = max(1, round(len(labels) * fraction))
    shares = [min(int(len(rows) * fraction), len(rows) - keep) for rows, keep in zip(classes, kept, strict=True)]
    # What rounding down left over goes where it was cut most, as votes become seats by largest remainder.
    by_remainder = sorted(range(len(classes)), key=lambda one: (-(len(classes[one]) * fraction % 1), one))
    while sum(shares) < wanted:
        open_classes = [one for one in by_remainder if shares[one] < len(classes[one]) - kept[one]]
        if not open_classes:
            break
        for one in open_classes[: wanted - sum(shares)]:
            shares[one] += 1
    return {row for rows, share in zip(classes, shares, strict=True) for row in chance.sample(rows, share)}


def _choose_groups(
    labels: Sequence[Hashable | None], fraction: float, chance: random.Random, together: Mapping[Hashable, list[int]]
) -> set[int]:
    """Whole groups in a random order, each if it brings the labels nearer to their shares; or else the smallest."""
    counts = Counter(labels)
    groups = [(rows, Counter(labels[row] for row in rows)) for rows in together.values()]
    chance.shuffle(groups)
    chosen: list[int] = []
    taken: Counter[Hashable | None] = Counter()

    def is_spare(here: Counter[Hashable | None]) -> bool:
        return all(counts[label] - taken[label] > count for label, count in here.items())

    for rows, here in groups:
        # The squared distances from the shares: with these rows, less without them.
        missing = {label: counts[label] * fraction - taken[label] for label in here}
        change = sum(count * (count - 2 * missing[label]) for label, count in here.items())
        if change < 0 and is_spare(here):
            chosen += rows
            taken += here
    return set(chosen or min((rows for rows, here in groups if is_spare(here)), key=len, default=[]))


def _rows_by_class(labels: Sequence[Hashable | None]) -> tuple[list[list[int]], list[int]]:
    """The rows of each label, and how many of them must stay in train."""
    by_label: dict[Hashable, list[int]] = {}
    for row, label in enumerate(labels):
        by_label.setdefault(label, []).append(row)
    unlabelled = by_label.pop(None, [])
    single = [rows[0] for rows in by_label.values() if len(rows) == 1]
    classes = [rows for rows in by_label.values() if len(rows) > 1]
    kept = [1] * len(classes)
    loose = unlabelled + (single if 2 * len(single) > len(labels) - len(unlabelled) else [])
    if loose:
        classes.append(loose)
        kept.append(0 if classes[:-1] else 1)
    return classes, kept
