"""JSON and weight files of a model folder, read safely."""

import json
import pickle
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import HeadwayError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

SAFETENSORS = ["model.safetensors", "model.safetensors.index.json", "model-*-of-*.safetensors"]


PICKLES = ["pytorch_model.bin", "pytorch_model.bin.index.json", "pytorch_model-*-of-*.bin"]


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a model folder.

    Raises:
        HeadwayError: the file cannot be read, is not JSON or holds something else than an object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise _unreadable(path, error) from error
    except UnicodeDecodeError as error:
        raise HeadwayError(f"{path} is not a text file. Copy the model folder again from where it came.") from error
    except json.JSONDecodeError as error:
        raise HeadwayError(
            f"{path}, line {error.lineno}: not valid JSON ({error.msg}). Copy the file again from where it came."
        ) from error
    if not isinstance(content, dict):
        raise HeadwayError(f"{path} holds a {type(content).__name__} where an object {{...}} belongs.")
    return content


@dataclass(frozen=True, eq=False)
class StoredTensor:
    """A tensor of a file, not in memory yet where it comes from safetensors."""

    shape: tuple[int, ...]
    dtype: "torch.dtype"
    read: "Callable[[], Tensor]"  # raises HeadwayError where the file is not the one any more that was opened


@dataclass(frozen=True)
class WeightFiles:
    """The tensors of a model folder by their published names."""

    values: dict[str, StoredTensor]
    files: dict[str, Path]  # which file holds the tensor
    where: Path  # what to name when a tensor is in none of them


def read_tensors(folder: Path) -> WeightFiles:
    """Every tensor in a model folder: safetensors where there are any, else a `.bin`; one file or several.

    Raises:
        HeadwayError: there are no weights, or a file is missing, damaged, or would run code.
    """
    paths = _weight_files(folder)
    if not paths:
        what_to_do = "Copy the missing file into it (TensorFlow and Flax weights are not read)."
        if any(folder.glob("*.onnx")):
            what_to_do = "It is an export for other programs (ONNX). Name the model folder that it was made from."
        raise HeadwayError(f"{folder} holds no weights: neither model.safetensors nor pytorch_model.bin. {what_to_do}")
    values: dict[str, StoredTensor] = {}
    files: dict[str, Path] = {}
    for path in paths:
        tensors = _read_safetensors(path) if path.suffix == ".safetensors" else _read_bin(path)
        values.update(tensors)
        files.update(dict.fromkeys(tensors, path))
    return WeightFiles(values, files, paths[0] if len(paths) == 1 else folder)


def _weight_files(folder: Path) -> list[Path]:
    for single, index in (SAFETENSORS[:2], PICKLES[:2]):
        if (folder / single).exists():
            return [folder / single]
        if (folder / index).exists():
            return _shards(folder / index)
    return []


def _shards(index: Path) -> list[Path]:
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise HeadwayError(f"{index} has no weight_map, so its files cannot be found. Copy it again.")
    names = [str(name) for name in dict.fromkeys(weight_map.values())]
    if elsewhere := [name for name in names if Path(name).name != name]:
        raise HeadwayError(
            f"{index} lists {_some(elsewhere)}, but a model's files stand beside each other. Copy it again."
        )
    shards = [index.parent / name for name in names]
    missing = [shard.name for shard in shards if not shard.exists()]
    if missing:
        raise HeadwayError(
            f"{index} lists {_some(missing)}, which {'is' if len(missing) == 1 else 'are'} not in the folder. "
            "Copy the missing files there."
        )
    return shards


def _read_safetensors(path: Path) -> dict[str, StoredTensor]:
    from safetensors import SafetensorError, safe_open

    def read(name: str) -> "Tensor":
        # The file is opened for each tensor: what is mapped stays in memory until it is closed.
        if not path.exists() or _identity(path) != identity:
            raise HeadwayError(f"{path} was replaced or removed after it was opened. Open the model again.")
        with safe_open(path, "pt") as file:
            return file.get_tensor(name)

    try:
        identity = _identity(path)
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - mapped, and not read
    except SafetensorError as error:
        raise _damaged(path, str(error)) from error
    except OSError as error:
        raise _unreadable(path, error) from error
    return {
        name: StoredTensor(tuple(value.shape), value.dtype, partial(read, name)) for name, value in tensors.items()
    }


def _identity(path: Path) -> tuple[int, int, int]:
    """What changes when somebody else's file takes a file's place, or other contents do."""
    found = path.stat()
    return found.st_ino, found.st_size, found.st_mtime_ns


def _read_bin(path: Path) -> dict[str, StoredTensor]:
    import torch

    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if _is_pointer(path):
            raise _damaged(path, "") from error
        raise HeadwayError(
            f"{path} holds more than tensors (or is damaged), and reading it could run code that someone hid in it, "
            "so it is refused. Use a version of the model with model.safetensors."
        ) from error
    except OSError as error:
        raise _unreadable(path, error) from error
    except (RuntimeError, EOFError) as error:
        raise _damaged(path, str(error).splitlines()[0] if str(error) else "it is empty") from error
    if not isinstance(content, dict) or not all(isinstance(value, torch.Tensor) for value in content.values()):
        raise HeadwayError(f"{path} holds no plain table of tensors. Use a version with model.safetensors.")
    return {
        name: StoredTensor(tuple(value.shape), value.dtype, partial(_itself, value)) for name, value in content.items()
    }


def _itself(value: "Tensor") -> "Tensor":
    return value


def _unreadable(path: Path, error: OSError) -> HeadwayError:
    why = error.strerror or str(error)
    return HeadwayError(f"{path} cannot be read ({why}). Check the file and who may read it.")


def _is_pointer(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(24).startswith(b"version https://git-lfs")


def _damaged(path: Path, why: str) -> HeadwayError:
    if _is_pointer(path):
        return HeadwayError(f"{path} is a Git LFS pointer, not the weights. Run `git lfs pull` in its folder.")
    size = path.stat().st_size
    return HeadwayError(f"{path} is damaged or cut off ({size:,} bytes; {why}). Copy or download it again.")


def _some(names: Iterable[str], most: int = 3) -> str:
    names = list(names)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
