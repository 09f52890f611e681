"""Whether the first row of a table names the columns."""

import re
from collections.abc import Sequence

from ..column_names import KNOWN_COLUMNS, normalize_name

NUMERIC = re.compile(r"[-+]?[\d.,]*\d[\d.,]*%?")
NAME_LIKE = re.compile(r"[^\W\d][\w.#/()-]*( [\w.#/()-]+){0,2}")
MAX_NAME_LENGTH = 60


def looks_like_header(first: Sequence[str], rest: Sequence[Sequence[str]]) -> bool:
    """Whether the first row of a table is a header.

    Args:
        first: The cells of the first row.
        rest: Other rows, each as long as `first`.
    """
    cells = [cell.strip() for cell in first]
    values = [{row[column].strip() for row in rest} - {""} for column in range(len(cells))]
    if len(cells) > 1 and cells == [str(number) for number in range(len(cells))]:  # pandas numbers unnamed columns
        return any(not NUMERIC.fullmatch(value) for value in set().union(*values))
    if any(NUMERIC.fullmatch(cell) or len(cell) > MAX_NAME_LENGTH for cell in cells):
        return False
    repeated = [cell in below for cell, below in zip(cells, values, strict=True)]
    if any(normalize_name(cell) in KNOWN_COLUMNS and not again for cell, again in zip(cells, repeated, strict=True)):
        return True
    if any(repeated):
        return False
    if any(cell and below and all(map(NUMERIC.fullmatch, below)) for cell, below in zip(cells, values, strict=True)):
        return True  # a name above a column of numbers
    # Unknown names are a header if they look like names and some column below has few different values. An empty
    # first name is the index column that pandas writes.
    named = all(NAME_LIKE.fullmatch(cell) for cell in (cells[1:] if cells[0] == "" else cells))
    return named and len(rest) >= 4 and any(2 * len(below) <= len(rest) for below in values if below)
