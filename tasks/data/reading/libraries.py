"""Data that Python's libraries hold -> a stream of rows: lists and dicts, DataFrames, `datasets`, Parquet.

pandas, datasets and pyarrow are imported only where such data comes in. The ids of a `ClassLabel` become its names.
"""

import datetime
import re
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ....core.errors import HeadwayError
from ..features import IGNORE_INDEX
from ..places import format_place
from ..rows import Rows, RowStream

if TYPE_CHECKING:
    import pandas as pd
    from datasets import Dataset, Features, IterableDataset

GIVEN = "the rows given"


def open_object(source: Any) -> RowStream:
    """Opens a list of dicts, a dict of lists, a DataFrame or a `datasets.Dataset` as a stream of rows.

    Raises:
        HeadwayError: it is none of these, is empty, or its rows or columns do not fit together.
    """
    # An object of a library can only come in where that library has been imported already.
    pandas, datasets = sys.modules.get("pandas"), sys.modules.get("datasets")
    if pandas is not None and isinstance(source, pandas.DataFrame):
        return _open_frame(source)
    if datasets is not None and isinstance(source, datasets.Dataset | datasets.IterableDataset):
        return _open_data_set(GIVEN, source)
    if isinstance(source, Mapping) and source and all(_is_column(values) for values in source.values()):
        return _open_rows(_rows_by_column(source))
    if isinstance(source, Sequence):
        return _open_rows(source)
    raise HeadwayError(
        f"{GIVEN}: {type(source).__name__} is no table. "
        "Give a file name, a list of dicts, a dict of lists, a DataFrame or one split of a data set."
    )


# Rows in memory


def plain_value(value: Any) -> Any:
    """A cell as plain Python: NumPy's values as numbers and lists, dates as ISO 8601 text, NaN and NaT as None."""
    if value is None or type(value) in (str, int, bool):
        return value
    if isinstance(value, Mapping):
        return {str(name): plain_value(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain_value(one) for one in value]
    if hasattr(value, "tolist"):
        return plain_value(value.tolist())
    if type(value).__name__ in ("NAType", "NaTType"):
        return None
    if isinstance(value, float | Decimal):
        number = float(value)
        return None if number != number else number
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    return value


def _is_column(values: Any) -> bool:
    return hasattr(values, "tolist") or (isinstance(values, Sequence) and not isinstance(values, str))


def _rows_by_column(columns: Mapping[Any, Any]) -> list[dict[str, Any]]:
    lengths = {str(name): len(values) for name, values in columns.items()}
    if len(set(lengths.values())) > 1:
        shown = ", ".join(f"{name}: {length}" for name, length in lengths.items())
        raise HeadwayError(f"{GIVEN}: the columns are not equally long ({shown}). Fill the shorter ones.")
    return [dict(zip(lengths, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def _open_rows(given: Sequence[Any]) -> RowStream:
    for number, row in enumerate(given, start=1):
        if not isinstance(row, Mapping):
            raise HeadwayError(
                f"{format_place(GIVEN, 'rows', number)}: {type(row).__name__} where a dict is expected. "
                'Write {"text": "...", "label": "..."}.'
            )
    if not given:
        raise HeadwayError(f"{GIVEN}: there are none. Give at least one.")
    columns = tuple(dict.fromkeys(str(name) for row in given for name in row))

    def read() -> Rows:
        for number, row in enumerate(given, start=1):
            yield number, dict.fromkeys(columns) | plain_value(row)

    return RowStream(GIVEN, "rows", columns, True, read)


def _open_frame(frame: "pd.DataFrame") -> RowStream:
    columns = tuple(str(name) for name in frame.columns)
    twice = [name for name, times in Counter(columns).items() if times > 1]
    if twice:
        raise HeadwayError(f'{GIVEN}: the DataFrame has the column "{twice[0]}" twice. Rename one of them.')

    def read() -> Rows:
        for number, cells in enumerate(frame.itertuples(index=False, name=None), start=1):
            yield number, {name: plain_value(cell) for name, cell in zip(columns, cells, strict=True)}

    return RowStream(GIVEN, "rows", columns, True, read)


# Data sets of the Hub and their files


def _open_data_set(source: str, data_set: "Dataset | IterableDataset") -> RowStream:
    features = data_set.features or {}
    # A stream that has not been looked into does not know its columns: its first row does.
    columns = tuple(data_set.column_names or next(iter(data_set), {}))

    def read() -> Rows:
        for number, row in enumerate(data_set, start=1):
            yield number, _named_row(row, features)

    return RowStream(source, "rows", columns, True, read)


def _named_row(row: Mapping[str, Any], features: "Features | Mapping[str, Any]") -> dict[str, Any]:
    return {name: plain_value(_named(features.get(name), value)) for name, value in row.items()}


def _named(feature: Any, value: Any) -> Any:
    """`value` with the names of its classes in the place of their ids, however deep.

    -1 means unlabelled; -100 in a list of tags is PyTorch's ignore_index, and left for whoever reads the tags.
    """
    from datasets import ClassLabel, LargeList, List

    if isinstance(feature, ClassLabel) and isinstance(value, int):
        return None if value < 0 else feature.int2str(value)
    if isinstance(feature, List | LargeList) and value is not None:
        return [one if one == IGNORE_INDEX else _named(feature.feature, one) for one in value]
    if isinstance(feature, dict) and isinstance(value, Mapping):
        return {name: _named(feature.get(name), one) for name, one in value.items()}
    return value


def open_hub(source: str) -> RowStream:
    """Opens "hub:NAME[:CONFIG][:SPLIT]" through `datasets`; without a split `train`, or the only one."""
    from datasets.exceptions import DatasetsError
    from huggingface_hub.errors import (
        HTTPError,  # pyright: ignore[reportPrivateImportUsage]  # httpx's or httpx2's, whichever this version uses
    )

    # The colons inside a slice, train[:100], separate nothing.
    name, *rest = re.split(r":(?![^\[]*\])", source.removeprefix("hub:"))
    if not name or len(rest) > 2:
        raise HeadwayError(
            f"{source}: not a data set's name. Write hub:NAME, hub:NAME:SPLIT or hub:NAME:CONFIG:SPLIT."
        )
    try:
        loaded = _load(name, rest)
    except (HTTPError, ConnectionError) as error:
        raise _not_loaded(
            source,
            error,
            "Check the name and try again with a connection, or with HF_TOKEN if the Hub refuses; "
            "a data set that was loaded before comes from the cache.",
        ) from error
    except RuntimeError as error:
        if "Dataset scripts" not in str(error):
            raise
        raise _not_loaded(
            source, error, "It comes as a program, which is not run: choose a copy of it in Parquet, CSV or JSON."
        ) from error
    except (OSError, ValueError, DatasetsError) as error:
        raise _not_loaded(
            source,
            error,
            "Check the name, the configuration and the split (hub:NAME:CONFIG:SPLIT); "
            "a private or gated data set needs HF_TOKEN.",
        ) from error
    return _open_split(source, loaded, lambda split: f"{source}:{split}")


def _load(name: str, rest: list[str]) -> Any:
    """Loads a data set by its name and what comes after it: nothing, a configuration, a split, or both."""
    from datasets import get_dataset_config_names, load_dataset

    if len(rest) != 1:
        config, split = rest or (None, None)
        return load_dataset(name, config, split=split)
    either = rest[0]
    if either in get_dataset_config_names(name):
        return load_dataset(name, either)
    try:
        return load_dataset(name, split=either)
    except ValueError as error:
        # Without the Hub the configurations are not known by name, but one may be in the cache.
        try:
            return load_dataset(name, either)
        except ValueError:
            raise error from None


def _not_loaded(source: str, error: Exception, mend: str) -> HeadwayError:
    from datasets.exceptions import DatasetGenerationError

    # That one says only that something went wrong; what went wrong is its cause.
    known = error.__cause__ if isinstance(error, DatasetGenerationError) and error.__cause__ else error
    why = " ".join(str(known).split()).rstrip(".") or type(known).__name__
    return HeadwayError(f"{source}: cannot be loaded ({why}). {mend}")


def open_saved(path: Path) -> RowStream:
    """Opens a folder that `datasets.save_to_disk` wrote."""
    from datasets import load_from_disk

    try:
        loaded = load_from_disk(str(path))
    except (OSError, ValueError, KeyError) as error:
        raise HeadwayError(f"{path}: a broken data set ({error}). Save it again with save_to_disk.") from error
    return _open_split(str(path), loaded, lambda split: str(path / split))


def _open_split(source: str, loaded: Any, name_split: Callable[[str], str]) -> RowStream:
    """The rows of a data set; of several splits `train`, or the only one."""
    if not isinstance(loaded, Mapping):
        return _open_data_set(source, loaded)
    split = "train" if "train" in loaded else next(iter(loaded)) if len(loaded) == 1 else None
    if split is None:
        splits = ", ".join(name_split(one) for one in loaded)
        raise HeadwayError(f"{source}: several splits. Say which: {splits}.")
    return _open_data_set(name_split(split), loaded[split])


def open_parquet(path: Path) -> RowStream:
    """Opens a Parquet file, which is read a thousand rows at a time."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    from datasets import Features

    def broken(error: Exception) -> HeadwayError:
        return HeadwayError(f"{path}: not a whole Parquet file ({error}). Write it again.")

    try:
        with pq.ParquetFile(path) as file:
            schema, rows = file.schema_arrow, file.metadata.num_rows
    except (pa.ArrowInvalid, OSError) as error:
        raise broken(error) from error
    if not rows:
        raise HeadwayError(f"{path}: the file is empty: it holds no records. Give a file with at least one.")
    # `datasets` writes its class names into the schema; other writers' columns have none.
    has_names = b"huggingface" in (schema.metadata or {})
    features: Mapping[str, Any] = Features.from_arrow_schema(schema) if has_names else {}

    def read() -> Rows:
        place = 0
        try:
            with pq.ParquetFile(path) as file:
                for batch in file.iter_batches(batch_size=1000):
                    for row in batch.to_pylist():
                        place += 1
                        yield place, _named_row(row, features)
        except (pa.ArrowInvalid, OSError) as error:
            raise broken(error) from error

    return RowStream(str(path), "Parquet", tuple(schema.names), True, read)
