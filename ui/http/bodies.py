"""The body of a request: its size, its compression, and the JSON object in it."""

import asyncio
import json
import zlib
from typing import Any

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import Message, Receive

from .errors import ApiError
from .limits import Limits

GZIP = 16 + zlib.MAX_WBITS  # tells zlib to expect the header of gzip
GZIP_MAGIC = b"\x1f\x8b"


def limited_body(receive: Receive, headers: Headers, limits: Limits) -> Receive:
    """`receive` for a body of limited size, decompressed, so that no larger body is ever held in memory.

    Args:
        receive: of the request.
        headers: of the request.
        limits: of the server.

    Raises:
        ApiError: the announced size exceeds the limit, or the body is compressed by another method than gzip. Raised
            by the returned function: the body itself exceeds the limit, or is not gzip.
    """
    encoding = headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("identity", "gzip", "x-gzip", ""):
        raise ApiError(415, f"The body is compressed with {encoding}. Send it uncompressed or compressed with gzip.")
    length = headers.get("content-length", "0")
    if length.isdigit() and int(length[:20]) > limits.max_body_bytes:
        raise _too_large(limits)
    expand = _Gunzip(limits).expand if encoding.endswith("gzip") else None
    received = 0

    async def limited() -> Message:
        nonlocal received
        message = await receive()
        if message["type"] != "http.request":
            return message
        received += len(message.get("body", b""))
        if received > limits.max_body_bytes:
            raise _too_large(limits)
        return message if expand is None else expand(message)

    return limited


class _Gunzip:
    """Decompresses a body as it arrives."""

    def __init__(self, limits: Limits) -> None:
        self._limits, self._left = limits, limits.max_body_bytes
        self._stream = zlib.decompressobj(GZIP)

    def expand(self, message: Message) -> Message:
        """A message with its part of the body decompressed."""
        given, parts = message.get("body", b""), []
        try:
            while given:
                part = self._stream.decompress(given, self._left + 1)
                self._left -= len(part)
                if self._left < 0:
                    raise _too_large(self._limits)
                parts.append(part)
                given = self._stream.unused_data
                if self._stream.eof and given:  # a file may consist of several, one after the other
                    self._stream = zlib.decompressobj(GZIP)
        except zlib.error as error:
            raise ApiError(422, f"The body is not valid gzip ({error}). Compress it again.") from error
        if not message.get("more_body") and not self._stream.eof:
            raise ApiError(422, "The gzip body ends too early. Compress it again.")
        return {**message, "body": b"".join(parts)}


def _too_large(limits: Limits) -> ApiError:
    return ApiError(413, f"The body exceeds {limits.max_body:g} megabytes. Split the texts into several requests.")


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
    if body.startswith(GZIP_MAGIC):
        raise ApiError(415, "The body is compressed. Send the header `Content-Encoding: gzip`, or the plain text.")
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
