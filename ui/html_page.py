"""Self-contained pages: one HTML document with its style, script and data, which loads nothing.

pages/NAME.html is the template, with NAME.css and NAME.js. Text from a model or a user is embedded as JSON, which the
script inserts as text nodes. The page's content security policy blocks any other script, style and request.
"""

import base64
import hashlib
import html
import json
import re
from pathlib import Path
from typing import Any

PAGES = Path(__file__).with_name("pages")


def draw_page(name: str, title: str, content: Any) -> tuple[str, str]:
    """Renders a page.

    Args:
        name: name of the files in pages/.
        title: title of the browser window, as plain text.
        content: data for the script, as plain JSON types.

    Returns:
        The HTML document and its content security policy, as the value of the HTTP header.
    """
    style, script, template = (_read(f"{name}.{ending}") for ending in ("css", "js", "html"))
    policy = f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'"
    values = {
        "policy": policy,
        "title": html.escape(title),
        "style": style,
        "data": as_json(content),
        "script": script,
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda match: values[match[1]], template), policy


def static_page(name: str, title: str, body: str) -> str:
    """A page without scripts.

    Args:
        name: of the style in pages/.
        title: title of the browser window, as plain text.
        body: HTML in which all text is escaped; elements may have style attributes, as pictures do.
    """
    style = _read(f"{name}.css")
    policy = f"default-src 'none'; style-src '{_hash(style)}'; style-src-attr 'unsafe-inline'"
    values = {"policy": policy, "title": html.escape(title), "style": style, "body": body}
    return re.sub(r"\{\{(\w+)\}\}", lambda match: values[match[1]], _read(f"{name}.html"))


def as_json(content: Any) -> str:
    """JSON that is safe in a script element: ASCII without characters that could end the element or start another."""
    text = json.dumps(content, allow_nan=False, separators=(",", ":"))
    return text.replace("<", r"\u003c").replace(">", r"\u003e").replace("&", r"\u0026")


def _read(name: str) -> str:
    return (PAGES / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
