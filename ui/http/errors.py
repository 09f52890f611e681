"""Errors as responses: `{"error": {"message", "type", "param", "code"}}`, the format of OpenAI's clients.

The message says what is wrong, where, and what to do.
"""

import json
from typing import Any

from starlette.responses import Response

from ...core.errors import HeadwayError
from ..model_registry import NoSuchModel
from .worker import QueueFull, Stopping

ERROR_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
    500: "server_error",
    503: "unavailable_error",
}


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


def error_response(error: HeadwayError, *, basic: bool = False) -> JsonResponse:
    """The response for an error; with `basic`, a browser asks for the missing key."""
    status = status_of(error)
    scheme = 'Basic realm="Headway: any user name, and the key as password", charset="UTF-8"' if basic else "Bearer"
    headers = {401: {"WWW-Authenticate": scheme}, 429: {"Retry-After": "1"}, 503: {"Retry-After": "5"}}
    param = error.param if isinstance(error, ApiError) else None
    return JsonResponse(error_body(status, str(error), param), status, headers.get(status))
