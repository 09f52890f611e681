"""Pages that are whole by themselves: one HTML document that loads nothing, from a frame, a style, a script and data.

pages/NAME.html is the frame, with NAME.css and NAME.js; what comes from a model or a person is in it as JSON, which
the script puts on the page as text. The page's own policy lets nothing else run and nothing load.
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
    """A page, and its policy as a header says it.

    Args:
        name: of the files in pages/.
        title: for the browser's window, as plain text.
        content: plain JSON types, for the script.
    """
    style, script, frame = (_read(f"{name}.{ending}") for ending in ("css", "js", "html"))
    policy = f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'"
    fillings = {
        "policy": policy,
        "title": html.escape(title),
        "style": style,
        "data": as_json(content),
        "script": script,
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda match: fillings[match[1]], frame), policy


def as_json(content: Any) -> str:
    """JSON that can stand in a script element: in ASCII, and no sign in it can end the element or begin another."""
    text = json.dumps(content, allow_nan=False, separators=(",", ":"))
    return text.replace("<", r"\u003c").replace(">", r"\u003e").replace("&", r"\u0026")


def _read(name: str) -> str:
    return (PAGES / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
