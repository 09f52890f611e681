"""Data sets of the Hugging Face Hub and of the `datasets` library. The ids of a `ClassLabel` become names."""

import re
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from ....core.errors import HeadwayError
from ....core.extras import require
from ..features import IGNORE_INDEX
from ..rows import Rows, RowStream
from .file_format import FileFormat, SourceFile
from .python_objects import SOURCE, plain_value

if TYPE_CHECKING:
    from datasets import Dataset, Features, IterableDataset

HUB_PREFIX = "hub:"


def is_data_set(source: Any) -> bool:
    """Whether an object is a `Dataset` or `IterableDataset`; `datasets` is not imported for the test."""
    datasets = sys.modules.get("datasets")
    return datasets is not None and isinstance(source, datasets.Dataset | datasets.IterableDataset)


def open_data_set(data_set: "Dataset | IterableDataset", source: str = SOURCE) -> RowStream:
    """Opens a data set as a stream of rows."""
    features = data_set.features or {}
    # An IterableDataset may not know its columns; its first row has them.
    columns = tuple(data_set.column_names or next(iter(data_set), {}))

    def read() -> Rows:
        for number, row in enumerate(data_set, start=1):
            yield number, named_row(row, features)

    return RowStream(source, "rows", columns, True, read, "row")


def named_row(row: Mapping[str, Any], features: "Features | Mapping[str, Any]") -> dict[str, Any]:
    """A row as plain Python, with class names in place of class ids."""
    return {name: plain_value(_class_names(features.get(name), value)) for name, value in row.items()}


def _class_names(feature: Any, value: Any) -> Any:
    """Replaces class ids by class names at any depth.

    The id -1 means unlabelled. -100 in a list of tags is PyTorch's ignore_index, which the task interprets.
    """
    from datasets import ClassLabel, LargeList, List

    if isinstance(feature, ClassLabel) and isinstance(value, int):
        return None if value < 0 else feature.int2str(value)
    if isinstance(feature, List | LargeList) and value is not None:
        return [item if item == IGNORE_INDEX else _class_names(feature.feature, item) for item in value]
    if isinstance(feature, dict) and isinstance(value, Mapping):
        return {name: _class_names(feature.get(name), item) for name, item in value.items()}
    return value


# The Hub


def open_hub(source: str) -> RowStream:
    """Opens "hub:NAME[:CONFIG][:SPLIT]". Default split: "train", or the only one.

    Raises:
        HeadwayError: The data set cannot be loaded, or has several splits and none is named.
    """
    require("datasets", f"{source}: reading a data set of the Hub")
    from datasets.exceptions import DatasetsError
    from huggingface_hub.errors import (
        HTTPError,  # pyright: ignore[reportPrivateImportUsage]  # of httpx or httpx2, depending on the version
    )

    # A colon inside a slice, train[:100], is not a separator.
    name, *rest = re.split(r":(?![^\[]*\])", source.removeprefix(HUB_PREFIX))
    if not name or len(rest) > 2:
        raise HeadwayError(
            f"{source}: not the name of a data set. Write hub:NAME, hub:NAME:SPLIT or hub:NAME:CONFIG:SPLIT."
        )
    try:
        loaded = _load(name, rest)
    except (HTTPError, ConnectionError) as error:
        raise _not_loaded(
            source,
            error,
            "Check the name and try again with a connection, or with HF_TOKEN if access is denied; "
            "a data set that was loaded before is read from the cache.",
        ) from error
    except RuntimeError as error:
        if "Dataset scripts" not in str(error):
            raise
        raise _not_loaded(
            source, error, "It is a Python script, which Headway does not run: choose a copy in Parquet, CSV or JSON."
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
    """Loads a data set. `rest` is empty, a configuration, a split, or a configuration and a split."""
    from datasets import get_dataset_config_names, load_dataset

    if len(rest) != 1:
        config, split = rest or (None, None)
        return load_dataset(name, config, split=split)
    config_or_split = rest[0]
    if config_or_split in get_dataset_config_names(name):
        return load_dataset(name, config_or_split)
    try:
        return load_dataset(name, split=config_or_split)
    except ValueError as error:
        # Offline, the names of the configurations are unknown, but the cache may have one.
        try:
            return load_dataset(name, config_or_split)
        except ValueError:
            raise error from None


def _not_loaded(source: str, error: Exception, fix: str) -> HeadwayError:
    from datasets.exceptions import DatasetGenerationError

    # The message of a DatasetGenerationError is generic; its cause says what failed.
    cause = error.__cause__ if isinstance(error, DatasetGenerationError) and error.__cause__ else error
    reason = " ".join(str(cause).split()).rstrip(".") or type(cause).__name__
    return HeadwayError(f"{source}: cannot be loaded ({reason}). {fix}")


# Folders written by `datasets.save_to_disk`


def _is_saved(folder: SourceFile) -> bool:
    return (folder.path / "state.json").is_file() or (folder.path / "dataset_dict.json").is_file()


def _open_saved(folder: SourceFile) -> RowStream:
    path = folder.path
    require("datasets", f"{path}: reading a folder of the datasets library")
    from datasets import load_from_disk

    try:
        loaded = load_from_disk(str(path))
    except (OSError, ValueError, KeyError) as error:
        raise HeadwayError(f"{path}: a corrupt data set ({error}). Save it again with save_to_disk.") from error
    return _open_split(str(path), loaded, lambda split: str(path / split))


SAVED_DATA_SET = FileFormat(
    _is_saved,
    _open_saved,
    frozenset({"decimal"}),
    title="datasets",
    files="A folder that `datasets.save_to_disk` wrote (extra `datasets`)",
)


def _open_split(source: str, loaded: Any, name_split: Callable[[str], str]) -> RowStream:
    """Opens a data set; of several splits "train", or the only one."""
    if not isinstance(loaded, Mapping):
        return open_data_set(loaded, source)
    split = "train" if "train" in loaded else next(iter(loaded)) if len(loaded) == 1 else None
    if split is None:
        splits = ", ".join(name_split(one) for one in loaded)
        raise HeadwayError(f"{source}: the data set has several splits. Name one: {splits}.")
    return open_data_set(loaded[split], name_split(split))
