"""The tree of files that the README shows."""

from pathlib import Path

import pytest
import readme_tree

README = Path(__file__).resolve().parents[1] / "README.md"


def test_the_tree_lists_every_file_with_the_beginning_of_its_docstring():
    readme = README.read_text(encoding="utf-8")
    assert readme_tree.rewritten(readme, README.parent) == readme, "run: python tests/readme_tree.py"


def test_every_python_file_of_the_floors_is_in_the_tree():
    lines = readme_tree.tree(README.parent).splitlines()
    files = [path for floor in readme_tree.FLOORS for path in (README.parent / floor).rglob("*.py")]
    assert sum(line.split()[0].endswith(".py") for line in lines) == sum(path.name != "__init__.py" for path in files)
    assert all(len(line.split(maxsplit=1)) == 2 for line in lines)


def test_a_tree_has_one_line_for_each_folder_and_file(tmp_path: Path):
    files = {
        "core/__init__.py": '"""Models: and more. See below."""',
        "core/models/__init__.py": '"""The arithmetic."""',
        "core/models/bert.py": '"""BERT (https://arxiv.org/abs/1810.04805): an encoder.\n\nDevlin et al. 2019."""',
        "core/errors.py": '"""Errors, as Devlin et al. 2019\nwrite them."""',
        "tasks/__init__.py": '"""Tasks."""',
        "ui/__init__.py": '"""Interfaces."""',
        "core/__pycache__/x.pyc": "",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    expected = """\
core/                         Models: and more
  models/                     The arithmetic
    bert.py                   BERT
  errors.py                   Errors, as Devlin et al. 2019 write them
tasks/                        Tasks
ui/                           Interfaces
"""
    assert readme_tree.tree(tmp_path) == expected
    with pytest.raises(ValueError, match="one block"):
        readme_tree.rewritten("# No tree", tmp_path)
    readme = "# Tree\n```text\ncore/ old\n  gone.py\n```\nend\n"
    assert readme_tree.rewritten(readme, tmp_path) == f"# Tree\n```text\n{expected}```\nend\n"
