"""People's data -> a table, or a stream of rows for what is larger than memory; and predictions -> a file.

One way in for every source. The rooms of `reading` know the formats: text files (`tables`), JSON (`json_files`), and
what Python's libraries hold (`libraries`: Parquet, the Hub, DataFrames, lists and dicts). Rows are dicts of plain
Python values: a CSV cell is always text, NaN is None.
"""

import hashlib
import json
from itertools import islice
from pathlib import Path
from typing import Any

from ...core.atomic_files import user_path
from ...core.errors import HeadwayError
from .reading.json_files import LINES_ENDINGS, looks_like_json, open_json
from .reading.libraries import open_hub, open_object, open_parquet, open_saved
from .reading.lines import find_file, refuse_binary, take_sample
from .reading.tables import open_text
from .rows import RowStream, Table


def read_table(source: Any, *, header: bool | None = None, limit: int | None = None) -> Table:
    """Reads a whole source into memory.

    Args:
        source: a path, "hub:NAME[:CONFIG][:SPLIT]", a folder written by `datasets.save_to_disk`, a Table, a list of
            dicts, a dict of lists, a pandas DataFrame or a `datasets.Dataset`.
        header: whether a table's first row names the columns; None: told from the rows.
        limit: read no more rows than this.

    Raises:
        HeadwayError: there is no such source, it cannot be read, holds no row, or a row is broken.
    """
    if isinstance(source, Table) and limit is None:
        return source
    stream = stream_rows(source, header=header)
    places: list[int] = []
    rows: list[dict[str, Any]] = []
    for place, row in islice(stream, limit):
        places.append(place)
        rows.append(row)
    if not rows:
        raise HeadwayError(f"{stream.source}: no rows in it. Give at least one.")
    columns = dict.fromkeys(stream.columns)
    for row in rows:
        if len(row) > len(stream.columns):
            columns |= dict.fromkeys(row)
    if len(columns) > len(stream.columns):
        rows = [columns | row for row in rows]  # the columns that rows further down have are None in the others
    return Table(stream.source, stream.kind, tuple(columns), stream.header, rows, places)


def stream_rows(source: Any, *, header: bool | None = None) -> RowStream:
    """Opens any source that `read_table` takes; rows are read while they are asked for, in constant memory.

    Only a JSON document (not JSON lines) is held as a whole. A column of JSON lines that the first lines do not have
    is in the rows alone.

    Raises:
        HeadwayError: there is no such source or its beginning cannot be read; while iterating, a row is broken.
    """
    if isinstance(source, str | Path):
        return _open_named(source, header)
    if isinstance(source, RowStream):
        return source
    if isinstance(source, Table):
        return RowStream(source.source, source.kind, source.columns, source.header, source.__iter__)
    return open_object(source)


def _open_named(source: str | Path, header: bool | None) -> RowStream:
    if isinstance(source, str) and source.startswith("hub:"):
        return open_hub(source)
    path = user_path(source)
    if (path / "state.json").is_file() or (path / "dataset_dict.json").is_file():
        return open_saved(path)
    find_file(path)
    endings = [ending.lower() for ending in path.suffixes]
    if endings and endings[-1] in (".gz", ".xz"):
        endings.pop()
    ending = endings[-1] if endings else ""
    if ending == ".parquet":
        return open_parquet(path)
    refuse_binary(path)
    if ending == ".json" or ending in LINES_ENDINGS:
        return open_json(path, ending)
    if ending not in (".csv", ".tsv", ".tab") and looks_like_json(take_sample(path)):
        return open_json(path, ending)
    return open_text(path, ending, header)


# Out again


def fingerprint(table: Table) -> str:
    """The first 16 hex digits of the SHA-256 of a table's columns and cells: the same wherever it was read from."""
    digest = hashlib.sha256(json.dumps(table.columns).encode())
    for row in table.rows:
        digest.update(b"\n" + json.dumps([row[name] for name in table.columns], default=str).encode())
    return digest.hexdigest()[:16]


# One file in two
