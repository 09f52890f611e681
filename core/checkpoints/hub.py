"""Where models come from: a local folder, a built-in name or a hub id, and what their files hold.

Nothing here runs code from a file: safetensors are read directly, a `.bin` through torch's weights-only reader.
"""

import re
from pathlib import Path

from ..atomic_files import user_path
from ..errors import HeadwayError
from .model_files import PICKLES, SAFETENSORS

# The models that come with the package.
BUILT_IN: dict[str, Path] = {
    config.parent.name: config.parent
    for config in sorted((Path(__file__).parents[1] / "builtin").glob("*/config.json"))
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
