"""Drift: whether new rows, which need no labels, are like those that a model was trained for."""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch

from ...core.errors import HeadwayError
from ...core.models.bert import Bert
from ...core.models.gpt2 import GPT2
from ..base.inference import in_parts
from ..base.inputs import name_rows
from ..base.predictor import Predictor
from ..base.report_parts import ReportTable
from ..data.columns import ColumnMapping
from ..data.examples import Example
from ..data.features import Features
from ..data.read import read_table
from ..data.read_options import ReadOptions
from ..data.rows import Table
from ..prompting.demonstrations import mean_vectors
from .drift_tests import FEWEST_ROWS, DriftFinding, RowFacts, drift_findings

MOST_ROWS = 10_000  # of each side, drawn at random: enough for differences that matter
NOT_COMPARED = (
    "Confidence is not compared: the model was trained on these reference rows, where it is more confident than on "
    "others. Add held-out rows to --reference."
)


class TooFewRows(HeadwayError):
    """Drift cannot be measured with so few rows; all else can."""


@dataclass(frozen=True)
class Drift:
    """New rows beside reference rows.

    Args:
        reference: where the reference rows are from.
        new: where the new rows are from.
        reference_rows: number of reference rows that are compared.
        new_rows: number of new rows that are compared.
        findings: a comparison each.
        notes: a sentence each.
    """

    reference: str
    new: str
    reference_rows: int
    new_rows: int
    findings: tuple[DriftFinding, ...]
    notes: tuple[str, ...] = ()

    @property
    def drifted(self) -> bool:
        """Whether anything has drifted."""
        return any(one.drifted for one in self.findings)

    @property
    def sentences(self) -> tuple[str, ...]:
        """All findings, those that have drifted first."""
        return tuple(one.sentence for one in sorted(self.findings, key=lambda one: not one.drifted))

    def to_json(self) -> dict[str, Any]:
        """Everything as plain JSON types."""
        return {**asdict(self), "drifted": self.drifted}

    def report_part(self) -> ReportTable:
        """The findings as a table of a report."""
        rows = [one.to_row() for one in self.findings]
        counts = f"{self.new_rows:,} new rows beside {self.reference_rows:,} rows of {self.reference}."
        return ReportTable("Drift", rows, " ".join([counts, *self.sentences, *self.notes]))


def measure_drift(
    model: Predictor,
    data: Any,
    reference: Any,
    *,
    columns: Mapping[str, Any] | None = None,
    **reading: Any,
) -> Drift:
    """Compares new rows with reference rows, usually those that the model was trained on.

    Args:
        model: a trained one, of a task that predicts rows.
        data: the new rows; labels are not needed and not read.
        reference: the reference rows.
        columns: field name -> column, where the inferred one is wrong.
        **reading: fields of ReadOptions: header, encoding, ...

    Raises:
        TooFewRows: there are fewer than FEWEST_ROWS new or reference rows.
        HeadwayError: the rows cannot be read, or the model reads texts without rows.
    """
    if model.task.self_supervised:
        raise HeadwayError(f"{model.task.name}: drift is measured for models that predict rows. Omit --reference.")
    chosen = {name: column for name, column in (columns or {}).items() if name not in ("label", "group")}
    kept = {name: value for name, value in reading.items() if name not in ("left_out", "strict")}
    old, new = (_Rows.read(model, one, chosen, ReadOptions(**kept)) for one in (reference, data))
    known = model.training_rows
    unseen = np.ones(len(old.examples), dtype=bool) if known is None else ~known.are_known(old.examples)
    facts = [_predicted_facts(model, one) for one in (old, new)]
    notes = ()
    if facts[0].confidence is not None:
        enough = unseen.sum() >= FEWEST_ROWS
        facts[0] = replace(facts[0], confidence=facts[0].confidence[unseen] if enough else None)
        notes = () if enough else (NOT_COMPARED,)
    distances = _distances(model, old.examples, new.examples)
    if distances is not None:
        facts = [replace(one, distances=distance) for one, distance in zip(facts, distances, strict=True)]
    counts = len(old.examples), len(new.examples)
    return Drift(old.table.source, new.table.source, *counts, tuple(drift_findings(*facts)), notes)


def has_labels(
    model: Predictor, data: Any, *, columns: Mapping[str, Any] | None = None, **reading: Any
) -> tuple[bool, str]:
    """Whether rows have labels, and a sentence if they have not.

    They have none if the label column of the training data is missing and no other one is named, or if it is empty.
    """
    with tempfile.TemporaryDirectory(prefix="headway-") as folder:
        table = read_table(data, ReadOptions(**reading), folder=Path(folder))
        return _has_labels(model, table, columns or {})


def _has_labels(model: Predictor, table: Table, chosen: Mapping[str, Any]) -> tuple[bool, str]:
    known = (model.info.get("columns") or {}).get("label")
    if known and "label" not in chosen:
        missing = [name for name in ([known] if isinstance(known, str) else known) if name not in table.columns]
        if missing:
            what = f'{table.source} has no column "{missing[0]}", where the training data has its labels'
            return False, f"{what}: drift only, no metrics (--label names another column)"
    mapping = model.columns(table, chosen, need_label=True)
    is_unlabelled = model.task.unlabelled(table, mapping)
    if all(is_unlabelled(row) for row in table.rows):
        return False, f"No row of {table.source} has a label: drift only, no metrics"
    return True, ""


@dataclass(frozen=True)
class _Rows:
    """At most MOST_ROWS rows of a source."""

    table: Table
    columns: ColumnMapping
    examples: Sequence[Example]

    @classmethod
    def read(cls, model: Predictor, data: Any, chosen: Mapping[str, Any], options: ReadOptions) -> Self:
        named = name_rows(model.task, data, labelled=False)
        with tempfile.TemporaryDirectory(prefix="headway-") as folder:
            table = read_table(named, options, folder=Path(folder))
            if len(table) < FEWEST_ROWS:
                too_few = f"{len(table)} rows are too few to measure drift; give {FEWEST_ROWS}."
                raise TooFewRows(f"{table.source}: {too_few}")
            columns = model.columns(table, chosen)
            if len(table) > MOST_ROWS:
                table = table.select(np.sort(np.random.default_rng(0).permutation(len(table))[:MOST_ROWS]))
            table = replace(table, rows=list(table.rows), places=list(table.places))
        return cls(table, columns, model.task.examples(table, columns, labelled=False))


def _predicted_facts(model: Predictor, rows: _Rows) -> RowFacts:
    """What the model predicts and reads."""
    predictions = [one for _, one in model.predict_rows(rows.table, rows.columns)]
    unknown_id, unknown = model.tokenizer.unk_id, None
    if unknown_id is not None:
        ids = ([i for one in windows for i in one.input_ids] for windows in _windows(model, rows.examples))
        unknown = np.array([one.count(unknown_id) / max(1, len(one)) for one in ids])
    return RowFacts(
        labels=_labels(predictions),
        confidence=_confidence(predictions),
        lengths=np.array([one.length.num_tokens for one in predictions], dtype=float),
        unknown=unknown,
    )


def _windows(model: Predictor, examples: Sequence[Example]) -> Iterator[list[Features]]:
    for part in in_parts(examples):
        yield from model.encoder.encode(model.task, part)


def _labels(predictions: Sequence[Any]) -> list[tuple[str, ...]] | None:
    """The label or labels of each prediction, or the types of its entities; None for other predictions."""
    first = predictions[0]
    if hasattr(first, "entities"):
        return [tuple(entity.label for entity in one.entities) for one in predictions]
    if hasattr(first, "labels"):
        return [tuple(one.labels) for one in predictions]
    if hasattr(first, "index"):  # of choices, whose texts are their own
        return [(f"choice {one.index + 1}",) for one in predictions]
    return [(one.label,) for one in predictions] if hasattr(first, "label") else None


def _confidence(predictions: Sequence[Any]) -> np.ndarray | None:
    """The probability of each prediction, or how far the least certain label is from a probability of 0.5."""
    first = predictions[0]
    if hasattr(first, "score"):
        return np.array([one.score for one in predictions], dtype=float)
    if hasattr(first, "labels") and getattr(first, "scores", None):
        return np.array([0.5 + min(abs(score - 0.5) for score in one.scores.values()) for one in predictions])
    if hasattr(first, "probabilities"):
        return np.array([min(one.probabilities, default=1.0) for one in predictions])
    return None


def _distances(
    model: Predictor, reference: Sequence[Example], new: Sequence[Example]
) -> tuple[np.ndarray, np.ndarray] | None:
    """How far texts are from the mean of half of the reference rows, for the other half and for the new rows.

    Each component of the vectors is divided by its standard deviation, and the distance by the root of their number.
    None: the model is not an encoder or decoder alone.
    """
    backbone = model.network.backbone
    if not isinstance(backbone, Bert | GPT2):
        return None
    order = np.random.default_rng(0).permutation(len(reference))
    half = len(reference) // 2
    with torch.inference_mode():
        ours, theirs = (
            mean_vectors(backbone, model.tokenizer, ["\n".join(one.texts) for one in examples]).numpy()
            for examples in (reference, new)
        )
    mean, std = ours[order[:half]].mean(0), ours[order[:half]].std(0)
    scale = np.where(std > 0, std, 1)
    first, other = (np.sqrt((((one - mean) / scale) ** 2).mean(1)) for one in (ours[order[half:]], theirs))
    return first, other
