"""Builds the report of an evaluation from its parts, as they are computed: only sums and a few rows are kept."""

import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any

from ...core.errors import HeadwayError
from ..base.evaluation import WRONG, Observer
from ..base.evaluation_results import EvaluatedPart
from ..base.predictor import Predictor
from ..base.report_parts import Chart, ReportPart, ReportTable, Series
from ..base.results import Evaluation
from ..base.task import Task
from ..data.features import text_length
from ..data.read import read_table
from ..data.read_options import ReadOptions
from .divisions import Divisions, Values
from .example_lists import Confusions, ListedRow, Mistakes
from .likely_errors import LikelyErrors
from .near_duplicates import NearDuplicates, TrainingTexts
from .report import EvaluationReport, ReportOptions, RunFacts
from .risk_coverage import RiskCollector
from .run_facts import measure
from .slices import Slices

SHORTEST = 4  # power of two: texts of up to 16 tokens are one slice
WHOLE, WINDOWS, CUT = "read whole", "read in windows", "cut"
NEAR, NOT_NEAR = "near duplicate of a training row", "no near duplicate"


def evaluate_with_report(
    model: Predictor,
    data: Any,
    labels: Any = None,
    *,
    options: ReportOptions | None = None,
    columns: Mapping[str, Any] | None = None,
    unknown_labels: str = WRONG,
    observe: Observer | None = None,
    **how: Any,
) -> tuple[Evaluation, EvaluationReport]:
    """Evaluates a model and describes the result in a report.

    Args:
        model: a trained one.
        data: as for `TaskModel.evaluate`.
        labels: one per text, if they are not in `data`.
        options: what the report shows.
        columns: field name or "label" -> column, where the inferred one is wrong.
        unknown_labels: as for `TaskModel.evaluate`.
        observe: as for `TaskModel.evaluate`.
        **how: `keep_predictions` and `progress` as for `TaskModel.evaluate`, and fields of ReadOptions: header, ...

    Raises:
        HeadwayError: as `TaskModel.evaluate`, or there is no such column, or the training data cannot be read.
    """
    options = options or ReportOptions()
    if model.task.self_supervised and (options.slices or options.reference is not None):
        raise HeadwayError(f"{model.task.name} is evaluated on text without columns: omit --slice and --reference.")
    reading = {name: value for name, value in how.items() if name not in ("keep_predictions", "progress")}
    with tempfile.TemporaryDirectory(prefix="headway-") as folder:
        training = None
        if options.reference is not None:
            training = _read_training(model, options.reference, columns, reading, Path(folder))
        builder = ReportBuilder(model.task, options.slices, training)

        def add(part: EvaluatedPart) -> None:
            builder.add(part)
            if observe is not None:
                observe(part)

        with nullcontext() if training is None else closing(training):
            found = model.evaluate(data, labels, columns=columns, unknown_labels=unknown_labels, observe=add, **how)
        name = _name_of(data) if isinstance(data, str | Path) else ""
        return found, builder.finish(found, _name_of(model.base), name)


def _name_of(path: str | Path) -> str:
    """The last part of a path: reports are shared, folders are private."""
    return Path(path).resolve().name if Path(path).exists() else str(path)


def _read_training(
    model: Predictor, data: Any, columns: Mapping[str, Any] | None, reading: Mapping[str, Any], folder: Path
) -> TrainingTexts:
    """The texts of the training data; labels are not needed. Many rows are kept in files in the folder."""
    kept = {name: value for name, value in reading.items() if name not in ("left_out", "strict")}
    table = read_table(data, ReadOptions(**kept), folder=folder)
    chosen = {name: column for name, column in (columns or {}).items() if name != "label"}
    mapping = model.columns(table, chosen)
    if not len(table):
        raise HeadwayError(f"{table.source}: there is no row to compare with. Give at least one.")
    examples = model.task.examples(table, mapping, labelled=False, file=folder / "examples")
    return TrainingTexts(examples, None if isinstance(examples, list) else folder)


class ReportBuilder:
    """Collects what a report needs from evaluated parts.

    Args:
        task: of the model.
        slices: columns whose values divide the data.
        training: the texts of the training data; None: not given.
    """

    def __init__(
        self, task: Task[Any, Any], slices: Sequence[str] = (), training: TrainingTexts | None = None
    ) -> None:
        self._task, self._columns = task, slices
        self._duplicates = None if training is None else NearDuplicates(training)
        self._start = time.monotonic()
        self._slices = Slices()
        self._confusions, self._mistakes, self._risk = Confusions(), Mistakes(), RiskCollector()
        self._divisions: Divisions | None = None  # known with the table
        self._likely_errors = LikelyErrors()
        self._collector = task.report_collector()
        self._lengths: Counter[tuple[int, str]] = Counter()  # of (power of two, how it was read)
        self._tokens = self._unread = self._sequences = 0

    def add(self, part: EvaluatedPart) -> None:
        """Adds examples with their predictions."""
        if not self._task.finishes_predictions:
            self._add_examples(part.task, part.predictions, part.examples)
        lengths = [text_length(windows) for windows in part.windows_by_example]
        self._tokens += sum(one.num_tokens for one in lengths)
        self._unread += sum(one.num_unread for one in lengths)
        if part.table is None:
            self._sequences += len(part.predictions)
            return
        how = [
            CUT if length.truncated else WINDOWS if len(windows) > len({one.text_index for one in windows}) else WHOLE
            for length, windows in zip(lengths, part.windows_by_example, strict=True)
        ]
        powers = [max(SHORTEST, (one.num_tokens - 1).bit_length()) for one in lengths]
        self._lengths.update(zip(powers, how, strict=True))
        if part.tally is not None:
            self._slices.add(part.tally, part.groups, self._values(part, how, powers))

    def _add_examples(self, task: Task[Any, Any], predictions: Sequence[Any], examples: Sequence[Any]) -> None:
        """Adds what the task shows, and mistakes."""
        if self._collector is not None:
            self._collector.add(predictions, examples)
        if task.self_supervised:
            return
        self._likely_errors.add(task, predictions, examples)
        judged: list[tuple[float, bool]] = []  # confidence, whether it is wrong
        for prediction, example in zip(predictions, examples, strict=True):
            wrong, confidence = task.misprediction(prediction, example), prediction.confidence
            if confidence is not None:
                judged.append((confidence, wrong is not None))
            if wrong is not None:
                self._mistakes.add(wrong, confidence)
            row = None if wrong is None else ListedRow.of(wrong, confidence)
            self._confusions.add(task, prediction, example, row)
        if judged:
            self._risk.add(*zip(*judged, strict=True))

    def _values(self, part: EvaluatedPart, how: Sequence[str], powers: Sequence[int]) -> Values:
        """The parts of the data that each example belongs to, by what divides it."""
        assert part.table is not None
        values: dict[str, Sequence[Sequence[str]]] = {
            "length": [(_length_name(power),) for power in powers],
            "reading": [(one,) for one in how],
        }
        if self._divisions is None:
            self._divisions = Divisions(part.table, self._columns, part.columns and part.columns.label)
        values |= self._divisions.values(part.task, part.predictions, part.examples)
        if self._duplicates is not None:
            near = map(self._duplicates.add, part.examples)
            values["training data"] = [(NEAR if one else NOT_NEAR,) for one in near]
        return values

    def finish(self, found: Evaluation, model: str, data: str) -> EvaluationReport:
        """The report.

        Args:
            found: the evaluation whose parts were added.
            model: its name.
            data: its name; empty: rows that the caller gave.
        """
        if self._task.finishes_predictions:
            self._add_examples(self._task, found.predictions, found.examples)
        metric, slices = self._slices.compare()
        rows = bool(self._lengths)
        number = found.num_examples if rows else self._sequences
        return EvaluationReport(
            model=model,
            task=self._task.name,
            title=self._task.title,
            data=data or "the given rows",
            examples=number,
            unit="rows" if rows else "sequences",
            left_out=len(found.left_out),
            metrics=found.metrics,
            intervals=found.intervals,
            notes=found.notes,
            warnings=[one for one in (found.nothing_learnt, found.seen) if one],
            per_label=found.label_intervals or found.per_label,
            confusion=self._confusions.summary(),
            parts=[*(self._collector.parts() if self._collector else []), *self._risk.charts()],
            slice_metric=metric,
            slices=slices,
            mistakes=self._mistakes.number if rows else None,
            worst=self._mistakes.worst,
            confident=self._mistakes.confident,
            label_errors=self._likely_errors.summary(),
            reading=self._reading() if rows else [],
            near_duplicates=self._duplicates and self._duplicates.number,
            duplicates=self._duplicates.listed if self._duplicates else (),
            comparison=found.comparison,
            run=self._run(number),
        )

    def _reading(self) -> list[ReportPart]:
        """How many texts were read whole, and the lengths of all."""
        total = self._lengths.total()
        by_how: Counter[str] = Counter()
        for (_, how), count in self._lengths.items():
            by_how[how] += count
        rows = [{"": how, "rows": by_how[how], "share": by_how[how] / total} for how in (WHOLE, WINDOWS, CUT)]
        note = f"{self._unread:,} of {self._tokens:,} tokens were not read."
        powers = sorted({power for power, _ in self._lengths})
        shown = [how for how in (WHOLE, WINDOWS, CUT) if by_how[how]]
        series = [Series(how, tuple(powers), tuple(self._lengths[power, how] for power in powers)) for how in shown]
        chart = Chart("Lengths of the texts", ("tokens, at most (powers of two)", "rows"), tuple(series), kind="bars")
        return [ReportTable("How the texts were read", rows, note), chart]

    def _run(self, number: int) -> RunFacts:
        return measure(time.monotonic() - self._start, number, self._tokens)


def _length_name(power: int) -> str:
    return f"up to {2**power:,} tokens" if power == SHORTEST else f"{2 ** (power - 1) + 1:,} to {2**power:,} tokens"
