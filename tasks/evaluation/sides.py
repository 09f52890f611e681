"""One side of a comparison: a trained model or a prompt, with its predictions for the rows that all sides can read."""

import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ...core.checkpoints.checkpoint import load_checkpoint
from ...core.checkpoints.hub import find_folder
from ...core.errors import HeadwayError
from ..base.left_out import leave_out
from ..base.predictor import Predictor
from ..base.task import Task
from ..data.columns import ColumnMapping
from ..data.rows import LeftOutRow, Table
from ..prompting.prompt import PromptModel
from ..prompting.saved_prompt import SavedPrompt

BYTES_PER_PARAMETER = 4  # fp32
TIMED_ROWS = 64
TIMED_SECONDS = 0.5  # at least, so that the clock and the first call do not matter


@dataclass(frozen=True)
class Predicted:
    """The predictions of one side, in the order of the rows.

    Args:
        task: that scores the predictions; knows the labels of the side and of the rows.
        examples: labelled, or the numbers of the documents of a corpus.
        predictions: one for each example, or for each sequence of a corpus.
        rows_per_second: of prediction.
        notes: a sentence each.
    """

    task: Task[Any, Any]
    examples: Sequence[Any]
    predictions: Sequence[Any]
    rows_per_second: float
    notes: tuple[str, ...] = ()


class Side(ABC):
    """A trained model or a prompt.

    Args:
        name: in tables and messages; unique among the sides.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    @property
    @abstractmethod
    def parameters(self) -> int:
        """Number of parameters; those that two modules share count once."""

    @property
    def megabytes(self) -> float:
        """Of the parameters in fp32."""
        return self.parameters * BYTES_PER_PARAMETER / 1e6

    @abstractmethod
    def task(self) -> Task[Any, Any]:
        """What reads the rows."""

    @abstractmethod
    def columns(self, table: Table, chosen: Mapping[str, Any]) -> ColumnMapping:
        """The columns that are read."""

    @abstractmethod
    def predict(self, table: Table, columns: ColumnMapping, chosen: Mapping[str, Any]) -> Predicted:
        """The predictions for rows that can be read; `chosen` are the columns that the user named."""

    def usable(self, table: Table, columns: ColumnMapping) -> tuple[np.ndarray, list[LeftOutRow]]:
        """The positions of the rows that can be read, and the others with the reason."""
        numbered = replace(table, places=range(len(table)))
        kept, left_out = leave_out(self.task(), numbered, columns)
        examples, problems = self.task().with_labels_of(kept, columns).read(kept, columns)
        reasons = {one.where: one.reason for one in left_out}
        for problem in problems:
            reasons |= dict.fromkeys(problem.places, f"that {self.name} cannot read ({problem.message})")
        used = np.array([kept.places[example.row] for example in examples], dtype=np.int64)
        others = np.setdiff1d(np.arange(len(table)), used)
        return used, [LeftOutRow(table.where(row), reasons[numbered.where(row)]) for row in others.tolist()]


class ModelSide(Side):
    """A trained model."""

    def __init__(self, model: Predictor, name: str) -> None:
        super().__init__(name)
        self.model = model

    @property
    def parameters(self) -> int:
        """Of the backbone and the head."""
        return sum(one.numel() for one in self.model._network.parameters())  # without reading the weights

    def generate_as(self, first: Task[Any, Any]) -> None:
        """Evaluates outputs for as many inputs as another task, where both generate them; the model is not changed."""
        if hasattr(first, "eval_outputs") and hasattr(self.model.task, "eval_outputs"):
            self.model = self.model.with_options(eval_outputs=getattr(first, "eval_outputs"))  # noqa: B009

    def task(self) -> Task[Any, Any]:
        """That of the model."""
        return self.model.task

    def columns(self, table: Table, chosen: Mapping[str, Any]) -> ColumnMapping:
        """As in the training data."""
        return self.model.columns(table, chosen, need_label=True)

    def predict(self, table: Table, columns: ColumnMapping, chosen: Mapping[str, Any]) -> Predicted:
        """As `evaluate`; labels that the model does not know count as wrong."""
        found = self.model.evaluate(table, columns=chosen)
        order = sorted(range(len(found.examples)), key=lambda i: found.examples[i].row)
        examples, predictions = ([values[i] for i in order] for values in (found.examples, found.predictions))
        sample = _sample(table)
        speed = rows_per_second(lambda: list(self.model.predict_rows(sample, columns)), len(sample))
        task = self.model.task.with_labels_of(table, columns)
        notes = [note for note in found.notes if note not in (*table.notes, *columns.notes)]
        notes += filter(None, (found.seen, found.nothing_learnt))
        return Predicted(task, examples, predictions, speed, tuple(notes))

    def predict_corpus(self, data: Any, chosen: Mapping[str, Any], reading: Mapping[str, Any]) -> Predicted:
        """The losses on unlabelled text."""
        start = time.perf_counter()
        found = self.model.evaluate(data, columns=chosen, **reading)
        seconds = time.perf_counter() - start
        documents = sum(one.num_bytes > 0 for one in found.predictions)
        return Predicted(self.model.task, found.examples, found.predictions, documents / seconds)


class PromptSide(Side):
    """A prompt on a language model."""

    def __init__(self, saved: SavedPrompt, name: str, *, device: str, precision: str) -> None:
        super().__init__(name)
        self.saved = saved
        if saved.prompt.writes:
            raise HeadwayError(f"{name}: a prompt that generates its answers cannot be compared. Give --labels.")
        self.model: PromptModel = saved.open(precision, device)

    @property
    def parameters(self) -> int:
        """Of the language model; what was prepared for inference has packed ones."""
        stored = load_checkpoint(find_folder(self.saved.model), filled=False).network
        return sum(one.numel() for one in stored.parameters())

    def task(self) -> Task[Any, Any]:
        """A classifier with the labels of the prompt."""
        prepared = self.model.prepared
        return (self.model.reader if prepared is None else prepared.reader).task

    def columns(self, table: Table, chosen: Mapping[str, Any]) -> ColumnMapping:
        """Those named when the prompt was saved, where the caller names no other."""
        named = {name: column for name, column in self.saved.columns.items() if column in table.columns}
        columns = self.model.reader.columns(table, {**named, **chosen}, need_label=True)
        self.saved.prepare(self.model, paired="pair" in columns.texts, data=table)
        return columns

    def predict(self, table: Table, columns: ColumnMapping, chosen: Mapping[str, Any]) -> Predicted:
        """The answers with the demonstrations of the prompt's seed."""
        del chosen  # in `columns`
        prepared = self.saved.prepare(self.model, paired="pair" in columns.texts, data=table)
        task = prepared.reader.task.with_labels_of(table, columns)
        examples = task.examples(table, columns)
        predictions = prepared.predict(examples)
        sample = prepared.reader.examples(_sample(table), columns, labelled=False)
        speed = rows_per_second(lambda: prepared.predict(sample), len(sample))
        return Predicted(task, examples, predictions, speed, (*prepared.notes, *prepared.warnings))


def rows_per_second(predict: Any, rows: int) -> float:
    """How many rows are predicted in a second, after other predictions have been made."""
    start, times, seconds = time.perf_counter(), 0, 0.0
    while seconds < TIMED_SECONDS:
        predict()
        times, seconds = times + 1, time.perf_counter() - start
    return times * rows / seconds


def _sample(table: Table) -> Table:
    """Rows at equal distances."""
    return table.select(np.unique(np.linspace(0, len(table) - 1, min(TIMED_ROWS, len(table))).astype(np.int64)))
