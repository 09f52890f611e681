"""The page that tells people what the HTTP API can do: whole by itself, nothing is loaded from anywhere."""

from collections.abc import Mapping
from typing import Any

from starlette.responses import HTMLResponse

from ..html_page import draw_page


def docs_page(described: Mapping[str, Any]) -> HTMLResponse:
    """The page for what OpenAPI describes, with a policy that lets nothing else run and nothing load."""
    page, policy = draw_page("api", described["info"]["title"], described)
    return HTMLResponse(page, headers={"Content-Security-Policy": policy})
