"""The structure of the source code: imports go down only, without cycles; files, classes and functions are short.

Three floors, `ui -> tasks -> core`. Inside a floor each folder is a room; a file that stands beside folders is a room
by itself. Imports inside functions count, those under `if TYPE_CHECKING:` do not.
"""

import ast
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
FLOORS = ("core", "tasks", "ui")  # from the ground up

# Importer, imported, why the import may close a cycle of files in one room.
LATE_IMPORTS = {
    ("tasks.base.task", "tasks.base.model"): "Task.on returns a TaskModel, which is built from tasks",
}

MAX_FILE, MAX_CLASS, MAX_FUNCTION = 450, 300, 60  # lines
MAX_PARAMETERS = 5  # that can be passed by position


@dataclass(frozen=True)
class Import:
    """One module imports another, or a name from it."""

    importer: str
    imported: str
    line: int
    late: bool  # inside a function

    def __str__(self) -> str:
        return f"{self.importer}:{self.line} imports {self.imported}"


def modules(root: Path) -> dict[str, Path]:
    """The files of all floors by module name: core/models/bert.py is core.models.bert."""
    found = {}
    for path in sorted(path for floor in FLOORS for path in (root / floor).rglob("*.py")):
        names = path.relative_to(root).with_suffix("").parts
        found[".".join(names[:-1] if names[-1] == "__init__" else names)] = path
    return found


def statements(node: ast.AST, late: bool = False) -> Iterator[tuple[ast.Import | ast.ImportFrom, bool]]:
    """The import statements below a node, each with whether it is inside a function."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child, late
        elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            for statement in child.orelse:
                yield from statements(ast.Module([statement], []), late)
        else:
            yield from statements(child, late or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef))


def imports(root: Path) -> list[Import]:
    """The imports between modules of the floors; an absolute `headway.core` counts like a relative one."""
    known = modules(root)
    found = []
    for importer, path in known.items():
        package = importer.split(".") if path.name == "__init__.py" else importer.split(".")[:-1]
        for node, late in statements(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names = [alias.name.removeprefix("headway.") for alias in node.names]
            else:
                parents = package[: len(package) + 1 - node.level] if node.level else []
                source = ".".join([*parents, *filter(None, [node.module])]).removeprefix("headway.")
                names = [f"{source}.{alias.name}".lstrip(".") for alias in node.names]
            for name in names:
                imported = name if name in known else name.rpartition(".")[0]
                if imported in known and imported != importer:
                    found.append(Import(importer, imported, node.lineno, late))
    return found


def absolute_imports(root: Path) -> list[str]:
    """Imports that name the package, which is called headway only where it is installed."""
    found = []
    for name, path in modules(root).items():
        for node, _ in statements(ast.parse(path.read_text(encoding="utf-8"))):
            sources = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            absolute = isinstance(node, ast.Import) or node.level == 0
            if absolute and any(source.split(".")[0] == "headway" for source in sources):
                found.append(f"{name}:{node.lineno}")
    return found


def climbing(found: Iterable[Import]) -> list[str]:
    """Imports of a higher floor."""
    return [str(i) for i in found if FLOORS.index(i.imported.split(".")[0]) > FLOORS.index(i.importer.split(".")[0])]


def rooms(root: Path) -> dict[str, str]:
    """The room of each module."""
    known = modules(root)
    folders = {path.parent for path in known.values()}
    with_folders = {folder.parent for folder in folders}
    return {
        name: name if path.parent in with_folders else ".".join(path.parent.relative_to(root).parts)
        for name, path in known.items()
    }


def cycles(edges: Iterable[tuple[str, str]]) -> list[list[str]]:
    """The groups of nodes that all reach each other."""
    graph: dict[str, set[str]] = defaultdict(set)
    for start, end in edges:
        graph[start].add(end)

    def reachable(start: str) -> set[str]:
        seen, waiting = set(), [start]
        while waiting:
            new = graph.get(waiting.pop(), set()) - seen
            seen |= new
            waiting += new
        return seen

    reach = {node: reachable(node) for node in graph}
    groups = {frozenset(other for other in seen if node in reach.get(other, ())) for node, seen in reach.items()}
    return sorted(sorted(group) for group in groups if group)


def room_cycles(root: Path) -> list[list[str]]:
    """Rooms that import each other; a cycle of files across rooms is one as well."""
    place = rooms(root)
    return cycles(
        (place[i.importer], place[i.imported]) for i in imports(root) if place[i.importer] != place[i.imported]
    )


def file_cycles(root: Path, allowed: Iterable[tuple[str, str]] = ()) -> list[list[str]]:
    """Files that import each other, in one room or across rooms; imports inside functions can be allowed."""
    edges = [(i.importer, i.imported, i.late) for i in imports(root)]
    return cycles(
        (importer, imported) for importer, imported, late in edges if not late or (importer, imported) not in allowed
    )


def is_command(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Whether a function's parameters are the options of a command, each with its help text."""
    arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
    return any(a.annotation is not None and ast.unparse(a.annotation).startswith("Annotated[") for a in arguments)


def too_long(root: Path) -> dict[str, int]:
    """Files, classes and functions over their limit, with their lines; a command's signature does not count."""
    found = {}
    for name, path in modules(root).items():
        text = path.read_text(encoding="utf-8")
        lengths = [(name, len(text.splitlines()), MAX_FILE)]
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                limit = MAX_CLASS if isinstance(node, ast.ClassDef) else MAX_FUNCTION
                first = node.body[0].lineno if not isinstance(node, ast.ClassDef) and is_command(node) else node.lineno
                lengths.append((f"{name}.{node.name}", (node.end_lineno or first) - first + 1, limit))
        found |= {what: lines for what, lines, limit in lengths if lines > limit}
    return found


def too_many_parameters(root: Path) -> list[str]:
    """Functions, except for commands, with more parameters than the limit that can be passed by position."""
    found = []
    for name, path in modules(root).items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not is_command(node):
                names = [a.arg for a in [*node.args.posonlyargs, *node.args.args] if a.arg not in ("self", "cls")]
                if len(names) > MAX_PARAMETERS:
                    found.append(f"{name}.{node.name}")
    return found


def write_tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
    return root


def test_every_source_file_is_checked():
    on_disk = [path for floor in FLOORS for path in (CHECKOUT / floor).rglob("*") if path.suffix == ".py"]
    assert sorted(modules(CHECKOUT).values()) == sorted(on_disk)
    assert len(imports(CHECKOUT)) > len(on_disk) > 100
    assert rooms(CHECKOUT).keys() == modules(CHECKOUT).keys()


def test_imports_are_relative():
    assert absolute_imports(CHECKOUT) == []


def test_tests_do_not_import_from_conftest_which_is_the_name_of_several_files():
    files = sorted((CHECKOUT / "tests").rglob("*.py"))
    assert len(files) > 100
    importing = [
        path
        for path in files
        for one, _ in statements(ast.parse(path.read_text("utf-8")))
        if "conftest" in (one.module if isinstance(one, ast.ImportFrom) else [name.name for name in one.names])
    ]
    assert importing == []


def test_imports_go_down_only():
    assert climbing(imports(CHECKOUT)) == []


def test_rooms_do_not_import_each_other_in_a_cycle():
    assert room_cycles(CHECKOUT) == []


def test_files_do_not_import_each_other_in_a_cycle():
    assert file_cycles(CHECKOUT, LATE_IMPORTS) == []


def test_every_allowed_late_import_exists():
    assert LATE_IMPORTS.keys() <= {(i.importer, i.imported) for i in imports(CHECKOUT) if i.late}


def test_files_classes_and_functions_are_short():
    assert too_long(CHECKOUT) == {}


def test_functions_have_few_positional_parameters():
    assert too_many_parameters(CHECKOUT) == []


@pytest.mark.parametrize(
    ("source", "wrong"),
    [
        ("from ...tasks import base", ["core.models.bert:1 imports tasks.base"]),
        ("from ... import ui", ["core.models.bert:1 imports ui"]),
        ("import headway.tasks.base", ["core.models.bert:1 imports tasks.base"]),
        ("def f():\n    from ...tasks.base import Task", ["core.models.bert:2 imports tasks.base"]),
        ("class A:\n    async def f(self):\n        from ...ui import cli", ["core.models.bert:3 imports ui.cli"]),
        ("try:\n    from ...tasks import base\nexcept ImportError: ...", ["core.models.bert:2 imports tasks.base"]),
        ("if TYPE_CHECKING:\n    from ...tasks import base", []),
        (
            "if TYPE_CHECKING:\n    pass\nelse:\n    from ...tasks import base",
            ["core.models.bert:4 imports tasks.base"],
        ),
        ("from ..errors import Error\nfrom . import gpt2\nimport json\nimport tasks_of_another_package", []),
    ],
)
def test_an_import_of_a_higher_floor_is_found(tmp_path: Path, source: str, wrong: list[str]):
    others = ["core/errors.py", "core/models/gpt2.py", "tasks/base.py", "ui/__init__.py", "ui/cli.py"]
    root = write_tree(tmp_path, {"core/models/bert.py": source, **dict.fromkeys(others, "")})
    assert climbing(imports(root)) == wrong


@pytest.mark.parametrize("source", ["import headway.core.gpt2", "from headway.core import gpt2", "import os, headway"])
def test_an_absolute_import_is_found(tmp_path: Path, source: str):
    assert absolute_imports(write_tree(tmp_path, {"core/bert.py": f"import json\n{source}"})) == ["core.bert:2"]


def test_a_cycle_of_rooms_is_found_through_different_files_and_late_imports(tmp_path: Path):
    files = {
        "tasks/__init__.py": "",
        "tasks/data/rows.py": "def f():\n    from ..tagging import scores",
        "tasks/data/labels.py": "",
        "tasks/tagging/__init__.py": "",
        "tasks/tagging/tags.py": "from ..data.labels import Labels",
        "tasks/tagging/scores.py": "",
    }
    root = write_tree(tmp_path, files)
    assert file_cycles(root) == []
    assert room_cycles(root) == [["tasks.data", "tasks.tagging"]]
    write_tree(root, {"tasks/data/rows.py": ""})
    assert room_cycles(root) == []


def test_a_file_beside_folders_is_a_room_by_itself(tmp_path: Path):
    files = {
        "core/__init__.py": "",
        "core/options.py": "from .models import bert",
        "core/models/bert.py": "from ..errors import Error",
        "core/errors.py": "",
    }
    root = write_tree(tmp_path, files)
    assert rooms(root) == {
        "core": "core",
        "core.errors": "core.errors",
        "core.models.bert": "core.models",
        "core.options": "core.options",
    }
    assert room_cycles(root) == []
    write_tree(root, {"core/errors.py": "from .options import option"})
    assert room_cycles(root) == [["core.errors", "core.models", "core.options"]]


def test_a_cycle_of_files_is_found_unless_one_of_its_imports_is_allowed(tmp_path: Path):
    files = {
        "core/a.py": "from . import b\nfrom .d import d",
        "core/b.py": "from .c import c",
        "core/c.py": "def c():\n    from .a import a",
        "core/d.py": "",
    }
    root = write_tree(tmp_path, files)
    assert file_cycles(root) == [["core.a", "core.b", "core.c"]]
    assert file_cycles(root, [("core.c", "core.a")]) == []
    assert file_cycles(root, [("core.a", "core.b")]) != []  # only an import inside a function can be allowed


def test_what_is_too_long_is_found(tmp_path: Path):
    def function(name: str, lines: int, signature: str = "") -> str:
        return f"def {name}({signature}):\n" + "    pass\n" * (lines - 1)

    options = "\n" + "    a: Annotated[int, typer.Option()],\n" * MAX_FUNCTION
    files = {
        "core/file.py": "x = 1\n" * (MAX_FILE + 1),
        "core/short.py": function("f", MAX_FUNCTION) + "class C:\n" + "    x = 1\n" * (MAX_CLASS - 1),
        "core/long.py": "class C:\n" + "    x = 1\n" * MAX_CLASS + function("f", MAX_FUNCTION + 1) + function("f", 2),
        "ui/command.py": function("short", MAX_FUNCTION + 1, options) + function("long", MAX_FUNCTION + 2, options),
    }
    root = write_tree(tmp_path, files)
    assert too_long(root) == {
        "core.file": MAX_FILE + 1,
        "core.long.C": MAX_CLASS + 1,
        "core.long.f": MAX_FUNCTION + 1,
        "ui.command.long": MAX_FUNCTION + 1,
    }


def test_too_many_positional_parameters_are_found(tmp_path: Path):
    files = {
        "core/a.py": "def five(a, b, c, d, e, *, f): ...\nclass C:\n    def six(self, a, b, /, c, d, e, f=1): ...",
        "ui/b.py": "def command(a: Annotated[int, HELP], b, c, d, e, f): ...",
    }
    assert too_many_parameters(write_tree(tmp_path, files)) == ["core.a.six"]


def loaded_by(statement: str) -> set[str]:
    """The packages in memory after an import, in a new interpreter."""
    code = f"import sys\n{statement}\nprint(*sorted({{name.split('.')[0] for name in sys.modules}}))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd="/")
    return set(run.stdout.split())


def test_models_and_checkpoints_need_torch_alone():
    loaded = loaded_by(
        "import headway.core.models.bert, headway.core.checkpoints.checkpoint, headway.core.tokenizers.tokenizer"
    )
    assert "torch" in loaded
    assert loaded.isdisjoint({"transformers", "datasets", "accelerate", "sklearn", "gradio", "huggingface_hub"})


def test_the_tokenizer_does_not_need_torch():
    assert "torch" not in loaded_by("import headway.core.tokenizers.tokenizer, headway.core.checkpoints.hub")
