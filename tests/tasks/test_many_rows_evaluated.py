"""Evaluations of many rows: the same results whatever the parts, and memory that does not grow with the rows."""

import json
import os
import random
import subprocess
import sys
import time
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from headway.core.errors import HeadwayError
from headway.tasks import SentenceSimilarity, TextClassification, TextGeneration, TextToText
from headway.tasks.base.model import TaskModel
from headway.tasks.data.spool import FileList
from headway.tasks.evaluation import ReportOptions, evaluate_with_report
from headway.tasks.evaluation.near_duplicates import TrainingTexts
from headway.tasks.evaluation.rules import RuleOptions, fit_rules, measure_rules, rows_for_rules
from headway.tasks.intervals import Bootstrap
from headway.tasks.tallies import tally_means

WORDS = ["bank", "money", "parcel", "letter", "late", "order", "refund", "account", "card", "post", "payment"]
HOW: dict[str, Any] = {"max_steps": 3, "precision": "fp32", "device": "cpu", "progress": False, "eval_fraction": 0}


def rows_of(kind: str, number: int) -> list[dict[str, Any]]:
    chance = random.Random(0)

    def text() -> str:
        return " ".join(chance.choices(WORDS, k=5))

    made = {
        "labels": lambda: {"text": text(), "label": chance.choice("abc"), "who": f"user {chance.randrange(9)}"},
        "number": lambda: {"text": text(), "label": f"{chance.random():.3f}", "who": "all"},
        "scores": lambda: {"text": text(), "pair": text(), "score": f"{chance.random() * 5:.3f}"},
        "pairs": lambda: {"text": text(), "pair": text()},
        "texts": lambda: {"input": text(), "output": text()},
    }
    return [made[kind]() for _ in range(number)]


@pytest.fixture(scope="module", params=["labels", "number", "scores", "pairs", "texts"])
def trained(request: pytest.FixtureRequest, bert_folder: Path, gpt2_folder: Path) -> tuple[TaskModel, Any]:
    rows = rows_of(request.param, 90)
    if request.param == "texts":
        model = TextToText(eval_outputs=5, max_new_tokens=3).on(gpt2_folder)
    elif request.param in ("scores", "pairs"):
        model = SentenceSimilarity().on(bert_folder)
    else:
        model = TextClassification().on(bert_folder)
    model.fit(rows, **HOW)
    return model, rows


def in_parts_of(monkeypatch: pytest.MonkeyPatch, size: int, *, in_memory: int = 7, sample: int = 10) -> None:
    monkeypatch.setattr("headway.tasks.base.inference.EXAMPLES_AT_ONCE", size)
    monkeypatch.setattr("headway.tasks.data.spool.IN_MEMORY", in_memory)
    monkeypatch.setattr("headway.tasks.data.spool.ITEMS_PER_BLOCK", 4)
    monkeypatch.setattr("headway.tasks.base.evaluation.SAMPLE", sample)


def everything(model: TaskModel, rows: Any, **how: Any) -> dict[str, Any]:
    """What an evaluation and its report say, as plain JSON types."""
    found, report = evaluate_with_report(model, rows, **how)
    content = {"evaluation": found.to_json(), "report": report.to_json()}
    content["report"]["run"] = {}
    for name in ("seen", "nothing_learnt"):  # of a random sample
        content["evaluation"][name] = None
    content["report"]["warnings"] = []
    return json.loads(json.dumps(content))


def nearly(value: Any) -> Any:
    """A JSON value whose numbers may differ in their last digits, by the order in which they are added."""
    if isinstance(value, dict):
        return {name: nearly(one) for name, one in value.items()}
    if isinstance(value, list):
        return [nearly(one) for one in value]
    return pytest.approx(value, rel=1e-4, abs=1e-5) if isinstance(value, float) else value


def test_a_sample_of_the_predictions_gives_the_metrics_and_the_report_of_all(trained, monkeypatch):
    model, rows = trained
    in_parts_of(monkeypatch, 7)
    assert everything(model, rows, keep_predictions=False) == everything(model, rows)


@pytest.mark.parametrize("size", [1, 7])
def test_the_size_of_the_parts_changes_nothing(trained, monkeypatch, size: int):
    model, rows = trained
    whole = everything(model, rows)
    in_parts_of(monkeypatch, size)
    found = everything(model, rows, keep_predictions=False)
    if model.task.in_batch_negatives:  # the loss of a pair depends on the others of its batch
        for one in (whole, found):
            one["evaluation"]["metrics"].pop("loss")
            one["report"]["metrics"] = [row for row in one["report"]["metrics"] if row["metric"] != "loss"]
    assert found == nearly(whole)


def test_few_predictions_are_alive_at_any_time(trained, monkeypatch):
    model, rows = trained
    in_parts_of(monkeypatch, 6)
    alive: list[Any] = []
    counts = []

    def observe(part: Any) -> None:
        alive[:] = [one for one in alive if one() is not None]
        alive.extend(map(weakref.ref, part.predictions))
        alive.extend(map(weakref.ref, part.examples))
        counts.append(len(alive))

    found, _ = evaluate_with_report(model, rows, keep_predictions=False, observe=observe)
    assert found.num_examples == 90
    assert len(counts) == 15
    assert max(counts) <= 2 * (10 + 3 * 6)  # the sample, a part, the part before, and a block of examples of a file


def test_few_training_rows_are_in_memory_while_near_duplicates_are_searched(bert_folder: Path, monkeypatch):
    rows = rows_of("labels", 60)
    model = TextClassification().on(bert_folder)
    model.fit(rows, **HOW)
    expected = evaluate_with_report(model, rows[:9], options=ReportOptions(reference=rows))[1]
    in_parts_of(monkeypatch, 6)
    kept: list[Any] = []
    init = TrainingTexts.__init__

    def record(texts: TrainingTexts, examples: Any, folder: Path | None) -> None:
        kept.extend([examples, folder])
        init(texts, examples, folder)

    monkeypatch.setattr(TrainingTexts, "__init__", record)
    _, report = evaluate_with_report(model, rows[:9], options=ReportOptions(reference=rows))
    assert isinstance(kept[0], FileList)
    assert kept[1] is not None
    assert report.near_duplicates == 9
    assert report.duplicates == expected.duplicates


def test_few_losses_of_a_corpus_are_alive_at_any_time(gpt2_folder: Path, monkeypatch: pytest.MonkeyPatch):
    texts = [row["text"] * 9 for row in rows_of("labels", 60)]
    model = TextGeneration().on(gpt2_folder)
    model.fit(texts, **HOW)
    everything_kept = model.evaluate(texts)
    monkeypatch.setattr("headway.tasks.base.evaluation.SEQUENCES_AT_ONCE", 4)
    in_parts_of(monkeypatch, 4)
    alive: list[Any] = []
    counts = []

    def observe(part: Any) -> None:
        alive[:] = [one for one in alive if one() is not None]
        alive.extend(map(weakref.ref, part.predictions))
        counts.append(len(alive))

    sampled = model.evaluate(texts, keep_predictions=False, observe=observe)
    assert sampled.metrics == pytest.approx(everything_kept.metrics, rel=1e-4)
    assert len(everything_kept.predictions) > 40
    assert len(sampled.predictions) == 10
    assert max(counts) <= 10 + 2 * 4


def test_rows_of_a_group_are_drawn_together_wherever_they_are():
    rng = np.random.default_rng(0)
    hits, groups = rng.random(300) < 0.8, np.arange(300, dtype=np.uint64) % 40
    together, apart = np.argsort(groups, kind="stable"), np.arange(300)
    found = []
    for order in (together, apart):
        bootstrap = Bootstrap()
        for rows in np.array_split(order, 9):
            bootstrap.add(tally_means({"accuracy": hits[rows]}, of_01=["accuracy"]), groups[rows])
        found.append(bootstrap.intervals()["accuracy"])
    assert found[0] == found[1]
    alone = Bootstrap()
    alone.add(tally_means({"accuracy": hits}, of_01=["accuracy"]))
    assert alone.intervals()["accuracy"] != found[0]


def test_rules_that_are_fitted_part_by_part_equal_those_of_all_predictions(bert_folder: Path, monkeypatch):
    rows, reference = rows_of("labels", 90), [f"{WORDS[i % 11]} {WORDS[i % 7]} {i}" for i in range(40)]
    model = TextClassification().on(bert_folder)
    model.fit(rows, **HOW)
    options = RuleOptions(coverage=0.7, conformal=0.8, conformal_method="aps", none_of_these=0.8)
    expected, rules = fit_rules(model, model.evaluate(rows), options, reference), model.rules
    del model.info["decision_rules"]
    model.distance = None
    in_parts_of(monkeypatch, 7)
    monkeypatch.setattr("headway.tasks.evaluation.rule_rows.IN_MEMORY", 100)
    collected = rows_for_rules(model, options, reference)
    sampled = model.evaluate(rows, keep_predictions=False, observe=collected.add)
    assert len(sampled.predictions) == 10
    found = fit_rules(model, sampled, options, rows=collected)
    assert model.rules.to_json() == nearly(rules.to_json())
    assert found.to_json() == nearly(expected.to_json())
    with pytest.raises(HeadwayError, match="keep_predictions=True"):
        measure_rules(model, sampled)


MAX_BYTES_PER_ROW = 400
FEW, MANY = 20_000, 200_000  # more than the sample of predictions that is kept
EVALUATE = """
import sys
from headway.ui.cli import main
sys.exit(main(["evaluate", *sys.argv[1:]]))
"""


def peak_memory(folder: Path, model: Path, number: int) -> int:
    """The peak of the anonymous memory of `headway evaluate`, in bytes."""
    data, chance = folder / f"{number}.csv", random.Random(1)
    lines = (f"{' '.join(chance.choices(WORDS, k=5))} {i},{chance.choice('abc')}\n" for i in range(number))
    data.write_text("text,label\n" + "".join(lines))
    more = ["--report", str(folder / f"{number}.html"), "--coverage", "0.9", "--conformal", "0.9", "--slice", "label"]
    command = [sys.executable, "-c", EVALUATE, str(model), "--data", str(data), *more]
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"})
    peak = 0
    while child.poll() is None:
        lines = Path(f"/proc/{child.pid}/status").read_text().splitlines()
        peak = max(peak, *(1024 * int(line.split()[1]) for line in lines if line.startswith("RssAnon")), 0)
        time.sleep(0.02)
    assert child.returncode == 0
    return peak


@pytest.mark.slow
@pytest.mark.linux
def test_a_row_takes_less_than_400_bytes_of_memory(bert_folder: Path, tmp_path: Path):
    model = TextClassification().on(bert_folder)
    model.fit(rows_of("labels", 90), output=tmp_path / "model", **HOW)
    peaks = [peak_memory(tmp_path, tmp_path / "model", number) for number in (FEW, MANY)]
    assert (peaks[1] - peaks[0]) / (MANY - FEW) < MAX_BYTES_PER_ROW
