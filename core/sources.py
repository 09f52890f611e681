"""Where models come from: a local folder, a built-in name or a hub id, and what their files hold.

Nothing here runs code from a file: safetensors are read directly, a `.bin` through torch's weights-only reader.
"""

import json
import pickle
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import HeadwayError
from .folders import user_path

if TYPE_CHECKING:
    import torch
    from torch import Tensor

# The models that come with the package.
BUILT_IN: dict[str, Path] = {
    config.parent.name: config.parent for config in sorted(Path(__file__).with_name("builtin").glob("*/config.json"))
}
CONFIG_FILES = [
    "config.json",
    "headway.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "modules.json",  # and what sentence-transformers writes beside it
    "sentence_bert_config.json",
    "config_sentence_transformers.json",
    "*_*/config.json",
]
SAFETENSORS = ["model.safetensors", "model.safetensors.index.json", "model-*-of-*.safetensors"]
PICKLES = ["pytorch_model.bin", "pytorch_model.bin.index.json", "pytorch_model-*-of-*.bin"]
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")


def find_folder(name_or_path: str | Path) -> Path:
    """The folder of a model: a local one, a built-in one, or one that is downloaded from the hub and kept there.

    With HF_HUB_OFFLINE=1 only what was downloaded before is used.

    Raises:
        HeadwayError: there is no such model, or the hub cannot be reached.
    """
    path = user_path(name_or_path)
    if path.is_dir():
        return path
    if path.is_file():
        raise HeadwayError(f"{path} is a file; a model is a folder with config.json in it. Try {path.parent}.")
    name = str(name_or_path)
    if name in BUILT_IN:
        return BUILT_IN[name]
    known = f" Built in: {', '.join(BUILT_IN)}." if BUILT_IN else ""
    if not HUB_ID.fullmatch(name):
        raise HeadwayError(f"There is no model folder {path}.{known} Check the path.")
    return _from_hub(name, known)


def _from_hub(name: str, known: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        HFValidationError,
        HTTPError,  # pyright: ignore[reportPrivateImportUsage]  # httpx's or httpx2's, whichever this version uses
    )

    from .config_file import read_config  # which reads its JSON with this module

    def fetch(patterns: list[str], commit: str | None = None) -> Path:
        try:
            return Path(snapshot_download(name, revision=commit, allow_patterns=patterns))
        except (HTTPError, HFValidationError, OSError, RuntimeError) as error:  # hf_xet raises Python's own errors
            raise _hub_error(error, name, known) from error

    folder = fetch(CONFIG_FILES)
    if not (folder / "config.json").exists():
        raise HeadwayError(
            f"{name!r}, as the hub has it ({folder}), has no config.json: it is no BERT or GPT-2, or only part of it "
            "was downloaded. Choose another model, or load it once with a connection."
        )
    read_config(folder)  # a model that Headway does not have is refused before its weights are downloaded
    # The same commit again, even if the model is changed meanwhile; the hub's listing of it tells what belongs to it,
    # also where an earlier download broke off between two shards.
    folder = fetch(SAFETENSORS, folder.name)
    if any((folder / file).exists() for file in SAFETENSORS[:2]):
        return folder
    return fetch(PICKLES, folder.name)


def _hub_error(error: Exception, name: str, known: str) -> HeadwayError:
    from huggingface_hub import constants
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    nowhere = f"There is no model {name!r}: no folder {Path(name).absolute()}, and"
    page = f"{constants.ENDPOINT}/{name}"
    # Of a model that is not here, or not whole, what the hub answered is in the cause.
    answer = error.__cause__ if isinstance(error, LocalEntryNotFoundError) else error
    why = next(iter(str(answer).strip().splitlines()), type(answer).__name__).rstrip(".")
    if isinstance(answer, GatedRepoError):
        return HeadwayError(
            f"The model {name!r} is gated. Accept its conditions at {page}, then set HF_TOKEN or run `hf auth login`."
        )
    if isinstance(answer, RepositoryNotFoundError):
        return HeadwayError(f"{nowhere} no {page}.{known} Check the spelling; a private model needs HF_TOKEN.")
    if isinstance(answer, HfHubHTTPError) and answer.response.status_code in (401, 403):
        return HeadwayError(f"{page} was refused: {why}. Check HF_TOKEN, or log in again with `hf auth login`.")
    if isinstance(error, LocalEntryNotFoundError):
        if constants.HF_HUB_OFFLINE:
            why = "HF_HUB_OFFLINE is set"
        else:
            said = isinstance(answer, HfHubHTTPError)
            why = f"{constants.ENDPOINT} {f'says: {why}' if said else 'could not be reached'}"
        partly = Path(constants.HF_HUB_CACHE, f"models--{name.replace('/', '--')}", "snapshots").exists()
        return HeadwayError(
            f"{nowhere} {why} and it was {'only partly' if partly else 'not'} downloaded before.{known} "
            "Give the path of a model folder, or download it once with a connection."
        )
    if isinstance(error, HFValidationError):
        return HeadwayError(f"{nowhere} the hub says: {why}.{known} Check the spelling.")
    if isinstance(error, OSError) and error.strerror and not isinstance(error, ConnectionError | TimeoutError):
        return HeadwayError(
            f"The model {name!r} cannot be kept in {constants.HF_HUB_CACHE}: {error.strerror}. "
            "Mend that, or set HF_HOME to another folder."
        )
    return HeadwayError(f"The download of {page} broke off: {why}. Try again; what came whole is kept.")


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
