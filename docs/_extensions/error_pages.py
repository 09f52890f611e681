"""Every message of a HeadwayError in the source, by the part of the package that raises it."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import headway.core
from guide_markdown import escape
from headway.core import errors

ROOT = Path(str(headway.core.__file__)).parents[1]
FLOORS = ("core", "tasks", "ui")
BASES = {name for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, Exception)}
MIN_WORDS = 3  # fewer is a message that is made elsewhere
NAMES = {"error": "reason", "why": "reason", "self": ""}


@dataclass(frozen=True)
class ErrorMessage:
    """A message of an error.

    Args:
        room: the package that raises it, such as tasks.data.
        text: with ⟨placeholders⟩.
        place: file and line.
    """

    room: str
    text: str
    place: str


def error_messages() -> list[ErrorMessage]:
    """The messages in the order of the floors, their packages and files."""
    found = []
    for floor in FLOORS:
        for path in sorted((ROOT / floor).rglob("*.py")):
            inner = path.relative_to(ROOT)
            room = ".".join(inner.parts[:2] if len(inner.parts) > 2 else inner.parts[:1])
            constants = _constants(ast.parse(path.read_text(encoding="utf-8")))
            for line, text in _messages(path, constants):
                found.append(ErrorMessage(room, text, f"{inner.as_posix()}:{line}"))
    return found


def error_list() -> str:
    """The messages as Markdown, by room."""
    parts: list[str] = []
    messages = error_messages()
    for room in sorted({one.room for one in messages}, key=lambda room: (FLOORS.index(room.split(".")[0]), room)):
        parts.append(f"## {_title(room)}\n")
        for text in sorted({one.text for one in messages if one.room == room}, key=str.casefold):
            said, todo = _split(text)
            parts.append(f"{_marked(said)}\n: {_marked(todo)}\n")
    return "\n".join(parts)


def _title(room: str) -> str:
    path = ROOT.joinpath(*room.split("."), "__init__.py")
    purpose = (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").split("\n")[0].rstrip(".")
    return purpose if "." in room else {"core": "Models and files", "tasks": "Tasks", "ui": "Commands"}[room]


def _constants(tree: ast.Module) -> dict[str, str]:
    """Module constants that are text, which messages name."""
    return {
        node.targets[0].id: node.value.value
        for node in tree.body
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Name)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    }


def _messages(path: Path, constants: dict[str, str]) -> Iterator[tuple[int, str]]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    own = {
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
        and any(isinstance(base, ast.Name) and base.id in BASES for base in node.bases)
    }
    for function in [tree, *(n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef))]:
        local = constants | _local_texts(function) if isinstance(function, ast.FunctionDef) else constants
        for node in _own_nodes(function):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Name)
                and node.func.id in BASES | own
                and node.args
            ):
                for text in _texts(node.args[0], local):
                    text = " ".join(text.split())
                    if len(re.findall(r"(?<!⟨)\b[a-z]{2,}\b(?!⟩)", text)) >= MIN_WORDS:
                        yield node.lineno, text


def _own_nodes(scope: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(scope):
        if not isinstance(child, ast.FunctionDef):
            yield child
            yield from _own_nodes(child)


def _local_texts(function: ast.FunctionDef) -> dict[str, str]:
    """Messages that a function puts into a variable first."""
    found: dict[str, str] = {}
    for node in _own_nodes(function):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            name = node.targets[0].id
            if name == "message" and isinstance(node.value, ast.JoinedStr | ast.Constant):
                found[name] = next(iter(_texts(node.value, {})), "")
    return found


def _texts(node: ast.expr, constants: dict[str, str]) -> list[str]:
    """The texts that an expression can be, with placeholders for what is only known at run time."""
    if isinstance(node, ast.Constant):
        return [str(node.value)]
    if isinstance(node, ast.JoinedStr):
        texts = [""]
        for part in node.values:
            value = part.value if isinstance(part, ast.FormattedValue) else part
            texts = [one + other for one in texts for other in _texts(value, constants)[:4]]
        return texts[:8]
    if isinstance(node, ast.IfExp):
        return [*_texts(node.body, constants), *_texts(node.orelse, constants)]
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return [a + b for a in _texts(node.left, constants) for b in _texts(node.right, constants)]
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
        return [*_texts(node.left, constants), ""]
    if isinstance(node, ast.Name) and node.id in constants:
        return [constants[node.id]]
    return [f"⟨{_placeholder(node)}⟩"]


def _placeholder(node: ast.expr) -> str:
    """A word for a value: the name of its variable or attribute."""
    if isinstance(node, ast.Name):
        return NAMES.get(node.id, node.id).strip("_").lower().replace("_", " ") or "..."
    if isinstance(node, ast.Attribute):
        return node.attr.strip("_").lower().replace("_", " ")
    if isinstance(node, ast.Call) and node.args and isinstance(node.func, ast.Name | ast.Attribute):
        name = node.func.id if isinstance(node.func, ast.Name) else node.func.attr
        return (
            _placeholder(node.args[0])
            if name in {"str", "shorten", "repr", "len", "quote", "join", "flag", "count", "listed"}
            else name.strip("_").replace("_", " ")
        )
    if isinstance(node, ast.Subscript):
        return _placeholder(node.value)
    return "..."


def _split(text: str) -> tuple[str, str]:
    """What happened, and what to do: the last sentence, if there are several."""
    for mark in (". ", "; ", ": "):
        first, found, rest = text.partition(mark)
        if found:
            return first + mark.strip(" "), rest[0].upper() + rest[1:]
    return text, "Change what it names."


def _marked(text: str) -> str:
    """A message with its placeholders set apart."""
    pieces = re.split(r"⟨(.*?)⟩", text)
    return "".join(f"*{piece}*" if i % 2 else escape(piece) for i, piece in enumerate(pieces))
