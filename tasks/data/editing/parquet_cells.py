"""Values of Parquet files."""

import io
from collections.abc import Mapping
from typing import Any

from ....core.errors import HeadwayError
from ..places import shorten
from ..reading.file_format import SourceFile
from ..rows import Table


def edit_parquet(file: SourceFile, table: Table, edits: Mapping[int, Mapping[str, Any]]) -> bytes:  # noqa: ARG001
    """A file with new values, and the same schema, metadata, compression and row groups.

    Raises:
        HeadwayError: a value does not fit the type of its column, or is not one of its class names.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq
    from datasets import Features

    with pq.ParquetFile(file.path) as parquet:
        content, metadata = parquet.read(), parquet.metadata
        compression = metadata.row_group(0).column(0).compression
        group_rows = metadata.row_group(0).num_rows
    schema = content.schema
    features: Any = Features.from_arrow_schema(schema) if b"huggingface" in (schema.metadata or {}) else {}
    for name in dict.fromkeys(name for row in edits.values() for name in row):
        own: Any = Features({name: features[name]}) if features else None
        values = content[name].to_pylist()
        try:
            for place, row in edits.items():
                if name in row:
                    values[place - 1] = row[name] if own is None else own.encode_example({name: row[name]})[name]
            column = pa.array(values, type=schema.field(name).type)
        except (pa.ArrowException, ValueError, TypeError) as error:  # the last two: of `datasets`
            raise HeadwayError(
                f'{file.path}: a new value does not fit column "{name}" ({shorten(error, 200)}). Use one of its '
                "labels."
            ) from error
        content = content.set_column(schema.get_field_index(name), schema.field(name), column)
    written = io.BytesIO()
    pq.write_table(content, written, compression=compression, row_group_size=group_rows)
    return written.getvalue()
