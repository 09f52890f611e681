"""Finds the folder of a model by a path, a built-in name or an id on the Hugging Face Hub."""

import re
from pathlib import Path

from ..atomic_files import user_path
from ..errors import HeadwayError
from .model_files import PICKLES, SAFETENSORS

# The models in this package, by name.
BUILT_IN: dict[str, Path] = {
    config.parent.name: config.parent
    for config in sorted((Path(__file__).parents[1] / "builtin").glob("*/config.json"))
}
SMALL_FILES = [
    "config.json",
    "headway.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "modules.json",  # this and the following ones are from sentence-transformers
    "sentence_bert_config.json",
    "config_sentence_transformers.json",
    "*_*/config.json",
    "decoder_tokenizer/*.json",  # this and the following one are from Headway
    "text_distance-*.safetensors",
]
# USER/NAME or NAME, perhaps with a branch, a tag or a commit: someone/model@v2.
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?(@[\w.-]+(/[\w.-]+)*)?")


def absolute_name(name: str) -> str:
    """The name of a model that finds it from any working directory."""
    path = user_path(name)
    return str(path.absolute()) if name not in BUILT_IN and path.exists() else name


def with_revision(name: str | Path, revision: str | None) -> str | Path:
    """The name of a model of the Hub at a branch, a tag or a commit: NAME@REVISION.

    Raises:
        HeadwayError: it is a folder or a built-in model, which has no revisions.
    """
    if revision is None:
        return name
    if str(name) in BUILT_IN or user_path(name).exists() or "@" in str(name):
        raise HeadwayError(f"revision={revision!r} is for a model on the Hub; {name} has none to choose. Omit it.")
    return f"{name}@{revision}"


def is_model_name(name: str) -> bool:
    """Whether a folder, a built-in model or perhaps a model on the Hub has this name."""
    return name in BUILT_IN or user_path(name).is_dir() or HUB_ID.fullmatch(name) is not None


def find_folder(name_or_path: str | Path) -> Path:
    """The folder of a model: a local one, a built-in one, or one in the cache that the hub's files are downloaded to.

    With HF_HUB_OFFLINE=1 only files that were downloaded before are used. A private model needs a token (HF_TOKEN).

    Raises:
        HeadwayError: there is no such model, or the hub cannot be reached.
    """
    path = user_path(name_or_path)
    if path.is_dir():
        return path
    if path.is_file():
        raise HeadwayError(f"{path} is a file; a model is a folder with a config.json. Try {path.parent}.")
    name = str(name_or_path)
    if name in BUILT_IN:
        return BUILT_IN[name]
    built_in = f" Built in: {', '.join(BUILT_IN)}." if BUILT_IN else ""
    if not HUB_ID.fullmatch(name):
        raise HeadwayError(f"There is no model folder {path}.{built_in} Check the path.")
    return _download(name, built_in)


def _download(name: str, built_in: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        HFValidationError,
        HTTPError,  # pyright: ignore[reportPrivateImportUsage]  # from httpx or httpx2, whichever this version uses
    )

    from .config_file import read_config  # here because it imports torch, which local folders do not need

    repository, _, revision = name.partition("@")

    def fetch(patterns: list[str], commit: str | None = revision or None) -> Path:
        try:
            return Path(snapshot_download(repository, revision=commit, allow_patterns=patterns))
        except (HTTPError, HFValidationError, OSError, RuntimeError) as error:  # hf_xet raises built-in errors
            raise _hub_error(error, name, built_in) from error

    folder = fetch(SMALL_FILES)
    if not (folder / "config.json").exists():
        raise HeadwayError(
            f"The hub's model {name!r} ({folder}) has no config.json: it is not a model of a known family, or its "
            "download is incomplete. Choose another model, or load it once with a connection."
        )
    read_config(folder)  # refuses a model that is not supported before its weights are downloaded
    if not any((folder / name).exists() for name in ("tokenizer.json", "vocab.txt", "vocab.json")):
        fetch(["sentencepiece.bpe.model"], folder.name)  # of megabytes, which tokenizer.json replaces
    # The same commit again, even if the model changes in between. The hub lists the files of a commit, so that the
    # shards missing after an interrupted download are found.
    folder = fetch(list(SAFETENSORS), folder.name)
    if (folder / SAFETENSORS.single_file).exists() or (folder / SAFETENSORS.index_file).exists():
        return folder
    return fetch(list(PICKLES), folder.name)


def _hub_error(error: Exception, name: str, built_in: str) -> HeadwayError:
    from huggingface_hub import constants
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    repository, _, revision = name.partition("@")
    not_found = f"There is no model {name!r}: no folder {Path(name).absolute()}, and"
    page = f"{constants.ENDPOINT}/{repository}"
    # If the cache lacks the model or a part of it, the cause is the hub's response.
    response = error.__cause__ if isinstance(error, LocalEntryNotFoundError) else error
    why = next(iter(str(response).strip().splitlines()), type(response).__name__).rstrip(".")
    if isinstance(response, GatedRepoError):
        return HeadwayError(
            f"The model {name!r} is gated. Accept its conditions at {page}, then set HF_TOKEN or run `hf auth login`."
        )
    if isinstance(response, RepositoryNotFoundError):
        return HeadwayError(f"{not_found} no {page}.{built_in} Check the spelling; a private model needs HF_TOKEN.")
    if isinstance(response, RevisionNotFoundError):
        return HeadwayError(f"{page} has no branch, tag or commit {revision!r}. Choose one of {page}/commits.")
    if isinstance(response, HfHubHTTPError) and response.response.status_code in (401, 403):
        return HeadwayError(f"{page} was refused: {why}. Check HF_TOKEN, or log in again with `hf auth login`.")
    if isinstance(error, LocalEntryNotFoundError):
        if constants.HF_HUB_OFFLINE:
            why = "HF_HUB_OFFLINE is set"
        elif isinstance(response, HfHubHTTPError):
            why = f"{constants.ENDPOINT} says: {why}"
        else:
            why = f"{constants.ENDPOINT} could not be reached"
        cached = Path(constants.HF_HUB_CACHE, f"models--{repository.replace('/', '--')}", "snapshots").exists()
        partly = cached and not revision  # of which other revisions may be complete
        return HeadwayError(
            f"{not_found} {why} and it was {'only partly' if partly else 'not'} downloaded before.{built_in} "
            "Give the path of a model folder, or download it once with a connection."
        )
    if isinstance(error, HFValidationError):
        return HeadwayError(f"{not_found} the hub says: {why}.{built_in} Check the spelling.")
    if isinstance(error, OSError) and error.strerror and not isinstance(error, ConnectionError | TimeoutError):
        return HeadwayError(
            f"The model {name!r} cannot be stored in {constants.HF_HUB_CACHE}: {error.strerror}. "
            "Fix that, or set HF_HOME to another folder."
        )
    return HeadwayError(f"The download of {page} broke off: {why}. Try again; complete files are kept.")
