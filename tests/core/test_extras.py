"""Every package that the code imports is declared, and one that only an extra installs is asked for by its command."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from headway.core.errors import HeadwayError
from headway.core.extras import EXTRAS, install_command, require
from test_floors import CHECKOUT, modules, statements

PROJECT = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
OPTIONAL = PROJECT["optional-dependencies"]
DEVELOPMENT = {"test", "bench", "docs"}  # extras that bring no feature
# Runs the command line where the modules of the first argument cannot be imported, and their packages have no version.
WITHOUT = """
import importlib.metadata, sys
from importlib.metadata import PackageNotFoundError, version
def known_version(name):
    if name.replace("-", "_") in blocked:
        raise PackageNotFoundError(name)
    return version(name)
blocked = sys.argv[1].split(",")
sys.modules |= dict.fromkeys(blocked)
importlib.metadata.version = known_version
from headway.ui.cli import main
sys.exit(main(sys.argv[2:]))
"""


def normalized(name: str) -> str:
    """The name of a package without the difference between - and _."""
    return re.sub(r"[-_.]+", "-", name).lower()


def packages(requirements: list[str]) -> set[str]:
    """The packages of a list of requirements, with those of the extras of Headway itself that it names."""
    found = set()
    for one in requirements:
        name, extras = re.match(r"([\w.-]+)(?:\[([\w,-]+)\])?", one).groups()
        if name == "headway":
            found |= {package for extra in extras.split(",") for package in packages(OPTIONAL[extra])}
        else:
            found.add(normalized(name))
    return found


def imported() -> Iterator[tuple[str, str]]:
    """The modules of other projects that each file imports; those of type checkers only do not count."""
    for name, path in modules(CHECKOUT).items():
        for node, _ in statements(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module or ""]
            yield from ((name, one.partition(".")[0]) for one in names)


def run_without(blocked: str, *arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", WITHOUT, blocked, *arguments], cwd=folder, capture_output=True, text=True
    )


def test_each_extra_installs_the_modules_that_it_is_asked_for():
    assert set(EXTRAS) == set(OPTIONAL) - DEVELOPMENT - {"all"}
    distributions = packages_distributions()
    for extra, names in EXTRAS.items():
        for module in names:
            assert {normalized(one) for one in distributions[module]} & packages(OPTIONAL[extra]), (extra, module)


def test_the_extra_all_brings_every_feature_and_the_tests_have_them_all():
    features = {package for extra in EXTRAS for package in packages(OPTIONAL[extra])}
    assert packages(OPTIONAL["all"]) == features
    assert packages(OPTIONAL["test"]) >= features


def test_every_imported_package_is_declared():
    distributions = packages_distributions()
    declared = packages(PROJECT["dependencies"]) | packages(OPTIONAL["all"])
    # Of the packages named here, the second is what installs the first.
    brought = {"cycler": "matplotlib", "absl": "rouge-score"}
    found = {module for _, module in imported()} - sys.stdlib_module_names
    assert len(found) > 25
    for module in found:
        names = {brought[module]} if module in brought else {normalized(one) for one in distributions[module]}
        assert names & declared, module


@pytest.mark.parametrize("extra", EXTRAS)
def test_a_missing_package_is_one_message_with_the_command_that_installs_it(
    extra: str, monkeypatch: pytest.MonkeyPatch
):
    require(extra, "A feature")
    monkeypatch.setitem(sys.modules, EXTRAS[extra][-1], None)
    with pytest.raises(HeadwayError) as error:
        require(extra, "A feature")
    expected = (
        f'A feature needs the package {EXTRAS[extra][-1]}, which is not installed: pip install "headway[{extra}]"'
    )
    assert str(error.value) == expected


@pytest.mark.parametrize(
    ("extra", "arguments"),
    [
        ("ui", ["ui", "--no-open"]),
        ("serve", ["serve"]),
        ("plots", ["learning-curve", "--data", "rows.csv", "--output", "made"]),
        ("plots", ["probe", "mini-bert", "--data", "rows.csv", "--plot", "made.svg"]),
        ("plots", ["evaluate", "mini-bert", "--data", "rows.csv", "--report", "made.html"]),
        ("datasets", ["check", "text-classification", "--data", "hub:somebody/rows"]),
        ("datasets", ["check", "text-classification", "--data", "rows.parquet"]),
        ("datasets", ["embed", "mini-bert", "--data", "rows.csv", "--output", "made.parquet"]),
        ("onnx", ["export", "mini-bert", "--output", "made.onnx"]),
        ("music", ["events", "made.mid", "--output", "made.txt"]),
        ("spacy", ["check", "text-classification", "--data", "rows.spacy"]),
    ],
)
def test_a_command_without_its_extra_ends_at_once(extra: str, arguments: list[str], tmp_path: Path):
    (tmp_path / "rows.csv").write_text("text,label\ngood,yes\nbad,no\n", encoding="utf-8")
    for name in ("rows.parquet", "rows.spacy", "made.mid"):
        (tmp_path / name).write_bytes(b"MThd")
    before = set(tmp_path.iterdir())
    done = run_without(",".join(EXTRAS[extra]), *arguments, folder=tmp_path)
    assert done.returncode == 2, done.stderr
    message = done.stderr.strip().splitlines()[-1]
    assert message.startswith("headway: ")
    assert message.endswith(f"which is not installed: {install_command(extra)}")
    assert set(tmp_path.iterdir()) == before


def test_without_any_extra_a_model_is_trained_evaluated_and_used(tmp_path: Path):
    rows = "".join(f"{word} thing {i},{word}\n" for i in range(8) for word in ("good", "bad"))
    (tmp_path / "rows.csv").write_text(f"text,label\n{rows}", encoding="utf-8")
    blocked = ",".join({*(module for names in EXTRAS.values() for module in names), "pandas", "transformers"})
    for arguments in (
        ["train", "text-classification", "--data", "rows.csv", "--model", "mini-bert", "--max-steps", "2",
         "--device", "cpu", "--output", "made"],
        ["evaluate", "made", "--data", "rows.csv", "--report", "report.json"],
        ["predict", "made", "--data", "rows.csv", "--output", "predictions.xlsx"],
        ["check", "text-classification", "--data", "predictions.xlsx", "--text", "text", "--label", "label"],
        ["generate", "mini-gpt2", "Once", "--max-new-tokens", "2"],
        ["prompt", "mini-gpt2", "A good thing.", "--labels", "good,bad"],
    ):  # fmt: skip
        done = run_without(blocked, *arguments, folder=tmp_path)
        assert done.returncode == 0, done.stderr
