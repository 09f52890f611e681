"""Unlabelled text of any size: read in pieces, stored as token ids in one file, served as sequences.

A document is a row of a table or of JSON lines, or (in plain text) the whole file, a paragraph or a line. No sequence
crosses the end of a document, so documents in a packed batch do not attend to each other.
"""

import hashlib
import random
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, Protocol, overload, runtime_checkable

import numpy as np

from ...core.atomic_files import disk_errors, user_path
from ...core.errors import HeadwayError
from ...core.tokenizers.tokenizer import Tokenizer
from .column_inference import infer_columns
from .examples import Field
from .features import Features
from .read import stream_rows
from .read_options import INFER, ReadOptions
from .reading.file_format import SourceFile
from .reading.text_files import require_file, uncompressed_suffix

DOCUMENTS = ("file", "paragraphs", "lines")  # what a document is in plain text
PLAIN_ENDINGS = ("", ".txt", ".text", ".md")
PIECE_CHARACTERS = 2_000  # of plain text, the unit of reading and of splitting
ENCODE_CHARACTERS = 2**18  # passed to the tokenizer together: enough for all cores, little memory
NUMBERS_PER_SEQUENCE = 5


@dataclass(frozen=True)
class CorpusWindow:
    """The tokens of one sequence in a document: from `start` to `stop`, of which those from `scored_from` are scored.

    `scored_from` counts from `start`; the tokens before it are context only.
    """

    start: int
    stop: int
    scored_from: int = 0


@runtime_checkable
class CorpusTask(Protocol):
    """What a corpus needs of a self-supervised task."""

    inputs: ClassVar[tuple[Field, ...]]  # the text of a row
    lookahead: ClassVar[int]  # tokens after the end of a window that are targets only

    @property
    def documents(self) -> str:
        """What a document is in plain text; one of DOCUMENTS."""
        ...

    def num_added(self, tokenizer: Tokenizer) -> int:
        """Special tokens that `window` adds to a sequence."""
        ...

    def enclosing(self, tokenizer: Tokenizer) -> tuple[list[int], list[int]]:
        """The ids before and after each document."""
        ...

    def cut(self, length: int, limit: int, *, held_out: bool) -> list[CorpusWindow]:
        """The windows of a document of `length` tokens, at most `limit` tokens each, without those that are added."""
        ...

    def window(self, corpus: "Corpus", index: int, ids: list[int], scored_from: int, num_bytes: int) -> Features:
        """A sequence of the corpus.

        Args:
            corpus: that it is from.
            index: of the sequence.
            ids: of the window and of the lookahead.
            scored_from: as in `CorpusWindow`.
            num_bytes: UTF-8 bytes of the document for its first window, 0 for the others.
        """
        ...


@dataclass(frozen=True)
class Piece:
    """A part of a document."""

    text: str
    starts_document: bool  # False: it continues the document of the piece before


@dataclass(frozen=True)
class Documents:
    """Texts that are read lazily, from the start each time."""

    source: str
    notes: tuple[str, ...]  # what was inferred about them
    read: Callable[[], Iterator[Piece]]

    def part(self, start: float, stop: float, seed: int) -> Iterator[Piece]:
        """The pieces from the share `start` to the share `stop` of a random order of all, in their own order.

        The place of a piece in the random order depends on the seed and its position only.
        """
        gap = True  # whether the piece before is on the other side
        for number, piece in enumerate(self.read()):
            included = start <= random.Random(f"{seed} {number}").random() < stop
            if included:
                yield Piece(piece.text, piece.starts_document or gap)
            gap = not included


def open_documents(data: Any, chosen: Mapping[str, Any], task: CorpusTask, options: ReadOptions = INFER) -> Documents:
    """Opens unlabelled text.

    Args:
        data: anything that `read_table` reads, a plain text file, or a list of texts.
        chosen: the columns that the user names.
        task: which column it reads, and what a document is.
        options: how to read a file.

    Raises:
        HeadwayError: the source does not exist, has no text, or its text column cannot be inferred, or an option has
            no meaning for it.
    """
    reads = [field.name for field in task.inputs]
    if isinstance(data, str | Path) and _is_plain(path := user_path(data)):
        _refuse_columns(chosen, [], "plain text has no columns")
        return _open_plain(SourceFile(path, options), task.documents)
    _refuse_columns(chosen, reads, f"training on texts without labels reads {' and '.join(reads)} only")
    if isinstance(data, Sequence) and not isinstance(data, str) and data and all(isinstance(t, str) for t in data):
        return Documents("the given texts", (), lambda: (Piece(text, True) for text in data if text.strip()))
    stream = stream_rows(data, options)
    columns = infer_columns(stream, task.inputs, chosen=chosen, need_label=False)
    name = columns.texts["text"]

    def read() -> Iterator[Piece]:
        for place, row in stream:
            text = row.get(name)
            if text is not None and not isinstance(text, str):
                raise HeadwayError(
                    f'{stream.where(place)}, column "{name}": expected a text, found a {type(text).__name__}. '
                    "Correct it, or name the text column with --text."
                )
            if text and text.strip():
                yield Piece(text, True)

    notes = (*stream.notes, *(note for note in columns.notes if note.startswith("text:")))
    return Documents(stream.source, notes, read)


def _refuse_columns(chosen: Mapping[str, Any], known: Sequence[str], why: str) -> None:
    for name, column in chosen.items():
        if column and name not in known:
            raise HeadwayError(f"--{name}: {why}. Remove --{name}.")


def _is_plain(path: Path) -> bool:
    return not str(path).startswith("hub:") and not path.is_dir() and uncompressed_suffix(path) in PLAIN_ENDINGS


def _open_plain(file: SourceFile, documents: str) -> Documents:
    require_file(file.path)
    file.options.refuse_unused(str(file.path), "plain text", frozenset({"encoding"}))
    reads = {
        "file": (_whole_file, "the file is one document"),
        "paragraphs": (_paragraphs, "a document ends at an empty line"),
        "lines": (_single_lines, "each line is a document"),
    }
    read, meaning = reads[documents]
    notes = (*file.encoding.notes, f"plain text: {meaning} (--documents {documents})")
    return Documents(str(file.path), notes, lambda: read(file.lines()))


def _whole_file(lines: Iterable[str]) -> Iterator[Piece]:
    """One document in pieces. They end before lines that do not start with white space: no token crosses those."""
    held: list[str] = []
    size, first = 0, True
    for line in lines:
        if size >= PIECE_CHARACTERS and line[:1].strip():
            yield Piece("".join(held), first)
            held, size, first = [], 0, False
        held.append(line)
        size += len(line)
    if any(line.strip() for line in held):
        yield Piece("".join(held), first)


def _paragraphs(lines: Iterable[str]) -> Iterator[Piece]:
    held: list[str] = []
    for line in lines:
        if line.strip():
            held.append(line)
        elif held:
            yield Piece("".join(held).rstrip("\n"), True)
            held = []
    if held:
        yield Piece("".join(held).rstrip("\n"), True)


def _single_lines(lines: Iterable[str]) -> Iterator[Piece]:
    return (Piece(line.rstrip("\r\n"), True) for line in lines if line.strip())


class Corpus(Sequence[list[Features]]):
    """The sequences of some documents, whose token ids are read from a file on demand.

    Args:
        path: the file with the ids.
        task: builds a sequence from the ids of a window.
        tokenizer: that produced the ids.
    """

    def __init__(self, path: Path, task: CorpusTask, tokenizer: Tokenizer) -> None:
        self.path, self.task, self.tokenizer = path, task, tokenizer
        self.dtype = np.dtype(np.uint16 if tokenizer.vocab_size <= 2**16 else np.uint32)
        self.num_documents = self.num_tokens = self.num_bytes = self.num_unknown = 0
        self.fingerprint = ""
        self.windows = array("q")  # start, stop, scored_from, bytes and document of each sequence

    @classmethod
    def write(
        cls,
        path: Path,
        pieces: Iterable[Piece],
        task: CorpusTask,
        tokenizer: Tokenizer,
        *,
        limit: int,
        held_out: bool,
    ) -> "Corpus":
        """Encodes documents into a file and cuts them into sequences.

        Args:
            path: the file; it is replaced if it exists.
            pieces: of the documents.
            task: that reads the sequences.
            tokenizer: of the model.
            limit: tokens per sequence.
            held_out: whether the text is for evaluation instead of training.

        Raises:
            HeadwayError: the disk is full.
        """
        corpus = cls(path, task, tokenizer)
        with disk_errors(path), path.open("wb") as file:
            cut = partial(task.cut, limit=limit - task.num_added(tokenizer), held_out=held_out)
            writer = _CorpusWriter(corpus, file, cut)
            for batch in _batches(pieces):
                for piece, ids in zip(batch, tokenizer.encode_ids([one.text for one in batch]), strict=True):
                    if piece.starts_document:
                        writer.end_document()
                        writer.start_document()
                    writer.add_text(piece.text, ids)
            writer.end_document()
        corpus.fingerprint = writer.digest.hexdigest()[:16]
        return corpus

    def __len__(self) -> int:
        return len(self.windows) // NUMBERS_PER_SEQUENCE

    @property
    def lengths(self) -> np.ndarray:
        """Number of tokens of each sequence, special tokens included, (N,) int32."""
        windows = np.frombuffer(self.windows, dtype=np.int64).reshape(-1, NUMBERS_PER_SEQUENCE)
        return (windows[:, 1] - windows[:, 0] + self.task.num_added(self.tokenizer)).astype(np.int32)

    @overload
    def __getitem__(self, index: int) -> list[Features]: ...
    @overload
    def __getitem__(self, index: slice) -> list[list[Features]]: ...
    def __getitem__(self, index: int | slice) -> Any:
        """A list of one sequence: other tasks have several windows per example."""
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not 0 <= index < len(self):
            raise IndexError(index)
        start, stop, scored_from, num_bytes, _ = self._window(index)
        ids = self._read(start, stop + self.task.lookahead)
        return [self.task.window(self, index, ids, scored_from, num_bytes)]

    def document_of(self, index: int) -> int:
        """The document of a sequence, counted from 0."""
        *_, document = self._window(index)
        return document

    def ids_of(self, index: int) -> list[int]:
        """The ids of a sequence without special tokens."""
        start, stop, *_ = self._window(index)
        return self._read(start, stop)

    def _window(self, index: int) -> "array[int]":
        return self.windows[NUMBERS_PER_SEQUENCE * index : NUMBERS_PER_SEQUENCE * (index + 1)]

    def _read(self, start: int, stop: int) -> list[int]:
        with self.path.open("rb") as file:
            file.seek(start * self.dtype.itemsize)
            raw = file.read((stop - start) * self.dtype.itemsize)
        return np.frombuffer(raw, dtype=self.dtype).tolist()


def _batches(pieces: Iterable[Piece]) -> Iterator[list[Piece]]:
    """Pieces in batches of about ENCODE_CHARACTERS characters."""
    held: list[Piece] = []
    size = 0
    for piece in pieces:
        held.append(piece)
        size += len(piece.text)
        if size >= ENCODE_CHARACTERS:
            yield held
            held, size = [], 0
    if held:
        yield held


class _CorpusWriter:
    """Appends the tokens of one document after the other to the file of a corpus."""

    def __init__(self, corpus: Corpus, file: BinaryIO, cut: Callable[[int], list[CorpusWindow]]) -> None:
        self.corpus, self.file, self.cut = corpus, file, cut
        self.digest = hashlib.sha256()
        tokenizer = corpus.tokenizer
        self.unknown_id = None if tokenizer.unk_id == tokenizer.end_of_text_id else tokenizer.unk_id
        self.opening, self.closing = corpus.task.enclosing(tokenizer)
        # Of the current document: all tokens, those of its text, and its UTF-8 bytes.
        self.num_tokens = self.num_text_tokens = self.num_bytes = 0

    def start_document(self) -> None:
        """Writes the tokens before a document."""
        self._write(self.opening)

    def add_text(self, text: str, ids: Sequence[int]) -> None:
        """Writes a part of the document."""
        self._write(ids)
        self.num_text_tokens += len(ids)
        self.num_bytes += len(text.encode("utf-8", "replace"))

    def end_document(self) -> None:
        """Cuts the current document, if there is one, into sequences."""
        corpus = self.corpus
        if self.num_tokens:
            self._write(self.closing)
        if self.num_text_tokens:
            for number, window in enumerate(self.cut(self.num_tokens)):
                start, stop = corpus.num_tokens + window.start, corpus.num_tokens + window.stop
                num_bytes = 0 if number else self.num_bytes
                corpus.windows.extend((start, stop, window.scored_from, num_bytes, corpus.num_documents))
            corpus.num_documents += 1
            corpus.num_bytes += self.num_bytes
        corpus.num_tokens += self.num_tokens
        self.num_tokens = self.num_text_tokens = self.num_bytes = 0

    def _write(self, ids: Sequence[int]) -> None:
        raw = np.asarray(ids, dtype=self.corpus.dtype)
        self.file.write(raw.tobytes())
        self.digest.update(raw.tobytes())
        self.num_tokens += len(raw)
        self.corpus.num_unknown += 0 if self.unknown_id is None else int((raw == self.unknown_id).sum())
