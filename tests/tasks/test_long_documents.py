"""Training on long documents: the memory is bounded by the number of tokens at once, not by the text."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import json, re, sys
from pathlib import Path
from headway.tasks import TextClassification

folder, words, options = sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3])
rows = [{"text": "the cat sat on the mat " * (words // 6), "label": "long"}, {"text": "the cat", "label": "short"}]
for event in TextClassification().on(folder).train(rows, eval_fraction=0, max_steps=1, precision="fp32", **options):
    values = event.to_json()
    if values["event"] in ("started", "step"):
        peak = int(re.search(r"VmHWM:\\s*(\\d+)", Path("/proc/self/status").read_text())[1]) // 1024
        print(json.dumps({"megabytes": peak, "tokens": values.get("tokens")}))
"""


def peaks(folder: Path, words: int, output: Path, **options: object) -> tuple[dict[str, int], dict[str, int]]:
    """The peak memory of a process before and after a training step on a text of a number of words."""
    command = [sys.executable, "-c", SCRIPT, str(folder), str(words), json.dumps({"output": str(output), **options})]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    started, step = (json.loads(line) for line in done.stdout.splitlines())
    return started, step


@pytest.mark.linux
def test_the_memory_of_a_step_on_a_long_text_is_bounded_by_tokens_at_once(bert_folder: Path, tmp_path: Path):
    before, after = peaks(bert_folder, 60_000, tmp_path / "parts", tokens_at_once=1000)
    assert after["tokens"] > 60_000
    parts = after["megabytes"] - before["megabytes"]
    before, after = peaks(bert_folder, 60_000, tmp_path / "whole", tokens_at_once=1_000_000)
    whole = after["megabytes"] - before["megabytes"]
    assert 3 * parts < whole, (parts, whole)


@pytest.mark.linux
@pytest.mark.slow
def test_a_text_of_100_000_tokens_trains_minilm_within_2_gigabytes(minilm: Path, tmp_path: Path):
    _, step = peaks(minilm, 100_000, tmp_path / "model")
    assert step["tokens"] > 100_000
    assert step["megabytes"] < 2000
