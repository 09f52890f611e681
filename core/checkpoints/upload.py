"""Uploads files to a repository of the Hugging Face Hub, as one commit.

https://huggingface.co/docs/huggingface_hub/guides/upload
"""

import re
from collections.abc import Mapping
from pathlib import Path

from ..errors import HeadwayError

REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
MAX_REASON = 300  # characters of what the Hub says
LOG_IN = "Set HF_TOKEN to a token with the right to write, or log in with `hf auth login`."


def check_upload(repository: str, *, dry_run: bool = False) -> str:
    """Checks what can be checked without the Hub, and returns the address of the repository.

    Raises:
        HeadwayError: the name is not USER/NAME; or, unless it is a dry run, there is no token or offline mode is set.
    """
    from huggingface_hub import constants, get_token

    if not REPOSITORY.fullmatch(repository):
        raise HeadwayError(
            f"{repository!r} is not the name of a repository. Give USER/NAME, such as someone/my-model."
        )
    page = f"{constants.ENDPOINT}/{repository}"
    if dry_run:
        return page
    if constants.HF_HUB_OFFLINE:
        raise HeadwayError(f"Nothing can be uploaded to {page} in offline mode. Unset HF_HUB_OFFLINE, omit --offline.")
    if get_token() is None:
        raise HeadwayError(f"An upload to {page} needs a token, and this machine has none. {LOG_IN}")
    return page


def upload(
    repository: str, files: Mapping[str, Path | bytes], *, private: bool, revision: str | None, message: str
) -> str:
    """Creates the repository and the branch if they are missing, and commits the files, all of them or none.

    Args:
        repository: USER/NAME.
        files: name in the repository -> a local file, or the content.
        private: whether a new repository is private; one that exists is not changed.
        revision: the branch. Default: main.
        message: of the commit.

    Returns:
        The address of the commit.

    Raises:
        HeadwayError: the Hub cannot be reached or refuses the upload.
    """
    from huggingface_hub import CommitOperationAdd, HfApi
    from huggingface_hub.errors import (
        HFValidationError,
        HTTPError,  # pyright: ignore[reportPrivateImportUsage]  # from httpx or httpx2, whichever this version uses
    )

    page = check_upload(repository)
    operations = [
        CommitOperationAdd(name, content if isinstance(content, bytes) else str(content))
        for name, content in files.items()
    ]
    api = HfApi()
    try:
        api.create_repo(repository, private=private, exist_ok=True)
        if revision is not None and revision != "main":
            api.create_branch(repository, branch=revision, exist_ok=True)
        commit = api.create_commit(repository, operations, commit_message=message, revision=revision)
    except (HTTPError, HFValidationError, OSError, RuntimeError, ValueError) as error:  # the last: invalid metadata
        raise _upload_error(error, page) from error
    return commit.commit_url


def _upload_error(error: Exception, page: str) -> HeadwayError:
    from huggingface_hub.errors import HfHubHTTPError

    cause: BaseException = error
    while not isinstance(cause, HfHubHTTPError | ValueError) and cause.__cause__ is not None:
        cause = cause.__cause__  # of a file that could not be uploaded
    said = ""
    if isinstance(cause, HfHubHTTPError) and cause.server_message:
        said = f"{cause.server_message} (status {cause.response.status_code})"
    why = " ".join(str(said or cause).split())[:MAX_REASON].rstrip(".") or type(cause).__name__
    if isinstance(cause, HfHubHTTPError) and cause.response.status_code in (401, 403, 404):
        return HeadwayError(
            f"The Hub refuses the upload to {page}: {why}. The token is invalid, or may not write there. {LOG_IN}"
        )
    if isinstance(cause, ValueError):
        return HeadwayError(f"The Hub refuses the upload to {page}: {why}. Correct it, then upload again.")
    return HeadwayError(f"The upload to {page} failed: {why}. Try again; a commit is made as a whole or not at all.")
