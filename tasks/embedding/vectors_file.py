"""Writes vectors to a file in chunks, and reads them: NumPy's .npy, Parquet, or JSON lines.

A .npy file (https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html) has the vectors only, one for each
row of the data, in order; the other formats also have the columns of the rows.

Shapes: N rows, D size of a vector.
"""

import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from tokenize import TokenError
from types import TracebackType
from typing import Any, Self

import numpy as np

from ...core.atomic_files import atomic_file, new_path, user_path
from ...core.errors import HeadwayError
from ...core.extras import require
from ..data.reading.json_files import JSON_LINES_SUFFIXES
from ..data.write import with_prediction

ENDINGS = (".npy", ".parquet", *JSON_LINES_SUFFIXES)
COLUMN = "vector"


class VectorsWriter:
    """Writes vectors in chunks, with their rows if the format has columns. A failed write leaves no file.

        with VectorsWriter(path, size=384) as writer:
            writer.write(rows, vectors)

    Args:
        path: its suffix selects the format.
        size: of a vector, D.
        overwrite: whether to replace an existing file.

    Raises:
        HeadwayError: the suffix is unknown, the file exists and `overwrite` is False, it cannot be written, or a row
            does not fit into the format, or pyarrow is not installed.
    """

    def __init__(self, path: str | Path, size: int, overwrite: bool = False) -> None:
        self.path = new_path(path)
        self.size = size
        self.overwrite = overwrite
        self.written = 0
        self._ending = self.path.suffix.lower()
        self._parquet: Any = None
        if self._ending not in ENDINGS:
            raise HeadwayError(f"{self.path}: vectors are written as {', '.join(ENDINGS)}. Use one of these suffixes.")
        if self._ending == ".parquet":
            require("datasets", f"{self.path}: writing Parquet")

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._file = stack.enter_context(stack.enter_context(atomic_file(self.path, self.overwrite)).open("wb"))
            self._write_header()
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        if kind is not None:
            return self._stack.__exit__(kind, error, trace)
        with self._stack:
            if self._parquet is None and self._ending == ".parquet":
                raise HeadwayError(f"{self.path}: there is no row to write. Give data with at least one row.")
            self._write_header()
        return None

    def write(self, rows: Sequence[Mapping[str, Any]], vectors: np.ndarray) -> None:
        """Writes some rows with their columns, and their vectors, (n, D)."""
        vectors = np.ascontiguousarray(vectors, dtype="<f4")
        self.written += len(vectors)
        if self._ending == ".npy":
            self._file.write(vectors.data)
        elif self._ending == ".parquet":
            self._write_parquet(rows, vectors)
        else:
            for row, vector in zip(rows, vectors.tolist(), strict=True):
                line = json.dumps(with_prediction(row, {COLUMN: vector}), ensure_ascii=False, default=str)
                self._file.write(line.encode() + b"\n")

    def _write_header(self) -> None:
        """Writes the header of .npy: first as a placeholder, and again once the number of rows is known."""
        if self._ending == ".npy":
            self._file.seek(0)
            shape = (self.written, self.size)
            np.lib.format.write_array_header_1_0(self._file, {"descr": "<f4", "fortran_order": False, "shape": shape})

    def _write_parquet(self, rows: Sequence[Mapping[str, Any]], vectors: np.ndarray) -> None:
        import pyarrow
        from pyarrow import parquet

        flat = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(vectors.ravel()), self.size)
        try:
            schema = None if self._parquet is None else self._schema
            table = pyarrow.Table.from_pylist([dict(row) for row in rows], schema=schema)
        except (pyarrow.ArrowInvalid, pyarrow.ArrowTypeError) as error:
            raise HeadwayError(
                f"{self.path}: rows {self.written - len(rows) + 1} to {self.written} do not fit into the columns of "
                f"the first rows ({error}). Write .jsonl instead."
            ) from error
        name = COLUMN
        while name in table.column_names:
            name = f"predicted_{name}"
        whole = table.append_column(name, flat)
        if self._parquet is None:
            self._schema = table.schema
            self._parquet = self._stack.enter_context(parquet.ParquetWriter(self._file, whole.schema))
        self._parquet.write_table(whole)


def read_vectors(path: str | Path) -> np.ndarray:
    """Opens the vectors of a .npy file, (N, D), memory-mapped.

    Raises:
        HeadwayError: the file does not exist or is not a .npy file of vectors.
    """
    path = user_path(path)
    if path.suffix.lower() != ".npy":
        raise HeadwayError(
            f"{path}: vectors are read from .npy files (headway embed MODEL --data FILE --output v.npy)."
        )
    try:
        vectors = np.load(path, mmap_mode="r")
    except FileNotFoundError as error:
        raise HeadwayError(f"There is no file {path}. Check the path.") from error
    except (ValueError, EOFError, OSError, TokenError) as error:  # TokenError: a damaged header
        raise HeadwayError(
            f"{path} is damaged or not a .npy file ({error}). Write it again with headway embed."
        ) from error
    if vectors.ndim != 2 or vectors.dtype.kind != "f":
        raise HeadwayError(
            f"{path} has a {vectors.ndim}-dimensional array of {vectors.dtype}, not vectors. Name another file."
        )
    return vectors
