"""Both sides of the data of a training run, before the model has seen them: read or opened, split, and described.

Labelled rows become examples in memory. Texts without labels become tokens in files, since they may exceed it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ...core.errors import HeadwayError
from ...core.tokenizers.tokenizer import Tokenizer
from ..data.columns import ColumnMapping
from ..data.corpus import Corpus, Documents, Piece, open_documents
from ..data.features import Features
from ..data.read import fingerprint, read_table
from ..data.rows import Table
from ..data.split import split_rows
from .task import Task

FEWEST_TO_SPLIT = 20  # rows; a tenth of fewer would say nothing
NOTHING_HELD_OUT = "nothing is held out: the last weights are kept and nothing is measured"


@dataclass(frozen=True)
class LabelledData:
    """One side of the data, ready: the examples, and the sequences of each."""

    table: Table
    examples: list[Any]
    windows_by_example: list[list[Features]]

    @cached_property
    def facts(self) -> dict[str, Any]:
        """What the model folder says about it."""
        return {
            "source": _shown(self.table.source),
            "examples": len(self.examples),
            "rows": len(self.table),  # more than the examples where a part of one file is held out
            "fingerprint": fingerprint(self.table),
        }


@dataclass(frozen=True)
class CorpusData:
    """One side of texts without labels, ready."""

    source: str
    windows_by_example: Corpus

    @property
    def examples(self) -> Sequence[int]:
        """Stand for the documents, which are not kept."""
        return range(self.windows_by_example.num_documents)

    @property
    def facts(self) -> dict[str, Any]:
        """What the model folder says about it."""
        corpus = self.windows_by_example
        return {
            "source": _shown(self.source),
            "examples": corpus.num_documents,
            "tokens": corpus.num_tokens,
            "bytes": corpus.num_bytes,
            "fingerprint": corpus.fingerprint,
        }


@dataclass(frozen=True)
class LabelledRows:
    """Both sides of labelled data as examples."""

    task: Task  # knows its labels
    adopted: bool  # whether it trains on the head that the model came with
    table: Table
    examples: list[Any]
    held_out: tuple[Table, list[Any]] | None
    notes: tuple[str, ...]  # what was guessed and decided, a sentence each


def read_labelled(
    asked: Task,
    found: Task | None,
    data: Any,
    eval_data: Any,
    chosen: Mapping[str, Any],
    fraction: float,
    seed: int,
    header: bool | None,
) -> LabelledRows:
    """Reads labelled rows, learns the task's labels from them, and holds a part of them out.

    Args:
        asked: the task before anything is learnt from data.
        found: the task whose head the model came with, if it has one of this kind.
        data: labelled rows (`data.read_table`).
        eval_data: the same, held out; None: a part of `data` is.
        chosen: which column holds what, where the guess is to be overruled.
        fraction: the part of `data` that is held out where there is no `eval_data`.
        seed: of the split.
        header: whether a table's first row names its columns; told from the rows if None.

    Raises:
        HeadwayError: the data or an option cannot be used.
    """
    _check_fraction(fraction, "rows")
    table = read_table(data, header=header)
    columns = asked.columns(table, chosen, need_label=True)
    learnt, decided = asked.infer_labels(table, columns)
    adopted = found and learnt.reuse_head(found)
    task = adopted or learnt
    notes = [f"{table.source}: {len(table)} rows, {table.kind}", *columns.notes, *decided]
    examples = task.examples(table, columns)
    held_out = None
    if eval_data is not None:
        eval_table = read_table(eval_data, header=header)
        eval_columns = task.columns(eval_table, same_columns(columns, eval_table, chosen), need_label=True)
        notes.append(f"{eval_table.source}: {len(eval_table)} rows, {eval_table.kind}")
        held_out = (eval_table, task.examples(eval_table, eval_columns))
    elif fraction and len(examples) >= FEWEST_TO_SPLIT:
        strata, groups = [example.stratum for example in examples], [example.group for example in examples]
        kept, out = split_rows(strata, fraction, seed, groups)
        if out:
            held_out = (table, [examples[i] for i in out])
            examples = [examples[i] for i in kept]
            how = f"--eval-fraction {fraction:g}, seed {seed}"
            notes.append(f"{len(out)} rows are held out for evaluation ({how})")
    if not held_out:
        notes.append(NOTHING_HELD_OUT)
    return LabelledRows(task, adopted is not None, table, examples, held_out, tuple(notes))


def same_columns(columns: ColumnMapping, table: Table, chosen: Mapping[str, Any]) -> Mapping[str, Any]:
    """The columns of the training data, where the evaluation data has columns of these names as well."""
    there = columns.used_columns <= set(table.columns)
    return {**columns.texts, "label": columns.label} if there else chosen


def write_corpora(
    asked: Task,
    tokenizer: Tokenizer,
    limit: int,
    folder: Path,
    data: Any,
    eval_data: Any,
    chosen: Mapping[str, Any],
    fraction: float,
    seed: int,
    header: bool | None,
) -> tuple[CorpusData, CorpusData | None, list[str]]:
    """Turns texts without labels into tokens in files: to learn from, held out, and what was decided.

    Args:
        asked: a task of texts.
        tokenizer: of the model.
        limit: the longest sequence in tokens.
        folder: where the files go.
        data: texts (`corpus.open_documents`).
        eval_data: the same, held out; None: a part of `data` is.
        chosen: which column holds what, where the guess is to be overruled.
        fraction: the part of `data` that is held out where there is no `eval_data`.
        seed: of the split.
        header: whether a table's first row names its columns; told from the rows if None.

    Raises:
        HeadwayError: the data or an option cannot be used, or there is nothing to learn from.
    """
    _check_fraction(fraction, "texts")

    def opened(source: Any) -> Documents:
        return open_documents(source, chosen, asked, header=header)  # pyright: ignore[reportArgumentType]

    def written(name: str, texts: Documents, pieces: Iterable[Piece], *, held_out: bool) -> CorpusData:
        return write_corpus(asked, tokenizer, limit, folder / name, texts, pieces, held_out=held_out)

    texts = opened(data)
    notes = [*texts.notes]
    part = 0.0 if eval_data is not None else fraction
    train = written("train", texts, texts.part(part, seed, held_out=False), held_out=False)
    held_out = None
    if eval_data is not None:
        others = opened(eval_data)
        notes += others.notes
        held_out = written("held-out", others, others.read(), held_out=True)
    elif part:
        some = written("held-out", texts, texts.part(part, seed, held_out=True), held_out=True)
        held_out = some if len(some.windows_by_example) else None
    for side, name in ((train, "to learn from"), (held_out, "held out")):
        if side is not None:
            corpus = side.windows_by_example
            notes.append(
                f"{side.source}: {corpus.num_documents:,} documents {name}, {corpus.num_tokens:,} tokens in "
                f"{len(corpus):,} sequences of at most {limit}"
            )
    if held_out is None:
        notes.append(NOTHING_HELD_OUT)
    if not len(train.windows_by_example):
        raise HeadwayError(f"{train.source}: there is no text in it to learn from. Give one with words.")
    return train, held_out, notes


def write_corpus(
    task: Any,
    tokenizer: Tokenizer,
    limit: int,
    path: Path,
    texts: Documents,
    pieces: Iterable[Piece],
    *,
    held_out: bool,
) -> CorpusData:
    """Turns pieces of texts into tokens in a file, cut into sequences as a task of texts learns or is measured."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return CorpusData(texts.source, Corpus.write(path, pieces, task, tokenizer, limit=limit, held_out=held_out))


def _check_fraction(fraction: float, what: str) -> None:
    if not 0 <= fraction < 1:
        raise HeadwayError(f"--eval-fraction {fraction}: a part of the {what}, from 0 to below 1.")


def _shown(source: str) -> str:
    """A source without the path to it on this machine."""
    return source if source.startswith("hub:") else Path(source).name
