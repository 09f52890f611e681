"""The files of `headway events`: MIDI files, folders of them, and texts of events."""

import glob
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...core.atomic_files import user_path
from ...core.errors import HeadwayError
from ..data.corpus import PLAIN_ENDINGS
from ..data.read import stream_rows
from ..data.reading.file_format import SourceFile
from ..data.reading.text_files import require_file, uncompressed_suffix
from .event_words import EventErrors, notes_of
from .midi_reading import read_midi
from .performance import Performance, refuse_longer

MIDI_SUFFIXES = (".mid", ".midi", ".smf", ".kar")
TEXT, CONTINUATIONS = "text", ("continuations", "continuation")  # columns that `headway generate --data` writes

NO_ERRORS = EventErrors()


@dataclass(frozen=True)
class Piece:
    """A text of events.

    Args:
        source: its file and line, or row.
        words: of the text.
    """

    source: str
    words: list[str]


@dataclass(frozen=True)
class PieceCounts:
    """How well-formed some pieces are.

    Args:
        pieces: their number.
        well_formed: the number of those without an error.
        words: their number in all pieces.
        notes: their number in all pieces.
        errors: of all pieces.
    """

    pieces: int = 0
    well_formed: int = 0
    words: int = 0
    notes: int = 0
    errors: EventErrors = NO_ERRORS

    @property
    def share(self) -> float:
        """The share of pieces without an error; 0 without pieces."""
        return self.well_formed / self.pieces if self.pieces else 0.0

    def __add__(self, other: "PieceCounts") -> "PieceCounts":
        return PieceCounts(
            self.pieces + other.pieces,
            self.well_formed + other.well_formed,
            self.words + other.words,
            self.notes + other.notes,
            self.errors + other.errors,
        )


def find_files(given: Sequence[str]) -> list[Path]:
    """The files that are given by their names, by patterns ("songs/*.mid"), or as folders of MIDI files.

    Raises:
        HeadwayError: There is no such file, or no MIDI file in a folder.
    """
    found: list[Path] = []
    for name in given:
        path = user_path(name)
        matches = [path]
        if path.is_dir():
            matches = sorted(one for one in path.rglob("*") if is_midi_name(one) and one.is_file())
            if not matches:
                raise HeadwayError(f"{path}: no MIDI file in this folder ({', '.join(MIDI_SUFFIXES)}). Give another.")
        elif not path.exists() and glob.has_magic(name):
            matches = sorted(Path(one) for one in glob.glob(str(path), recursive=True) if Path(one).is_file())
            if not matches:
                raise HeadwayError(f"{name}: no file matches this pattern. Correct it, or give a folder.")
        for match in matches:
            require_file(match)
        found += matches
    return found


def is_midi_name(path: Path) -> bool:
    """Whether a name is that of a MIDI file."""
    return path.suffix.lower() in MIDI_SUFFIXES


def is_midi(path: Path) -> bool:
    """Whether a file is a MIDI file, by its name or by its first bytes.

    Raises:
        HeadwayError: It may not be read.
    """
    if is_midi_name(path):
        return True
    try:
        with path.open("rb") as file:
            return file.read(4) == b"MThd"
    except PermissionError as error:
        raise HeadwayError(f"{path}: cannot be read ({error.strerror}). Change the file's permissions.") from error


def read_performances(paths: Iterable[Path], left_out: list[str], *, strict: bool) -> Iterator[Performance]:
    """The performances of MIDI files; one without notes is refused.

    Args:
        paths: the files.
        left_out: is filled with the messages about the files that cannot be read, if they are not errors.
        strict: whether they are errors.

    Raises:
        HeadwayError: a file cannot be read or has no notes.
    """
    for path in paths:
        try:
            performances = read_midi(path)
            if not any(one.notes for one in performances):
                changed = describe(sum((one.changes for one in performances), Counter[str]()))
                raise HeadwayError(f"{path}: no notes{f' ({changed})' if changed else ''}. Give another file.")
        except HeadwayError as error:
            if strict:
                raise
            left_out.append(str(error))
            continue
        yield from (one for one in performances if one.notes)


def describe(changes: Mapping[str, int]) -> str:
    """Counts by description as one clause."""
    return "; ".join(f"{count:,} {what}" for what, count in changes.items())


def read_pieces(path: Path) -> Iterator[Piece]:
    """The pieces of a text file: its lines; or the rows of a table, of which each continuation makes a piece.

    Lines that are empty or begin with "(", which `headway generate` prints below a text, are skipped.

    Raises:
        HeadwayError: the file cannot be read, or a table has no column of texts.
    """
    if uncompressed_suffix(path) in PLAIN_ENDINGS:
        for number, line in enumerate(SourceFile(path).lines(), start=1):
            if (words := line.split()) and not words[0].startswith("("):
                yield Piece(f"{path}, line {number}", words)
        return
    stream = stream_rows(path)
    continued = next((name for name in CONTINUATIONS if name in stream.columns), None)
    if TEXT not in stream.columns:
        raise HeadwayError(
            f'{path}: no column "{TEXT}"; it has {", ".join(stream.columns)}. Give a plain text file with one piece '
            f'per line, or a file with a column "{TEXT}".'
        )
    for place, row in stream:
        added = row.get(continued) if continued else ""
        for text in added if isinstance(added, list) else [added]:
            yield Piece(stream.where(place), f"{row.get(TEXT) or ''} {text or ''}".split())


def check_pieces(pieces: Iterable[Piece]) -> PieceCounts:
    """Counts how well-formed pieces are.

    Raises:
        HeadwayError: there is no event in them, or one is longer than a MIDI file may be.
    """
    counts, source = PieceCounts(), ""
    for piece in pieces:
        notes, errors = notes_of(piece.words)
        refuse_longer(piece.source, max((note.end for note in notes), default=0))
        counts += PieceCounts(1, int(errors.total == 0), len(piece.words), len(notes), errors)
        source = piece.source
    if counts.words == counts.errors.unknown_words:
        raise HeadwayError(
            f"{source or 'The text'}: no events in it. They are words such as velocity_20 note_on_60 shift_100 "
            "note_off_60; headway events SONG.mid writes them."
        )
    return counts
