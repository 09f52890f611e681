"""Control characters made visible: a terminal shows a text of the user instead of obeying it."""

# C0 (without tab and line feed) and DEL as Unicode's pictures of them; C1, which terminals obey as well, as \x9b.
_PICTURES = {code: 0x2400 + code for code in range(0x20) if code not in (0x09, 0x0A)}
_NAMES = {code: f"\\x{code:02x}" for code in range(0x80, 0xA0)}
_VISIBLE = str.maketrans({**_PICTURES, 0x7F: "␡", **_NAMES})
_JSON = str.maketrans({code: f"\\u{code:04x}" for code in range(0x7F, 0xA0)})


def visible(text: str) -> str:
    """A text without control characters other than tabs and line feeds: ESC is shown as ␛."""
    return text.translate(_VISIBLE)


def visible_json(text: str) -> str:
    """A JSON document with the same content, in which also DEL and C1 are escaped, which JSON allows in strings."""
    return text.translate(_JSON)
