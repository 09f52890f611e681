"""Parquet files, read a thousand rows at a time."""

from collections.abc import Mapping
from typing import Any

from ....core.errors import HeadwayError
from ....core.extras import require
from ..places import shorten
from ..rows import Rows, RowStream
from .file_format import FileFormat, SourceFile
from .hf_datasets import named_row

BATCH_ROWS = 1000


def _open(file: SourceFile) -> RowStream:
    path = file.path
    require("datasets", f"{path}: reading Parquet")
    import pyarrow as pa
    import pyarrow.parquet as pq
    from datasets import Features

    def corrupt(error: Exception) -> HeadwayError:
        return HeadwayError(f"{path}: not a complete Parquet file ({shorten(error, 200)}). Write it again.")

    try:
        with pq.ParquetFile(path) as parquet:
            schema, num_rows = parquet.schema_arrow, parquet.metadata.num_rows
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise corrupt(error) from error
    if not num_rows:
        raise HeadwayError(f"{path}: the file is empty: it has no records. Give a file with at least one.")
    # Only `datasets` writes class names into the schema.
    has_class_names = b"huggingface" in (schema.metadata or {})
    try:
        features: Mapping[str, Any] = Features.from_arrow_schema(schema) if has_class_names else {}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise HeadwayError(
            f"{path}: the class names in its metadata are damaged ({shorten(error, 200)}). Write it again."
        ) from error

    def named(row: Mapping[str, Any], place: int) -> dict[str, Any]:
        try:
            return named_row(row, features)
        except (ValueError, TypeError) as error:  # of `datasets`: no name has this id, or the value is no id
            raise HeadwayError(
                f"{path}, record {place}: it does not fit the class names of the file ({shorten(error, 200)}). "
                "Write it again."
            ) from error

    def read() -> Rows:
        place = 0
        try:
            with pq.ParquetFile(path) as parquet:
                for batch in parquet.iter_batches(batch_size=BATCH_ROWS):
                    for row in batch.to_pylist():
                        place += 1
                        yield place, named(row, place)
        except (pa.ArrowException, OSError) as error:
            raise corrupt(error) from error
        except UnicodeDecodeError as error:
            raise HeadwayError(
                f"{path}, after record {place}: a text is not UTF-8 ({shorten(error, 200)}). Write it again."
            ) from error

    return RowStream(str(path), "Parquet", tuple(schema.names), True, read, "record")


PARQUET = FileFormat(
    lambda file: file.suffix == ".parquet",
    _open,
    frozenset({"decimal"}),
    title="Parquet",
    files="`.parquet`; a row is a record",
)
