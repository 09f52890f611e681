"""Commands that a launcher starts in several processes."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from launch_worker import launch
from reviews import REVIEWS


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of three parts, of texts of different lengths."""
    path = tmp_path_factory.mktemp("rows") / "rows.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "text"])
        for i in range(9000):
            writer.writerow([i, " ".join([REVIEWS[i % len(REVIEWS)][0]] * (1 + i % 3))])
    return path


def test_two_processes_write_the_predictions_and_vectors_of_one_byte_for_byte(headway, trained, rows, folder):
    def commands(place: str) -> list[list[str]]:
        return [
            ["predict", str(trained), "--data", str(rows), "--output", f"{place}.csv"],
            ["predict", str(trained), "--data", str(rows), "--json", "--output", f"{place}.jsonl"],
            ["embed", str(trained), "--data", str(rows), "--output", f"{place}.npy"],
            ["predict", str(trained), "--data", "broken.csv", "--output", f"{place}-broken.csv"],
        ]

    lines = rows.read_text().splitlines()
    Path("broken.csv").write_text("\n".join([*lines[:8500], "8499,a text,and another,one too many", *lines[8500:]]))
    ran = [headway(*command) for command in commands("one")]
    assert [one.code for one in ran] == [0, 0, 0, 2]
    (folder / "commands.json").write_text(json.dumps(commands("two")))
    assert launch("commands", 2, folder) == [[0, 0, 0, 2]] * 2
    for ending in ("csv", "jsonl", "npy"):
        assert Path(f"two.{ending}").read_bytes() == Path(f"one.{ending}").read_bytes()
    assert np.load("two.npy").shape == (9000, 32)
    assert not Path("two-broken.csv").exists()
    assert ran[3].err.splitlines()[-1] in (folder / "messages-0.txt").read_text()
    assert (folder / "messages-1.txt").read_text() == ""


def test_a_vocabulary_is_learned_once_for_machines_without_a_common_disk(folder):
    assert launch("scratch", 2, folder) == [0, 0], (folder / "messages-0.txt").read_text()
    messages = (folder / "messages-0.txt").read_text()
    assert json.loads(messages.splitlines()[-1])["steps"] == 2
    assert {path.name for path in (folder / "machine-0").iterdir()} == {"data.txt", "model"}
    assert {path.name for path in (folder / "machine-1").iterdir()} == {"data.txt"}
    assert (folder / "messages-1.txt").read_text() == ""
