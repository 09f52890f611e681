"""Python values as inputs and rows of a task: texts, tuples, lists of words, texts with labels."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ...core.errors import ArgumentError, HeadwayError
from ..data.columns import ColumnMapping
from ..data.examples import Example
from ..data.reading.python_objects import open_rows_once, plain_value
from ..data.rows import RowStream, Table, table_of_texts
from .task import Task

AnyTask = Task[Any, Any]


def is_single(inputs: Any) -> bool:
    """Whether the inputs of `predict` are one input instead of several.

    Raises:
        HeadwayError: they are a string that names a file.
    """
    if isinstance(inputs, str) and os.path.splitext(inputs)[1] and os.path.isfile(inputs):
        raise HeadwayError(
            f"{inputs} is a file. Give Path({inputs!r}) to predict its rows, or [{inputs!r}] to predict this text."
        )
    return isinstance(inputs, str | tuple | Mapping)


def is_table(inputs: Any) -> bool:
    """Whether the inputs of `predict` are rows with named columns: a file, a DataFrame, a data set, ..."""
    return (
        isinstance(inputs, Path | Table | RowStream) or hasattr(inputs, "columns") or hasattr(inputs, "column_names")
    )


def read_inputs(task: AnyTask, inputs: Sequence[Any]) -> Sequence[Example]:
    """The inputs as examples.

    Args:
        task: of the model.
        inputs: each a text, a list (where its field allows one), or a tuple or dict of the task's texts.

    Raises:
        HeadwayError: an input does not have the texts that the task reads.
    """
    names = tuple(field.name for field in task.fields)
    rows = [_input_row(task, position, one) for position, one in enumerate(inputs)]
    table = table_of_texts(names, rows)
    return task.examples(table, ColumnMapping({name: name for name in names}, None, ()), labelled=False)


def split_labels(task: AnyTask, data: Any, second: Any) -> tuple[Any, Any]:
    """The second positional argument of `fit(X, y)` and `fit(train, test)`: (labels, evaluation data), one None.

    They are labels if they are one value per text, as scikit-learn's y is.
    """
    values = as_list(second)
    texts = as_list(data)
    if hasattr(second, "columns") and isinstance(texts, list) and texts and isinstance(texts[0], str):
        return second, None  # texts alone have no labels
    if task.self_supervised or not isinstance(values, list | tuple) or isinstance(data, str | Path) or not values:
        return None, second
    if _is_labelled_pair(second) or isinstance(values[0], Mapping):
        return None, second
    unlabelled = isinstance(texts, list | tuple) and bool(texts) and isinstance(texts[0], str | list)
    return (second, None) if unlabelled or not isinstance(values[0], list | tuple) else (None, second)


def assign_positional(task: AnyTask, data: Any, more: Sequence[Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The labels and the evaluation data of `fit(data, *more, **given)`.

    Raises:
        ArgumentError: one of them is given twice, or there are more than both.
    """
    if len(more) > 2:
        raise ArgumentError("fit() takes data, labels and evaluation data by position. Name the other arguments.")
    if len(more) < 2:
        alone = more[0] if more else None
        more = split_labels(task, data, alone) if given["labels"] is None else (None, alone)
    found = dict(zip(("labels", "eval_data"), more, strict=True))
    for name, value in found.items():
        if value is not None and given[name] is not None:
            raise ArgumentError(f"fit() got {name} twice, by position and by name. Give it once.")
    return {name: given[name] if value is None else value for name, value in found.items()}


def name_rows(task: AnyTask, data: Any, labels: Any = None, *, labelled: bool) -> Any:
    """Data as a source of `stream_rows`: plain texts and tuples become rows with the names of the task's fields.

    Args:
        task: of the model.
        data: any source, or a sequence or generator of texts, lists of words or tuples; if labelled, tuples end with
            the label, and `(texts, labels)` is allowed as well.
        labels: one per row, if they are not in `data`.
        labelled: whether rows have labels.

    Raises:
        HeadwayError: a row does not have the texts that the task reads, or there are more or fewer labels than rows.
    """
    if labelled and labels is None and _is_labelled_pair(data):
        data, labels = data
    data = as_list(data)
    if labels is not None:
        return _with_labels(task, data, _label_values(task, labels))
    if isinstance(data, Iterator):
        return open_rows_once(_named_row(task, number, one, labelled) for number, one in enumerate(data))
    if isinstance(data, list | tuple) and data and isinstance(data[0], str | list | tuple):
        return [_named_row(task, number, one, labelled) for number, one in enumerate(data)]
    return data


def iterate(inputs: Any) -> list[Any]:
    """Several inputs as a list.

    Raises:
        HeadwayError: they are neither a text nor several.
    """
    inputs = as_list(inputs)
    if not isinstance(inputs, Iterable):
        raise HeadwayError(
            f"predict() takes a text, several texts or a table, not {type(inputs).__name__}. Give one of these."
        )
    return list(inputs)


def as_list(data: Any) -> Any:
    """A Series or an array as a list; everything else unchanged."""
    return plain_value(data) if hasattr(data, "tolist") and not hasattr(data, "columns") else data


def _is_labelled_pair(data: Any) -> bool:
    """Whether data is (texts, labels)."""
    return (
        isinstance(data, tuple)
        and len(data) == 2
        and all(isinstance(as_list(side), list) or hasattr(side, "columns") for side in data)
        and len(data[0]) == len(data[1])
    )


def _label_values(task: AnyTask, labels: Any) -> Any:
    """One value per text: a label, or a list of labels where the labels are a DataFrame of 0 and 1.

    Raises:
        HeadwayError: they are 0 and 1 in columns without names, or a DataFrame of something else.
    """
    if hasattr(labels, "columns") and hasattr(labels, "iloc"):
        if len(labels.columns) == 1:
            return as_list(labels.iloc[:, 0])
        names, flags = [str(name) for name in labels.columns], plain_value(labels.to_numpy())
        if not all(value in (0, 1) for row in flags for value in row):
            raise HeadwayError(
                f"labels= has the columns {', '.join(names[:9])}, which are not all 0 or 1. Give the column of the "
                'labels (frame["..."]), or one column of 0 and 1 per label.'
            )
        return [[name for name, flag in zip(names, row, strict=True) if flag] for row in flags]
    values = as_list(labels)
    if not any(field.lists for field in task.fields) and _are_flags(values):
        raise HeadwayError(
            f"labels= has {len(values[0])} columns of 0 and 1 without names. Name the labels: "
            "labels=pandas.DataFrame(labels, columns=[...]), or give lists of labels."
        )
    return values


def _are_flags(values: Any) -> bool:
    """Whether rows of one length are 0 and 1 per label, not lists of labels: there a value does not occur twice."""
    if not isinstance(values, list) or not all(isinstance(row, list | tuple) for row in values):
        return False
    same_length = len({len(row) for row in values}) == 1
    return (
        same_length
        and all(isinstance(value, int | float) and value in (0, 1) for row in values for value in row)
        and any(len(set(row)) < len(row) for row in values)
    )


def _with_labels(task: AnyTask, data: Any, labels: Any) -> Any:
    name = task.label_columns[0]
    if isinstance(data, Iterator):
        data = list(data)
    if isinstance(data, str | Path) or not hasattr(data, "__len__"):
        raise HeadwayError('labels= belongs to texts in Python. Name the column of a file: columns={"label": ...}.')
    if isinstance(data, Mapping):
        return {**data, name: labels}
    if len(data) != len(labels):
        raise HeadwayError(f"There are {len(data):,} texts and {len(labels):,} labels. Give one label per text.")
    if hasattr(data, "assign"):  # a DataFrame
        return data.assign(**{name: labels})
    rows = (
        one if isinstance(one, Mapping) else _named_row(task, number, one, labelled=False)
        for number, one in enumerate(data)
    )
    return [{**row, name: label} for row, label in zip(rows, labels, strict=True)]


def _named_row(task: AnyTask, position: int, given: Any, labelled: bool) -> Mapping[str, Any]:
    """A text or a tuple as a row; rows with names are unchanged."""
    if isinstance(given, Mapping):
        return given
    if not labelled or task.self_supervised:
        return _input_row(task, position, given)
    names = [field.name for field in task.fields]
    required = [field.name for field in task.fields if field.required]
    label = task.label_columns[0]
    for texts in (required, names):
        if isinstance(given, list | tuple) and len(given) == len(texts) + 1:
            return dict(zip([*texts, label], given, strict=True))
    if isinstance(given, list | tuple) and len(given) == len(required) > 1:
        return dict(zip(required, given, strict=True))  # a positive pair
    forms = dict.fromkeys(f"({', '.join([*texts, label])})" for texts in (required, names))
    raise HeadwayError(
        f"row {position + 1}: {type(given).__name__} where a tuple {' or '.join(forms)} is expected. "
        "Give the labels in the tuples, or apart: fit(texts, labels)."
    )


def _input_row(task: AnyTask, position: int, given: Any) -> dict[str, Any]:
    names = [field.name for field in task.fields]
    required = {field.name for field in task.fields if field.required}
    listed = {field.name for field in task.fields if field.lists}
    alone = isinstance(given, str) or (isinstance(given, list) and listed == set(names))
    row = {names[0]: given} if alone else given
    if isinstance(row, list | tuple):
        row = dict(zip(names, row, strict=False)) if len(row) <= len(names) else None
    valid = isinstance(row, Mapping) and all(_is_text(text, name in listed) for name, text in row.items())
    if not isinstance(row, Mapping) or not valid or not required <= row.keys() <= set(names):
        reads = "one text" if len(names) == 1 else f"a tuple or a dict of {' and '.join(names)}"
        alone = ", or a list of its words" if len(names) == 1 and listed else ""
        alone = f"; {' and '.join(sorted(listed))} may be a list" if listed and not alone else alone
        raise HeadwayError(f"input {position + 1}: the model reads {reads} (strings){alone}. Correct the input.")
    return dict(row)


def _is_text(value: Any, as_list: bool) -> bool:
    """Whether a value is a text, None, or (if `as_list`) a list of texts."""
    if as_list and isinstance(value, list):
        return all(isinstance(word, str) for word in value)
    return isinstance(value, str | None)
