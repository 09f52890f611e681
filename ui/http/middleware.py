"""What every request goes through: the key, the size of its body, the time limit, and how errors are told.

An error is `{"error": {"message", "type", "param", "code"}}`, as OpenAI's clients read it. The message says what is
wrong, where, and what to do.
"""

import asyncio
import json
import secrets
import time
from collections.abc import Awaitable, Collection
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypeVar

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ...core.errors import HeadwayError
from ...core.options import option
from ..model_registry import NoSuchModel
from .batching import QueueFull, Stopping
from .metrics import Metrics

Result = TypeVar("Result")

CLIENT_GONE = 499  # what nginx writes in its log; nobody reads the answer
OPEN_PATHS = ("/health",)  # without the key
TYPES = {
    401: "authentication_error",
    404: "not_found_error",
    429: "rate_limit_error",
    500: "server_error",
    503: "unavailable_error",
}


@dataclass(frozen=True)
class Limits:
    """How much a server takes."""

    max_body: float = option(2.0, "Megabytes of a request.")
    max_texts: int = option(256, "Texts of a request.")
    max_characters: int = option(100_000, "Characters of a text.")
    max_queue: int = option(256, "Requests that may wait for a model; more are sent away.")
    max_new_tokens: int = option(1024, "Tokens that may be asked for to go on with a text.")
    max_samples: int = option(8, "Samples, or beams, that may be asked for of a text.")
    timeout: float = option(30.0, "Seconds that a request may take; of a stream, each of its pieces.")

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not 0 < value < float("inf"):
                raise HeadwayError(f"--{name.replace('_', '-')} {value}: it must be above 0.")

    @property
    def body_bytes(self) -> int:
        """The same as bytes."""
        return int(self.max_body * 1_000_000)


class ApiError(HeadwayError):
    """Something wrong with a request.

    Args:
        status: of HTTP.
        message: what, where, and what to do.
        param: which part of the body, if it is one.
    """

    def __init__(self, status: int, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.status, self.param = status, param


class ClientGone(Exception):
    """Nobody waits for the answer any longer."""


class Json(Response):
    """An answer as JSON: in ASCII, so that half a surrogate pair in somebody's text can be answered."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """The answer's bytes."""
        return json.dumps(content, allow_nan=False, separators=(",", ":")).encode("ascii")


def error_body(status: int, message: str, param: str | None = None) -> dict[str, Any]:
    """An error as a client reads it."""
    kind = TYPES.get(status, "invalid_request_error")
    return {"error": {"message": message, "type": kind, "param": param, "code": None}}


def status_of(error: HeadwayError) -> int:
    """Which status tells of an error that a person can mend."""
    if isinstance(error, ApiError):
        return error.status
    known = ((NoSuchModel, 404), (QueueFull, 429), (Stopping, 503))
    return next((status for kind, status in known if isinstance(error, kind)), 422)


def refusal(error: HeadwayError) -> Json:
    """The answer to a request that cannot be served."""
    status = status_of(error)
    headers = {401: {"WWW-Authenticate": "Bearer"}, 429: {"Retry-After": "1"}, 503: {"Retry-After": "5"}}
    param = error.param if isinstance(error, ApiError) else None
    return Json(error_body(status, str(error), param), status, headers.get(status))


class Gate:
    """Lets requests in that have the key and are not too large, and counts them.

    Args:
        app: what is behind it.
        key: that is asked for; none: everybody may come in.
        limits: how much is taken.
        metrics: where requests are counted.
        paths: that are counted by name.
    """

    def __init__(
        self, app: ASGIApp, *, key: str | None, limits: Limits, metrics: Metrics, paths: Collection[str]
    ) -> None:
        self.app, self.limits, self.metrics, self.paths = app, limits, metrics, frozenset(paths)
        self._key = None if key is None else key.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        path = path_of(scope)
        began, status = time.perf_counter(), CLIENT_GONE

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            self._check(scope, path)
            await self.app(scope, self._limited(receive), noted)
        except ApiError as error:
            await refusal(error)(scope, receive, noted)
        except Exception:
            status = 500  # counted here; answered and logged further out
            raise
        finally:
            name = path if path in self.paths else "other"
            self.metrics.requests.add(name, str(status))
            self.metrics.seconds.add(name, value=time.perf_counter() - began)

    def _check(self, scope: Scope, path: str) -> None:
        headers = dict(reversed(scope["headers"]))  # of several of one name the first counts
        if self._key is not None and path not in OPEN_PATHS:
            scheme, _, given = headers.get(b"authorization", b"").partition(b" ")
            fits = secrets.compare_digest(given.strip(), self._key)
            if not fits or scheme.lower() != b"bearer":
                raise ApiError(401, "The key is missing or wrong. Send the header `Authorization: Bearer KEY`.")
        length = headers.get(b"content-length", b"0")
        if length.isdigit() and int(length[:20]) > self.limits.body_bytes:
            raise self._too_large()

    def _limited(self, receive: Receive) -> Receive:
        """The body as it comes, as far as it may go: nothing larger is ever held."""
        taken = 0

        async def limited() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > self.limits.body_bytes:
                raise self._too_large()
            return message

        return limited

    def _too_large(self) -> ApiError:
        return ApiError(
            413, f"The body is larger than {self.limits.max_body:g} megabytes. Send the texts in several requests."
        )


def path_of(scope: Scope) -> str:
    """The path inside the API, wherever it is mounted."""
    path, root = scope["path"], scope.get("root_path", "")
    return path.removeprefix(root) if path.startswith(f"{root}/") else path


async def read_object(request: Request, limits: Limits) -> dict[str, Any]:
    """The JSON object that is a request's body.

    Raises:
        ApiError: it is something else, or does not come in time.
        ClientDisconnect: nobody is there any longer.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json" and not kind.endswith("+json"):
        # Pages of other sites may send texts of other types from a person's browser without asking.
        raise ApiError(
            415, f"The body is sent as {kind or 'nothing'}. Send the header `Content-Type: application/json`."
        )
    try:
        async with asyncio.timeout(limits.timeout):
            body = await request.body()
    except TimeoutError as error:
        raise ApiError(408, f"The body was not here after {limits.timeout:g} seconds. Send it again.") from error
    try:
        content = json.loads(body, parse_constant=_refuse_constant)
    except RecursionError as error:
        raise ApiError(422, "The body is nested too deeply. Send a flat object.") from error
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise ApiError(422, f"The body is not valid JSON ({where}: {error.msg}). Correct it there.") from error
    except UnicodeDecodeError as error:
        raise ApiError(422, f"The body is not UTF-8 (byte {error.start}). Send it as UTF-8.") from error
    except ValueError as error:  # a number with thousands of digits
        raise ApiError(422, "The body has a number with too many digits. Take it out.") from error
    if not isinstance(content, dict):
        raise ApiError(422, f"The body is {kind_of(content)}, where an object {{...}} belongs. Send an object.")
    return content


def _refuse_constant(name: str) -> None:
    raise ApiError(422, f"The body has {name}, which is not valid JSON. Take it out.")


def kind_of(value: Any) -> str:
    """What a JSON value is, in a few words."""
    kinds = {dict: "an object", list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    return kinds.get(type(value), "a number")


class Asker:
    """Whoever waits for the answer to a request, as long as they do; a context.

    Args:
        receive: of the request, whose body has been read.
    """

    def __init__(self, receive: Receive) -> None:
        self._receive = receive

    def __enter__(self) -> Self:
        self._gone = asyncio.ensure_future(self._leaves())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._gone.cancel()

    async def _leaves(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def waits_for(self, answer: Awaitable[Result], seconds: float) -> Result:
        """The answer; it is cancelled where it does not come in time, or nobody waits for it any longer.

        Raises:
            ApiError: it did not come in time.
            ClientGone: nobody waits.
        """
        future = asyncio.ensure_future(answer)
        try:
            await asyncio.wait({future, self._gone}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            if future.done():
                return future.result()
        finally:
            future.cancel()
        if self._gone.done():
            raise ClientGone
        raise ApiError(503, f"There was no answer after {seconds:g} seconds. Send fewer texts, or ask again later.")


GONE = (ClientGone, ClientDisconnect)
