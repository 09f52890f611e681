"""Markdown from plain text and tables, for the pages that are generated."""

import re
from collections.abc import Iterable, Sequence

SPECIAL = re.compile(r"([\\*_<>\[\]{}|$#~^`])")
FLAG = re.compile(r"(?<![\w`-])(--?[a-zA-Z][\w-]*)")


def escape(text: str) -> str:
    """A plain text as Markdown; what it has between backticks stays code, and options become code."""
    parts = re.split(r"(`[^`]+`)", text)
    return "".join(part if i % 2 else _escape_prose(part) for i, part in enumerate(parts))


def _escape_prose(text: str) -> str:
    pieces = FLAG.split(text)
    return "".join(f"`{piece}`" if i % 2 else SPECIAL.sub(r"\\\1", piece) for i, piece in enumerate(pieces))


def code(text: str) -> str:
    """A text as inline code."""
    ticks = "`" * (1 + max((len(run) for run in re.findall(r"`+", text)), default=0))
    space = " " if len(ticks) > 1 else ""
    return f"{ticks}{space}{text}{space}{ticks}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table whose cells are Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)
