"""The house stands as it was drawn: imports go down only, and the ground floor needs torch alone."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
FLOORS = {"core": 0, "tasks": 1, "ui": 2}


def files() -> list[Path]:
    return sorted(path for floor in FLOORS for path in (CHECKOUT / floor).rglob("*.py"))


def climbs(path: Path, source: str) -> list[str]:
    """The imports in a file that go up a floor, or name the package instead of being relative."""
    here = path.relative_to(CHECKOUT).parts
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [(0, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [(node.level, f"{node.module or ''}.{alias.name}".strip(".")) for alias in node.names]
        else:
            continue
        for level, name in names:
            if level == 0 and name.split(".")[0] == "headway":
                found.append(f"{'/'.join(here)}:{node.lineno} imports {name} by its full name")
            if level == 0:
                continue
            # `.` is the file's own folder, each further dot one folder up; headway itself is the checkout.
            target = [*here[: len(here) - level], *name.split(".")][0]
            if FLOORS.get(target, 0) > FLOORS[here[0]]:
                found.append(f"{'/'.join(here)}:{node.lineno} climbs to {target}")
    return found


def test_every_source_file_is_checked():
    checked = {str(path.relative_to(CHECKOUT)) for path in files()}
    assert len(checked) >= 20
    assert {"core/bert.py", "core/gpt2.py", "core/checkpoint.py", "tasks/base.py", "ui/__init__.py"} <= checked


@pytest.mark.parametrize("path", files(), ids=lambda path: str(path.relative_to(CHECKOUT)))
def test_imports_go_down_only_and_are_relative(path):
    assert climbs(path, path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("source", "wrong"),
    [
        ("from ..tasks import base", 1),
        ("from .. import ui", 1),
        ("import headway.core.bert", 1),
        ("from headway.core import bert", 1),
        ("def f():\n    from ..ui.cli import main", 1),
        ("from .bert import Bert\nfrom ..core import bert\nimport json", 0),
    ],
)
def test_a_climbing_import_would_be_found(source, wrong):
    assert len(climbs(CHECKOUT / "core" / "layers.py", source)) == wrong


def loaded_by(statement: str) -> set[str]:
    code = f"import sys\n{statement}\nprint(*sorted({{name.split('.')[0] for name in sys.modules}}))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd="/")
    return set(run.stdout.split())


def test_the_ground_floor_needs_torch_alone():
    loaded = loaded_by("import headway.core.bert, headway.core.checkpoint, headway.core.tokenizer")
    assert "torch" in loaded
    assert loaded.isdisjoint({"transformers", "datasets", "accelerate", "sklearn", "gradio", "huggingface_hub"})


def test_the_tokenizer_needs_not_even_torch():
    assert "torch" not in loaded_by("import headway.core.tokenizer, headway.core.sources")
