"""The data of a training run: read, split into training and evaluation data, encoded and described.

Rows, examples and token ids may exceed the memory: many of them are kept in files of a folder that the caller deletes
after the run.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from ...core.atomic_files import disk_errors
from ...core.errors import HeadwayError
from ..data.columns import ColumnMapping
from ..data.corpus import Corpus, CorpusTask, Documents, Piece, open_documents
from ..data.digests import number_values
from ..data.examples import ExampleWarning
from ..data.features import Features
from ..data.findings import Finding, warnings_as_findings
from ..data.groups import example_groups, without_known_texts
from ..data.read import options_by_source, read_table
from ..data.read_options import INFER, ReadOptions
from ..data.report import DataReport, check_corpus, check_examples
from ..data.rows import LeftOutRow, Table
from ..data.split import split_rows
from ..data.spool import IN_MEMORY, select
from ..data.stored_windows import StoredWindows
from ..data.token_counts import TokenCounts
from .example_warnings import add_warnings
from .fold import Fold
from .inference import Encoder, in_parts
from .known_columns import describe_columns
from .left_out import explains_left_out, usable_rows
from .results import Prepared
from .rival import Rival
from .task import Task
from .unknown_labels import without_unknown

FEWEST_TO_SPLIT = 20  # examples; a tenth of fewer measures nothing
EVAL_FRACTION = 0.1  # of the rows, held out if there is no evaluation data
NOTHING_HELD_OUT = "nothing is held out: the last weights are kept and no score is measured"


@dataclass(frozen=True)
class DataSource:
    """Where the data of a run comes from.

    Args:
        train: labelled rows or texts: anything that `read_table` or `open_documents` reads.
        evaluation: the same for evaluation; None: a part of `train` is held out.
        columns: field name, "label" or "group" -> column that the user named.
        eval_fraction: the part of `train` to hold out; 0: none.
        seed: of the split.
        reading: how to read files.
        fold: of a cross-validation, instead of `eval_fraction`.
    """

    train: Any
    evaluation: Any = None
    columns: Mapping[str, Any] = field(default_factory=dict)
    eval_fraction: float = EVAL_FRACTION
    seed: int = 0
    reading: ReadOptions = INFER
    fold: Fold | None = None

    @cached_property
    def readings(self) -> tuple[ReadOptions, ReadOptions]:
        """How the training data and the evaluation data are read: an option applies to those that it concerns."""
        train, *others = options_by_source(
            self.reading, [one for one in (self.train, self.evaluation) if one is not None]
        )
        return train, others[0] if others else train

    def check_split(self) -> list[str]:
        """Notes on options that have no effect.

        Raises:
            HeadwayError: `eval_fraction` is not possible, or groups are named and there is no split.
        """
        if self.columns.get("group") and (self.evaluation is not None or not self.eval_fraction):
            raise HeadwayError(
                "--group keeps rows together where a part of the training data is held out, and here none is: "
                "remove --group, or --eval-data or --eval-fraction 0."
            )
        if not 0 <= self.eval_fraction < 1:
            raise HeadwayError(f"--eval-fraction {self.eval_fraction}: a number from 0 to below 1.")
        if self.evaluation is None or self.eval_fraction in (0, EVAL_FRACTION):
            return []
        return [f"--eval-fraction {self.eval_fraction:g} has no effect beside --eval-data: all training rows are used"]


@dataclass(frozen=True)
class LabelledData:
    """Training or evaluation data with labels."""

    table: Table
    examples: Sequence[Any]
    windows_by_example: Sequence[list[Features]]

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
    mapping: ColumnMapping | None = None  # of the training data, if it is labelled
    rival: Rival | None = None  # a cheaper way to train, measured on the evaluation data

    @property
    def left_out(self) -> tuple[LeftOutRow, ...]:
        """The rows that are not used."""
        tables = [side.table for side in (self.train, self.evaluation) if isinstance(side, LabelledData)]
        distinct = tables[:1] if tables and tables[-1] is tables[0] else tables
        return tuple(row for table in distinct for row in table.left_out)

    def event(self, task: Task[Any, Any], base: str) -> Prepared:
        """The first event of a run of the task on the model `base`."""
        evaluated = len(self.evaluation.examples) if self.evaluation else 0
        return Prepared(task.name, base, tuple(self.notes), self.report, len(self.train.examples), evaluated)


@dataclass(frozen=True)
class LabelledRows:
    """Labelled rows as examples, before they are encoded."""

    task: Task[Any, Any]  # with its labels
    reuses_head: bool  # whether the task trains the head that the model came with further
    train: tuple[Table, Sequence[Any]]
    evaluation: tuple[Table, Sequence[Any]] | None
    notes: list[str]  # what was inferred and decided, a sentence each
    columns: ColumnMapping  # of the training data


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
    evaluation = None
    if source.evaluation is not None:
        eval_folder = folder and folder / "evaluation"
        eval_table = read_table(source.evaluation, source.readings[1], folder=eval_folder)
        chosen = same_columns(columns, eval_table, source.columns)
        eval_columns = task.columns(eval_table, chosen, need_label=True)
        eval_table = usable_rows(task, eval_table, eval_columns)
        eval_table = without_unknown(task, eval_table, eval_columns)
        notes += eval_table.describe()
        evaluation = eval_table, task.examples(eval_table, eval_columns, file=eval_folder and eval_folder / "examples")
    elif source.fold is not None:
        train, held_out, note = source.fold.split(examples, table, columns, source.seed)
        if held_out:
            examples, evaluation, task = train, (table, held_out), task.measure(train)
        notes.append(note)
    elif source.eval_fraction and len(examples) >= FEWEST_TO_SPLIT:
        examples, held_out, note = _hold_out(source, table, columns, examples)
        if held_out:
            evaluation, task = (table, held_out), task.measure(examples)
        notes.append(note)
    elif source.eval_fraction:
        notes.append(f"{len(examples)} rows are too few to hold some of them out ({FEWEST_TO_SPLIT} are needed)")
    if not evaluation and source.fold is None:
        notes.append(NOTHING_HELD_OUT)
    return LabelledRows(task, reused is not None, (table, examples), evaluation, notes, columns)


def _hold_out(
    source: DataSource, table: Table, columns: ColumnMapping, examples: Sequence[Any]
) -> tuple[Sequence[Any], Sequence[Any], str]:
    """The examples for training, those for evaluation, and a note. Equal texts and groups are not divided."""
    groups, texts = example_groups(examples, table, columns.group)
    strata = number_values(one.stratum for one in examples)
    kept, chosen = split_rows(strata, source.eval_fraction, source.seed, groups)
    held_out = without_known_texts(chosen, kept, texts)
    what = "equal texts" if columns.group is None else f'rows with the same "{columns.group}"'
    together = f"{what} stay together" if groups.max() + 1 < len(groups) else ""
    if not held_out:
        return examples, [], f"{together or 'each label stays in the training data'}, so no rows can be held out"
    options = [f"--eval-fraction {source.eval_fraction:g}", f"seed {source.seed}"]
    note = f"{len(held_out)} rows are held out for evaluation ({', '.join(options)}{'; ' * bool(together)}{together})"
    if len(held_out) < len(chosen):
        note += f"; {len(chosen) - len(held_out)} more are left out because training rows have the same texts"
    return select(examples, kept), select(examples, held_out), note


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
    named = zip(("train", "evaluation"), (rows.train, rows.evaluation), strict=True)
    sides = [
        _EncodedSide(rows.task, *side, encoder, folder and folder / name / "tokens") for name, side in named if side
    ]
    train, evaluation = sides[0], sides[1] if len(sides) > 1 else None
    report = check_examples(
        train.data.examples,
        evaluation.data.examples if evaluation else [],
        train.tokens,
        [found for one in sides for found in one.findings()],
        is_split=evaluation is not None and evaluation.data.table is train.data.table,
    )
    columns = describe_columns(rows.columns, train.data.table)
    data = TrainingData(train.data, evaluation and evaluation.data, [*rows.notes, *notes], report, columns)
    return replace(data, mapping=rows.columns)


class _EncodedSide:
    """Encodes examples part by part, and counts their tokens and warnings meanwhile.

    Args:
        task: with its labels.
        table: of the examples.
        examples: for training or for evaluation.
        encoder: of the model.
        file: for the windows, if there are many examples; None: they stay in memory.
    """

    def __init__(
        self, task: Task[Any, Any], table: Table, examples: Sequence[Any], encoder: Encoder, file: Path | None
    ) -> None:
        self.task, self.encoder = task, encoder
        self.tokens = TokenCounts(encoder.limit(task), encoder.tokenizer.unk_id, task.cut_note)
        self.warnings: dict[ExampleWarning, list[str]] = {}
        if file is None or len(examples) <= IN_MEMORY:
            windows_by_example: Sequence[list[Features]] = self._encode(examples)
        else:
            parts = map(self._encode, in_parts(examples))
            windows_by_example = StoredWindows.write((windows for part in parts for windows in part), file)
        self.data = LabelledData(table, examples, windows_by_example)

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
    fraction = 0.0 if source.evaluation is not None else source.eval_fraction
    pieces = texts.part(fraction, source.seed, held_out=False)
    train = write_corpus(folder / "train", task, encoder, texts, pieces, held_out=False)
    evaluation = None
    if source.evaluation is not None:
        others = open_documents(source.evaluation, source.columns, task, source.readings[1])
        notes += others.notes
        evaluation = write_corpus(folder / "held-out", task, encoder, others, others.read(), held_out=True)
    elif fraction:
        pieces = texts.part(fraction, source.seed, held_out=True)
        some = write_corpus(folder / "held-out", task, encoder, texts, pieces, held_out=True)
        evaluation = some if len(some.windows_by_example) else None
    notes += [
        f"{one.source}: {one.windows_by_example.num_documents:,} documents {purpose}, "
        f"{one.windows_by_example.num_tokens:,} tokens in {len(one.windows_by_example):,} sequences of at most "
        f"{encoder.limit(task)}"
        for one, purpose in ((train, "for training"), (evaluation, "for evaluation"))
        if one is not None
    ]
    if evaluation is None:
        notes.append(NOTHING_HELD_OUT)
    if not len(train.windows_by_example):
        raise HeadwayError(f"{train.source}: there is no text to train on. Give a file with text.")
    report = check_corpus(train.windows_by_example, evaluation and evaluation.windows_by_example)
    return TrainingData(train, evaluation, notes, report)


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
