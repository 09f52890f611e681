"""Labels of texts that are compared with predictions, and their corrections in the cells of a table."""

import ast
import json
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from ...core.errors import HeadwayError
from ..base.label_checks import NO, YES, Correction, LabelCheckHooks, LabelCorrector, LabelsToCheck, refuse_other_label
from ..data.columns import ColumnMapping
from ..data.labels import MULTI_LABEL, REGRESSION
from ..data.numbers import COMMA, infer_decimal, parse_finite
from ..data.rows import Table
from .predictions import TextExample

# The other value in the column of one label.
OPPOSITE = {"1": "0", "1.0": "0.0", "true": "false", "yes": "no"}
OPPOSITE |= {no: yes for yes, no in OPPOSITE.items()}


class TextLabelChecks(LabelCheckHooks):
    """The hooks of a classifier for wrong labels."""

    problem_type: str | None
    labels: tuple[str, ...]

    def labels_to_check(self, examples: Sequence[TextExample]) -> list[LabelsToCheck]:
        """The label of each example; of several labels each one."""
        gold: list[Any] = [example.label for example in examples]
        every, first = np.arange(len(gold)), np.zeros(len(gold), dtype=np.int64)
        if self.problem_type == REGRESSION:
            return [LabelsToCheck(every, first, (), np.array(gold, dtype=float))]
        if self.problem_type != MULTI_LABEL:
            index = {label: i for i, label in enumerate(self.labels)}
            return [LabelsToCheck(every, first, self.labels, np.array([index[label] for label in gold]))]
        return [
            LabelsToCheck(every, first + i, (NO, YES), np.array([label in one for one in gold], dtype=np.int64), label)
            for i, label in enumerate(self.labels)
        ]

    def predicted_labels(self, labels: LabelsToCheck, predictions: Sequence[Any]) -> np.ndarray:
        """The probabilities of the labels, or the numbers."""
        found = [predictions[i] for i in labels.examples.tolist()]
        if not labels.classes:
            return np.array([np.nan if one is None else one.value for one in found])
        rows = [{} if one is None else one.scores for one in found]
        if labels.label is not None:
            yes = np.array([row.get(labels.label, np.nan) for row in rows])
            return np.column_stack([1 - yes, yes])
        return np.array([[row.get(label, np.nan) for label in labels.classes] for row in rows])

    def label_corrector(self, table: Table, columns: ColumnMapping) -> LabelCorrector:
        """Writes labels as they are written in their column."""
        column = columns.label
        if isinstance(column, tuple):
            return lambda example, corrections: _in_columns(table, example, corrections)
        assert column is not None
        values = [row[column] for row in table.rows]

        def correct(example: Any, corrections: Sequence[Correction]) -> Mapping[str, Any]:
            cell = table.rows[example.row][column]
            if self.problem_type == MULTI_LABEL:
                _check_several(example, corrections)
                dropped = {one.item for one in corrections if one.label == NO}
                added = [one.item for one in corrections if one.label == YES]
                return {column: _with_labels(cell, dropped, added, values)}
            (one,) = corrections
            if self.problem_type == REGRESSION:
                refuse_other_label(example, one, f"{example.label:g}")
                return {column: _number(cell, one.label, table.decimal or infer_decimal(values), example.where)}
            refuse_other_label(example, one, example.label)
            return {column: _like(cell, one.label)}

        return correct


def _check_several(example: Any, corrections: Sequence[Correction]) -> None:
    for one in corrections:
        refuse_other_label(example, one, YES if one.item in example.label else NO)
        if one.label not in (NO, YES):
            raise HeadwayError(f'{example.where}: "{one.label}" for the label "{one.item}": write {YES} or {NO}.')


def _in_columns(table: Table, example: TextExample, corrections: Sequence[Correction]) -> dict[str, Any]:
    """The cells of the columns of labels, each of which has 0 and 1, or no and yes."""
    _check_several(example, corrections)
    row = table.rows[example.row]
    found: dict[str, Any] = {}
    for one in corrections:
        cell = row[one.item]
        if isinstance(cell, bool | int | float):
            found[one.item] = type(cell)(not cell)
        else:
            other = OPPOSITE[cell.strip().lower()]
            found[one.item] = other.upper() if cell.isupper() else other.capitalize() if cell.istitle() else other
    return found


def _like(cell: Any, label: str) -> Any:
    """A label as the type of the cell: 1, and not "1", in place of a number."""
    if isinstance(cell, bool) and label in ("True", "False"):
        return label == "True"
    if isinstance(cell, int | float) and not isinstance(cell, bool):
        with suppress(ValueError):
            return type(cell)(label)
    return label


def _number(cell: Any, label: str, decimal: str | None, where: str) -> Any:
    number = parse_finite(label, ".")
    if number is None:
        raise HeadwayError(f'{where}: "{label}" is not a number. Write one.')
    if isinstance(cell, str):
        return label.replace(".", ",") if decimal == COMMA else label
    return int(number) if isinstance(cell, int) and number.is_integer() else number


def _with_labels(cell: Any, dropped: Collection[str], added: Sequence[str], values: Sequence[Any]) -> Any:
    """A cell with several labels, in its notation: a list, a list in a text, or labels joined by ; or a comma."""
    if isinstance(cell, list):
        are_ids = bool(cell) and all(isinstance(one, int) for one in cell)
        return [
            *(one for one in cell if str(one).strip() not in dropped),
            *(int(one) if are_ids and one.isdecimal() else one for one in added),
        ]
    text = "" if cell is None else str(cell)
    for parse, write in ((json.loads, _to_json), (ast.literal_eval, repr)):
        with suppress(ValueError, SyntaxError):
            if isinstance(found := parse(text), list):
                return write(_with_labels(found, dropped, added, values))
    texts = [value for value in values if isinstance(value, str)]
    separator = ";" if any(";" in one for one in texts) else ","
    spaced = any(f"{separator} " in one for one in texts)
    parts = [one.strip() for one in text.split(separator) if one.strip() and one.strip() not in dropped]
    return (f"{separator} " if spaced else separator).join([*parts, *added])


def _to_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
