"""Texts without labels, of any size: read piece by piece, kept as token ids in one file, given out as sequences.

A document is a row of a table or of JSON lines, or (in plain text) the whole file, a paragraph or a line. No sequence
reaches over the end of a document, so that in a packed batch no document sees another.

Shapes: N sequences.
"""

import hashlib
import random
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from ...core.atomic_files import disk_errors, user_path
from ...core.errors import HeadwayError
from ...core.tokenizers.tokenizer import Tokenizer
from .columns import infer_columns
from .features import Features
from .read import stream_rows
from .reading.lines import find_file, read_lines, refuse_binary

if TYPE_CHECKING:
    from ..language_modeling.fill_mask import FillMask
    from ..language_modeling.text_generation import TextGeneration

    LanguageTask = FillMask | TextGeneration

DOCUMENTS = ("file", "paragraphs", "lines")  # what a document is in plain text
PLAIN_ENDINGS = ("", ".txt", ".text", ".md")
PIECE = 2_000  # characters of plain text that are read, and held out, at once
ENCODED_AT_ONCE = 2**18  # characters: enough for all cores, little in memory


@dataclass(frozen=True)
class Piece:
    """A part of a document."""

    text: str
    begins: bool  # a new document, instead of going on with the one before


@dataclass(frozen=True)
class Documents:
    """Texts that are read while they are asked for, from the beginning each time."""

    source: str
    notes: tuple[str, ...]  # what was guessed about them
    read: Callable[[], Iterator[Piece]]

    def part(self, fraction: float, seed: int, *, held_out: bool) -> Iterator[Piece]:
        """The pieces of one side of a split, which depends on the seed and a piece's position alone."""
        apart = True  # whether the piece before was on the other side
        for number, piece in enumerate(self.read()):
            mine = (random.Random(f"{seed} {number}").random() < fraction) == held_out
            if mine:
                yield Piece(piece.text, piece.begins or apart)
            apart = not mine


def open_documents(data: Any, chosen: Mapping[str, Any], task: "LanguageTask", *, header: bool | None) -> Documents:
    """Opens anything that `data.read_table` takes, plain text, or a list of texts.

    Raises:
        HeadwayError: there is no such source, it holds no text, or its column of texts cannot be told.
    """
    if isinstance(data, str | Path) and _is_plain(path := user_path(data)):
        return _open_plain(path, task.documents)
    if isinstance(data, Sequence) and not isinstance(data, str) and data and all(isinstance(t, str) for t in data):
        return Documents("the texts given", (), lambda: (Piece(text, True) for text in data if text.strip()))
    stream = stream_rows(data, header=header)
    columns = infer_columns(stream, task.inputs, chosen=chosen, need_label=False)
    name = columns.texts["text"]

    def read() -> Iterator[Piece]:
        for place, row in stream:
            text = row.get(name)
            if text is not None and not isinstance(text, str):
                raise HeadwayError(
                    f'{stream.where(place)}, column "{name}": a {type(text).__name__} where a text belongs. '
                    "Correct it there, or name the column of the texts with --text."
                )
            if text and text.strip():
                yield Piece(text, True)

    notes = tuple(note for note in columns.notes if note.startswith("text:"))
    return Documents(stream.source, notes, read)


def _is_plain(path: Path) -> bool:
    endings = [ending.lower() for ending in path.suffixes]
    if endings and endings[-1] in (".gz", ".xz"):
        endings.pop()
    ending = endings[-1] if endings else ""
    return not str(path).startswith("hub:") and not path.is_dir() and ending in PLAIN_ENDINGS


def _open_plain(path: Path, documents: str) -> Documents:
    find_file(path)
    refuse_binary(path)
    reads = {
        "file": (_stretches, "the file is one document"),
        "paragraphs": (_paragraphs, "a document ends at an empty line"),
        "lines": (_single_lines, "each line is a document"),
    }
    read, meaning = reads[documents]
    return Documents(str(path), (f"plain text: {meaning} (--documents {documents})",), lambda: read(read_lines(path)))


def _stretches(lines: Iterable[str]) -> Iterator[Piece]:
    """A text in pieces that end before a line that begins with a letter or sign: tokens never reach over that."""
    held: list[str] = []
    size, begins = 0, True
    for line in lines:
        if size >= PIECE and line[:1].strip():
            yield Piece("".join(held), begins)
            held, size, begins = [], 0, False
        held.append(line)
        size += len(line)
    if any(line.strip() for line in held):
        yield Piece("".join(held), begins)


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


@dataclass(frozen=True)
class Window:
    """A sequence of a document: where its tokens are, and from which of them on it has the say."""

    start: int
    stop: int
    scored_from: int = 0  # counted inside the sequence; what stands before is context alone


class Corpus(Sequence[list[Features]]):
    """The sequences of some documents, whose token ids are read from a file as they are asked for.

    Args:
        path: of the file with the ids.
        task: makes a sequence of the ids of a window.
        tokenizer: of the ids.
    """

    def __init__(self, path: Path, task: "LanguageTask", tokenizer: Tokenizer) -> None:
        self.path, self.task, self.tokenizer = path, task, tokenizer
        self.dtype = np.dtype(np.uint16 if tokenizer.vocab_size <= 2**16 else np.uint32)
        self.num_documents = self.num_tokens = self.num_bytes = self.num_unknown = 0
        self.fingerprint = ""
        self.windows = array("q")  # start, stop, scored_from, bytes, document of each sequence

    @classmethod
    def write(
        cls,
        path: Path,
        pieces: Iterable[Piece],
        task: "LanguageTask",
        tokenizer: Tokenizer,
        cut: Callable[[int], list[Window]],
    ) -> "Corpus":
        """Encodes documents into a file and cuts them into sequences.

        Args:
            path: of the file, which is written anew.
            pieces: of the documents.
            task: whose sequences they become.
            tokenizer: of the model.
            cut: the windows of a document of so many tokens.

        Raises:
            HeadwayError: there is no text, or the disk is full.
        """
        corpus = cls(path, task, tokenizer)
        opening, closing = task.enclosing(tokenizer)
        with disk_errors(path), path.open("wb") as file:
            writer = _Writer(corpus, file, cut)
            for some in _at_once(pieces):
                for piece, ids in zip(some, tokenizer.encode_ids([one.text for one in some]), strict=True):
                    if piece.begins:
                        writer.end_document(closing)
                        writer.add(opening)
                    writer.add(ids)
                    writer.content += len(ids)
                    writer.size += len(piece.text.encode("utf-8", "replace"))
            writer.end_document(closing)
        corpus.fingerprint = writer.digest.hexdigest()[:16]
        return corpus

    def __len__(self) -> int:
        return len(self.windows) // 5

    @property
    def lengths(self) -> list[int]:
        """The tokens of each sequence as the network sees it."""
        added = self.task.num_added
        return [stop - start + added for start, stop in zip(self.windows[0::5], self.windows[1::5], strict=True)]

    @overload
    def __getitem__(self, index: int) -> list[Features]: ...
    @overload
    def __getitem__(self, index: slice) -> list[list[Features]]: ...
    def __getitem__(self, index: int | slice) -> Any:
        """The one sequence of an example, as every task has it: a list of its windows."""
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not 0 <= index < len(self):
            raise IndexError(index)
        start, stop, scored_from, size, _ = self.windows[5 * index : 5 * index + 5]
        ids = self._read(start, stop + self.task.looks_ahead)
        return [self.task.window(self, index, ids, scored_from, size)]

    def document_of(self, index: int) -> int:
        """Which document a sequence is from, counted from 0."""
        return self.windows[5 * index + 4]

    def ids_of(self, index: int) -> list[int]:
        """The ids of a sequence, without special tokens around them."""
        return self._read(self.windows[5 * index], self.windows[5 * index + 1])

    def _read(self, start: int, stop: int) -> list[int]:
        with self.path.open("rb") as file:
            file.seek(start * self.dtype.itemsize)
            raw = file.read((stop - start) * self.dtype.itemsize)
        return np.frombuffer(raw, dtype=self.dtype).tolist()


def _at_once(pieces: Iterable[Piece]) -> Iterator[list[Piece]]:
    """Pieces in batches of about ENCODED_AT_ONCE characters."""
    held: list[Piece] = []
    size = 0
    for piece in pieces:
        held.append(piece)
        size += len(piece.text)
        if size >= ENCODED_AT_ONCE:
            yield held
            held, size = [], 0
    if held:
        yield held


class _Writer:
    """Takes the tokens of documents one after the other into a corpus's file."""

    def __init__(self, corpus: Corpus, file: Any, cut: Callable[[int], list[Window]]) -> None:
        self.corpus, self.file, self.cut = corpus, file, cut
        self.digest = hashlib.sha256()
        tokenizer = corpus.tokenizer
        self.unknown = None if tokenizer.unk_id == tokenizer.end_of_text_id else tokenizer.unk_id
        self.tokens = self.content = self.size = 0  # of the document so far; tokens with those that enclose it

    def add(self, ids: Sequence[int]) -> None:
        """Writes tokens of the document."""
        raw = np.asarray(ids, dtype=self.corpus.dtype)
        self.file.write(raw.tobytes())
        self.digest.update(raw.tobytes())
        self.tokens += len(raw)
        self.corpus.num_unknown += 0 if self.unknown is None else int((raw == self.unknown).sum())

    def end_document(self, closing: Sequence[int]) -> None:
        """Cuts the document, if one has begun, into sequences."""
        if self.tokens:
            self.add(closing)
        corpus = self.corpus
        if self.content:
            for number, window in enumerate(self.cut(self.tokens)):
                begin, end = corpus.num_tokens + window.start, corpus.num_tokens + window.stop
                size = 0 if number else self.size
                corpus.windows.extend((begin, end, window.scored_from, size, corpus.num_documents))
            corpus.num_documents += 1
            corpus.num_bytes += self.size
        corpus.num_tokens += self.tokens
        self.tokens = self.content = self.size = 0
