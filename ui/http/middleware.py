"""What every request passes: the API key, the limits on body size and time, error responses and the request metrics.

An error is `{"error": {"message", "type", "param", "code"}}`, the format of OpenAI's clients. The message says what is
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
from .metrics import Metrics
from .worker import QueueFull, Stopping

Result = TypeVar("Result")

CLIENT_CLOSED_REQUEST = 499  # nginx's status for a client that disconnects before the response
PUBLIC_PATHS = ("/health",)  # paths that need no key
ERROR_TYPES = {
    401: "authentication_error",
    404: "not_found_error",
    429: "rate_limit_error",
    500: "server_error",
    503: "unavailable_error",
}


@dataclass(frozen=True)
class Limits:
    """Limits of a server."""

    max_body: float = option(2.0, "Maximum size of a request body in megabytes.")
    max_texts: int = option(256, "Maximum number of texts in a request.")
    max_characters: int = option(100_000, "Maximum length of a text in characters.")
    max_queue: int = option(256, "Maximum number of waiting requests per model; further ones are refused.")
    max_new_tokens: int = option(1024, "Maximum number of tokens that a request may generate.")
    max_samples: int = option(8, "Maximum number of samples, or beams, that a request may ask for.")
    timeout: float = option(30.0, "Maximum time of a request in seconds; of a stream, the time of each piece.")

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not 0 < value < float("inf"):
                raise HeadwayError(f"--{name.replace('_', '-')} {value}: it must be above 0.")

    @property
    def max_body_bytes(self) -> int:
        """`max_body` in bytes."""
        return int(self.max_body * 1_000_000)


class ApiError(HeadwayError):
    """A request that cannot be answered.

    Args:
        status: HTTP status.
        message: what is wrong, where, and what to do.
        param: the field of the body that the error is about, if there is one.
    """

    def __init__(self, status: int, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.status, self.param = status, param


class ClientGone(Exception):
    """The client has disconnected."""


CLIENT_GONE_ERRORS = (ClientGone, ClientDisconnect)


class JsonResponse(Response):
    """A JSON response in ASCII, which can represent the unpaired surrogates that a text may contain."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """The encoded content."""
        return json.dumps(content, allow_nan=False, separators=(",", ":")).encode("ascii")


def error_body(status: int, message: str, param: str | None = None) -> dict[str, Any]:
    """The body of an error response."""
    kind = ERROR_TYPES.get(status, "invalid_request_error")
    return {"error": {"message": message, "type": kind, "param": param, "code": None}}


def status_of(error: HeadwayError) -> int:
    """The HTTP status of an error."""
    if isinstance(error, ApiError):
        return error.status
    known = ((NoSuchModel, 404), (QueueFull, 429), (Stopping, 503))
    return next((status for kind, status in known if isinstance(error, kind)), 422)


def error_response(error: HeadwayError) -> JsonResponse:
    """The response for an error."""
    status = status_of(error)
    headers = {401: {"WWW-Authenticate": "Bearer"}, 429: {"Retry-After": "1"}, 503: {"Retry-After": "5"}}
    param = error.param if isinstance(error, ApiError) else None
    return JsonResponse(error_body(status, str(error), param), status, headers.get(status))


class RequestGuard:
    """ASGI middleware that checks the API key and the size of the body, and counts requests.

    Args:
        app: the application behind it.
        key: the API key; None if every client has access.
        limits: limits of the server.
        metrics: where requests are counted.
        paths: paths that are counted by name; all others are counted as "other".
    """

    def __init__(
        self, app: ASGIApp, *, key: str | None, limits: Limits, metrics: Metrics, paths: Collection[str]
    ) -> None:
        self.app, self.limits, self.metrics, self.paths = app, limits, metrics, frozenset(paths)
        self._key = None if key is None else key.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        path = path_of(scope)
        start, status = time.perf_counter(), CLIENT_CLOSED_REQUEST

        async def record_status(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            self._check(scope, path)
            await self.app(scope, self._limited(receive), record_status)
        except ApiError as error:
            await error_response(error)(scope, receive, record_status)
        except Exception:
            status = 500  # counted here; answered and logged by Starlette's outer middleware
            raise
        finally:
            name = path if path in self.paths else "other"
            self.metrics.requests.labels(name, str(status)).inc()
            self.metrics.seconds.labels(name).observe(time.perf_counter() - start)

    def _check(self, scope: Scope, path: str) -> None:
        headers = dict(reversed(scope["headers"]))  # of repeated headers the first one counts
        if self._key is not None and path not in PUBLIC_PATHS:
            scheme, _, given = headers.get(b"authorization", b"").partition(b" ")
            matches = secrets.compare_digest(given.strip(), self._key)
            if not matches or scheme.lower() != b"bearer":
                raise ApiError(
                    401, "The API key is missing or wrong. Send it in the header `Authorization: Bearer KEY`."
                )
        length = headers.get(b"content-length", b"0")
        if length.isdigit() and int(length[:20]) > self.limits.max_body_bytes:
            raise self._too_large()

    def _limited(self, receive: Receive) -> Receive:
        """`receive` with an error once the body exceeds the limit, so that no larger body is ever held in memory."""
        received = 0

        async def limited() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self.limits.max_body_bytes:
                raise self._too_large()
            return message

        return limited

    def _too_large(self) -> ApiError:
        return ApiError(
            413, f"The body exceeds {self.limits.max_body:g} megabytes. Split the texts into several requests."
        )


def path_of(scope: Scope) -> str:
    """The path inside the API, without the prefix under which it is mounted."""
    path, root = scope["path"], scope.get("root_path", "")
    return path.removeprefix(root) if path.startswith(f"{root}/") else path


async def read_object(request: Request, limits: Limits) -> dict[str, Any]:
    """Reads the JSON object in the body of a request.

    Raises:
        ApiError: the body is not a JSON object, or does not arrive in time.
        ClientDisconnect: the client has disconnected.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json" and not kind.endswith("+json"):
        # A browser lets pages of other sites send simple content types without a preflight request.
        found = f"is {kind}" if kind else "is missing"
        raise ApiError(415, f"The content type {found}. Send the header `Content-Type: application/json`.")
    try:
        async with asyncio.timeout(limits.timeout):
            body = await request.body()
    except TimeoutError as error:
        raise ApiError(408, f"The body did not arrive within {limits.timeout:g} seconds. Send it again.") from error
    try:
        content = json.loads(body, parse_constant=_refuse_constant)
    except RecursionError as error:
        raise ApiError(422, "The body is nested too deeply. Send a flat object.") from error
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise ApiError(422, f"The body is not valid JSON ({where}: {error.msg}). Correct it there.") from error
    except UnicodeDecodeError as error:
        raise ApiError(422, f"The body is not valid UTF-8 (byte {error.start}). Encode it as UTF-8.") from error
    except ValueError as error:  # Python limits the digits of an integer
        raise ApiError(422, "The body contains a number with too many digits. Remove it.") from error
    if not isinstance(content, dict):
        raise ApiError(422, f"The body is {json_type(content)}; it must be an object {{...}}.")
    return content


def _refuse_constant(name: str) -> None:
    raise ApiError(422, f"The body contains {name}, which is not valid JSON. Remove it.")


def json_type(value: Any) -> str:
    """The type of a JSON value with its article, for messages."""
    kinds = {dict: "an object", list: "a list", str: "a string", bool: "a boolean", type(None): "null"}
    return kinds.get(type(value), "a number")


class Client:
    """The client that waits for a response; a context manager.

    Args:
        receive: the request's ASGI callable, after the body has been read.
        address: of the client, behind a proxy on this machine the one that the proxy names; requests of different
            addresses take turns.
    """

    def __init__(self, receive: Receive, address: str = "") -> None:
        self._receive, self.address = receive, address

    def __enter__(self) -> Self:
        self._disconnected = asyncio.ensure_future(self._wait_for_disconnect())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._disconnected.cancel()

    async def _wait_for_disconnect(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass

    @classmethod
    def of(cls, request: Request) -> Self:
        """The client of a request whose body has been read."""
        return cls(request.receive, request.client.host if request.client else "")

    async def wait_for(self, answer: Awaitable[Result], timeout: float) -> Result:
        """Awaits an answer; cancels it after `timeout` seconds or when the client disconnects.

        Raises:
            ApiError: the answer was not ready in time.
            ClientGone: the client has disconnected.
        """
        future = asyncio.ensure_future(answer)
        try:
            await asyncio.wait({future, self._disconnected}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
            if future.done():
                return future.result()
        finally:
            future.cancel()
        if self._disconnected.done():
            raise ClientGone
        raise ApiError(503, f"No answer within {timeout:g} seconds. Send fewer texts, or try again later.")
