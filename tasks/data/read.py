"""Reads data from any source as a table, or as a stream of rows if it is larger than memory.

The formats are in `reading`: `formats` lists those of files and folders. Rows are dicts of plain Python values: a CSV
cell is always text, and NaN is None.
"""

from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from ...core.atomic_files import user_path
from ...core.errors import HeadwayError
from .reading.formats import open_path
from .reading.hf_datasets import HUB_PREFIX, is_data_set, open_data_set, open_hub
from .reading.python_objects import open_object
from .rows import RowStream, Table


def read_table(source: Any, *, header: bool | None = None, limit: int | None = None) -> Table:
    """Reads all rows of a source into memory.

    Args:
        source: A path, "hub:NAME[:CONFIG][:SPLIT]", a folder written by `datasets.save_to_disk`, a `Table`, a list of
            dicts, a dict of lists, a pandas DataFrame or a `datasets.Dataset`.
        header: Whether the first row of a table names the columns. Default: inferred from the rows.
        limit: Maximum number of rows.

    Raises:
        HeadwayError: There is no such source, it cannot be read, it has no row, or a row is malformed.
    """
    if isinstance(source, Table) and limit is None:
        return source
    stream = stream_rows(source, header=header)
    places: list[int] = []
    rows: list[dict[str, Any]] = []
    columns = dict.fromkeys(stream.columns)
    for place, row in islice(stream, limit):
        places.append(place)
        rows.append(row)
        if len(row) > len(stream.columns):
            columns |= dict.fromkeys(row)
    if not rows:
        raise HeadwayError(f"{stream.source}: there are no rows. Give at least one.")
    if len(columns) > len(stream.columns):
        rows = [columns | row for row in rows]  # None in the rows that lack a column
    return replace(stream.table(rows, places), columns=tuple(columns))


def stream_rows(source: Any, *, header: bool | None = None) -> RowStream:
    """Opens any source of `read_table`; rows are read on demand, in constant memory.

    A JSON document (unlike JSON lines) is read as a whole. `columns` has the columns of the first rows only; a later
    row of JSON lines may have more.

    Raises:
        HeadwayError: There is no such source, or its first rows cannot be read. While iterating: a row is malformed.
    """
    if isinstance(source, RowStream):
        return source
    if isinstance(source, Table):
        return RowStream(source.source, source.kind, source.columns, source.header, source.__iter__, source.unit)
    if isinstance(source, str) and source.startswith(HUB_PREFIX):
        return open_hub(source)
    if isinstance(source, str | Path):
        return open_path(user_path(source), header)
    if is_data_set(source):
        return open_data_set(source)
    return open_object(source)
