"""The code blocks of README, of the pages of the guide and of its notebooks, with what the tests do with each.

A comment on the line before a block, which readers do not see, says how it is tested:

    <!-- file: NAME -->      the block is the content of the file NAME
    <!-- output -->          the block is what the block before it prints; `...` stands for anything
    <!-- add: OPTIONS -->    the tests add these options to its `headway` commands, such as: --max-steps 4
    <!-- fails -->           its last command ends with an error that users can fix (exit code 2)
    <!-- not run: REASON --> it is not run

Without a comment, `sh` and `python` blocks run, `json` and `yaml` blocks must be readable, and other blocks are not
tested. See guide_runner.py for how blocks run.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
DOCS = CHECKOUT / "docs"
GENERATED = {"commands", "_build", ".ipynb_checkpoints"}  # folders without pages that are written by hand
FENCE = re.compile(r"^(?P<indent> *)(?P<marks>`{3,}|~{3,})(?P<language>[^`\n]*)$")
DIRECTIVE = re.compile(r"<!--\s*(?P<kind>file|output|add|fails|not run)(?::\s*(?P<value>.*?))?\s*-->")
NEED_VALUE = ("file", "add", "not run")


@dataclass(frozen=True)
class Block:
    """A fenced code block.

    Args:
        language: the word after the fence.
        content: without the fences.
        line: number of its first line on the page.
        test: kind of the comment before it, or "".
        value: what the comment says after its colon.
    """

    language: str
    content: str
    line: int
    test: str = ""
    value: str = ""


def pages() -> list[Path]:
    """README, and the pages and notebooks of the guide that are written by hand."""
    guide = [path for kind in ("md", "ipynb") for path in DOCS.rglob(f"*.{kind}")]
    written = [path for path in guide if not GENERATED & set(path.relative_to(DOCS).parts)]
    return [CHECKOUT / "README.md", *sorted(written)]


def blocks(page: Path) -> list[Block]:
    """The blocks of a page in order; every code cell of a notebook is a block.

    Raises:
        ValueError: a comment before a block lacks what it needs, or a block has no end.
    """
    text = page.read_text(encoding="utf-8")
    if page.suffix == ".ipynb":
        cells = json.loads(text)["cells"]
        return [
            Block("python", "".join(cell["source"]), number)
            for number, cell in enumerate(cells, start=1)
            if cell["cell_type"] == "code"
        ]
    return list(_fenced(page, list(enumerate(text.splitlines(), start=1))))


def _fenced(page: Path, lines: list[tuple[int, str]]) -> Iterator[Block]:
    start, opened = 0, None
    for position, (_, line) in enumerate(lines):
        if opened is None:
            opened, start = FENCE.match(line), position
        elif line.strip() == opened["marks"]:
            language, indent = opened["language"].strip(), len(opened["indent"])
            content = [(at, one[indent:]) for at, one in lines[start + 1 : position]]
            if language.startswith("{"):  # a directive, such as a note with blocks
                yield from _fenced(page, content)
            else:
                text = "".join(f"{one}\n" for _, one in content)
                yield Block(language, text, lines[start][0] + 1, *_test(page, *lines[max(start - 1, 0)]))
            opened = None
    if opened is not None:
        raise ValueError(f"{page.name}:{lines[start][0]}: the block has no end")


def _test(page: Path, number: int, line: str) -> tuple[str, str]:
    directive = DIRECTIVE.fullmatch(line.strip())
    if directive is None:
        return "", ""
    if (directive["kind"] in NEED_VALUE) != bool(directive["value"]):
        raise ValueError(f"{page.name}:{number}: write {' or '.join(NEED_VALUE)} with, and the others without a value")
    return directive["kind"], directive["value"] or ""
