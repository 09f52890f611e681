"""Reads the JSON and weight files of a model folder without running code from them.

safetensors files are mapped into memory; a `.bin` is read by torch's weights-only reader.
"""

import json
import pickle
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import HeadwayError

if TYPE_CHECKING:  # imported where tensors are read: the hub and the tokenizer work without torch
    import torch
    from torch import Tensor


class WeightFileNames(NamedTuple):
    """The file names of a weight format."""

    single_file: str
    index_file: str
    shard_pattern: str


SAFETENSORS = WeightFileNames("model.safetensors", "model.safetensors.index.json", "model-*-of-*.safetensors")
PICKLES = WeightFileNames("pytorch_model.bin", "pytorch_model.bin.index.json", "pytorch_model-*-of-*.bin")


def read_json(path: Path) -> dict[str, Any]:
    """Reads a JSON object.

    Raises:
        HeadwayError: the file cannot be read, is not JSON, or holds something else than an object.
    """
    content = read_json_value(path)
    if not isinstance(content, dict):
        kind = type(content).__name__
        raise HeadwayError(f"{path} holds a {kind} instead of an object {{...}}. Copy the file again from its source.")
    return content


def read_json_value(path: Path) -> Any:
    """Reads any JSON.

    Raises:
        HeadwayError: the file cannot be read, is not JSON, or has a text that is not Unicode.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        json.dumps(content, ensure_ascii=False).encode()  # fails at half of a surrogate pair
    except OSError as error:
        raise _unreadable(path, error) from error
    except UnicodeError as error:
        raise HeadwayError(
            f"{path} is not a text file in UTF-8. Copy the model folder again from its source."
        ) from error
    except json.JSONDecodeError as error:
        raise HeadwayError(
            f"{path}, line {error.lineno}: not valid JSON ({error.msg}). Copy the file again from its source."
        ) from error
    except (ValueError, RecursionError) as error:  # a number of thousands of digits; brackets nested as deep
        raise HeadwayError(f"{path} is not valid JSON ({error}). Copy the file again from its source.") from error
    return content


@dataclass(frozen=True, eq=False)
class StoredTensor:
    """A tensor in a file; from safetensors it is not in memory until `read` is called."""

    shape: tuple[int, ...]
    dtype: "torch.dtype"
    read: "Callable[[], Tensor]"  # raises HeadwayError if the file was replaced after it was opened
    place: str  # for messages

    def require_finite(self, value: "Tensor") -> None:
        """Raises HeadwayError if the tensor, whose value was read, holds NaN or infinity."""
        if not value.sum().isfinite() and not value.isfinite().all():  # the sum, which is faster, can overflow
            raise HeadwayError(
                f"{self.place} holds NaN or infinity instead of numbers: the training of the model failed. Copy or "
                "download the model again, or use an earlier version of it."
            )


@dataclass(frozen=True)
class WeightFiles:
    """The tensors of a model folder by their published names."""

    tensors: dict[str, StoredTensor]
    files: dict[str, Path]  # the file of each tensor
    source: Path  # the only weight file, or the folder: what a message names if a tensor is missing


def open_weights(folder: Path) -> WeightFiles:
    """Opens all weight files of a model folder: safetensors if there are any, otherwise a `.bin`; whole or in shards.

    Raises:
        HeadwayError: there are no weights, or a file is missing, damaged, or could run code.
    """
    paths = _weight_files(folder)
    if not paths:
        what_to_do = "Copy the missing file into it (TensorFlow and Flax weights are not supported)."
        if any(folder.glob("*.onnx")):
            what_to_do = "It is an ONNX export for other programs. Give the model folder that it was exported from."
        raise HeadwayError(f"{folder} holds no weights: neither model.safetensors nor pytorch_model.bin. {what_to_do}")
    tensors: dict[str, StoredTensor] = {}
    files: dict[str, Path] = {}
    for path in paths:
        found = _open_safetensors(path) if path.suffix == ".safetensors" else _read_bin(path)
        tensors.update(found)
        files.update(dict.fromkeys(found, path))
    return WeightFiles(tensors, files, paths[0] if len(paths) == 1 else folder)


def _weight_files(folder: Path) -> list[Path]:
    for names in (SAFETENSORS, PICKLES):
        if (folder / names.single_file).exists():
            return [folder / names.single_file]
        if (folder / names.index_file).exists():
            return _shards(folder / names.index_file)
    return []


def _shards(index: Path) -> list[Path]:
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise HeadwayError(f"{index} has no weight_map, which names the weight files. Copy it again.")
    names = [str(name) for name in dict.fromkeys(weight_map.values())]
    if outside := [name for name in names if Path(name).name != name]:
        raise HeadwayError(
            f"{index} lists {_first(outside)}, but all weight files must be in its folder. Copy it again."
        )
    shards = [index.parent / name for name in names]
    missing = [shard.name for shard in shards if not shard.exists()]
    if missing:
        raise HeadwayError(
            f"{index} lists {_first(missing)}, which {'is' if len(missing) == 1 else 'are'} not in the folder. "
            "Copy the missing files there."
        )
    return shards


def _open_safetensors(path: Path) -> dict[str, StoredTensor]:
    from safetensors import SafetensorError, safe_open

    def read(name: str) -> "Tensor":
        # The file is opened again for each tensor: mapped pages stay in memory until it is closed.
        if not path.exists() or _identity(path) != identity:
            raise HeadwayError(f"{path} was replaced or removed after it was opened. Open the model again.")
        with safe_open(path, "pt") as file:
            tensor = file.get_tensor(name)
            return tensor.clone() if sys.platform == "win32" else tensor  # there, a mapped file cannot be replaced

    try:
        identity = _identity(path)
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - mapped, not read
    except SafetensorError as error:
        raise _damaged(path, str(error)) from error
    except OSError as error:
        raise _unreadable(path, error) from error
    return {name: _stored(path, name, one, partial(read, name)) for name, one in tensors.items()}


def _identity(path: Path) -> tuple[int, int, int]:
    """Numbers that change if a file is replaced or written to."""
    found = path.stat()
    return found.st_ino, found.st_size, found.st_mtime_ns


def _read_bin(path: Path) -> dict[str, StoredTensor]:
    import torch

    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if _is_git_lfs_pointer(path):
            raise _damaged(path, "") from error
        raise HeadwayError(
            f"{path} is damaged or holds more than tensors, and reading it could run code hidden in it. "
            "Use a version of the model with model.safetensors."
        ) from error
    except OSError as error:
        raise _unreadable(path, error) from error
    except (RuntimeError, EOFError) as error:
        raise _damaged(path, str(error).splitlines()[0] if str(error) else "it is empty") from error
    if not isinstance(content, dict) or not all(isinstance(value, torch.Tensor) for value in content.values()):
        raise HeadwayError(f"{path} is not a table of tensors. Use a version of the model with model.safetensors.")
    return {name: _stored(path, name, one, lambda one=one: one) for name, one in content.items()}


def _stored(path: Path, name: str, value: "Tensor", read: "Callable[[], Tensor]") -> StoredTensor:
    return StoredTensor(tuple(value.shape), value.dtype, read, f"{path}: the tensor {name!r}")


def _unreadable(path: Path, error: OSError) -> HeadwayError:
    why = error.strerror or str(error)
    return HeadwayError(f"{path} cannot be read ({why}). Check the file and its permissions.")


def _is_git_lfs_pointer(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(24).startswith(b"version https://git-lfs")


def _damaged(path: Path, why: str) -> HeadwayError:
    if _is_git_lfs_pointer(path):
        return HeadwayError(f"{path} is a Git LFS pointer, not the weights. Run `git lfs pull` in its folder.")
    size = path.stat().st_size
    return HeadwayError(f"{path} is damaged or cut off ({size:,} bytes; {why}). Copy or download it again.")


def _first(names: Sequence[str], count: int = 3) -> str:
    more = f" and {len(names) - count} more" if len(names) > count else ""
    return ", ".join(names[:count]) + more
