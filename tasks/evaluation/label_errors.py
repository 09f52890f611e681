"""Rows of labelled data whose label is probably wrong.

Each label is compared with the probabilities of a model that was not trained on its row (confident_learning.py). These
are by default those of logistic regression on the vectors of a frozen model; or those of a fine-tuned model
(`headway train --folds`). Several labels of a row are checked one by one, as are the words of texts with entities;
numbers are compared with predicted numbers.

Shapes: E examples, N labels that are checked, K classes.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...core.errors import HeadwayError
from ...core.training.training_config import TrainConfig
from ..base.left_out import usable_rows
from ..base.task import Task
from ..classification.classification import TextClassification
from ..data.read import read_table
from ..data.read_options import ReadOptions
from ..data.rows import Table
from ..infer_task import infer_task
from ..tagging.tagging import TokenClassification
from .checked_labels import Checked, CheckedNumbers, Sources
from .confident_learning import likely_labels, prune_by_noise_rate
from .frozen_vectors import nearest

FOLDS = 5
NEIGHBOURS = 3
MOST_NEIGHBOURS_OF = 2000  # suspects; the neighbours of further ones are not looked up
DEVIATIONS = 3.0  # numbers: residuals beyond this number of standard deviations are suspect
MAD = 1.4826  # standard deviations of a normal distribution per median absolute deviation


@dataclass(frozen=True)
class Neighbour:
    """A row with another label whose vector is near."""

    where: str
    text: str
    label: str
    cosine: float


@dataclass(frozen=True)
class Suspect:
    """A label that is probably wrong.

    Args:
        place: of the row in its source: the number of its line or record.
        where: for messages: "train.csv, line 12".
        text: of the row.
        item: what the label is of: one of several labels ("yes" or "no" is checked), or a word; else empty.
        given: the label in the data.
        likely: the label that is likelier, or the predicted number.
        given_probability, likely_probability: out of fold; None for numbers.
        suspicion: 1 less the probability of the given label; for numbers the residual in standard deviations.
        neighbours: rows with the likelier label (for numbers: any rows) that are near.
    """

    place: int
    where: str
    text: str
    item: str
    given: str
    likely: str
    given_probability: float | None
    likely_probability: float | None
    suspicion: float
    neighbours: tuple[Neighbour, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As plain JSON types."""
        return {**vars(self), "neighbours": [vars(one) for one in self.neighbours]}

    def cells(self) -> dict[str, Any]:
        """As the cells of a row of a table."""
        found = {name: value for name, value in vars(self).items() if name != "neighbours"}
        for number in range(NEIGHBOURS):
            one = self.neighbours[number] if number < len(self.neighbours) else None
            found[f"nearest_{number + 1}"] = "" if one is None else f"{one.where} ({one.cosine:.2f}): {one.text}"
        return found


@dataclass(frozen=True, eq=False)
class LabelErrors:
    """What a search for wrong labels has found.

    Args:
        task: of the labels.
        suspects: the labels that are probably wrong, the most suspicious ones first.
        checked: number of labels that were checked, N.
        unchecked: number of rows without an out-of-fold prediction.
        quality: how well the labels are predicted out of fold, a sentence.
        ranking: of all checked labels, the most suspicious first: the position of the row among the usable ones, and
            the word or the index of the label, (N, 2).
        notes: what was inferred, a sentence each.
    """

    task: str
    suspects: tuple[Suspect, ...]
    checked: int
    unchecked: int
    quality: str
    ranking: np.ndarray
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """As plain JSON types, without the ranking."""
        counts = {"task": self.task, "checked": self.checked, "unchecked": self.unchecked, "quality": self.quality}
        return {**counts, "suspects": [one.to_json() for one in self.suspects]}


def find_label_errors(
    data: Any,
    *,
    model: str | Path = "mini-bert",
    task: Task[Any, Any] | None = None,
    columns: Mapping[str, Any] | None = None,
    folds: int | None = None,
    config: TrainConfig | None = None,
    device: str = "auto",
    follow: Callable[[Iterable[Any]], Any] = list,
    **reading: Any,
) -> LabelErrors:
    """Finds labels that are probably wrong.

    Args:
        data: labelled rows: anything that `read_table` reads.
        model: whose vectors are used; if it was trained with folds on the same rows, its out-of-fold predictions are.
        task: of the labels: text classification or token classification. Default: inferred from the data.
        columns: field name, "label" or "group" -> column, where the inferred one is wrong.
        folds: fine-tune the model this number of times for the out-of-fold predictions. Default: logistic regression
            on its vectors, with 5 folds.
        config: of the fine-tuning.
        device: of the vectors.
        follow: reads the events of the fine-tuning to the end.
        **reading: fields of ReadOptions: header, encoding, ...

    Raises:
        HeadwayError: the data or the model cannot be used, or the task has no such labels.
    """
    table = read_table(data, ReadOptions(**reading))
    task = _task(task, table)
    named = task.columns(table, columns or {}, need_label=True)
    table = usable_rows(task, table, named)
    task, inferred = task.infer_labels(table, named)
    examples = task.examples(table, named)
    sources = Sources(task, table, examples, named, model, device)
    if folds is not None:
        found = sources.fine_tune(columns or {}, folds, config or TrainConfig(), follow)
    else:
        found = sources.stored() or sources.frozen(FOLDS)
    notes = (*table.describe(), *named.notes, *inferred, found.note)
    parts = _rank_numbers(found.parts[0]) if isinstance(found.parts[0], CheckedNumbers) else _rank(found.parts)
    suspects = _suspects(parts, table, examples)
    order = np.array([(one.part.examples[one.row], one.part.items[one.row]) for one in parts]).reshape(-1, 2)
    unchecked = len(examples) - len(np.unique(np.concatenate([part.examples for part in found.parts])))
    return LabelErrors(task.name, suspects, len(parts), unchecked, _quality(found.parts), order, notes)


def _task(task: Task[Any, Any] | None, table: Table) -> Task[Any, Any]:
    if task is None:
        name = infer_task(table).task
        known = (TextClassification, TokenClassification)
        task = next((kind() for kind in known if kind.name == name), TextClassification())
    if not isinstance(task, TextClassification | TokenClassification):
        raise HeadwayError(
            f"Wrong labels are found in data for {TextClassification.name} and {TokenClassification.name}, not for "
            f"{task.name}. Name one of these tasks with --task."
        )
    return task


@dataclass(frozen=True, eq=False)
class _Ranked:
    """A checked label: its part and its position there."""

    part: Checked | CheckedNumbers
    row: int
    suspicion: float
    is_suspect: bool


def _rank(parts: Sequence[Any]) -> list[_Ranked]:
    """All labels, those that are pruned first, by self-confidence, the probability of the given label."""
    found = []
    for part in parts:
        wrong = prune_by_noise_rate(part.probabilities, part.given)
        confidence = part.probabilities[np.arange(len(wrong)), part.given]
        rows = zip(confidence.tolist(), wrong.tolist(), strict=True)
        found += [_Ranked(part, row, 1 - own, is_wrong) for row, (own, is_wrong) in enumerate(rows)]
    return sorted(found, key=lambda one: (not one.is_suspect, -one.suspicion))


def _rank_numbers(part: CheckedNumbers) -> list[_Ranked]:
    """All numbers by their residual, in robust standard deviations of the residuals."""
    residuals = part.numbers - part.predicted
    centred = residuals - np.median(residuals)
    spread = MAD * np.median(np.abs(centred)) or centred.std() or 1.0
    deviations = np.abs(centred / spread)
    order = np.argsort(-deviations, kind="stable").tolist()
    return [_Ranked(part, row, float(deviations[row]), bool(deviations[row] > DEVIATIONS)) for row in order]


def _suspects(ranked: Sequence[_Ranked], table: Table, examples: Sequence[Any]) -> tuple[Suspect, ...]:
    suspects = [one for one in ranked if one.is_suspect]
    neighbours = _neighbours(suspects[:MOST_NEIGHBOURS_OF], examples)
    found = []
    for number, one in enumerate(suspects):
        example = examples[one.part.examples[one.row]]
        near = neighbours[number] if number < len(neighbours) else ()
        text, item, given, likely, probabilities = *_words(one, example), *_labels(one)
        place = int(table.places[example.row])
        found.append(Suspect(place, example.where, text, item, given, likely, *probabilities, one.suspicion, near))
    return tuple(found)


def _words(one: _Ranked, example: Any) -> tuple[str, str]:
    """The text of a checked label and what the label is of."""
    return _text(example), one.part.name_of(one.row, example)


def _labels(one: _Ranked) -> tuple[str, str, tuple[float | None, float | None]]:
    """The given and the likely label, and their probabilities."""
    part, row = one.part, one.row
    if isinstance(part, CheckedNumbers):
        return f"{part.numbers[row]:g}", f"{part.predicted[row]:.4g}", (None, None)
    given, likely = int(part.given[row]), int(likely_labels(part.probabilities[row : row + 1], part.given[[row]])[0])
    found = part.probabilities[row]
    return part.classes[given], part.classes[likely], (float(found[given]), float(found[likely]))


def _neighbours(suspects: Sequence[_Ranked], examples: Sequence[Any]) -> list[tuple[Neighbour, ...]]:
    """The nearest rows of each suspect with its likely label."""
    found: list[tuple[Neighbour, ...]] = []
    for one in suspects:
        part, row = one.part, one.row
        if isinstance(part, CheckedNumbers):
            candidates = np.flatnonzero(part.examples != part.examples[row])
        else:
            likely = likely_labels(part.probabilities[row : row + 1], part.given[[row]])[0]
            candidates = np.flatnonzero(part.given == likely)
        near = nearest(part.units, row, candidates, NEIGHBOURS)
        found.append(
            tuple(
                Neighbour(
                    examples[part.examples[other]].where,
                    _text(examples[part.examples[other]]),
                    part.label_of(other),
                    cosine,
                )
                for other, cosine in near
            )
        )
    return found


def _text(example: Any) -> str:
    return " / ".join(example.texts)


def _quality(parts: Sequence[Any]) -> str:
    """How well the labels are predicted out of fold."""
    if isinstance(parts[0], CheckedNumbers):
        correlation = np.corrcoef(parts[0].predicted, parts[0].numbers)[0, 1]
        return f"the correlation of the numbers with those predicted out of fold is {correlation:.2f}"
    agreeing = sum(int((part.probabilities.argmax(1) == part.given).sum()) for part in parts)
    total = sum(len(part.given) for part in parts)
    return f"out of fold, {agreeing / total:.1%} of the labels are predicted as they are given"
