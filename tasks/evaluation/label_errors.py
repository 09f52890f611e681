"""Rows of labelled data whose label is probably wrong.

Each label is compared with the probabilities of a model that was not trained on its row (confident_learning.py). These
are by default those of logistic regression on the vectors of a frozen model; or those of a fine-tuned model
(`headway train --folds`). Several labels of a row are checked one by one, as are the words of texts with entities;
numbers are compared with predicted numbers.

Shapes: E examples, N labels that are checked, K classes.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from ...core.errors import HeadwayError
from ...core.training.training_config import TrainConfig
from ..base.label_checks import Correction, LabelsToCheck
from ..base.left_out import usable_rows
from ..base.task import Task
from ..classification.classification import TextClassification
from ..data.columns import ColumnMapping
from ..data.read import read_table
from ..data.read_options import ReadOptions
from ..data.rows import Table
from ..infer_task import infer_task
from ..tagging.tagging import TokenClassification
from .checked_labels import Checked, FineTuning, Found, Sources
from .confident_learning import likely_labels, prune_by_noise_rate
from .frozen_vectors import nearest

FOLDS = 5
REPEATS = 3
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
        word: the position of the word in its text, from 0; None: the label is not of a word.
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
    word: int | None
    given: str
    likely: str
    given_probability: float | None
    likely_probability: float | None
    suspicion: float
    neighbours: tuple[Neighbour, ...] = ()

    def correction(self, label: str | None = None) -> Correction:
        """That it becomes the likely label, or another one."""
        return Correction(self.place, self.given, label or self.likely, self.item, self.word)

    def to_json(self) -> dict[str, Any]:
        """As plain JSON types."""
        return {**vars(self), "neighbours": [vars(one) for one in self.neighbours]}

    @classmethod
    def columns(cls) -> list[str]:
        """The names of `cells`."""
        own = (one.name for one in fields(cls) if one.name != "neighbours")
        return [*own, *(f"nearest_{number + 1}" for number in range(NEIGHBOURS))]

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
    repeats: int | None = None,
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
        repeats: how often it is fine-tuned with all folds, which are other ones each time; the predictions are
            averaged. Default: 3.
        config: of the fine-tuning.
        device: of the vectors.
        follow: reads the events of the fine-tuning to the end.
        **reading: fields of ReadOptions: header, encoding, ...

    Raises:
        HeadwayError: the data or the model cannot be used, or the task has no such labels.
    """
    rows = LabelledRows.read(data, task, columns, ReadOptions(**reading))
    sources = Sources(rows.task, rows.table, rows.examples, rows.columns, model, device)
    if folds is not None:
        found = sources.fine_tune(
            columns or {}, FineTuning(folds, repeats or REPEATS, config or TrainConfig(), follow)
        )
    else:
        found = sources.stored() or sources.frozen(FOLDS)
    return rank_labels(rows, found)


@dataclass(frozen=True, eq=False)
class LabelledRows:
    """Rows whose labels can be checked.

    Args:
        task: with its labels.
        table: the usable rows.
        columns: of the table.
        examples: the rows.
        notes: what was inferred, a sentence each.
    """

    task: Task[Any, Any]
    table: Table
    columns: ColumnMapping
    examples: Sequence[Any]
    notes: tuple[str, ...]

    @classmethod
    def read(
        cls, data: Any, task: Task[Any, Any] | None, columns: Mapping[str, Any] | None, options: ReadOptions
    ) -> "LabelledRows":
        """Reads data.

        Args:
            data: labelled rows: anything that `read_table` reads.
            task: of the labels; None: inferred.
            columns: field name, "label" or "group" -> column, where the inferred one is wrong.
            options: how data is read.

        Raises:
            HeadwayError: the data cannot be used, or the task has no such labels.
        """
        table = read_table(data, options)
        if task is None:
            inferred_task = infer_task(table).kind()
            task = inferred_task if inferred_task.has_labels_to_check else TextClassification()
        if not task.has_labels_to_check:
            raise HeadwayError(
                f"Data for {task.name} has no labels to check. If it has labels of texts or of words, name their "
                f"task with --task: {TextClassification.name} or {TokenClassification.name}."
            )
        named = task.columns(table, columns or {}, need_label=True)
        table = usable_rows(task, table, named)
        task, inferred = task.infer_labels(table, named)
        notes = (*table.describe(), *named.notes, *inferred)
        return cls(task, table, named, task.examples(table, named), notes)


def rank_labels(rows: LabelledRows, found: Found) -> LabelErrors:
    """All labels with out-of-fold predictions, the most suspicious ones first."""
    ranked = _rank(found.parts) if found.parts[0].labels.classes else _rank_numbers(found.parts[0])
    order = np.array([(one.labels.examples[one.row], one.labels.items[one.row]) for one in ranked]).reshape(-1, 2)
    checked = np.unique(np.concatenate([part.labels.examples for part in found.parts]))
    return LabelErrors(
        rows.task.name,
        _suspects(ranked, rows),
        len(ranked),
        len(rows.examples) - len(checked),
        _quality(found.parts),
        order,
        (*rows.notes, found.note),
    )


@dataclass(frozen=True, eq=False)
class _Ranked:
    """A checked label: its part and its position there."""

    part: Checked
    row: int
    suspicion: float
    is_suspect: bool

    @property
    def labels(self) -> LabelsToCheck:
        """Those of the part."""
        return self.part.labels

    @property
    def likely(self) -> int:
        """The most probable other class."""
        return int(likely_labels(self.part.predicted[[self.row]], self.labels.given[[self.row]])[0])

    def to_suspect(self, rows: LabelledRows, neighbours: tuple[Neighbour, ...]) -> Suspect:
        """With the text and the labels in words."""
        labels, row = self.labels, self.row
        example = rows.examples[labels.examples[row]]
        predicted = self.part.predicted[row]
        if labels.classes:
            likely = labels.classes[self.likely]
            probabilities = float(predicted[labels.given[row]]), float(predicted[self.likely])
        else:
            likely, probabilities = f"{predicted:.4g}", (None, None)
        return Suspect(
            int(rows.table.places[example.row]),
            example.where,
            _text(example),
            labels.name_of(row, example),
            int(labels.items[row]) if labels.of_words else None,
            labels.label_of(row),
            likely,
            *probabilities,
            self.suspicion,
            neighbours,
        )


def _rank(parts: Sequence[Checked]) -> list[_Ranked]:
    """All labels, those that are pruned first, by self-confidence, the probability of the given label."""
    found = []
    for part in parts:
        wrong = prune_by_noise_rate(part.predicted, part.labels.given)
        confidence = part.predicted[np.arange(len(wrong)), part.labels.given]
        rows = zip(confidence.tolist(), wrong.tolist(), strict=True)
        found += [_Ranked(part, row, 1 - own, is_wrong) for row, (own, is_wrong) in enumerate(rows)]
    return sorted(found, key=lambda one: (not one.is_suspect, -one.suspicion))


def _rank_numbers(part: Checked) -> list[_Ranked]:
    """All numbers by their residual, in robust standard deviations of the residuals."""
    residuals = part.labels.given - part.predicted
    centred = residuals - np.median(residuals)
    spread = MAD * np.median(np.abs(centred)) or centred.std() or 1.0
    deviations = np.abs(centred / spread)
    order = np.argsort(-deviations, kind="stable").tolist()
    return [_Ranked(part, row, float(deviations[row]), bool(deviations[row] > DEVIATIONS)) for row in order]


def _suspects(ranked: Sequence[_Ranked], rows: LabelledRows) -> tuple[Suspect, ...]:
    suspects = [one for one in ranked if one.is_suspect]
    return tuple(
        one.to_suspect(rows, _neighbours(one, rows.examples) if number < MOST_NEIGHBOURS_OF else ())
        for number, one in enumerate(suspects)
    )


def _neighbours(one: _Ranked, examples: Sequence[Any]) -> tuple[Neighbour, ...]:
    """The nearest rows with the likely label; of a number, the nearest other rows."""
    labels = one.labels
    if labels.classes:
        candidates = np.flatnonzero(labels.given == one.likely)
    else:
        candidates = np.flatnonzero(labels.examples != labels.examples[one.row])
    near = nearest(one.part.units, one.row, candidates, NEIGHBOURS)
    found = [(examples[labels.examples[other]], labels.label_of(other), cosine) for other, cosine in near]
    return tuple(Neighbour(example.where, _text(example), label, cosine) for example, label, cosine in found)


def _text(example: Any) -> str:
    return " / ".join(example.texts)


def _quality(parts: Sequence[Checked]) -> str:
    """How well the labels are predicted out of fold."""
    if not parts[0].labels.classes:
        correlation = np.corrcoef(parts[0].predicted, parts[0].labels.given)[0, 1]
        return f"the correlation of the numbers with those predicted out of fold is {correlation:.2f}"
    agreeing = sum(int((part.predicted.argmax(1) == part.labels.given).sum()) for part in parts)
    total = sum(len(part.labels.given) for part in parts)
    constant = sum(int(np.bincount(part.labels.given).max()) for part in parts)
    useless = f", not more than by always predicting the most frequent one ({constant / total:.1%}): distrust the list"
    return (
        f"out of fold, {agreeing / total:.1%} of the labels are predicted as they are given"
        f"{useless if agreeing <= constant and constant < total else ''}"
    )
