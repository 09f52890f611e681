"""Writes the tree of files in README.md: `python tests/readme_tree.py`.

Each line is the beginning of a module's docstring: up to the first colon for a file, the first sentence for a folder.
"""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
FLOORS = ("core", "tasks", "ui")
# The order of the folders; others follow in alphabetical order.
ORDER = (
    "models", "tokenizers", "checkpoints", "training", "generation", "inference",
    "data", "base", "classification", "tagging", "question_answering", "embedding", "language_modeling", "prompting",
    "commands", "browser", "http", "runs",
)  # fmt: skip
# Folders without Python files, and those that are not shown in detail.
OTHERS = {
    "core/builtin": "the two small models that ship with the package, and how they were made",
    "ui/pages": "HTML, styles and scripts of the pages",
    "tests": "mirrors the floors; benchmarks/ measures both sides of every published figure",
    "docs": "the user guide",
}
COLUMN = 30  # of the descriptions
TREE = re.compile(r"(?<=```text\n)core/ .*?(?=```)", re.S)


def tree(root: Path) -> str:
    """The files of the floors and their folders, one line each, with what they contain."""
    lines = [line for floor in FLOORS for line in _folder(root, root / floor)]
    lines += [_line(f"{name}/", text) for name, text in OTHERS.items() if "/" not in name and (root / name).is_dir()]
    return "".join(f"{line}\n" for line in lines)


def rewritten(readme: str, root: Path) -> str:
    """A README with the tree of the files as they are now.

    Raises:
        ValueError: it does not contain exactly one tree.
    """
    if len(TREE.findall(readme)) != 1:
        raise ValueError("README.md must contain one block ```text that starts with core/")
    return TREE.sub(lambda _: tree(root), readme)


def _folder(root: Path, folder: Path) -> Iterator[str]:
    name = folder.relative_to(root).as_posix()
    indent = "  " * name.count("/")
    text = OTHERS.get(name) or description(folder / "__init__.py", whole=True)
    yield _line(f"{indent}{folder.name}/", text)
    folders = [path for path in folder.iterdir() if path.is_dir() and _is_shown(root, path)]
    for path in sorted(folders, key=lambda path: (ORDER.index(path.name) if path.name in ORDER else 99, path.name)):
        yield from _folder(root, path)
    for path in sorted(folder.glob("*.py")):
        if path.name != "__init__.py":
            yield _line(f"{indent}  {path.name}", description(path))


def _is_shown(root: Path, folder: Path) -> bool:
    return folder.relative_to(root).as_posix() in OTHERS or (folder / "__init__.py").exists()


def _line(name: str, text: str) -> str:
    return f"{name:<{COLUMN - 1}} {text}"


def description(path: Path, *, whole: bool = False) -> str:
    """The first sentence of a module's docstring; up to its first colon unless `whole`."""
    paragraph = " ".join(
        (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").split("\n\n")[0].split()
    )
    sentence = re.split(r"\.(?= [A-Z`]|$)", re.sub(r" \(https?://[^)]*\)", "", paragraph))[0]
    return sentence.rstrip(":") if whole else re.split(r"[:;] |:$", sentence)[0]


if __name__ == "__main__":
    README = CHECKOUT / "README.md"
    before = README.read_text(encoding="utf-8")
    after = rewritten(before, CHECKOUT)
    README.write_text(after, encoding="utf-8")
    sys.exit(f"{README} was out of date and is rewritten" if before != after else 0)
