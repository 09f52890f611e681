"""Who may use a server: the API key, and the sites whose pages may send requests."""

import base64
import re
import secrets
from collections.abc import Collection
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.types import Scope

from .errors import ApiError

PUBLIC_PATHS = ("/health",)  # paths that need no key
PAGES = ("/docs", "/openapi.json")  # a browser can send the key to them as the password of HTTP's basic authentication
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")  # Host headers of a client on this machine


def foreign_request(scope: Scope, hosts: Collection[str]) -> str | None:
    """Why a request is refused that a page of another site may have sent; None if it is accepted.

    With DNS rebinding, the name of another site is made to resolve to this machine, and a page of that site, open in a
    browser here, could then read every answer. The browser still sends the site's name as Host.

    Args:
        scope: of the request.
        hosts: accepted values of the Host header, in lower case and without a port; all if empty.
    """
    headers = Headers(scope=scope)
    host = re.sub(r":\d+$", "", headers.get("host", "")).lower()
    if hosts and host not in hosts:
        return "This server only accepts requests to localhost. Use localhost, or start it with --host or --key."
    if scope["method"] not in SAFE_METHODS and headers.get("sec-fetch-site") == "cross-site":
        return "This request was sent by a page of another site. Use Headway's own page."
    return None


@dataclass(frozen=True)
class Access:
    """Who may use a server.

    Args:
        key: the API key; None if every client has access.
        hosts: accepted values of the Host header, without a port; all if empty.
    """

    key: str | None = None
    hosts: tuple[str, ...] = ()

    def check(self, scope: Scope, path: str) -> None:
        """Checks a request.

        Raises:
            ApiError: it has no or another key, or may have been sent by a page of another site.
        """
        if reason := foreign_request(scope, [host.lower() for host in self.hosts]):
            raise ApiError(403, reason)
        if self.key is None or path in PUBLIC_PATHS:
            return
        scheme, _, given = Headers(scope=scope).get("authorization", "").partition(" ")
        given = given.strip()
        if scheme.lower() == "basic" and path in PAGES:
            scheme, given = "bearer", _password(given)
        # as bytes: a header may contain any of them, and strings must be ASCII to be compared
        if scheme.lower() != "bearer" or not secrets.compare_digest(given.encode("latin-1"), self.key.encode()):
            raise ApiError(401, "The API key is missing or wrong. Send it in the header `Authorization: Bearer KEY`.")


def _password(credentials: str) -> str:
    """The password in the credentials of basic authentication; empty if they are not valid."""
    try:
        return base64.b64decode(credentials).decode("latin-1").partition(":")[2]
    except ValueError:
        return ""
