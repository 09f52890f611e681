"""Writes a copy of labelled data in which some labels are corrected; everything else in the file is unchanged."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...core.atomic_files import new_path, user_path
from ...core.errors import HeadwayError
from ..base.label_checks import Correction
from ..base.task import Task
from ..data.editing.edit import copy_with_edits, refuse_output
from ..data.places import format_place
from ..data.read import read_table
from ..data.read_options import ReadOptions
from .label_errors import LabelledRows

REQUIRED = ("place", "given", "likely")
ACCEPT = "accept"  # the column that says which suspects are accepted; without it all are
ACCEPTED, REJECTED = ("yes", "y", "true", "1", "x", "accept"), ("no", "n", "false", "0", "", "reject")
TABLES = (".csv", ".tsv", ".xlsx")  # of suspects; their first row has the names of the columns
MAX_DIGITS = 18


@dataclass(frozen=True)
class CorrectedFile:
    """A corrected copy.

    Args:
        path: the copy.
        changed: number of rows with a corrected label.
        notes: what was inferred, and new labels, a sentence each.
    """

    path: Path
    changed: int
    notes: tuple[str, ...]


def write_corrected(
    source: str | Path,
    corrections: Iterable[Correction],
    output: str | Path,
    *,
    task: Task[Any, Any] | None = None,
    columns: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    **reading: Any,
) -> CorrectedFile:
    """Writes a copy of a file with other labels.

    Args:
        source: the file in which `find_label_errors` found suspects.
        corrections: `Suspect.correction()` of those that are accepted.
        output: the copy, with the same suffix.
        task: of the labels, as for the search.
        columns: as for the search.
        overwrite: whether an existing `output` is replaced; `source` itself never is.
        **reading: fields of ReadOptions, as for the search.

    Raises:
        HeadwayError: the file cannot be corrected, a correction does not fit it, or `output` cannot be written.
            Nothing is written then.
    """
    refuse_output(user_path(source), new_path(output), overwrite=overwrite)
    options = ReadOptions(**reading)
    rows = LabelledRows.read(source, task, columns, options)
    by_place: dict[int, list[Correction]] = {}
    for one in corrections:
        by_place.setdefault(one.place, []).append(one)
    if not by_place:
        raise HeadwayError("There are no corrections. Accept at least one.")
    edits = _edits(rows, by_place)
    path = copy_with_edits(source, edits, output, options, overwrite=overwrite)
    known = rows.task.labels_to_check(rows.examples)[0].classes
    new = dict.fromkeys(one.label for of_row in by_place.values() for one in of_row)
    notes = [
        f'"{label}" is a new label: no row of {rows.table.source} has it'
        for label in new
        if known and label not in known
    ]
    return CorrectedFile(path, len(edits), (*rows.notes, *notes))


def _edits(rows: LabelledRows, by_place: Mapping[int, list[Correction]]) -> dict[int, Mapping[str, Any]]:
    """The new cells of each corrected row."""
    example_at = {int(rows.table.places[example.row]): example for example in rows.examples}
    correct = rows.task.label_corrector(rows.table, rows.columns)
    edits = {}
    for place, of_row in by_place.items():
        where = format_place(rows.table.source, rows.table.unit, place)
        if place not in example_at:
            raise HeadwayError(f"{where}: there is no labelled row. The corrections are for another file.")
        if len({(one.item, one.word) for one in of_row}) < len(of_row):
            raise HeadwayError(f"{where}: there are two corrections of the same label. Delete one.")
        edits[place] = correct(example_at[place], of_row)
    return edits


def read_corrections(path: str | Path) -> list[Correction]:
    """The corrections in a file of suspects (`headway label-errors --output`).

    All of them are accepted, or, if there is a column "accept", those with "yes" there. The column "likely" has the
    new labels.

    Raises:
        HeadwayError: the file cannot be read, or is not one of suspects.
    """
    has_header = user_path(path).suffix.lower() in TABLES
    table = read_table(path, header=has_header or None)
    missing = [name for name in REQUIRED if name not in table.columns]
    if missing:
        raise HeadwayError(
            f'{table.source}: there is no column "{missing[0]}". Give a file that headway label-errors --output has '
            "written, without the rows whose label is right."
        )
    found = []
    for row, cells in enumerate(table.rows):
        where = table.where(row)
        if not _is_accepted(cells, where):
            continue
        place, word = _integer(cells, "place", where), _integer(cells, "word", where)
        if place is None:
            raise HeadwayError(f'{where}: "place" is empty. Leave this column as it was written.')
        given, label, item = (_text(cells.get(name)) for name in ("given", "likely", "item"))
        if not label:
            raise HeadwayError(f'{where}: "likely" is empty. Write the right label, or delete the row.')
        found.append(Correction(place, given, label, item, word))
    return found


def _is_accepted(cells: Mapping[str, Any], where: str) -> bool:
    if ACCEPT not in cells:
        return True
    answer = _text(cells[ACCEPT]).strip().lower()
    if answer not in ACCEPTED + REJECTED:
        raise HeadwayError(f'{where}: "{ACCEPT}" is {answer!r}. Write yes or no.')
    return answer in ACCEPTED


def _text(cell: Any) -> str:
    return "" if cell is None else str(cell)


def _integer(cells: Mapping[str, Any], name: str, where: str) -> int | None:
    text = _text(cells.get(name))
    if text and (not text.isdecimal() or len(text) > MAX_DIGITS):
        raise HeadwayError(f'{where}: "{name}" is {text!r}, not a whole number. Leave this column as it was written.')
    return int(text) if text else None
