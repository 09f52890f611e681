"""Memory and time before the first step of a run on many rows.

    python tests/benchmarks/many_rows.py [--rows 5000000] [--folder FOLDER] [--until-first-step]

Writes a CSV file of short texts with three labels, trains a tiny BERT on it for five steps in a separate process, as
`headway train --max-steps 5` does, and prints the peak of the process's anonymous memory (RssAnon in /proc/PID/status:
without the pages of mapped files, which the system takes back when it needs them) above that of a run on few rows, and
the time from the start of reading until the first step is made. Linux only; about 500 bytes of disk per row.
"""

import argparse
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from headway.core.new_model import learn_tokenizer, write_new_model
from machine import describe_machine

FEW = 10_000  # rows of the run whose memory is that of the program
WORDS_PER_ROW = 9
VOCABULARY = 2_000
LABELS = ("good", "bad", "neutral")
SYLLABLES = [a + b for a in "bcdfglmnprst" for b in "aeiou"]
CHILD = """
import sys, time
from headway.tasks import TextClassification
model = TextClassification().on(sys.argv[1])
began = time.perf_counter(), time.process_time()
print("Reading", 0, 0, flush=True)
for event in model.train(sys.argv[2], output=sys.argv[3], max_steps=5, overwrite=True):
    spent = time.perf_counter() - began[0], time.process_time() - began[1]
    print(type(event).__name__, *spent, flush=True)
"""


@dataclass(frozen=True)
class Measured:
    """A run: the peaks of its anonymous memory in bytes, and the time until its first step in seconds."""

    before_first_step: int
    whole_run: int
    seconds: float
    processor_seconds: float


def texts(count: int) -> Iterator[str]:
    """Texts of nine words, no two of them equal."""
    chance = random.Random(0)
    words = ["".join(chance.choices(SYLLABLES, k=chance.randint(1, 3))) for _ in range(5_000)]
    for number in range(count):
        yield " ".join([*chance.choices(words, k=WORDS_PER_ROW - 1), f"{number:x}"])


def write_rows(path: Path, count: int) -> Path:
    """A CSV file of texts and labels."""
    chance = random.Random(1)
    with path.open("w") as file:
        file.write("text,label\n")
        file.writelines(f"{text},{chance.choice(LABELS)}\n" for text in texts(count))
    return path


def anonymous_memory(pid: int) -> int:
    """The anonymous memory of a process, in bytes."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("RssAnon")), 0)


def measure(model: Path, data: Path, output: Path, *, until_first_step: bool = False) -> Measured:
    """Trains for five steps, or ends the run after the first one."""
    printed = output.with_suffix(".events")
    with printed.open("w") as file:
        child = subprocess.Popen([sys.executable, "-c", CHILD, str(model), str(data), str(output)], stdout=file)
    peak = before = 0
    while child.poll() is None:
        peak = max(peak, anonymous_memory(child.pid))
        if "Step" not in printed.read_text():
            before = peak
        elif until_first_step:
            child.kill()
            break
        time.sleep(0.02)
    if child.wait() and not until_first_step:
        raise SystemExit(child.returncode)
    first = next(line for line in printed.read_text().splitlines() if line.startswith("Step "))
    return Measured(before, peak, *map(float, first.split()[1:]))


def main() -> None:
    """Prints the figures."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    options.add_argument("--rows", type=int, default=5_000_000)
    options.add_argument("--folder", type=Path, help="for the files, which are deleted; default: a temporary one")
    options.add_argument("--until-first-step", action="store_true", help="end the run on many rows after one step")
    given = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="many-rows-", dir=given.folder) as name:
        folder = Path(name)
        write_new_model(folder / "tiny", "bert", "tiny", learn_tokenizer(texts(FEW), "bert", VOCABULARY))
        few = measure(folder / "tiny", write_rows(folder / "few.csv", FEW), folder / "few")
        data = write_rows(folder / "many.csv", given.rows)
        many = measure(folder / "tiny", data, folder / "many", until_first_step=given.until_first_step)
    print(describe_machine())
    whole = [] if given.until_first_step else [("of the whole run", many.whole_run, few.whole_run)]
    for name, peak, base in (("before the first step", many.before_first_step, few.before_first_step), *whole):
        per_row = (peak - base) / (given.rows - FEW)
        print(
            f"peak of anonymous memory {name}: {peak / 2**20:,.0f} MiB, {per_row:.0f} bytes per row "
            f"above the {base / 2**20:,.0f} MiB of {FEW:,} rows"
        )
    for kind, seconds in (("", many.seconds), (" of one core", many.processor_seconds)):
        each = seconds / given.rows * 1e6
        print(f"{given.rows:,} rows: {seconds:,.0f} s{kind} before the first step, {each:.1f} µs per row")


if __name__ == "__main__":
    main()
