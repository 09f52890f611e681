"""Puts what is generated from the code into the pages: `<!-- generated: NAME -->` stands for a part.

The pages of the commands have no source of their own: they are written into docs/commands before Sphinx reads it.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from command_pages import command_list, command_pages
from error_pages import error_list
from format_tables import column_table, format_table, label_columns, other_languages, reading_options
from pygments.lexers.special import TextLexer
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

DATA_LANGUAGES = ("csv", "tsv", "conll", "jsonl")  # of blocks that Pygments does not know
MARK = re.compile(r"<!-- generated: (\w+) -->")
PARTS: dict[str, Callable[[], str]] = {
    "commands": command_list,
    "errors": error_list,
    "formats": format_table,
    "columns": column_table,
    "label_columns": label_columns,
    "other_languages": other_languages,
    "reading_options": reading_options,
}


def setup(app: Sphinx) -> dict[str, Any]:
    """Connects the extension."""
    for language in DATA_LANGUAGES:
        app.add_lexer(language, TextLexer)
    app.connect("builder-inited", write_command_pages)
    app.connect("env-get-outdated", generated)
    app.connect("source-read", insert_parts)
    return {"parallel_read_safe": True}


def write_command_pages(app: Sphinx) -> None:
    """Writes a page per command; one that has not changed is not touched."""
    folder = Path(app.srcdir) / "commands"
    folder.mkdir(exist_ok=True)
    pages = command_pages()
    for path in folder.glob("*.md"):
        if path.stem not in pages:
            path.unlink()
    for name, page in pages.items():
        path = folder / f"{name}.md"
        if not path.exists() or path.read_text(encoding="utf-8") != page:
            path.write_text(page, encoding="utf-8")


def generated(app: Sphinx, env: BuildEnvironment, added: set[str], changed: set[str], removed: set[str]) -> list[str]:
    """The pages with generated parts, which every build reads again."""
    return [name for name in env.found_docs if MARK.search(Path(env.doc2path(name)).read_text(encoding="utf-8"))]


def insert_parts(app: Sphinx, name: str, source: list[str]) -> None:
    """Replaces the marks of a page."""
    source[0] = MARK.sub(lambda mark: PARTS[mark[1]](), source[0])
