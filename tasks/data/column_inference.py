"""Inference of the columns that contain the texts and the label.

In this order: columns chosen by the user (`--text`, `--pair`, `--label`), columns with a usual name, columns with
suitable content. If a required column cannot be inferred, the error shows the columns and the first row.
"""

import difflib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ...core.errors import HeadwayError
from .column_names import LABEL_COLUMNS, normalize_name
from .columns import ColumnMapping
from .content_inference import assign_by_content
from .pair_inference import assign_known_pair, note_unread_texts
from .partial_mapping import MIN_FLAGS, PartialMapping

if TYPE_CHECKING:
    from .examples import Field
    from .rows import RowStream, Table


def infer_columns(
    data: "Table | RowStream",
    fields: "Sequence[Field]",
    *,
    chosen: Mapping[str, str | None] | None = None,
    label: str | Sequence[str] | None = None,
    group: str | None = None,
    label_aliases: Sequence[str] = LABEL_COLUMNS,
    need_label: bool = True,
) -> ColumnMapping:
    """Infers which columns contain the texts and the label.

    Args:
        data: A table, or a stream, of which the first rows are read.
        fields: The text fields of the task, the main one first.
        chosen: Column name or number chosen for a field. None: not chosen; "": the data has no such text.
        label: Name or number of the label column; several for one column with 0 and 1 per label.
        group: Name or number of the column whose equal values stay together; None: there is no such column.
        label_aliases: Usual names of label columns, in order of preference.
        need_label: False for prediction: the label is then inferred by name only, and may be missing.

    Raises:
        HeadwayError: A chosen column does not exist or is chosen twice, or a required column cannot be inferred.
    """
    mapping = PartialMapping(data, fields)
    _assign_chosen(mapping, chosen or {}, label)
    if group:
        mapping.group = _find_column(mapping, group, "--group")
        _require_unused(mapping, "--group", (mapping.group,))
    _assign_by_name(mapping, label_aliases)
    assign_by_content(mapping, need_label)
    if not need_label:
        mapping.notes.pop("label", None)  # nothing depends on it
    _require_texts(mapping)
    note_unread_texts(mapping)
    if need_label and mapping.label is None:
        raise _missing_label(mapping)
    return mapping.finish()


# Columns chosen by the user


def _assign_chosen(
    mapping: PartialMapping, chosen: Mapping[str, str | None], label: str | Sequence[str] | None
) -> None:
    for field in mapping.fields:
        choice = chosen.get(field.name)
        if choice == "":
            mapping.declined.add(field.name)
        elif choice is not None:
            flag = f"--{field.name}"
            column = _find_column(mapping, choice, flag)
            _require_unused(mapping, flag, (column,))
            mapping.texts[field.name] = column
    if label:
        columns = tuple(
            _find_column(mapping, name, "--label") for name in ([label] if isinstance(label, str) else label)
        )
        _require_unused(mapping, "--label", columns)
        mapping.label = columns[0] if len(columns) == 1 else columns


def _find_column(mapping: PartialMapping, choice: str, flag: str) -> str:
    """The column with a name or a number. A name takes precedence over a number."""
    if choice in mapping.columns:
        return choice
    similar = [column for column in mapping.columns if normalize_name(column) == normalize_name(choice)]
    if len(similar) == 1:
        return similar[0]
    if choice.isdecimal() and int(choice) < len(mapping.columns):
        return mapping.columns[int(choice)]
    raise _no_such_column(mapping, choice, flag)


def _require_unused(mapping: PartialMapping, flag: str, columns: Sequence[str]) -> None:
    flags = {column: f"--{field}" for field, column in mapping.texts.items()}
    for position, column in enumerate(columns):
        other = flags.get(column) or (flag if column in columns[:position] else None)
        if other:
            raise HeadwayError(
                f"{mapping.source}: {other} and {flag} both name column {mapping.quote(column)}. "
                f"Choose a different column for each. {mapping.describe_columns()}"
            )


def _no_such_column(mapping: PartialMapping, choice: str, flag: str) -> HeadwayError:
    if not mapping.named:
        return HeadwayError(
            f'{mapping.source}: {flag} is "{choice}", but the file has no header: its columns are numbered 0 to '
            f"{len(mapping.columns) - 1}. Give a number. {mapping.describe_first_row()}"
        )
    by_normalized = {normalize_name(column): column for column in mapping.columns}
    similar = difflib.get_close_matches(normalize_name(choice), list(by_normalized), n=1)
    fix = f'Did you mean {flag} "{by_normalized[similar[0]]}"?' if similar else f"Choose another {flag}."
    return HeadwayError(
        f'{mapping.source}: there is no column "{choice}" ({flag}). {fix} {mapping.describe_columns()}'
    )


# Columns with a usual name


def _assign_by_name(mapping: PartialMapping, label_aliases: Sequence[str]) -> None:
    if not mapping.named:
        return
    assign_known_pair(mapping)
    for field in mapping.open_fields:
        column = _first_alias(mapping, (field.name, *field.aliases))
        if column is not None:
            mapping.assign_text(field.name, column, "by name")
    if mapping.label is None:
        column = _first_alias(mapping, label_aliases)
        if column is not None:
            flags = mapping.flag_columns
            reason = "by name"
            if column in flags and len(flags) >= MIN_FLAGS:
                # "quality" may be the label of the rows, or one of several labels.
                reason += f"; --label {','.join(flags)} reads one column of 0 and 1 per label"
            mapping.assign_label(column, reason)


def _first_alias(mapping: PartialMapping, aliases: Sequence[str]) -> str | None:
    """The free column with the first of some names that exists."""
    by_name: dict[str, str] = {}
    for column in mapping.free_columns:
        by_name.setdefault(normalize_name(column), column)
    return next((by_name[name] for name in map(normalize_name, aliases) if name in by_name), None)


# Columns that are missing


def _require_texts(mapping: PartialMapping) -> None:
    missing = [field.name for field in mapping.open_fields if field.required]
    if missing:
        candidates = mapping.text_candidates
        flags = mapping.option(*missing)
        if len(candidates) > 1:
            optional = [field.name for field in mapping.open_fields if not field.required]
            flags += "".join(f" (and {mapping.option(name)} if the data has one)" for name in optional)
        else:
            candidates = []
        raise _not_inferred(mapping, missing[0], candidates, flags)
    for field in mapping.fields:
        if field.required and field.name in mapping.declined:
            raise HeadwayError(f"{mapping.source}: --{field.name} must not be empty. Name a column.")


def _missing_label(mapping: PartialMapping) -> HeadwayError:
    if not mapping.free_columns:
        return HeadwayError(
            f"{mapping.source}: there is no label: all columns are used for texts ({', '.join(mapping.columns)}). "
            f"Add a column with the label of each row. {mapping.describe_first_row()}"
        )
    return _not_inferred(mapping, "label", mapping.label_candidates, mapping.option("label"))


def _not_inferred(mapping: PartialMapping, role: str, candidates: Sequence[str], flags: str) -> HeadwayError:
    listed = f" (candidates: {', '.join(map(mapping.quote, candidates))})" if candidates else ""
    return HeadwayError(
        f"{mapping.source}: cannot infer which column is the {role}{listed}. "
        f"Give {flags}. {mapping.describe_first_row()}"
    )
