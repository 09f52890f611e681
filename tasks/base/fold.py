"""One fold of a cross-validation: the rows that a run holds out, and its predictions for them."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

import numpy as np

from ..data.columns import ColumnMapping
from ..data.digests import number_values
from ..data.examples import Example
from ..data.fold_assignment import assign_folds
from ..data.groups import example_groups, without_known_texts
from ..data.rows import Table
from ..data.spool import select
from .predictions import Prediction

FILE = "out_of_fold.jsonl"  # in a model folder


@dataclass(frozen=True)
class Fold:
    """Which rows a run holds out.

    Args:
        number: of the fold whose rows are held out, from 1; 0: none, all rows are trained on.
        count: of all folds.
    """

    number: int
    count: int

    def split(
        self, examples: Sequence[Any], table: Table, columns: ColumnMapping, seed: int
    ) -> tuple[Sequence[Any], Sequence[Any], str]:
        """The examples for training, those for evaluation, and a note. Equal texts and groups are not divided.

        Raises:
            HeadwayError: there are fewer groups of rows than folds.
        """
        groups, texts = example_groups(examples, table, columns.group)
        folds = folds_of(examples, groups, self.count, seed)
        what = "equal texts" if columns.group is None else f'rows with the same "{columns.group}"'
        together = f"; {what} stay together" if groups.max() + 1 < len(groups) else ""
        alone = int((folds < 0).sum())
        rare = f"; {alone} are always trained on: no other rows have their labels" if alone else ""
        if not self.number:
            return examples, [], f"all {len(examples)} rows are trained on (--folds {self.count}{rare})"
        held_out = np.flatnonzero(folds == self.number - 1).tolist()
        kept = without_known_texts(np.flatnonzero(folds != self.number - 1).tolist(), held_out, texts)
        known = len(examples) - len(kept) - len(held_out)
        note = (
            f"fold {self.number} of {self.count}: {len(held_out)} of {len(examples)} rows are held out for evaluation "
            f"(seed {seed}{together}{rare})"
        )
        if known:
            note += f"; {known} rows are left out of training because held-out rows have the same texts"
        return select(examples, kept), select(examples, held_out), note


@dataclass(frozen=True)
class OutOfFold:
    """The prediction for a row by a model that was not trained on it.

    Args:
        row: position among the rows that are used, from 0.
        place: of the row in the source: its line or record number.
        where: for messages: "train.csv, line 12".
        fold: from 1.
        gold: the annotated label, labels, number, ... as plain JSON types.
        prediction: of the fold's model.
    """

    row: int
    place: int
    where: str
    fold: int
    gold: Any
    prediction: Prediction

    def to_line(self) -> str:
        """As a line of JSON; the probabilities of all labels are beside the prediction."""
        kind, found = type(self.prediction).__name__, self.prediction.to_json()
        facts = {"row": self.row, "place": self.place, "where": self.where, "fold": self.fold, "gold": self.gold}
        scores = found.pop("scores", None)
        probabilities = {} if scores is None else {"probabilities": scores}
        return json.dumps({**facts, "kind": kind, "prediction": found, **probabilities}, ensure_ascii=False)

    @classmethod
    def of_line(cls, line: str) -> "OutOfFold":
        """What `to_line` wrote."""
        found = json.loads(line)
        values = found["prediction"] | ({"scores": found["probabilities"]} if "probabilities" in found else {})
        kinds = {kind.__name__: kind for kind in _subclasses(Prediction)}
        facts = {name: found[name] for name in ("row", "place", "where", "fold", "gold")}
        return cls(**facts, prediction=_read(kinds[found["kind"]], values))


def folds_of(examples: Sequence[Any], groups: np.ndarray, count: int, seed: int) -> np.ndarray:
    """The fold of each example, from 0; -1: in no fold (`assign_folds`).

    Args:
        examples: labelled.
        groups: the number of the group of each (`example_groups`).
        count: of the folds.
        seed: of the random order of the groups.

    Raises:
        HeadwayError: there are fewer groups than folds.
    """
    return assign_folds(number_values(rarest_labels(examples)), count, seed, groups)


def rarest_labels(examples: Sequence[Example]) -> Iterator[str | None]:
    """The rarest label of each example, so that each model is trained on rows of every label."""
    counts = Counter(label for one in examples for label in set(one.labels))
    for one in examples:
        yield min(one.labels, key=lambda label: counts[label], default=one.stratum or None)


def out_of_fold(
    fold: Fold, table: Table, examples: Iterable[Example], predictions: Iterable[Prediction]
) -> Iterator[OutOfFold]:
    """The predictions of a fold's model for its held-out examples."""
    for example, prediction in zip(examples, predictions, strict=True):
        place = int(table.places[example.row])
        yield OutOfFold(example.row, place, example.where, fold.number, _plain(example.gold), prediction)


def _plain(gold: Any) -> Any:
    """A gold value as plain JSON types."""
    if isinstance(gold, list | tuple):
        return [_plain(one) for one in gold]
    if isinstance(gold, Mapping):
        return {str(name): _plain(value) for name, value in gold.items()}
    return gold if gold is None or isinstance(gold, str | int | float) else str(gold)


def _subclasses(kind: type) -> Iterator[type]:
    for one in kind.__subclasses__():
        yield one
        yield from _subclasses(one)


def _read(kind: Any, value: Any) -> Any:
    """A value of a type from plain JSON types: dataclasses from objects, tuples from lists."""
    if value is None:
        return None
    if is_dataclass(kind):
        hints = get_type_hints(kind)
        given = {one.name: _read(hints[one.name], value[one.name]) for one in fields(kind) if one.name in value}
        return kind(**given)  # pyright: ignore[reportCallIssue]
    arguments = get_args(kind)
    if get_origin(kind) is UnionType:
        return _read(next(one for one in arguments if one is not type(None)), value)
    if get_origin(kind) is tuple:
        kinds = arguments[:1] * len(value) if arguments[-1] is ... else arguments
        return tuple(_read(one, part) for one, part in zip(kinds, value, strict=True))
    if get_origin(kind) in (dict, Mapping):
        return {name: _read(arguments[1], part) for name, part in value.items()}
    return value
