"""The /docs page of the HTTP API: one self-contained HTML document."""

from collections.abc import Mapping
from typing import Any

from starlette.responses import HTMLResponse

from ..html_page import draw_page


def docs_page(openapi: Mapping[str, Any]) -> HTMLResponse:
    """The page for an OpenAPI schema, with a content security policy that blocks all other code and requests."""
    page, policy = draw_page("api", openapi["info"]["title"], openapi)
    return HTMLResponse(page, headers={"Content-Security-Policy": policy})
