"""The page that tells people what the HTTP API can do: whole by itself, nothing is loaded from anywhere.

pages/api.html is its frame; the description is in it as JSON, which its script puts on the page as text.
"""

import base64
import hashlib
import html
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from starlette.responses import HTMLResponse

from ..commands.inspect_page import as_json

PAGES = Path(__file__).parents[1] / "pages"


def docs_page(described: Mapping[str, Any]) -> HTMLResponse:
    """The page for what OpenAPI describes, with a policy that lets nothing else run and nothing load."""
    style, script = ((PAGES / name).read_text(encoding="utf-8") for name in ("api.css", "api.js"))
    fillings = {
        "title": html.escape(described["info"]["title"]),
        "style": style,
        "data": as_json(described),
        "script": script,
    }
    frame = (PAGES / "api.html").read_text(encoding="utf-8")
    page = re.sub(r"\{\{(\w+)\}\}", lambda match: fillings[match[1]], frame)
    sources = ("style-src", style), ("script-src", script)
    policy = "; ".join(["default-src 'none'", *(f"{name} '{_hash(text)}'" for name, text in sources)])
    return HTMLResponse(page, headers={"Content-Security-Policy": policy})


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
