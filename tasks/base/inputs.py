"""The inputs of `TaskModel.predict`: texts as Python values, checked and turned into examples."""

from collections.abc import Mapping, Sequence
from typing import Any

from ...core.errors import HeadwayError
from ..data.columns import ColumnMapping
from ..data.examples import Example
from ..data.rows import table_of_texts
from .task import Task


def is_single(inputs: Any) -> bool:
    """Whether the inputs of `predict` are one input instead of several.

    Raises:
        HeadwayError: they are a table.
    """
    if hasattr(inputs, "columns"):
        raise HeadwayError("predict() takes texts, not a table. Give a column of it as a list, or use predict_rows().")
    return isinstance(inputs, str | tuple | Mapping)


def read_inputs(task: Task[Any, Any], inputs: Sequence[Any]) -> list[Example]:
    """The inputs as examples.

    Args:
        task: of the model.
        inputs: each a text, a list of words (if the task reads words), or a tuple or dict of the task's texts.

    Raises:
        HeadwayError: an input does not have the texts that the task reads.
    """
    names = tuple(field.name for field in task.fields)
    rows = [_input_row(task, position, one) for position, one in enumerate(inputs)]
    table = table_of_texts(names, rows)
    return task.examples(table, ColumnMapping({name: name for name in names}, None, ()), labelled=False)


def _input_row(task: Task[Any, Any], position: int, given: Any) -> dict[str, Any]:
    names = [field.name for field in task.fields]
    required = {field.name for field in task.fields if field.required}
    of_words = {field.name for field in task.fields if field.words}
    alone = isinstance(given, str) or (isinstance(given, list) and of_words == set(names))
    row = {names[0]: given} if alone else given
    if isinstance(row, list | tuple):
        row = dict(zip(names, row, strict=False)) if len(row) <= len(names) else None
    valid = isinstance(row, Mapping) and all(_is_text(text, name in of_words) for name, text in row.items())
    if not isinstance(row, Mapping) or not valid or not required <= row.keys() <= set(names):
        reads = "one text" if len(names) == 1 else f"a tuple or a dict of {' and '.join(names)}"
        lists = ", or a list of its words" if of_words else ""
        raise HeadwayError(f"input {position + 1}: the model reads {reads} (strings){lists}. Correct the input.")
    return dict(row)


def _is_text(value: Any, as_words: bool) -> bool:
    """Whether a value is a text, None, or (if `as_words`) a list of words."""
    if as_words and isinstance(value, list):
        return all(isinstance(word, str) for word in value)
    return isinstance(value, str | None)
