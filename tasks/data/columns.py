"""Which column of a person's data is the text, which its pair, which the label.

By name first (case, spaces, `_`, `-` and `#` do not matter), then by what the cells of a sample of rows look like.
What a person says (`--text`, `--pair`, `--label`) overrules every guess; each guess is told in a sentence; what
cannot be told is asked for, with the columns and the first row shown.
"""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from ...core.errors import HeadwayError
from .column_contents import Content
from .column_names import LABEL_COLUMNS, normalize_name
from .places import format_place, shorten

if TYPE_CHECKING:
    from .examples import Field
    from .rows import RowStream, Table

# fmt: on
SAMPLE_ROWS = 1000


@dataclass(frozen=True)
class ColumnMapping:
    """Which column holds what: the texts by field name, the label, and what of this was guessed."""

    texts: dict[str, str]
    label: str | tuple[str, ...] | None  # several: one 0/1 column per label
    notes: tuple[str, ...]

    @property
    def used_columns(self) -> set[str]:
        """All columns that are read."""
        labels = (self.label,) if isinstance(self.label, str) else self.label or ()
        return {*self.texts.values(), *labels}


def parse_text(value: Any, column: str, field: str, *, labelled: bool) -> str:
    """A cell as a text; an empty one is refused in data that somebody labelled, and taken as it is elsewhere.

    Args:
        value: of the cell.
        column: that it is in, for messages.
        field: the text that the task wants of it.
        labelled: whether somebody did.

    Raises:
        HeadwayError: it holds something else, or nothing.
    """
    if isinstance(value, list | dict):
        raise HeadwayError(
            f'column "{column}" holds a {type(value).__name__}, not a text. '
            f"Name the column of the {field} with --{field}."
        )
    text = "" if value is None else str(value)
    if labelled and not text.strip():
        what = "holds only spaces" if text else "is empty"
        raise HeadwayError(f'column "{column}" {what}. Fill it in, or delete the row.')
    return text


def infer_columns(
    data: "Table | RowStream",
    fields: "Sequence[Field]",
    *,
    chosen: Mapping[str, str | None] | None = None,
    label: str | Sequence[str] | None = None,
    label_aliases: Sequence[str] = LABEL_COLUMNS,
    need_label: bool = True,
) -> ColumnMapping:
    """Tells which column is which.

    Args:
        data: a table, or a stream, of which the first SAMPLE_ROWS rows are looked at.
        fields: the texts that the task wants, the main one first.
        chosen: field name -> the column that the person named or numbered; None: not said; "": there is none.
        label: the label column that the person named or numbered; several: one 0/1 column per label.
        label_aliases: names that label columns have, in this order.
        need_label: False in prediction: a label is then found by name alone, and not missed.

    Raises:
        HeadwayError: a chosen column does not exist or is chosen twice, or a column that is needed cannot be told.
    """
    search = _Search(data, fields, label_aliases)
    search.take_chosen(chosen or {}, label)
    search.take_by_name()
    search.take_by_content(need_label)
    search.require_all(need_label)
    texts = {field.name: search.texts[field.name] for field in fields if field.name in search.texts}
    notes = tuple(search.notes[role] for role in (*texts, "label") if role in search.notes)
    return ColumnMapping(texts, search.label, notes)


class _Search:
    """The columns that are taken so far, and how each was told."""

    def __init__(self, data: "Table | RowStream", fields: "Sequence[Field]", label_aliases: Sequence[str]) -> None:
        self.source, self.columns = data.source, data.columns
        # Layouts without a header that give their columns names themselves (CoNLL, plain lines) count as named.
        self.named = data.header or self.columns != tuple(str(number) for number in range(len(self.columns)))
        self.fields, self.label_aliases = fields, label_aliases
        sample = list(islice(data, SAMPLE_ROWS))
        self.first_place = format_place(data.source, data.unit, sample[0][0]) if sample else data.source
        self.rows = [row for _, row in sample]
        self.contents = {name: self._content(name) for name in self.columns}
        self.texts: dict[str, str] = {}
        self.declined: set[str] = set()
        self.label: str | tuple[str, ...] | None = None
        self.notes: dict[str, str] = {}

    def _content(self, name: str) -> Content:
        cells = (row.get(name) for row in self.rows)
        filled = [cell for cell in cells if cell is not None and not (isinstance(cell, str) and not cell.strip())]
        return Content(name if self.named else "", filled)

    @property
    def taken(self) -> set[str]:
        return ColumnMapping(self.texts, self.label, ()).used_columns

    def free(self) -> list[str]:
        return [name for name in self.columns if name not in self.taken]

    def open_fields(self) -> "list[Field]":
        return [field for field in self.fields if field.name not in self.texts | dict.fromkeys(self.declined)]

    def note(self, role: str, column: str, why: str) -> None:
        self.notes[role] = f"{role}: column {self.show(column)} ({why})"

    def show(self, column: str) -> str:
        return f'"{column}"' if self.named else column

    # What the person says.

    def take_chosen(self, chosen: Mapping[str, str | None], label: str | Sequence[str] | None) -> None:
        for field in self.fields:
            said = chosen.get(field.name)
            if said == "":
                self.declined.add(field.name)
            elif said is not None:
                flag = f"--{field.name}"
                column = self.find(said, flag)
                self._refuse_twice(flag, (column,))
                self.texts[field.name] = column
        if label:
            names = [label] if isinstance(label, str) else label
            found = tuple(self.find(name, "--label") for name in names)
            self._refuse_twice("--label", found)
            self.label = found[0] if len(found) == 1 else found

    def find(self, said: str, flag: str) -> str:
        """The column that a person means by a name or a number; a name wins over a number."""
        if said in self.columns:
            return said
        alike = [name for name in self.columns if normalize_name(name) == normalize_name(said)]
        if len(alike) == 1:
            return alike[0]
        if said.isdecimal() and int(said) < len(self.columns):
            return self.columns[int(said)]
        raise HeadwayError(self._no_such_column(said, flag))

    def _refuse_twice(self, flag: str, columns: Sequence[str]) -> None:
        flags = {column: f"--{field}" for field, column in self.texts.items()}
        for position, column in enumerate(columns):
            other = flags.get(column) or (flag if column in columns[:position] else None)
            if other:
                raise HeadwayError(
                    f"{self.source}: {other} and {flag} both name column {self.show(column)}. "
                    f"Give each its own column. {self.describe_columns()}"
                )

    def _no_such_column(self, said: str, flag: str) -> str:
        if not self.named:
            last = len(self.columns) - 1
            return (
                f'{self.source}: {flag} says "{said}", but the file has no header: its columns are numbered '
                f"0 to {last}. Give a number. {self.describe_first_row()}"
            )
        by_plain = {normalize_name(name): name for name in self.columns}
        near = difflib.get_close_matches(normalize_name(said), list(by_plain), n=1)
        meant = f' Did you mean {flag} "{by_plain[near[0]]}"?' if near else f" Give {flag} one that exists."
        return f'{self.source}: there is no column "{said}" ({flag}).{meant} {self.describe_columns()}'

    # By name.

    def take_by_name(self) -> None:
        if not self.named:
            return
        for field in self.open_fields():
            column = self._by_alias((field.name, *field.aliases))
            if column is not None:
                self.texts[field.name] = column
                self.note(field.name, column, "by name")
        if self.label is None:
            column = self._by_alias(self.label_aliases)
            if column is not None:
                self.label = column
                self.note("label", column, "by name")

    def _by_alias(self, aliases: Sequence[str]) -> str | None:
        free = self.free()
        for alias in aliases:
            for column in free:
                if normalize_name(column) == normalize_name(alias):
                    return column
        return None

    # By content.

    def take_by_content(self, need_label: bool) -> None:
        label_is_clear = self.label is not None
        if not label_is_clear:
            guess, why = self._guess_label()
            label_is_clear = guess is not None
            if guess is not None and need_label:
                self.label = guess
                if isinstance(guess, str):
                    self.note("label", guess, why)
                else:
                    shown = shorten(", ".join(guess), 200)
                    self.notes["label"] = f"label: {len(guess)} columns of 0 and 1 ({shown})"
        self._guess_twins(label_is_clear or not need_label)
        self._guess_texts(label_is_clear)

    def _guess_label(self) -> tuple[str | tuple[str, ...] | None, str]:
        free = self.free()
        candidates = [name for name in free if self.contents[name].label]
        flags = [name for name in free if self.contents[name].binary and not self.contents[name].id]
        both_values = any(self.contents[name].distinct == 2 for name in flags)
        if both_values and (len(flags) >= 3 or (self.named and len(flags) == 2 and set(candidates) <= set(flags))):
            return tuple(flags), ""
        if len(candidates) != 1:
            return None, ""
        content = self.contents[candidates[0]]
        kind = "numbers" if content.numeric and content.distinct > 20 else f"{content.distinct} different values"
        return candidates[0], kind

    def _guess_twins(self, sure: bool) -> None:
        """A pair by names that differ in one digit alone: "#1 String" and "#2 String"."""
        if not self.named or not sure or "pair" not in {field.name for field in self.open_fields()}:
            return
        texts = self._text_columns()
        firsts = [self.texts["text"]] if "text" in self.texts else texts
        for first in firsts:
            for second in texts:
                if normalize_name(first) != normalize_name(second) and normalize_name(first).replace(
                    "1", "2", 1
                ) == normalize_name(second):
                    if "text" not in self.texts:
                        self.texts["text"] = first
                        self.note("text", first, f'the first of two, with "{second}"')
                    self.texts["pair"] = second
                    self.note("pair", second, f'the second of two, with "{first}"')
                    return

    def _text_columns(self) -> list[str]:
        """The free columns that hold texts, in the file's order; if none does, the only one that holds words."""
        free = [name for name in self.free() if not self.contents[name].id]
        texts = [name for name in free if self.contents[name].text]
        natural = [name for name in texts if not self.contents[name].boilerplate]
        if texts:
            return natural or texts
        words = [name for name in free if self.contents[name].cells and not self.contents[name].numeric]
        return words if len(words) == 1 else []

    def _guess_texts(self, label_is_clear: bool) -> None:
        """The main text, and with it its pair where the file has no header to tell two texts apart by name."""
        main = self.fields[0]
        wanted = {field.name: field for field in self.open_fields()}
        missing = [field for field in wanted.values() if field.required]
        if len(missing) == 1 and main.name not in wanted:
            self._take_longest(missing[0].name)
            return
        if main.name not in wanted:
            return
        texts = sorted(self._text_columns(), key=lambda name: -self.contents[name].mean_length)
        pair = wanted.get("pair")
        alike = len(texts) == 2 and self._alike(*texts)
        if pair is not None and alike and (pair.required or (label_is_clear and not self.named)):
            first, second = sorted(texts, key=self.columns.index)
            self.texts[main.name], self.texts["pair"] = first, second
            self.note(main.name, first, "the first of two texts")
            self.note("pair", second, "the second of two texts")
        elif all(field is main for field in missing):
            self._take_longest(main.name)

    def _take_longest(self, field: str) -> None:
        texts = sorted(self._text_columns(), key=lambda name: -self.contents[name].mean_length)
        if len(texts) == 1 or (texts and not self._alike(*texts[:2])):
            self.texts[field] = texts[0]
            why = "the longest texts" if len(texts) > 1 else "the only one that holds texts"
            self.note(field, texts[0], why)

    def _alike(self, longer: str, shorter: str) -> bool:
        """Whether neither is the plainly longer one."""
        return self.contents[longer].mean_length < 3 * self.contents[shorter].mean_length

    # What is still missing.

    def require_all(self, need_label: bool) -> None:
        for field in self.open_fields():
            if field.required:
                flags = " and ".join(f"--{other.name} COLUMN" for other in self.open_fields() if other.required)
                texts = self._text_columns()
                if len(texts) > 1:
                    optional = (other.name for other in self.open_fields() if not other.required)
                    flags += "".join(f" (and --{name} COLUMN if it is used)" for name in optional)
                could = f" ({', '.join(self.show(name) for name in texts)} could be)" if len(texts) > 1 else ""
                raise HeadwayError(
                    f"{self.source}: cannot tell which column is the {field.name}{could}. "
                    f"Say {flags}. {self.describe_first_row()}"
                )
        for field in self.fields:
            if field.required and field.name in self.declined:
                raise HeadwayError(f"{self.source}: --{field.name} may not be empty: name a column.")
        if need_label and self.label is None:
            if not self.free():
                raise HeadwayError(
                    f"{self.source}: no label: there is no column beside the text ({', '.join(self.columns)}). "
                    f"Add a column with the label of each row. {self.describe_first_row()}"
                )
            candidates = [name for name in self.free() if self.contents[name].label]
            could = f" ({', '.join(self.show(name) for name in candidates)} could be)" if candidates else ""
            raise HeadwayError(
                f"{self.source}: cannot tell which column is the label{could}. "
                f"Say --label COLUMN. {self.describe_first_row()}"
            )

    def describe_columns(self) -> str:
        return f"The columns are: {shorten(', '.join(self.columns), 300)}."

    def describe_first_row(self) -> str:
        if not self.rows:
            return self.describe_columns()
        cells = [f"{name} = {_cell(self.rows[0].get(name))}" for name in self.columns[:12]]
        more = f", … and {len(self.columns) - 12} more" if len(self.columns) > 12 else ""
        return f"Columns and first row ({self.first_place}): {', '.join(cells)}{more}."


def _cell(value: object) -> str:
    return f'"{shorten(value, 40)}"' if isinstance(value, str) else shorten(value, 40)
