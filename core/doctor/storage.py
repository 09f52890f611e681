"""The folders that files are stored in, with their free space, and whether the Hugging Face Hub can be reached."""

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Thread
from typing import Any

from .problems import Problem, gigabytes

LOW_SPACE = 2e9  # bytes: a model of the size of BERT and its checkpoint
TIMEOUT = 3.0  # seconds


@dataclass(frozen=True)
class Folder:
    """A folder that Headway writes to."""

    use: str
    path: str
    change: str  # how another folder is chosen
    free: int | None  # bytes; None: unknown
    error: str | None  # why no file can be written

    def to_json(self) -> dict[str, Any]:
        """The fields."""
        return asdict(self)


@dataclass(frozen=True)
class Hub:
    """The Hugging Face Hub, as this machine sees it."""

    url: str
    state: str  # reachable, offline (not asked) or unreachable
    user: str | None = None  # whose token is used
    token: str = "none"  # none, accepted or refused
    seconds: float | None = None
    error: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The fields."""
        return asdict(self)


def folders() -> list[Folder]:
    """The folders of downloads, of temporary files and of results."""
    from huggingface_hub import constants

    data_sets = os.environ.get("HF_DATASETS_CACHE") or os.path.join(constants.HF_HOME, "datasets")
    try:
        temporary = tempfile.gettempdir()
    except FileNotFoundError:  # no folder can be written to
        temporary = os.environ.get("TMPDIR", "/tmp")
    return [
        _folder("models of the Hub", constants.HF_HUB_CACHE, "HF_HOME or HF_HUB_CACHE"),
        _folder("data sets of the Hub", data_sets, "HF_HOME or HF_DATASETS_CACHE"),
        _folder("temporary files", temporary, "TMPDIR"),
        _folder("the current folder", os.getcwd(), "--output"),
    ]


def _folder(use: str, path: str, change: str) -> Folder:
    """The state of a folder, or of the nearest one above it that exists."""
    existing = Path(path).absolute()
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    free, error = None, None
    try:
        free = shutil.disk_usage(existing).free
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as refusal:
        error = refusal.strerror or str(refusal)
    return Folder(use, path, change, free, error)


def folder_problems(found: list[Folder]) -> Iterator[Problem]:
    """Folders that cannot be written to, or are almost full."""
    for folder in found:
        where = f"{folder.path} ({folder.use})"
        other = f"Free some space or fix its permissions, or set another folder with {folder.change}."
        if folder.error is not None:
            level = "error" if folder.use == "temporary files" else "warning"
            yield Problem(level, f"No file can be written to {where}: {folder.error}.", other)
        elif folder.free is not None and folder.free < LOW_SPACE:
            yield Problem("warning", f"Only {gigabytes(folder.free)} is free in {where}.", other)


def ask_hub(timeout: float = TIMEOUT) -> Hub:
    """Asks the Hub whose token this machine has; in offline mode it is not asked.

    Args:
        timeout: in seconds, for the whole request: the one of the HTTP client does not count finding the address.
    """
    from huggingface_hub import constants

    url = constants.ENDPOINT
    if constants.HF_HUB_OFFLINE:
        return Hub(url, "offline")
    answers: list[Hub] = []
    thread = Thread(target=lambda: answers.append(_request(url, timeout)), daemon=True)
    thread.start()
    thread.join(timeout + 1)
    return answers[0] if answers else Hub(url, "unreachable", error=f"no answer within {timeout + 1:.0f} seconds")


def _request(url: str, timeout: float) -> Hub:
    from huggingface_hub import get_session, get_token
    from huggingface_hub.errors import HTTPError  # pyright: ignore[reportPrivateImportUsage]  # see hub.py
    from huggingface_hub.utils import build_hf_headers

    start = time.monotonic()
    try:
        response = get_session().get(f"{url}/api/whoami-v2", headers=build_hf_headers(), timeout=timeout)
    except (HTTPError, OSError) as error:
        return Hub(url, "unreachable", error=str(error) or type(error).__name__)
    seconds = round(time.monotonic() - start, 3)
    if response.status_code >= 500:
        return Hub(url, "unreachable", seconds=seconds, error=f"it answers with the status {response.status_code}")
    if get_token() is None:
        return Hub(url, "reachable", seconds=seconds)
    if response.status_code != 200:
        return Hub(url, "reachable", token="refused", seconds=seconds)
    try:
        user = str(response.json()["name"])
    except (ValueError, KeyError, TypeError):
        return Hub(url, "unreachable", seconds=seconds, error="another server answers, perhaps a proxy's login page")
    return Hub(url, "reachable", user=user, token="accepted", seconds=seconds)


def hub_problems(hub: Hub) -> Iterator[Problem]:
    """A Hub that cannot be reached, or refuses the token."""
    if hub.state == "unreachable":
        yield Problem(
            "warning",
            f"The Hub {hub.url} cannot be reached: {hub.error}. Downloaded and built-in models still work.",
            "Check the network, the proxy (HTTPS_PROXY) and HF_ENDPOINT, or work with --offline.",
        )
    if hub.token == "refused":
        message = f"The Hub {hub.url} refuses the token of this machine, so private models cannot be downloaded."
        yield Problem("warning", message, "Set HF_TOKEN to a valid token, or log in with `hf auth login`.")
