"""People's data -> a table, or a stream of rows for what is larger than memory; and predictions -> a file.

One way in for every source. The rooms of `reading` know the formats: text files (`tables`), JSON (`json_files`), and
what Python's libraries hold (`libraries`: Parquet, the Hub, DataFrames, lists and dicts). Rows are dicts of plain
Python values: a CSV cell is always text, NaN is None.
"""

import csv
import hashlib
import json
import random
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ..core.errors import HeadwayError
from ..core.folders import new_path, user_path, whole_file
from .reading.json_files import LINES_ENDINGS, looks_like_json, open_json
from .reading.libraries import open_hub, open_object, open_parquet, open_saved
from .reading.lines import find_file, name_place, refuse_binary, take_sample
from .reading.tables import Rows, RowStream, open_text


@dataclass(frozen=True)
class Table:
    """Rows held in memory, each with its place in the source."""

    source: str
    kind: str
    columns: tuple[str, ...]
    header: bool
    rows: list[dict[str, Any]]
    places: list[int]

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Rows:
        """Yields (place, row), as a RowStream does."""
        return zip(self.places, self.rows, strict=True)

    def where(self, row: int) -> str:
        """Names the place of a row, counted from 0, for messages: "train.tsv, line 12"."""
        return name_place(self.source, self.kind, self.places[row])


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


def with_prediction(row: Mapping[str, Any], prediction: Mapping[str, Any]) -> dict[str, Any]:
    """A row's own columns, then the prediction's; a name that the row has already gets "predicted_" before it."""
    whole = dict(row)
    for name, value in prediction.items():
        while name in whole:
            name = f"predicted_{name}"
        whole[name] = value
    return whole


class RowWriter:
    """Writes rows with their predictions beside them as they come; the file is whole or not there.

    The ending of `path` is the format: .jsonl (or .ndjson), .csv or .tsv. The input's columns come back untouched; a
    prediction's name that the input has already gets "predicted_" before it.

        with RowWriter(path, stream.columns) as writer:
            writer.write(row, {"label": "positive", "score": 0.97})

    Raises:
        HeadwayError: another ending, the file exists and `overwrite` is false, it cannot be written, or a row does
            not fit into the format.
    """

    def __init__(self, path: str | Path, columns: Sequence[str] = (), overwrite: bool = False) -> None:
        self.path = new_path(path)
        self.columns = tuple(columns)
        self.overwrite = overwrite
        self.written = 0
        self._header: tuple[str, ...] | None = None
        self._ending = self.path.suffix.lower()
        if self._ending not in (*LINES_ENDINGS, ".csv", ".tsv"):
            raise HeadwayError(f"{self.path}: rows are written as .jsonl, .csv or .tsv. Let the name end in one.")

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            unfinished = stack.enter_context(whole_file(self.path, self.overwrite))
            self._file = stack.enter_context(unfinished.open("w", encoding="utf-8", newline=""))
            self._csv = csv.writer(self._file)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return self._stack.__exit__(kind, error, trace)

    def write(self, row: Mapping[str, Any], prediction: Mapping[str, Any] | None = None) -> None:
        """Adds one row: its own columns, then the prediction's."""
        whole = with_prediction({**dict.fromkeys(self.columns), **row}, prediction or {})
        self.written += 1
        if self._ending in LINES_ENDINGS:
            self._file.write(json.dumps(whole, ensure_ascii=False, default=str) + "\n")
            return
        if self._header is None:
            self._header = tuple(whole)
            self._write_cells(list(self._header))
        unknown = [name for name in whole if name not in self._header]
        if unknown:
            raise HeadwayError(
                f'{self.path}: row {self.written} has a column "{unknown[0]}" that the first row does not have, '
                "which a table cannot hold. Let the file's name end in .jsonl."
            )
        self._write_cells([_cell(whole.get(name)) for name in self._header])

    def _write_cells(self, cells: list[str]) -> None:
        if self._ending == ".csv":
            self._csv.writerow(cells)
            return
        for cell in cells:
            if any(sign in cell for sign in "\t\r\n"):
                raise HeadwayError(
                    f"{self.path}: row {self.written} has a text with a TAB or a line break in it, which a TSV cannot "
                    "hold. Let the file's name end in .csv or .jsonl."
                )
        self._file.write("\t".join(cells) + "\n")


def _cell(value: Any) -> str:
    """A value as a cell of a table: text as it is, nothing for None, JSON for everything else."""
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def fingerprint(table: Table) -> str:
    """The first 16 hex digits of the SHA-256 of a table's columns and cells: the same wherever it was read from."""
    digest = hashlib.sha256(json.dumps(table.columns).encode())
    for row in table.rows:
        digest.update(b"\n" + json.dumps([row[name] for name in table.columns], default=str).encode())
    return digest.hexdigest()[:16]


# One file in two


def split_rows(
    labels: Sequence[Hashable | None],
    fraction: float,
    seed: int,
    groups: Sequence[Hashable | None] | None = None,
) -> tuple[list[int], list[int]]:
    """Splits rows in two with each label's share kept as well as whole rows allow: (train, evaluation) positions.

    Args:
        labels: one for each row; None: unlabelled. Where most labels occur once (measured numbers), those are
            split like one class; elsewhere a label that occurs once stays in train.
        fraction: the part for evaluation, above 0 and below 1; less is taken where train would lose a class.
        seed: the same seed gives the same split everywhere.
        groups: one for each row: rows with the same one stay together; None: a row by itself. Where all stay
            together, or any group would take a class from train, nothing is held out.

    Raises:
        HeadwayError: there are fewer than two rows.
    """
    if not 0 < fraction < 1:
        raise ValueError(f"fraction must lie between 0 and 1, not {fraction}")
    if len(labels) < 2:
        raise HeadwayError("One row cannot be split into train and evaluation. Give more rows, or --eval-data.")
    together: dict[Hashable, list[int]] = {}
    for row in range(len(labels)):
        group = None if groups is None else groups[row]
        together.setdefault((group, row if group is None else None), []).append(row)
    chance = random.Random(seed)
    alone = len(together) == len(labels)
    chosen = _choose_rows(labels, fraction, chance) if alone else _choose_groups(labels, fraction, chance, together)
    return [row for row in range(len(labels)) if row not in chosen], sorted(chosen)


def _choose_rows(labels: Sequence[Hashable | None], fraction: float, chance: random.Random) -> set[int]:
    classes, kept = _rows_by_class(labels)
    wanted = max(1, round(len(labels) * fraction))
    shares = [min(int(len(rows) * fraction), len(rows) - keep) for rows, keep in zip(classes, kept, strict=True)]
    # What rounding down left over goes where it was cut most, as votes become seats by largest remainder.
    by_remainder = sorted(range(len(classes)), key=lambda one: (-(len(classes[one]) * fraction % 1), one))
    while sum(shares) < wanted:
        open_classes = [one for one in by_remainder if shares[one] < len(classes[one]) - kept[one]]
        if not open_classes:
            break
        for one in open_classes[: wanted - sum(shares)]:
            shares[one] += 1
    return {row for rows, share in zip(classes, shares, strict=True) for row in chance.sample(rows, share)}


def _choose_groups(
    labels: Sequence[Hashable | None], fraction: float, chance: random.Random, together: Mapping[Hashable, list[int]]
) -> set[int]:
    """Whole groups in a random order, each if it brings the labels nearer to their shares; or else the smallest."""
    counts = Counter(labels)
    groups = [(rows, Counter(labels[row] for row in rows)) for rows in together.values()]
    chance.shuffle(groups)
    chosen: list[int] = []
    taken: Counter[Hashable | None] = Counter()

    def is_spare(here: Counter[Hashable | None]) -> bool:
        return all(counts[label] - taken[label] > count for label, count in here.items())

    for rows, here in groups:
        # The squared distances from the shares: with these rows, less without them.
        missing = {label: counts[label] * fraction - taken[label] for label in here}
        change = sum(count * (count - 2 * missing[label]) for label, count in here.items())
        if change < 0 and is_spare(here):
            chosen += rows
            taken += here
    return set(chosen or min((rows for rows, here in groups if is_spare(here)), key=len, default=[]))


def _rows_by_class(labels: Sequence[Hashable | None]) -> tuple[list[list[int]], list[int]]:
    """The rows of each label, and how many of them must stay in train."""
    by_label: dict[Hashable, list[int]] = {}
    for row, label in enumerate(labels):
        by_label.setdefault(label, []).append(row)
    unlabelled = by_label.pop(None, [])
    single = [rows[0] for rows in by_label.values() if len(rows) == 1]
    classes = [rows for rows in by_label.values() if len(rows) > 1]
    kept = [1] * len(classes)
    loose = unlabelled + (single if 2 * len(single) > len(labels) - len(unlabelled) else [])
    if loose:
        classes.append(loose)
        kept.append(0 if classes[:-1] else 1)
    return classes, kept
