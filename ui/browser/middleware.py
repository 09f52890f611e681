"""What every request of the browser app goes through before Gradio sees it."""

import asyncio
import json
import re
import time
from collections.abc import Collection
from urllib.parse import parse_qs

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..http.middleware import ApiError, error_response

READING = ("GET", "HEAD", "OPTIONS")  # methods that change nothing
MOST_SENT = 2**24  # bytes of a form
AFTER = 0.2  # seconds from the end of a stream until a page has surely seen it
CLOSE = b'"msg":"close_stream"'
# Gradio's page builds functions from templates (unsafe-eval) and has scripts and styles in it; all else is from here.
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; worker-src 'self' blob:; object-src 'none'; "
    "base-uri 'self'; form-action 'self'"
)


class AfterTheLast:
    """Lets a page know of an event only after it has seen the end of the stream that the last events were told in.

    A stream of answers ends when none is due. Were the page told before it has seen that end that a new event is
    taken, it would listen at the old stream, where nothing comes any more, and wait for ever.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self.ended: dict[str, float] = {}  # session -> when its stream ended, of those that ended just now

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """An ASGI call."""
        path: str = scope["path"] if scope["type"] == "http" else ""
        if path.endswith("/gradio_api/queue/data"):
            session = parse_qs(scope["query_string"].decode("latin-1")).get("session_hash", [""])[0]
            await self.app(scope, receive, self._noting_the_end(session, send))
        elif path.endswith("/gradio_api/queue/join"):
            body = await _read(receive)
            if body is None:
                await _refuse(send, 413)
            else:
                await self.app(scope, _again(body, receive), self._waiting(_session_of(body), send))
        else:
            await self.app(scope, receive, send)

    def _noting_the_end(self, session: str, send: Send) -> Send:
        async def noted(message: Message) -> None:
            if CLOSE in message.get("body", b""):
                now = time.monotonic()
                self.ended = {one: when for one, when in self.ended.items() if now - when < AFTER}
                self.ended[session] = now
            await send(message)

        return noted

    def _waiting(self, session: str, send: Send) -> Send:
        async def waited(message: Message) -> None:
            if message["type"] == "http.response.start" and session in self.ended:
                await asyncio.sleep(self.ended[session] + AFTER - time.monotonic())
            await send(message)

        return waited


class StayHome:
    """Keeps the page from asking anything of another machine, and this one from doing so on a page's behalf.

    Gradio would fetch addresses that are given to it in the place of files. And a page of another site, open in the
    same browser, could upload files here and train, or have its own name lead here and read everything.

    Args:
        app: what is behind it.
        hosts: the only names under which it may be asked for; none: any.
    """

    def __init__(self, app: ASGIApp, hosts: Collection[str] = ()) -> None:
        self.app = app
        self.hosts = {host.lower() for host in hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """An ASGI call."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        root: str = scope.get("root_path", "")
        if root and scope["path"].startswith(f"{root}{root}/"):  # a proxy has left it on, and the server put it there
            scope = {**scope, "path": scope["path"].removeprefix(root)}
        path: str = scope["path"].removeprefix(root)
        if why := self._not_from_here(scope):
            in_api = path.startswith("/api/")
            answer = error_response(ApiError(403, why)) if in_api else PlainTextResponse(why, 403)
            await answer(scope, receive, send)
            return
        if path.startswith("/api/"):
            await self.app(scope, receive, send)
            return
        if "/file=http:" in path or "/file=https:" in path or "/proxy=" in path:
            await _refuse(send, 404)
            return
        if scope["method"] == "POST" and path.startswith("/gradio_api/") and not path.startswith("/gradio_api/upload"):
            body = await _read(receive)
            if body is None or names_address(body):
                await _refuse(send, 413 if body is None else 400)
                return
            receive = _again(body, receive)

        async def with_policy(message: Message) -> None:
            if message["type"] == "http.response.start":
                added = [
                    (b"content-security-policy", POLICY.encode()),
                    (b"x-content-type-options", b"nosniff"),
                    (b"referrer-policy", b"no-referrer"),
                ]
                message["headers"] = [*message.get("headers", []), *added]
            await send(message)

        await self.app(scope, receive, with_policy)

    def _not_from_here(self, scope: Scope) -> str | None:
        """Why a request is refused that a page of another site may have made, if it is."""
        headers = Headers(scope=scope)
        host = re.sub(r":\d+$", "", headers.get("host", "")).lower()
        if self.hosts and host not in self.hosts:
            return "It answers to this machine alone: ask for localhost, or start it with --host or a key."
        if scope["method"] not in READING and headers.get("sec-fetch-site") == "cross-site":
            return "A page of another site has sent this: open Headway's own page and do it there."
        return None


async def _refuse(send: Send, status: int) -> None:
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body", "body": b""})


async def _read(receive: Receive) -> bytes | None:
    """What a page has sent; None where it is more than texts are."""
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if len(body) > MOST_SENT:
            return None
        if not message.get("more_body"):
            return body


def _again(body: bytes, receive: Receive) -> Receive:
    """Gives the body that was read, and then what comes."""
    given = False

    async def next_message() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return next_message


def names_address(body: bytes) -> bool:
    """Whether an address of the web stands in the place of a file."""
    try:
        waiting = [json.loads(body)]
    except (ValueError, RecursionError):
        return False  # which Gradio refuses by itself
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            if re.match(r"\s*https?:", str(one.get("path", "")), re.IGNORECASE):
                return True
            waiting.extend(one.values())
        elif isinstance(one, list):
            waiting.extend(one)
    return False


def _session_of(body: bytes) -> str:
    """Whose event it is; empty where it is none, which Gradio refuses by itself."""
    try:
        event = json.loads(body)
    except (ValueError, RecursionError):
        return ""
    return str(event.get("session_hash", "")) if isinstance(event, dict) else ""
