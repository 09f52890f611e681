"""Damaged files of every format: each is checked, or refused with one message that names it, within seconds."""

import shutil
import time
from collections import Counter
from pathlib import Path

import pytest
from campaign_options import cases, random_of
from children import failures, summary
from file_samples import write_samples
from headway.core.errors import HeadwayError
from headway.tasks.base.check import check_data
from headway.tasks.base.task import Task
from mutations import damage

FILES = 10_000  # in the whole campaign, of all formats together
SECONDS = 10.0
FEW = 8  # files of each format in the default run


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Task]]:
    folder = tmp_path_factory.mktemp("samples")
    return folder, write_samples(folder)


def outcome(folder: Path, name: str, task: Task, number: int) -> str:
    """How the check of a damaged copy of a file ends: "checked", "errors found" or "refused"."""
    random = random_of(name, number)
    path = folder.parent / f"damaged-{folder.name}" / name
    shutil.rmtree(path.parent, ignore_errors=True)
    path.parent.mkdir()
    if (folder / name).is_dir():
        shutil.copytree(folder / name, path)
        damage(random.choice(sorted(path.iterdir())), random)
    else:
        shutil.copy(folder / name, path)
        damage(path, random)
    try:
        report = check_data(task, path)
    except HeadwayError as error:
        message = str(error)
        assert str(path) in message, message
        assert "\n" not in message, message
        assert len(message) < 2_000, message
        return "refused"
    return "errors found" if report.errors else "checked"


def test_the_undamaged_files_are_checked_without_errors(samples):
    folder, tasks = samples
    for name, task in tasks.items():
        report = check_data(task, folder / name)
        assert not report.errors, (name, report.errors)
        assert report.examples >= (1 if task.self_supervised else 2), name


def test_a_few_damaged_files_of_each_format_are_checked_or_refused(samples):
    folder, tasks = samples
    outcomes: Counter[str] = Counter()
    for name, task in tasks.items():
        for number in range(FEW):
            began = time.perf_counter()
            outcomes[outcome(folder, name, task, number)] += 1
            assert time.perf_counter() - began < SECONDS, (name, number)
    assert outcomes["refused"] > 10
    assert outcomes["checked"] > 10


@pytest.mark.campaign
def test_damaged_files_of_each_format_are_checked_or_refused(samples, tmp_path, capsys):
    folder, tasks = samples
    numbers = cases(FILES // len(tasks) + 1)
    failed: dict[str, str] = {}
    for name, task in tasks.items():

        def check(number: int, name: str = name, task: Task = task) -> None:
            ended = outcome(folder, name, task, number)
            with (tmp_path / name).open("a", encoding="utf-8") as file:
                file.write(f"{ended}\n")

        found = failures(numbers, check, SECONDS)
        if found:
            failed[name] = summary(found)
        outcomes = Counter((tmp_path / name).read_text(encoding="utf-8").splitlines())
        counts = ", ".join(f"{number} {ended}" for ended, number in sorted(outcomes.items()))
        with capsys.disabled():
            print(f"\n{name}: {len(numbers)} files: {counts}, {len(found)} failed", end="")
    assert not failed, "\n\n".join(f"{name}: {what}" for name, what in failed.items())
