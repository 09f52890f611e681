"""Random samples of rows, and the memory of everything that an evaluation counts."""

import gc
import random
import tracemalloc
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from headway.tasks import SentenceSimilarity, TextClassification
from headway.tasks.base.evaluation_results import EvaluatedPart, Results
from headway.tasks.classification.predictions import LabelPrediction, NumberPrediction, TextExample
from headway.tasks.data.columns import ColumnMapping
from headway.tasks.data.features import Features
from headway.tasks.data.read import read_table
from headway.tasks.data.row_places import Places
from headway.tasks.embedding.predictions import PairExample, SimilarityPrediction
from headway.tasks.evaluation.report_builder import ReportBuilder
from headway.tasks.evaluation.risk_coverage import RiskCollector
from headway.tasks.evaluation.rule_rows import RuleRows
from headway.tasks.evaluation.slices import Slices
from headway.tasks.intervals import Bootstrap
from headway.tasks.reservoir import Reservoir
from headway.tasks.tallies import tally_means, tally_numbers

LIMIT, PART = 2_000, 250  # rows of a sample, and rows that are added together
FEW, MANY = 20_000, 80_000


def test_up_to_its_size_a_reservoir_keeps_all_rows_in_order():
    rows = Reservoir(10)
    for part in np.array_split(np.arange(10), 4):
        rows.add(number=part, twice=2 * part)
    assert not rows.is_sample
    assert rows.column("number").tolist() == list(range(10))
    assert rows.column("twice").tolist() == list(range(0, 20, 2))
    assert rows.describe("of") == ""


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_a_reservoir_draws_the_same_rows_whatever_the_parts(size: int):
    whole, parts = Reservoir(100), Reservoir(100)
    whole.add(number=np.arange(1000))
    for start in range(0, 1000, size):
        parts.add(number=np.arange(start, min(1000, start + size)))
    drawn = parts.column("number")
    assert len(drawn) == len(parts) == 100
    assert (np.diff(drawn) > 0).all()
    assert drawn.tolist() == whole.column("number").tolist()
    assert parts.describe("of") == "of a random sample of 100 of 1,000 rows"


def test_every_row_is_drawn_equally_often():
    counts = np.zeros(200)
    for seed in range(2000):
        rows = Reservoir(20, seed)
        for part in np.split(np.arange(200), 10):
            rows.add(number=part)
        counts[rows.column("number")] += 1
    assert abs(counts.mean() - 200) < 1e-9
    assert abs(counts - 200).max() < 5 * np.sqrt(200 * 0.9)


def test_a_correlation_of_a_sample_has_an_interval_that_contains_that_of_all_rows(monkeypatch):
    monkeypatch.setattr("headway.tasks.reservoir.MOST", LIMIT)
    rng = np.random.default_rng(1)
    gold = rng.normal(size=FEW)
    found = gold + rng.normal(size=FEW)
    bootstrap = Bootstrap(replicates=200)
    for rows in np.array_split(np.arange(FEW), 20):
        bootstrap.add(tally_numbers(found[rows], gold[rows], ("spearman",)))
    exact = tally_numbers(found, gold, ("spearman",)).metrics()["spearman"]
    interval = bootstrap.intervals()["spearman"]
    assert interval.low < exact < interval.high
    assert 0.02 < interval.high - interval.low < 0.08  # that of 2,000 rows, not of 20,000
    assert bootstrap.note == "spearman: of a random sample of 2,000 of 20,000 rows"


def test_two_rows_of_a_group_far_apart_are_noticed_among_more_rows_than_a_sample_has(monkeypatch):
    monkeypatch.setattr("headway.tasks.reservoir.MOST", LIMIT)
    for repeated, expected in ((0, True), (1_000, False)):
        groups = np.arange(FEW, dtype=np.uint64)
        groups[-repeated or FEW :] = groups[:repeated]  # in the last parts
        bootstrap = Bootstrap(replicates=4)
        for part in np.array_split(groups, 20):
            bootstrap.add(tally_numbers(part, part, ("mae",)), part)
        assert bootstrap.independent is expected


def test_consecutive_places_are_a_range_and_others_an_array():
    for given in ([], [2, 3, 4], [2, 3, 5, 6], [7, 7]):
        places = Places()
        for one in given:
            places.append(one)
        assert list(places) == list(places.compact()) == given
        assert isinstance(places.compact(), range) == (given != [2, 3, 5, 6] and given != [7, 7])


def label_parts(number: int) -> Iterator[EvaluatedPart]:
    task = TextClassification(labels=("a", "b"), problem_type="single_label_classification")
    chance = random.Random(0)
    for start in range(0, number, PART):
        examples, predictions, rows = [], [], []
        for i in range(PART):
            score, gold = chance.random(), chance.choice("ab")
            label = "ab"[score > 0.5]
            predictions.append(LabelPrediction(label, max(score, 1 - score), {"a": 1 - score, "b": score}))
            rows.append({"text": f"text {start + i}", "label": gold})
            examples.append(TextExample(i, f"line {start + i}", rows[-1]["text"], None, gold))
        yield part_of(task, examples, predictions, rows)


def number_parts(number: int) -> Iterator[EvaluatedPart]:
    task = TextClassification(problem_type="regression")
    chance = random.Random(0)
    for start in range(0, number, PART):
        values = [chance.random() for _ in range(PART)]
        rows: list[Any] = [{"text": f"text {start + i}", "label": values[i]} for i in range(PART)]
        examples = [TextExample(i, f"line {start + i}", rows[i]["text"], None, values[i]) for i in range(PART)]
        yield part_of(task, examples, [NumberPrediction(one + chance.random()) for one in values], rows)


def similarity_parts(number: int) -> Iterator[EvaluatedPart]:
    task = SentenceSimilarity(objective="scores", lowest=0.0, highest=1.0)
    chance = random.Random(0)
    for start in range(0, number, PART):
        values = [chance.random() for _ in range(PART)]
        texts = [(f"text {start + i}", f"pair {start + i}") for i in range(PART)]
        rows: list[Any] = [{"text": a, "pair": b, "label": one} for (a, b), one in zip(texts, values, strict=True)]
        examples = [PairExample(i, f"line {start + i}", *texts[i], values[i]) for i in range(PART)]
        vectors = (np.zeros(4), np.zeros(4))
        yield part_of(task, examples, [SimilarityPrediction(one * chance.random(), vectors) for one in values], rows)


def part_of(task: Any, examples: Any, predictions: Any, rows: Any) -> EvaluatedPart:
    windows = [[Features(i, [1, 2, 3], [0, 0, 0], 3)] for i in range(len(examples))]
    columns = ColumnMapping({"text": "text"}, "label", ())
    return EvaluatedPart(task, examples, predictions, windows, read_table(rows), columns)


def grown(add: Callable[[int], Iterator[Any]], few: int, many: int) -> float:
    """The bytes that each further row leaves in memory. `add` yields what has counted so many rows."""
    found = []
    list(add(few))  # imports
    for number in (few, many):
        tracemalloc.start()
        kept = list(add(number))
        gc.collect()
        found.append(tracemalloc.get_traced_memory()[0])
        tracemalloc.stop()
        del kept
    return (found[1] - found[0]) / (many - few)


@pytest.mark.parametrize("joined", [False, True])
def test_tallies_of_80000_rows_take_as_much_memory_as_those_of_20000(joined: bool, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("headway.tasks.reservoir.MOST", 500)

    def add(number: int) -> Iterator[Any]:
        bootstrap, slices, risk = Bootstrap(replicates=20), Slices(), RiskCollector()
        for start in range(0, number, 1_000):
            part = np.arange(start, start + 1_000, dtype=np.uint64)
            values = part.astype(float)
            if joined:
                tally = tally_numbers(values, values % 7, ("spearman",))
            else:
                tally = tally_means({"accuracy": values % 2}, of_01=["accuracy"])
            bootstrap.add(tally, part)
            slices.add(tally, part, {"label": [(str(one % 3),) for one in part.tolist()]})
            risk.add((values % 9).tolist(), (values % 2 == 0).tolist())
        yield from (bootstrap, slices, risk)

    assert grown(add, FEW, MANY) < 1  # a number of each row takes 8


@pytest.mark.parametrize("kind", [label_parts, number_parts, similarity_parts])
def test_a_report_and_rules_of_twelve_times_as_many_rows_take_as_much_memory(kind: Any, monkeypatch, tmp_path: Path):
    monkeypatch.setattr("headway.tasks.reservoir.MOST", 100)
    monkeypatch.setattr("headway.tasks.base.report_numbers.MAX_POINTS", 100)
    monkeypatch.setattr("headway.tasks.evaluation.likely_errors.MAX_KEPT", 50)
    monkeypatch.setattr("headway.tasks.evaluation.rule_rows.IN_MEMORY", 1000)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    def add(number: int) -> Iterator[Any]:
        parts = kind(number)
        first = next(parts)
        results, builder, rules = Results(first.task, 10), ReportBuilder(first.task, ["label"]), RuleRows("lac")
        for part in chain([first], parts):
            results.add(part)
            builder.add(part)
            if kind is label_parts:
                rules.add(part)
        yield from (results, builder, rules)

    assert grown(add, 1_000, 12_000) < 4  # a number of each row takes 8
