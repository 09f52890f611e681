"""Holds out a part of labelled examples for evaluation, which chooses, and for a test, which chooses nothing."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..data.columns import ColumnMapping
from ..data.digests import number_values
from ..data.groups import example_groups, without_known_texts
from ..data.rows import Table
from ..data.split import split_parts
from ..data.spool import select
from .data_source import DataSource

FEWEST_TO_SPLIT = 20  # examples; a tenth of fewer measures nothing
# Rows that are held out for the test by default, as shares of those wanted: with large groups, they may be others.
LEAST, MOST = 0.5, 2


@dataclass(frozen=True)
class Split:
    """The examples of each side, in the order of their rows, and a note on what was done."""

    train: Sequence[Any]
    evaluation: Sequence[Any]
    test: Sequence[Any]
    note: str


def hold_out(source: DataSource, table: Table, columns: ColumnMapping, examples: Sequence[Any]) -> Split:
    """Splits examples at random, stratified by label; equal texts and groups are not divided.

    Args:
        source: which parts to hold out, and the seed.
        table: of the examples.
        columns: with the column of the groups.
        examples: at least one.
    """
    fractions = source.fractions(len(examples))
    if len(examples) < FEWEST_TO_SPLIT:
        note = f"{len(examples)} rows are too few to hold some of them out ({FEWEST_TO_SPLIT} are needed)"
        return Split(examples, [], [], note)
    groups, texts = example_groups(examples, table, columns.group)
    strata = number_values(one.stratum for one in examples)
    train, (test, evaluation) = split_parts(strata, fractions, source.seed, groups)
    wanted = fractions[0] * len(examples)
    if source.test_fraction is None and not (evaluation and LEAST * wanted <= len(test) <= MOST * wanted):
        fractions = 0.0, fractions[1]
        train, (test, evaluation) = split_parts(strata, fractions, source.seed, groups)
    drawn = len(test) + len(evaluation)
    test = without_known_texts(test, train + evaluation, texts)
    evaluation = without_known_texts(evaluation, train, texts)
    what = "equal texts" if columns.group is None else f'rows with the same "{columns.group}"'
    together = f"{what} stay together" if groups.max() + 1 < len(groups) else ""
    if not test and not evaluation:
        note = f"{together or 'each label stays in the training data'}, so no rows can be held out"
        return Split(examples, [], [], note)
    parts = ("eval", "evaluation", evaluation, fractions[1]), ("test", "the test", test, fractions[0])
    shown = " and ".join(f"{len(rows)} for {purpose}" for _, purpose, rows, fraction in parts if fraction)
    shown = shown.replace(" for", " rows are held out for", 1)
    options = [f"--{name}-fraction {fraction:g}" for name, _, _, fraction in parts if fraction]
    note = f"{shown} ({', '.join([*options, f'seed {source.seed}'])}{'; ' * bool(together)}{together})"
    if missing := drawn - len(test) - len(evaluation):
        note += f"; {missing} more are left out because training rows have the same texts"
    return Split(select(examples, train), select(examples, evaluation), select(examples, test), note)
