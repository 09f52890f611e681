"""With --fail-on-skip, which .ci/run gives, a test that is skipped for an unexpected reason fails."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = """
import pytest
{module}
def test_runs(): pass
@pytest.mark.skipif(True, reason="some package is missing")
def test_marked(): pass
def test_skips(): pytest.skip("no data")
@pytest.mark.skipif(True, reason="needs a machine without an accelerator")
def test_expected(): pass
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copy(Path(__file__).with_name("conftest.py"), tmp_path)
    (tmp_path / "test_some.py").write_text(TESTS.format(module=""))
    return tmp_path


def run(folder: Path, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-rA", *options]
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", **environment}  # some import for seconds
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment)


def test_an_unexpected_skip_fails(folder: Path):
    done = run(folder, "--fail-on-skip")
    assert done.returncode == 1
    assert "1 failed, 1 passed, 1 skipped, 1 error" in done.stdout  # a skip by a marker is an error at setup
    assert "was skipped: some package is missing" in done.stdout
    assert "was skipped: no data" in done.stdout


def test_a_skipped_module_fails(folder: Path):
    (folder / "test_some.py").write_text(TESTS.format(module='pytest.importorskip("no_such_package")'))
    done = run(folder, "--fail-on-skip", "-p", "xdist", "-n", "2")
    assert done.returncode != 0
    assert "no_such_package" in done.stdout


def test_without_the_option_tests_may_be_skipped(folder: Path):
    done = run(folder)
    assert done.returncode == 0
    assert "1 passed, 3 skipped" in done.stdout


def test_a_test_of_gpus_says_that_there_is_none(folder: Path):
    (folder / "test_some.py").write_text(
        "import pytest\n@pytest.mark.gpu\ndef test_on_a_gpu(): raise AssertionError\n"
    )
    done = run(folder, "--fail-on-skip", CUDA_VISIBLE_DEVICES="")
    assert done.returncode == 1
    assert "test_on_a_gpu was skipped: needs a CUDA device" in done.stdout


def test_continuous_integration_uses_the_option():
    checkout = Path(__file__).parents[1]
    steps, run = ((checkout / ".ci" / name).read_text(encoding="utf-8") for name in ("step", "run"))
    calls = re.findall(r"^(?:.*\) | +)pytest( .*?)(?: ;;.*)?$", steps, re.MULTILINE)
    calls.remove(' "${@:2}"')  # of the tests, which .ci/run gives the option
    assert "\nstep tests --fail-on-skip\n" in run
    assert len(calls) == 3
    assert all(call.startswith(" --fail-on-skip -m ") for call in calls)
