"""The columns of a model's training data, which are read again in data with the same column names."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ..data.columns import ColumnMapping
from ..data.rows import RowStream, Table
from .task import Task


def describe_columns(columns: ColumnMapping, table: Table) -> dict[str, Any] | None:
    """The columns as JSON: field name or "label" -> column; None if the columns have no names."""
    if not table.header:
        return None
    label = list(columns.label) if isinstance(columns.label, tuple) else columns.label
    return {**columns.texts, **({"label": label} if label else {})}


def columns_as_trained(
    task: Task[Any, Any],
    known: Mapping[str, Any] | None,
    data: Table | RowStream,
    chosen: Mapping[str, Any],
    *,
    need_label: bool,
) -> ColumnMapping:
    """The columns that the user chose; else those of the training data, if all of these exist; else inferred ones.

    Args:
        task: of the model.
        known: what `describe_columns` returned for the training data.
        data: the rows.
        chosen: field name or "label" -> column.
        need_label: whether there must be a column of labels.

    Raises:
        HeadwayError: as for `Task.columns`.
    """
    named = {name: column for name, column in chosen.items() if column is not None}
    taken = {column for value in named.values() for column in _as_tuple(value)}
    fields = {field.name for field in task.fields} | ({"label"} if need_label else set())
    wanted = {name: column for name, column in (known or {}).items() if name in fields and name not in named}
    if not data.header or any(column not in data.columns for value in wanted.values() for column in _as_tuple(value)):
        wanted = {}
    wanted = {name: value for name, value in wanted.items() if taken.isdisjoint(_as_tuple(value))}
    if not wanted:
        return task.columns(data, chosen, need_label=need_label)
    columns = task.columns(data, {**wanted, **named}, need_label=need_label)
    listed = (f"{name}: {_name(value)} (as in the training data)" for name, value in wanted.items() if value != name)
    return replace(columns, notes=(*listed, *columns.notes))


def _as_tuple(value: Any) -> tuple[str, ...]:
    return tuple(map(str, value)) if isinstance(value, list | tuple) else (str(value),)


def _name(value: Any) -> str:
    columns = [f'"{column}"' for column in _as_tuple(value)]
    return f"column{'s' * (len(columns) > 1)} {', '.join(columns)}"
