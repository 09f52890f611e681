"""ASGI middleware of the browser app: every request passes it before Gradio."""

import asyncio
import json
import re
import time
from collections.abc import Collection
from urllib.parse import parse_qs

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..http.access import foreign_request
from ..http.errors import ApiError, error_response

MAX_BODY = 2**24  # bytes of an event
CLOSE_SECONDS = 0.2  # after the end of a stream, within which the page has processed it
CLOSE_MESSAGE = b'"msg":"close_stream"'
# Gradio's page compiles templates (unsafe-eval) and contains scripts and styles; everything else is from this server.
# `about:` is the base of a page in a frame (drawing.py), to which this policy applies as well.
CONTENT_SECURITY_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; worker-src 'self' blob:; object-src 'none'; "
    "base-uri 'self' about:; form-action 'self'"
)


class StreamOrdering:
    """Answers a new event only after the page has processed the end of its previous stream of results.

    Gradio closes the stream of results when no event is pending. If the page learned about a new event before it has
    processed that end, it would keep listening on the closed stream and wait forever.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self.closed_at: dict[str, float] = {}  # session -> time at which its stream was closed, of the last moments

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one request."""
        path: str = scope["path"] if scope["type"] == "http" else ""
        if path.endswith("/gradio_api/queue/data"):
            session = parse_qs(scope["query_string"].decode("latin-1")).get("session_hash", [""])[0]
            await self.app(scope, receive, self._recording(session, send))
        elif path.endswith("/gradio_api/queue/join"):
            body = await _read_body(receive)
            if body is None:
                await _refuse(send, 413)
            else:
                await self.app(scope, _replay(body, receive), self._delayed(_session_of(body), send))
        else:
            await self.app(scope, receive, send)

    def _recording(self, session: str, send: Send) -> Send:
        """`send` that records when the stream is closed."""

        async def recording(message: Message) -> None:
            if CLOSE_MESSAGE in message.get("body", b""):
                now = time.monotonic()
                self.closed_at = {one: when for one, when in self.closed_at.items() if now - when < CLOSE_SECONDS}
                self.closed_at[session] = now
            await send(message)

        return recording

    def _delayed(self, session: str, send: Send) -> Send:
        """`send` that waits until the page has processed the end of the previous stream."""

        async def delayed(message: Message) -> None:
            if message["type"] == "http.response.start" and session in self.closed_at:
                await asyncio.sleep(self.closed_at[session] + CLOSE_SECONDS - time.monotonic())
            await send(message)

        return delayed


class SecurityMiddleware:
    """Blocks requests from other sites, and requests of the page and of this server to other machines.

    Gradio would fetch a URL given in place of a file. A page of another site, open in the same browser, could upload
    files and train here.

    Args:
        app: the application behind it.
        hosts: accepted values of the Host header, without a port; all if empty.
    """

    def __init__(self, app: ASGIApp, hosts: Collection[str] = ()) -> None:
        self.app = app
        self.hosts = {host.lower() for host in hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        root: str = scope.get("root_path", "")
        if root and scope["path"].startswith(f"{root}{root}/"):  # the proxy kept the prefix, and the server added it
            scope = {**scope, "path": scope["path"].removeprefix(root)}
        path: str = scope["path"].removeprefix(root)
        in_api = path.startswith("/api/")
        if reason := foreign_request(scope, self.hosts):
            response = error_response(ApiError(403, reason)) if in_api else PlainTextResponse(reason, 403)
            await response(scope, receive, send)
            return
        if in_api:
            await self.app(scope, receive, send)
            return
        if "/file=http:" in path or "/file=https:" in path or "/proxy=" in path:
            await _refuse(send, 404)
            return
        if scope["method"] == "POST" and path.startswith("/gradio_api/") and not path.startswith("/gradio_api/upload"):
            body = await _read_body(receive)
            if body is None or contains_url(body):
                await _refuse(send, 413 if body is None else 400)
                return
            receive = _replay(body, receive)
        await self.app(scope, receive, _with_security_headers(send))


def _with_security_headers(send: Send) -> Send:
    async def with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            added = [
                (b"content-security-policy", CONTENT_SECURITY_POLICY.encode()),
                (b"x-content-type-options", b"nosniff"),
                (b"referrer-policy", b"no-referrer"),
            ]
            message["headers"] = [*message.get("headers", []), *added]
        await send(message)

    return with_headers


async def _refuse(send: Send, status: int) -> None:
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body", "body": b""})


async def _read_body(receive: Receive) -> bytes | None:
    """The body of a request; None if it exceeds MAX_BODY."""
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if len(body) > MAX_BODY:
            return None
        if not message.get("more_body"):
            return body


def _replay(body: bytes, receive: Receive) -> Receive:
    """`receive` that returns the given body first."""
    returned = False

    async def replaying() -> Message:
        nonlocal returned
        if returned:
            return await receive()
        returned = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replaying


def contains_url(body: bytes) -> bool:
    """Whether a JSON body has a URL in place of the path of a file."""
    try:
        waiting = [json.loads(body)]
    except (ValueError, RecursionError):
        return False  # Gradio refuses it
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            if re.match(r"\s*https?:", str(value.get("path", "")), re.IGNORECASE):
                return True
            waiting.extend(value.values())
        elif isinstance(value, list):
            waiting.extend(value)
    return False


def _session_of(body: bytes) -> str:
    """The session of an event; empty for an invalid body, which Gradio refuses."""
    try:
        event = json.loads(body)
    except (ValueError, RecursionError):
        return ""
    return str(event.get("session_hash", "")) if isinstance(event, dict) else ""
