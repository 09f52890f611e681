"""Reads data from any source as a table, or as a stream of rows if it is larger than memory.

The formats are in `reading`: `formats` lists those of files and folders. Rows are dicts of plain Python values: a CSV
cell is always text, and NaN is None.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from ...core.atomic_files import user_path
from ...core.errors import HeadwayError
from .html_entities import decode_html
from .read_options import INFER, ReadOptions
from .reading.file_format import SourceFile
from .reading.formats import find_format, open_path
from .reading.hf_datasets import HUB_PREFIX, is_data_set, open_data_set, open_hub
from .reading.python_objects import SOURCE, open_object
from .reading.word_rows import join_words
from .row_places import Places
from .rows import RowStream, Table
from .spool import spool

DECIMAL_ONLY = frozenset({"decimal"})
SHARED_CHARACTERS, SHARED_CELLS = 40, 10_000  # equal cells that are short are one object: labels, for example


def read_table(
    source: Any,
    options: ReadOptions = INFER,
    *,
    limit: int | None = None,
    folder: Path | None = None,
    **reading: Any,
) -> Table:
    """Reads all rows of a source.

    Args:
        source: A path, "hub:NAME[:CONFIG][:SPLIT]", a folder written by `datasets.save_to_disk`, a `Table`, a list of
            dicts, a dict of lists, a pandas DataFrame or a `datasets.Dataset`.
        options: How to read a file.
        limit: Maximum number of rows.
        folder: For the file that many rows are kept in, as long as the table is used; None: they stay in memory.
        **reading: Fields of `ReadOptions`, in place of those of `options`: header=True, encoding="cp1252", ...

    Raises:
        HeadwayError: There is no such source, it cannot be read, it has no row, or a row is malformed.
    """
    if isinstance(source, Table) and limit is None:
        return source
    stream = stream_rows(source, options, **reading)
    places = Places()
    columns = dict.fromkeys(stream.columns)

    def read() -> Iterator[dict[str, Any]]:
        for place, row in islice(stream, limit):
            places.append(place)
            if len(row) > len(stream.columns):
                columns.update(dict.fromkeys(row))
            yield row

    rows = spool(_with_shared_cells(read()), folder and folder / "rows")
    if not rows:
        raise HeadwayError(f"{stream.source}: there are no rows. Give at least one.")
    if len(columns) > len(stream.columns):  # None in the rows that lack a column
        rows = spool((columns | row for row in rows), folder and folder / "complete-rows")
    table = stream.table(rows, list(places) if isinstance(rows, list) else places.compact())
    return replace(table, columns=tuple(columns))


def _with_shared_cells(rows: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    shared: dict[str, str] = {}
    for row in rows:
        yield {
            name: shared.setdefault(cell, cell) if isinstance(cell, str) and len(cell) <= SHARED_CHARACTERS else cell
            for name, cell in row.items()
        }
        if len(shared) > SHARED_CELLS:
            shared.clear()


def stream_rows(source: Any, options: ReadOptions = INFER, **reading: Any) -> RowStream:
    """Opens any source of `read_table`; rows are read on demand, in constant memory.

    A JSON document (unlike JSON lines) is read as a whole. `columns` has the columns of the first rows only; a later
    row of JSON lines may have more.

    Raises:
        HeadwayError: There is no such source, or its first rows cannot be read. While iterating: a row is malformed.
    """
    if isinstance(source, RowStream):
        return source
    if isinstance(source, Table):
        return source.stream()
    options = replace(options, **reading)
    if isinstance(source, str | Path) and not str(source).startswith(HUB_PREFIX):
        stream = open_path(user_path(source), options)
    else:
        where = source if isinstance(source, str) else SOURCE
        options.refuse_unused(where, "rows that are not in a file", DECIMAL_ONLY)
        stream = _open(source)
    stream = replace(stream, decimal=options.decimal, strict=bool(options.strict))
    return join_words(decode_html(stream) if options.decode_html else stream, options.join_words)


def options_by_source(options: ReadOptions, sources: Sequence[Any]) -> list[ReadOptions]:
    """The options for each of several sources: one that only some of them use is left out for the others.

    An option that no source uses stays, so that reading refuses it.

    Args:
        options: For all sources.
        sources: Anything that `read_table` reads.

    Raises:
        HeadwayError: A file is missing or empty, or is not a text file in a known encoding.
    """
    if len(sources) < 2 or not options.given:
        return [options] * len(sources)
    used = [_used_options(source, options) for source in sources]
    found = []
    for own in used:
        others = frozenset[str]().union(*used) - own
        found.append(replace(options, **{name: None for name in options.given if name in others}))
    return found


def _used_options(source: Any, options: ReadOptions) -> frozenset[str]:
    if isinstance(source, str | Path) and not str(source).startswith(HUB_PREFIX):
        return find_format(SourceFile(user_path(source), options)).options
    return DECIMAL_ONLY


def _open(source: Any) -> RowStream:
    if is_data_set(source):
        return open_data_set(source)
    return open_hub(source) if isinstance(source, str) else open_object(source)
