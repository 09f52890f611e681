"""The workflows: every system and Python, both ends of the range of torch, and no more rights than they need."""

import ast
import json
import re
import runpy
import shlex
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from headway.ui.cli import main

CHECKOUT = Path(__file__).resolve().parents[1]
WORKFLOWS = CHECKOUT / ".github" / "workflows"
PROJECT = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
POSIX = {"fcntl", "grp", "pty", "pwd", "resource", "termios"}


def workflow(name: str) -> dict[str, Any]:
    return yaml.safe_load((WORKFLOWS / f"{name}.yml").read_text(encoding="utf-8"))


def test_the_tests_run_on_every_system_and_python_with_the_lowest_and_the_highest_torch():
    (job,) = workflow("tests")["jobs"].values()
    matrix = job["strategy"]["matrix"]
    assert {system.partition("-")[0] for system in matrix["os"]} == {"ubuntu", "windows", "macos"}
    assert matrix["python"][0] == PROJECT["requires-python"].removeprefix(">=")
    assert matrix["python"] == re.findall(r"Python :: (3\.\d+)", "\n".join(PROJECT["classifiers"]))
    (torch,) = (one for one in PROJECT["dependencies"] if one.startswith("torch>"))
    lowest, above = re.findall(r"2\.\d+", torch)
    highest = f"2.{int(above.partition('.')[2]) - 1}"
    assert [one["torch"] for one in matrix["include"]] == [lowest, highest]
    assert all(one["os"] in matrix["os"] and one["python"] in matrix["python"] for one in matrix["include"])


@pytest.mark.parametrize("name", ["tests", "checks"])
def test_a_workflow_reads_only_and_names_the_versions_of_its_actions(name: str):
    found = workflow(name)
    assert found["permissions"] == {"contents": "read"}
    for job in found["jobs"].values():
        assert job["timeout-minutes"] <= 60
        actions = [step["uses"] for step in job["steps"] if "uses" in step]
        assert 1 <= len(actions) <= 2
        assert all(re.fullmatch(r"actions/[\w-]+@v\d+", action) for action in actions)
    assert "://" not in (WORKFLOWS / f"{name}.yml").read_text(encoding="utf-8")


def test_the_workflows_run_the_steps_of_continuous_integration():
    known = set(re.findall(r"^  ([a-z]+)\)", (CHECKOUT / ".ci/step").read_text(encoding="utf-8"), re.MULTILINE))
    local = re.findall(r"^step ([a-z]+)", (CHECKOUT / ".ci/run").read_text(encoding="utf-8"), re.MULTILINE)
    assert set(local) == known
    runs = [
        step["run"]
        for name in ("tests", "checks")
        for job in workflow(name)["jobs"].values()
        for step in job["steps"]
        if "run" in step
    ]
    called = [one for run in runs for one in re.findall(r"\.ci/step ([a-z]+)", run)]
    assert set(called) == known - {"realdata", "browser"}
    assert all(".ci/" in run for run in runs)


def test_the_lowest_versions_are_those_of_every_dependency_and_feature(capsys: pytest.CaptureFixture[str]):
    runpy.run_path(str(CHECKOUT / ".ci/minimum_versions.py"), run_name="__main__")
    lines = capsys.readouterr().out.splitlines()
    assert {"torch==2.10", "gradio==6.31", "mido==1.3"} < set(lines)
    assert not [line for line in lines if not re.fullmatch(r"[\w.-]+==[\d.]+", line)]
    assert not [line for line in lines if line.startswith(("pytest", "ruff", "sphinx", "headway"))]
    assert len(lines) >= len(PROJECT["dependencies"]) + 10


def test_the_image_serves_without_a_network_as_a_user_without_rights(capsys: pytest.CaptureFixture[str]):
    lines = (CHECKOUT / "Dockerfile").read_text(encoding="utf-8").splitlines()
    final = lines[max(i for i, line in enumerate(lines) if line.startswith("FROM")) :]
    assert "USER headway" in final
    assert "HF_HUB_OFFLINE=1" in " ".join(final)
    assert "/health" in " ".join(line for line in final if line.startswith("  CMD"))
    (torch,) = (one for one in PROJECT["dependencies"] if one.startswith("torch>"))
    assert f'"{torch}"' in "\n".join(lines)
    (served,) = (json.loads(line.removeprefix("CMD ")) for line in final if line.startswith("CMD "))
    server = yaml.safe_load((CHECKOUT / "compose.yaml").read_text(encoding="utf-8"))["services"]["headway"]
    assert "HEADWAY_KEY" in server["environment"]
    assert "ports" not in server  # only the proxy is reached from outside
    assert main(["serve", "--help"]) == 0
    described = capsys.readouterr().out
    for command in (served, shlex.split(server["command"])):
        assert command[0] == "serve"
        assert all(f"{one} " in described for one in command if one.startswith("--"))


def test_tests_are_collected_where_modules_of_posix_are_missing():
    folders = [CHECKOUT / "tests", *(CHECKOUT / "tests" / name for name in ("core", "tasks", "ui"))]
    files = [path for folder in folders for path in folder.glob("*.py")]
    assert len(files) > 100
    for path in files:
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            names = [one.name for one in node.names] if isinstance(node, ast.Import) else []
            assert not POSIX.intersection(names), path
