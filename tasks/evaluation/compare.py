"""Compares models on the same rows: paired differences with intervals and tests, size and speed beside the score.

All sides read the rows that each of them can read, and the metrics are counted in the same way. The samples of the
bootstrap are the same for all (intervals.py). With more than two sides, all are compared with the first one, and the
p of a metric are corrected for their number (Holm 1979).
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ...core.errors import HeadwayError
from ..base.inputs import name_rows
from ..base.left_out import write_left_out
from ..data.columns import ColumnMapping
from ..data.examples import Example
from ..data.findings import count
from ..data.groups import example_groups
from ..data.places import format_places
from ..data.read import read_table
from ..data.read_options import ReadOptions
from ..data.rows import LeftOutRow, Table
from ..intervals import Bootstrap
from ..tallies import Tally
from .comparison import ComparedModel, Comparison, Difference, SliceDifference
from .differing_rows import differing_rows
from .divisions import Divisions, Parts, Quarters
from .paired_tests import holm, paired_tests
from .sides import ModelSide, Predicted, Side

FEWEST_ROWS = 20  # of a part; fewer say too little
FEWEST_DOCUMENTS = 20  # with fewer of them, sequences are compared instead
PER_TOKEN = ("loss", "perplexity", "accuracy", "next_sentence_accuracy")  # metrics of language models


def compare_sides(
    sides: Sequence[Side],
    data: Any,
    *,
    columns: Mapping[str, Any] | None = None,
    by: Sequence[str] = (),
    **reading: Any,
) -> Comparison:
    """Compares models on labelled rows, or language models on text.

    Args:
        sides: at least two; the others are compared with the first one.
        data: anything that `train` takes.
        columns: field name or "label" -> column, where the inferred one is wrong.
        by: columns whose values make slices.
        **reading: fields of ReadOptions: header, encoding, ...

    Raises:
        HeadwayError: the models cannot be compared, or the data cannot be read.
    """
    if len(sides) < 2:
        raise HeadwayError("Give at least two models to compare.")
    _refuse_different_tasks(sides)
    for side in sides[1:]:
        if isinstance(side, ModelSide):
            side.generate_as(sides[0].task())
    if sides[0].task().self_supervised:
        return _compare_corpus(sides, data, columns or {}, by, reading)
    options = ReadOptions(**reading)
    table = read_table(name_rows(sides[0].task(), data, labelled=True), options)
    mappings = [side.columns(table, columns or {}) for side in sides]
    _refuse_different_labels(sides, mappings)
    shared, left_out = _shared_rows(sides, table, mappings)
    write_left_out(options.left_out, left_out)
    found = {
        side.name: side.predict(shared, mapping, columns or {}) for side, mapping in zip(sides, mappings, strict=True)
    }
    tallies, divisions = _tallies(found), Divisions(shared, by, mappings[0].label)
    first = next(iter(found.values()))
    groups, _ = example_groups(first.examples, shared, mappings[0].group)
    grouped = groups if len(np.unique(groups)) < len(groups) else None
    notes = [*table.notes, *mappings[0].notes, *_describe_left_out(left_out, len(table))]
    comparison = _summarize(sides, found, tallies, grouped, f"{table.source}")
    return replace(
        comparison,
        slices=_compare_slices(tallies, row_parts(first, divisions), comparison, grouped),
        rows=tuple(differing_rows(found)),
        left_out=tuple(left_out),
        notes=(*notes, *comparison.notes),
    )


def _refuse_different_tasks(sides: Sequence[Side]) -> None:
    tasks = {side.name: side.task().compared_as for side in sides}
    if len(set(tasks.values())) > 1:
        each = ", ".join(f"{name}: {task}" for name, task in tasks.items())
        raise HeadwayError(f"Models for different tasks cannot be compared ({each}). Give models for one task.")


def _refuse_different_labels(sides: Sequence[Side], mappings: Sequence[ColumnMapping]) -> None:
    labels = [mapping.label for mapping in mappings]
    if len(set(labels)) > 1:
        each = ", ".join(f"{side.name}: {label}" for side, label in zip(sides, labels, strict=True))
        raise HeadwayError(f"The models read their labels from different columns ({each}). Name it with --label.")


def _shared_rows(
    sides: Sequence[Side], table: Table, mappings: Sequence[ColumnMapping]
) -> tuple[Table, list[LeftOutRow]]:
    """The rows that all sides can read, and the others with the reason that the first side has.

    Raises:
        HeadwayError: no row is left, or there are others and the table was read with --strict.
    """
    shared, left_out = np.arange(len(table)), dict[str, LeftOutRow]()
    for side, mapping in zip(sides, mappings, strict=True):
        used, others = side.usable(table, mapping)
        shared = np.intersect1d(shared, used)
        for one in others:
            left_out.setdefault(one.where, one)
    if not len(shared) or (left_out and table.strict):
        reason = f"{table.source}: " + "; ".join(_describe_left_out(list(left_out.values()), len(table)))
        raise HeadwayError(f"{reason}. Correct or delete these rows{' or omit --strict' * table.strict}.")
    return table.select(shared), list(left_out.values())


def _describe_left_out(left_out: Sequence[LeftOutRow], total: int) -> list[str]:
    places: dict[str, list[str]] = {}
    for one in left_out:
        places.setdefault(one.reason, []).append(one.where)
    return [
        f"{count(len(rows), 'row')} of {total:,} not compared: {reason} ({format_places(rows, 3)})"
        for reason, rows in places.items()
    ]


def _tallies(found: Mapping[str, Predicted]) -> dict[str, Tally]:
    """The counts of all sides, scored by one task that knows the labels of all.

    Raises:
        HeadwayError: the sides have no metric in common that is a function of counts, or differ in the gold labels.
    """
    sides = list(found.values())
    scorer = sides[0].task
    for name, one in found.items():
        scorer = scorer.with_labels_known_to(one.task)
        first, other = sides[0].examples, one.examples
        differ = [
            i for i, example in enumerate(first) if isinstance(example, Example) and _gold(example) != _gold(other[i])
        ]
        if differ:
            where, golds = first[differ[0]].where, (first[differ[0]].shown_gold, other[differ[0]].shown_gold)
            raise HeadwayError(
                f"{where}: the first model reads the label {golds[0]!r} and {name} reads {golds[1]!r}. Compare models "
                "that were trained with the same labels."
            )
    tallies = {name: scorer.tally(one.predictions, one.examples) for name, one in found.items()}
    known = {name: tally for name, tally in tallies.items() if tally is not None}
    if len(known) < len(tallies):
        raise HeadwayError(
            f"The metrics of {scorer.name} are not counted by row, so its models cannot be compared. Evaluate each."
        )
    metrics = [list(tally.formulas(np.zeros((1, tally.counts.shape[1])))) for tally in known.values()]
    if any(one != metrics[0] for one in metrics):
        raise HeadwayError(
            "The models predict different things: one label, several labels or numbers. Give models that predict the "
            "same."
        )
    return known


def _gold(example: Example) -> Any:
    """The gold label or labels; the order of several does not matter."""
    return frozenset(example.gold) if isinstance(example.gold, tuple) else example.gold


def _summarize(
    sides: Sequence[Side],
    found: Mapping[str, Predicted],
    tallies: Mapping[str, Tally],
    groups: np.ndarray | None,
    source: str,
) -> Comparison:
    """The metrics and their differences."""
    excluded = _excluded(sides)
    bootstraps, names = {}, list(tallies)
    for name, tally in tallies.items():
        bootstraps[name] = Bootstrap()
        bootstraps[name].add(tally, groups)
    intervals = {
        name: {metric: one for metric, one in bootstrap.intervals().items() if metric not in excluded}
        for name, bootstrap in bootstraps.items()
    }
    models = tuple(
        ComparedModel(
            side.name, intervals[side.name], side.parameters, side.megabytes, found[side.name].rows_per_second
        )
        for side in sides
    )
    differences = []
    for name in names[1:]:
        tests = paired_tests(tallies[names[0]], tallies[name], groups)
        for metric, value in bootstraps[name].differences(bootstraps[names[0]]).items():
            if metric not in excluded:
                test = tests.get(metric)
                differences.append(Difference(name, metric, value, test and test.p, test.name if test else ""))
    metric = next(iter(intervals[names[0]]), None)
    if metric is None:
        why = (
            "they have different tokens, and their metrics are per token. Evaluate each with headway evaluate"
            if excluded
            else "the task has no such metric"
        )
        raise HeadwayError(f"{source}: no metric of these models can be compared: {why}. Evaluate each.")
    size = tallies[names[0]].counts.shape[0] if groups is None else len(groups)
    notes = [f"{name}: {note}" for name, one in found.items() for note in one.notes]
    if excluded:
        notes.append("the models have different tokens, so metrics per token are not compared")
    return Comparison(source, size, metric, models, _corrected(differences), (), (), (), tuple(notes))


def _excluded(sides: Sequence[Side]) -> tuple[str, ...]:
    """The metrics that mean something else for each model: those per token of models with different tokens."""
    task = sides[0].task()
    models = [side.model for side in sides if isinstance(side, ModelSide)]
    if not (task.self_supervised or task.scores_loss):
        return ()
    vocabularies = [one.tokenizer.of_outputs.vocabulary for one in models]
    return () if all(one == vocabularies[0] for one in vocabularies) else PER_TOKEN


def _corrected(differences: Sequence[Difference]) -> tuple[Difference, ...]:
    """With the p of each metric corrected for the number of models."""
    p: dict[str, list[float | None]] = {}
    for one in differences:
        p.setdefault(one.metric, []).append(one.p)
    corrected = {metric: iter(holm(values)) for metric, values in p.items()}
    return tuple(replace(one, p=next(corrected[one.metric])) for one in differences)


def row_parts(side: Predicted, divisions: Divisions) -> dict[str, np.ndarray]:
    """The positions of the examples in each part of the rows: by length, by label and by columns.

    Parts of fewer than FEWEST_ROWS are left out, and that of all rows.
    """
    lengths = np.array([sum(map(len, example.texts)) for example in side.examples])
    quarters = Quarters.of(lengths, " characters")
    values = {
        "length": [(quarters.name(length),) for length in lengths.tolist()],
        **divisions.values(side.task, side.predictions, side.examples),
    }
    parts = {f"{by}: {value}": np.array(rows) for (by, value), rows in Parts().rows(values).items()}
    return {name: rows for name, rows in parts.items() if FEWEST_ROWS <= len(rows) < len(lengths)}


def _compare_slices(
    tallies: Mapping[str, Tally], parts: Mapping[str, np.ndarray], comparison: Comparison, groups: np.ndarray | None
) -> tuple[SliceDifference, ...]:
    """The main metric of each slice."""
    first, *others = tallies
    metric, result = comparison.metric, []
    for name in others:
        overall = next(one.value.value for one in comparison.differences if (one.model, one.metric) == (name, metric))
        of_model = []
        for part, rows in parts.items():
            ours, theirs = _select(tallies[first], rows), _select(tallies[name], rows)
            values, found = ours.metrics(), theirs.metrics()
            if metric not in values or metric not in found:
                continue
            test = paired_tests(ours, theirs, None if groups is None else groups[rows]).get(metric)
            score, other = values[metric], found[metric]
            turns = (other - score) * overall < 0
            of_model.append(SliceDifference(name, part, len(rows), score, other, test and test.p, turns))
        p = holm([one.p for one in of_model])
        result += [replace(one, p=value) for one, value in zip(of_model, p, strict=True)]
    return tuple(sorted(result, key=lambda one: (not one.turns, 1.0 if one.p is None else one.p)))


def _select(tally: Tally, rows: np.ndarray) -> Tally:
    return replace(tally, counts=tally.counts[rows])


def _compare_corpus(
    sides: Sequence[Side], data: Any, chosen: Mapping[str, Any], by: Sequence[str], reading: Mapping[str, Any]
) -> Comparison:
    """Language models, by document, or by sequence if there are few documents and the models cut them alike."""
    if by:
        raise HeadwayError("--slice applies to labelled rows. Omit it.")
    models = [side for side in sides if isinstance(side, ModelSide)]
    found = {side.name: side.predict_corpus(data, chosen, reading) for side in models}
    tallies = _tallies(found)
    documents = {name: np.cumsum([p.num_bytes > 0 for p in one.predictions]) for name, one in found.items()}
    same_cuts = len({len(one.predictions) for one in found.values()}) == 1
    number = len(np.unique(next(iter(documents.values()))))
    by_document = number >= FEWEST_DOCUMENTS or not same_cuts
    units = documents if by_document else {name: np.arange(len(one)) for name, one in documents.items()}
    summed = {name: _per_unit(tallies[name], units[name]) for name in tallies}
    notes = [f"compared by {'document' if by_document else 'sequence'}: {summed[models[0].name].counts.shape[0]:,}"]
    if len({one.counts.shape[0] for one in summed.values()}) > 1:
        raise HeadwayError("The models divide the text into different documents. Give one document per row.")
    source = str(data) if isinstance(data, str) else "the given texts"
    comparison = _summarize(sides, found, summed, None, source)
    return replace(comparison, notes=(*notes, *comparison.notes))


def _per_unit(tally: Tally, units: np.ndarray) -> Tally:
    """The counts of each document, so that the models have the same rows."""
    from scipy.sparse import csr_array

    _, numbers = np.unique(units, return_inverse=True)
    members = csr_array((np.ones(len(numbers)), (numbers, np.arange(len(numbers)))))
    return replace(tally, counts=csr_array(members @ tally.counts), proportions=frozenset())
