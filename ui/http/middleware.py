"""What every request passes: the checks of access and size, the client that waits, and the request metrics."""

import asyncio
import time
from collections.abc import Awaitable, Collection
from types import TracebackType
from typing import Self, TypeVar

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .access import PAGES, Access
from .bodies import limited_body
from .errors import ApiError, error_response
from .limits import Limits
from .metrics import Metrics

Result = TypeVar("Result")

CLIENT_CLOSED_REQUEST = 499  # nginx's status for a client that disconnects before the response


class ClientGone(Exception):
    """The client has disconnected."""


CLIENT_GONE_ERRORS = (ClientGone, ClientDisconnect)


class RequestGuard:
    """ASGI middleware that checks the API key and the size of the body, and counts requests.

    A HEAD request is answered as the GET request without its body.

    Args:
        app: the application behind it.
        access: who may use it.
        limits: limits of the server.
        metrics: where requests are counted.
        paths: paths that are counted by name; all others are counted as "other".
    """

    def __init__(
        self, app: ASGIApp, *, access: Access, limits: Limits, metrics: Metrics, paths: Collection[str]
    ) -> None:
        self.app, self.access, self.limits, self.metrics, self.paths = app, access, limits, metrics, frozenset(paths)

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
            elif is_head:
                message = {**message, "body": b""}
            await send(message)

        is_head = scope["method"] == "HEAD"
        try:
            self.access.check(scope, path)
            body = limited_body(receive, Headers(scope=scope), self.limits)
            await self.app({**scope, "method": "GET"} if is_head else scope, body, record_status)
        except ApiError as error:
            await error_response(error, basic=path in PAGES)(scope, receive, record_status)
        except Exception:
            status = 500  # counted here; answered and logged by Starlette's outer middleware
            raise
        finally:
            name = path if path in self.paths else "other"
            self.metrics.requests.labels(name, str(status)).inc()
            self.metrics.seconds.labels(name).observe(time.perf_counter() - start)


def path_of(scope: Scope) -> str:
    """The path inside the API, without the prefix under which it is mounted."""
    path, root = scope["path"], scope.get("root_path", "")
    return path.removeprefix(root) if path.startswith(f"{root}/") else path


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
