"""The workflow of the tests: every system, both ends of the range of torch, and no more rights than it needs."""

import ast
import re
import tomllib
from pathlib import Path

import yaml

CHECKOUT = Path(__file__).resolve().parents[1]
WORKFLOW = CHECKOUT / ".github" / "workflows" / "tests.yml"
POSIX = {"fcntl", "grp", "pty", "pwd", "resource", "termios"}


def test_the_workflow_runs_on_every_system_with_the_lowest_and_the_highest_torch():
    (job,) = yaml.safe_load(WORKFLOW.read_text(encoding="utf-8"))["jobs"].values()
    matrix = job["strategy"]["matrix"]
    assert {system.partition("-")[0] for system in matrix["os"]} == {"ubuntu", "windows", "macos"}
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert matrix["python"][0] == project["requires-python"].removeprefix(">=")
    (torch,) = (one for one in project["dependencies"] if one.startswith("torch>"))
    lowest, above = re.findall(r"2\.\d+", torch)
    highest = f"2.{int(above.partition('.')[2]) - 1}"
    assert [one["torch"] for one in matrix["include"]] == [lowest, highest]
    assert all(one["os"] in matrix["os"] and one["python"] in matrix["python"] for one in matrix["include"])


def test_the_workflow_reads_only_and_names_the_versions_of_its_actions():
    workflow = yaml.safe_load(WORKFLOW.read_text(encoding="utf-8"))
    (job,) = workflow["jobs"].values()
    assert workflow["permissions"] == {"contents": "read"}
    assert job["timeout-minutes"] <= 60
    actions = [step["uses"] for step in job["steps"] if "uses" in step]
    assert len(actions) == 2
    assert all(re.fullmatch(r"actions/[\w-]+@v\d+", action) for action in actions)
    assert "://" not in WORKFLOW.read_text(encoding="utf-8")


def test_tests_are_collected_where_modules_of_posix_are_missing():
    folders = [CHECKOUT / "tests", *(CHECKOUT / "tests" / name for name in ("core", "tasks", "ui"))]
    files = [path for folder in folders for path in folder.glob("*.py")]
    assert len(files) > 100
    for path in files:
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            names = [one.name for one in node.names] if isinstance(node, ast.Import) else []
            assert not POSIX.intersection(names), path
