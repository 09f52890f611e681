"""Whether the first row of a table names the columns."""

import re
from collections.abc import Sequence
from typing import NamedTuple

from ..column_names import KNOWN_COLUMNS, normalize_name
from ..places import shorten

NUMERIC = re.compile(r"[-+]?[.,]*\d[\d.,]*%?")
NAME_LIKE = re.compile(r"[^\W\d][\w.#/()-]*( [\w.#/()-]+){0,2}")
MAX_NAME_LENGTH = 60


class HeaderGuess(NamedTuple):
    """Whether there is a header, and whether that is certain: known names are not found in data."""

    found: bool
    certain: bool = False

    def notes(self, first: Sequence[str]) -> tuple[str, ...]:
        """What was inferred, and how to overrule it."""
        shown = shorten(", ".join(first))
        if not self.found:
            return (f"header: none found, so the first row is data ({shown}); --header reads it as column names",)
        return () if self.certain else (f"header: the first row ({shown}); --no-header reads it as data",)


def guess_header(first: Sequence[str], rest: Sequence[Sequence[str]]) -> HeaderGuess:
    """Whether the first row of a table is a header.

    Args:
        first: The cells of the first row.
        rest: Other rows, each as long as `first`.
    """
    cells = [cell.strip() for cell in first]
    values = [{row[column].strip() for row in rest} - {""} for column in range(len(cells))]
    if len(cells) > 1 and cells == [str(number) for number in range(len(cells))]:  # pandas numbers unnamed columns
        return HeaderGuess(any(not NUMERIC.fullmatch(value) for value in set().union(*values)))
    if any(NUMERIC.fullmatch(cell) or len(cell) > MAX_NAME_LENGTH for cell in cells):
        return HeaderGuess(False)
    repeated = [cell in below for cell, below in zip(cells, values, strict=True)]
    if any(normalize_name(cell) in KNOWN_COLUMNS and not again for cell, again in zip(cells, repeated, strict=True)):
        return HeaderGuess(True, certain=True)
    if any(repeated):
        return HeaderGuess(False)
    if any(cell and below and all(map(NUMERIC.fullmatch, below)) for cell, below in zip(cells, values, strict=True)):
        return HeaderGuess(True)  # a name above a column of numbers
    # Unknown names are a header if they look like names and some column below has few different values, or the only
    # column below has sentences. An empty first name is the index column that pandas writes.
    named = all(NAME_LIKE.fullmatch(cell) for cell in (cells[1:] if cells[0] == "" else cells))
    few = any(2 * len(below) <= len(rest) for below in values if below)
    sentences = len(cells) == 1 and " " not in cells[0] and all(" " in text for text in values[0])
    return HeaderGuess(named and len(rest) >= 4 and (few or sentences))
