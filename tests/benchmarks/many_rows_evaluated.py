"""Memory of an evaluation of many rows, with a report and decision rules.

    python tests/benchmarks/many_rows_evaluated.py [--rows 200000 1000000] [--reference] [--folder FOLDER]

Writes CSV files of short texts with three labels and evaluates a tiny BERT on each of them in a separate process, as
`headway evaluate --report report.html --slice label --coverage 0.9 --conformal 0.9` does. The predictions of the first
rows stand in for those of all others, so that everything but the model is measured. Prints the peak of the process's
anonymous memory (RssAnon in /proc/PID/status) and the time; with --reference, of a run that also searches near
duplicates among as many training rows. Linux only.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from headway.core.new_model import learn_tokenizer, write_new_model
from headway.tasks import TextClassification
from machine import describe_machine
from many_rows import FEW, LABELS, VOCABULARY, anonymous_memory, texts, write_rows

CHILD = """
import sys
from headway.tasks import load
from headway.tasks.base import evaluation
from headway.tasks.evaluation import ReportOptions, evaluate_with_report
from headway.tasks.evaluation.rules import RuleOptions, fit_rules, rows_for_rules

FIRST = 64
compute, found = evaluation.evaluate_examples, []

def stand_in(task, network, windows_by_example, advance=None):
    if not found:
        found.extend(compute(task, network, windows_by_example[:FIRST])[0])
    size = len(windows_by_example)
    return [found[i % FIRST] for i in range(size)], float(size), size

evaluation.evaluate_examples = stand_in
model, (data, reference) = load(sys.argv[1], device="cpu"), sys.argv[2:4]
rules = RuleOptions(coverage=0.9, conformal=0.9)
rows = rows_for_rules(model, rules)
how = {"keep_predictions": False, "observe": rows.add, "progress": False}
result, report = evaluate_with_report(model, data, options=ReportOptions(["label"], reference or None), **how)
print(result.num_examples, fit_rules(model, result, rules, rows=rows).sample)
"""


def measure(model: Path, data: Path, reference: Path | None) -> tuple[int, float]:
    """The peak of the anonymous memory of an evaluation in bytes, and its time in seconds."""
    start, peak = time.perf_counter(), 0
    child = subprocess.Popen([sys.executable, "-c", CHILD, str(model), str(data), str(reference or "")])
    while child.poll() is None:
        peak = max(peak, anonymous_memory(child.pid))
        time.sleep(0.05)
    if child.returncode:
        raise SystemExit(child.returncode)
    return peak, time.perf_counter() - start


def main() -> None:
    """Prints the figures."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    options.add_argument("--rows", type=int, nargs="+", default=[200_000, 1_000_000])
    options.add_argument("--reference", action="store_true", help="search near duplicates in as many training rows")
    options.add_argument("--folder", type=Path, help="for the files, which are deleted; default: a temporary one")
    given = options.parse_args()
    print(describe_machine())
    with tempfile.TemporaryDirectory(prefix="many-rows-", dir=given.folder) as name:
        folder = Path(name)
        write_new_model(folder / "tiny", "bert", "tiny", learn_tokenizer(texts(FEW), "bert", VOCABULARY))
        rows = [{"text": text, "label": LABELS[i % 3]} for i, text in enumerate(texts(90))]
        TextClassification().on(folder / "tiny").fit(rows, output=folder / "model", max_steps=3, eval_fraction=0)
        for number in given.rows:
            data = write_rows(folder / "rows.csv", number)
            peak, seconds = measure(folder / "model", data, data if given.reference else None)
            print(f"{number:,} rows: peak of anonymous memory {peak / 2**20:,.0f} MiB, {seconds:,.0f} s", flush=True)


if __name__ == "__main__":
    main()
