"""The data of a training run: read, split into training and evaluation data, encoded and described.

Rows, examples and token ids may exceed the memory: many of them are kept in files of a folder that the caller deletes
after the run.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np

from ...core.atomic_files import disk_errors
from ...core.errors import HeadwayError
from ..data.columns import ColumnMapping
from ..data.corpus import Corpus, CorpusTask, Documents, Piece, open_documents
from ..data.examples import Example, ExampleWarning
from ..data.features import Features
from ..data.findings import Finding, leaked_texts, warnings_as_findings
from ..data.groups import example_groups
from ..data.read import read_table
from ..data.report import DataReport, check_corpus, check_examples
from ..data.rows import LeftOutRow, Table
from ..data.spool import IN_MEMORY
from ..data.stored_windows import StoredWindows
from ..data.token_counts import TokenCounts
from .data_source import DataSource
from .example_warnings import add_warnings
from .hold_out import hold_out
from .inference import Encoder, in_parts
from .known_columns import describe_columns
from .left_out import explains_left_out, usable_rows
from .results import Prepared
from .rival import Rival
from .task import Task
from .unknown_labels import without_unknown

NOTHING_HELD_OUT = "nothing is held out: the last weights are kept and no score is measured"
NOTHING_CHOSEN = "nothing is held out for evaluation: the last weights are kept"


@dataclass(frozen=True)
class LabelledData:
    """Training or evaluation data with labels."""

    table: Table
    examples: Sequence[Any]
    windows_by_example: Sequence[list[Features]]
    columns: ColumnMapping | None = None  # of the table

    @cached_property
    def groups(self) -> np.ndarray | None:
        """The number of the group of each example: equal ones belong together, (E,)."""
        if not isinstance(self.examples[0], Example):
            return None
        return example_groups(self.examples, self.table, self.columns and self.columns.group)[0]

    @cached_property
    def facts(self) -> dict[str, Any]:
        """What headway.json says about the data."""
        return {
            "source": _file_name(self.table.source),
            "examples": len(self.examples),
            "rows": len(self.table),  # more than the examples if a part of them is held out
            "fingerprint": self.table.fingerprint(),
        }


@dataclass(frozen=True)
class CorpusData:
    """Training or evaluation data without labels."""

    source: str
    windows_by_example: Corpus
    groups: ClassVar[None] = None  # what is fitted to labelled examples

    @property
    def examples(self) -> Sequence[int]:
        """The numbers of the documents, which are not kept in memory."""
        return range(self.windows_by_example.num_documents)

    @property
    def facts(self) -> dict[str, Any]:
        """What headway.json says about the data."""
        corpus = self.windows_by_example
        return {
            "source": _file_name(self.source),
            "examples": corpus.num_documents,
            "tokens": corpus.num_tokens,
            "bytes": corpus.num_bytes,
            "fingerprint": corpus.fingerprint,
        }


@dataclass(frozen=True)
class TrainingData:
    """The data of a run, ready for training."""

    train: LabelledData | CorpusData
    evaluation: LabelledData | CorpusData | None
    notes: list[str]  # what was inferred and decided, a sentence each
    report: DataReport
    columns: dict[str, Any] | None = None  # of the training data: field name or "label" -> column
    rival: Rival | None = None  # a cheaper way to train, measured on the data that is scored
    test: LabelledData | CorpusData | None = None

    @property
    def scored(self) -> LabelledData | CorpusData | None:
        """The data whose metrics are reported: for the test, which chooses nothing, else for evaluation."""
        return self.test or self.evaluation

    @property
    def left_out(self) -> tuple[LeftOutRow, ...]:
        """The rows that are not used."""
        sides = (self.train, self.evaluation, self.test)
        distinct = {id(side.table): side.table for side in sides if isinstance(side, LabelledData)}
        return tuple(row for table in distinct.values() for row in table.left_out)

    def event(self, task: Task[Any, Any], base: str) -> Prepared:
        """The first event of a run of the task on the model `base`."""
        sizes = (len(side.examples) if side else 0 for side in (self.train, self.evaluation, self.test))
        return Prepared(task.name, base, tuple(self.notes), self.report, *sizes)


class LabelledSide(NamedTuple):
    """Rows for training, evaluation or the test, before they are encoded."""

    table: Table
    examples: Sequence[Any]
    columns: ColumnMapping


@dataclass(frozen=True)
class LabelledRows:
    """Labelled rows as examples, before they are encoded."""

    task: Task[Any, Any]  # with its labels
    reuses_head: bool  # whether the task trains the head that the model came with further
    train: LabelledSide
    evaluation: LabelledSide | None
    test: LabelledSide | None
    notes: list[str]  # what was inferred and decided, a sentence each


def read_labelled(
    source: DataSource, task: Task[Any, Any], stored: Task[Any, Any] | None, folder: Path | None = None
) -> LabelledRows:
    """Reads labelled rows, infers the labels of the task from them, and holds a part of them out.

    Args:
        source: of the rows.
        task: before its labels are known.
        stored: the task whose head the model came with, if it is of the same class.
        folder: for files with the rows and the examples, if there are many; None: they stay in memory.

    Raises:
        HeadwayError: the data or an option cannot be used.
    """
    split_notes = source.check_split()
    table = read_table(source.train, source.readings[0], folder=folder and folder / "train")
    columns = task.columns(table, source.columns, need_label=True)
    table = usable_rows(task, table, columns)
    with explains_left_out(table.left_out):
        labelled, inferred = task.infer_labels(table, columns)
    reused = stored and labelled.reuse_head(stored)
    task = reused or labelled
    notes = [*table.describe(), *columns.notes, *inferred, *split_notes]
    examples = task.examples(table, columns, file=folder and folder / "train" / "examples")
    evaluation = test = None
    if any(source.fractions(len(examples))):
        split = hold_out(source, table, columns, examples)
        notes.append(split.note)
        examples = split.train
        evaluation, test = (
            LabelledSide(table, one, columns) if one else None for one in (split.evaluation, split.test)
        )
        task = task.measure(examples) if evaluation or test else task
    if source.fold is not None:
        examples, held_out, note = source.fold.split(examples, table, columns, source.seed)
        notes.append(note)
        if held_out:
            evaluation, task = LabelledSide(table, held_out, columns), task.measure(examples)
    if source.evaluation is not None:
        evaluation = _read_other(source, 1, task, columns, folder and folder / "evaluation")
        notes += evaluation.table.describe()
    if source.test is not None:
        test = _read_other(source, 2, task, columns, folder and folder / "test")
        notes += test.table.describe()
    if not evaluation and source.fold is None:
        notes.append(NOTHING_CHOSEN if test else NOTHING_HELD_OUT)
    return LabelledRows(task, reused is not None, LabelledSide(table, examples, columns), evaluation, test, notes)


def _read_other(
    source: DataSource, place: int, task: Task[Any, Any], columns: ColumnMapping, folder: Path | None
) -> LabelledSide:
    """Rows that are not for training.

    Args:
        source: of the rows.
        place: 1: for evaluation; 2: for the test.
        task: with the labels of the training data.
        columns: of the training data.
        folder: for files, if there are many rows.
    """
    data = (source.train, source.evaluation, source.test)[place]
    table = read_table(data, source.readings[place], folder=folder)
    own = task.columns(table, same_columns(columns, table, source.columns), need_label=True)
    table = without_unknown(task, usable_rows(task, table, own), own)
    return LabelledSide(table, task.examples(table, own, file=folder and folder / "examples"), own)


def same_columns(columns: ColumnMapping, table: Table, chosen: Mapping[str, Any]) -> Mapping[str, Any]:
    """The columns of the training data if the evaluation data has columns with these names, else `chosen`."""
    there = columns.used_columns <= set(table.columns)
    return {**columns.texts, "label": columns.label} if there else chosen


def encode_labelled(
    rows: LabelledRows, encoder: Encoder, notes: Iterable[str], folder: Path | None = None
) -> TrainingData:
    """Encodes and checks labelled rows.

    Args:
        rows: for training and evaluation.
        encoder: of the model.
        notes: added to those of the rows.
        folder: for files with the token ids, if there are many examples; None: they stay in memory.
    """
    named = {"train": rows.train, "evaluation": rows.evaluation, "test": rows.test}
    sides = {
        name: _EncodedSide(rows.task, side, encoder, folder and folder / name / "tokens")
        for name, side in named.items()
        if side
    }
    train, evaluation, test = (sides[name].data if name in sides else None for name in named)
    assert train is not None
    found = [finding for one in sides.values() for finding in one.findings()]
    known = [side.examples for side in (train, evaluation) if side and test and side.table is not test.table]
    found += rows.task.findings(train.examples)
    found += leaked_texts(chain(*known), test.examples if test and known else [], "test")
    report = check_examples(
        train.examples,
        evaluation.examples if evaluation else [],
        sides["train"].tokens,
        found,
        is_split=evaluation is not None and evaluation.table is train.table,
    )
    report = replace(report, test_examples=len(test.examples) if test else 0)
    columns = describe_columns(rows.train.columns, train.table)
    return TrainingData(train, evaluation, [*rows.notes, *notes], report, columns, test=test)


class _EncodedSide:
    """Encodes examples part by part, and counts their tokens and warnings meanwhile.

    Args:
        task: with its labels.
        side: the examples.
        encoder: of the model.
        file: for the windows, if there are many examples; None: they stay in memory.
    """

    def __init__(self, task: Task[Any, Any], side: LabelledSide, encoder: Encoder, file: Path | None) -> None:
        self.task, self.encoder = task, encoder
        table, examples, columns = side
        self.tokens = TokenCounts(encoder.limit(task), encoder.tokenizer.unk_id, task.cut_note)
        self.warnings: dict[ExampleWarning, list[str]] = {}
        if file is None or len(examples) <= IN_MEMORY:
            windows_by_example: Sequence[list[Features]] = self._encode(examples)
        else:
            parts = map(self._encode, in_parts(examples))
            windows_by_example = StoredWindows.write((windows for part in parts for windows in part), file)
        self.data = LabelledData(table, examples, windows_by_example, columns)

    def _encode(self, examples: Sequence[Any]) -> list[list[Features]]:
        found = self.encoder.encode(self.task, examples)
        self.tokens.add(found)
        add_warnings(self.warnings, self.task, examples, found)
        return found

    def findings(self) -> Iterator[Finding]:
        """The warnings of the task."""
        return warnings_as_findings(self.warnings, len(self.data.examples))


def write_corpora(source: DataSource, task: Task[Any, Any], encoder: Encoder, folder: Path) -> TrainingData:
    """Encodes unlabelled text into files.

    Args:
        source: of the texts.
        task: a self-supervised task.
        encoder: of the model.
        folder: where the files go.

    Raises:
        HeadwayError: the data or an option cannot be used, or there is no text.
    """
    split_notes = source.check_split()
    if source.columns.get("group"):
        raise HeadwayError(f"--group has no effect in {task.name}, which holds out whole documents. Remove it.")
    assert isinstance(task, CorpusTask)
    texts = open_documents(source.train, source.columns, task, source.readings[0])
    notes = [*texts.notes, *split_notes]
    test_part, eval_part = source.fractions()

    def part(name: str, start: float, stop: float) -> CorpusData | None:
        """A part of the training data; None if it is empty."""
        pieces = texts.part(start, stop, source.seed)
        found = write_corpus(folder / name, task, encoder, texts, pieces, held_out=name != "train")
        return found if len(found.windows_by_example) else None

    def other(name: str, place: int) -> CorpusData:
        data = (source.train, source.evaluation, source.test)[place]
        others = open_documents(data, source.columns, task, source.readings[place])
        notes.extend(others.notes)
        return write_corpus(folder / name, task, encoder, others, others.read(), held_out=True)

    train = part("train", eval_part + test_part, 1)
    evaluation = test = None
    if source.evaluation is not None:
        evaluation = other("held-out", 1)
    elif eval_part:
        evaluation = part("held-out", 0, eval_part)
    if source.test is not None:
        test = other("test", 2)
    elif test_part:
        test = part("test", eval_part, eval_part + test_part)
    notes += [
        f"{one.source}: {one.windows_by_example.num_documents:,} documents {purpose}, "
        f"{one.windows_by_example.num_tokens:,} tokens in {len(one.windows_by_example):,} sequences of at most "
        f"{encoder.limit(task)}"
        for one, purpose in ((train, "for training"), (evaluation, "for evaluation"), (test, "for the test"))
        if one is not None
    ]
    if evaluation is None:
        notes.append(NOTHING_CHOSEN if test else NOTHING_HELD_OUT)
    if train is None:
        raise HeadwayError(f"{texts.source}: there is no text to train on. Give a file with text.")
    report = check_corpus(train.windows_by_example, evaluation and evaluation.windows_by_example)
    report = replace(report, test_examples=len(test.examples) if test else 0)
    return TrainingData(train, evaluation, notes, report, test=test)


def write_corpus(
    path: Path,
    task: Task[Any, Any],
    encoder: Encoder,
    documents: Documents,
    pieces: Iterable[Piece],
    *,
    held_out: bool,
) -> CorpusData:
    """Encodes pieces of documents into a file, as sequences to train on or (`held_out`) to evaluate on."""
    assert isinstance(task, CorpusTask)
    encoder.tokenizer.check_fits(encoder.config.vocab_size, encoder.model)
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    limit = encoder.limit(task)
    corpus = Corpus.write(path, pieces, task, encoder.tokenizer, limit=limit, held_out=held_out)
    return CorpusData(documents.source, corpus)


def _file_name(source: str) -> str:
    """A source without its path on this machine."""
    return source if source.startswith("hub:") else Path(source).name
