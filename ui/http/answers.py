"""From a request to its answers: the model that it names, and what that computes for each of its items."""

from typing import TYPE_CHECKING, Any

from ...core.errors import HeadwayError
from .batching import FailedItem
from .errors import status_of

if TYPE_CHECKING:
    from .batching import Batcher
    from .limits import Limits
    from .middleware import Client
    from .prompts import ServedPrompt
    from .serving import ModelServer, ServedModel, Use


async def open_model(client: "Client", serving: "ModelServer", use: "Use", name: str | None) -> "ServedModel[Any]":
    """The model; a model that is not open yet is opened in a thread."""
    served = serving.find_open(use, name)
    return served or await client.wait_for(serving.open(use, name), serving.limits.timeout)


async def compute(
    client: "Client",
    served: "ServedModel[Batcher[Any, Any]] | ServedPrompt",
    items: list[Any],
    what: str,
    limits: "Limits",
) -> Any:
    """The answer of each item, computed in batches shared with other requests.

    Raises:
        HeadwayError: an item cannot be computed; the message names it.
    """
    try:
        return await client.wait_for(served.worker.submit(items, client.address), limits.timeout)
    except FailedItem as failed:
        cause = failed.__cause__
        assert cause is not None
        if not isinstance(cause, HeadwayError) or status_of(cause) != 422:
            raise cause from None
        message = str(cause).removeprefix("input 1: ")  # a failing item is computed alone, as the first of its batch
        raise HeadwayError(f"{what}[{failed.position}]: {message}") from cause
