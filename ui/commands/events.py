"""headway events: MIDI files as texts of events, texts of events as MIDI files, and how well-formed the texts are."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from datetime import timedelta
from mimetypes import guess_type
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ...core.errors import HeadwayError
from ..options import JSON, OVERWRITE, with_options

if TYPE_CHECKING:
    from ...tasks.events.event_files import Piece, PieceCounts

MAX_SHOWN = 5  # files that could not be read


def events(
    sources: Annotated[
        list[str],
        typer.Argument(metavar="FILE", help='MIDI files, folders of them or patterns ("songs/*.mid"); or texts.'),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            help="Of MIDI files: a text file, one piece per line; default: print them. Of a text: a .mid for one "
            "piece, or a folder for all.",
        ),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Only count how well-formed the pieces of a text are.")
    ] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Of several MIDI files, refuse damaged ones instead of leaving them out.")
    ] = False,
    overwrite: Annotated[bool, OVERWRITE] = False,
    json: Annotated[bool, JSON] = False,
) -> None:
    """Convert MIDI files to texts of events, and back: headway events song.mid --output song.txt

    The events are those of the Music Transformer: note_on_60 and note_off_60 (middle C), shift_1 to shift_100 (10 ms
    to 1 s), and velocity_1 to velocity_32, which holds for the note-ons after it. One line is one piece. Tracks and
    channels are joined, percussion is left out, and the sustain pedal extends the notes.

    To train on them: headway train text-generation --data pieces.txt --documents lines --size tiny --vocabulary words
    --learn-tokenizer 400 --output my-music

    To listen to a continuation: headway generate my-music "velocity_20 note_on_60" --max-new-tokens 200 > new.txt, and
    then headway events new.txt --output new.mid. What is wrong in a text is counted and left out of the MIDI file.
    """
    from ...tasks.events.event_files import find_files, is_midi

    paths = find_files(sources)
    midi = [path for path in paths if is_midi(path)]
    if midi and len(midi) < len(paths):
        other = next(path for path in paths if path not in midi)
        raise HeadwayError(f"{midi[0]} is a MIDI file and {other} is not: convert them with two commands.")
    if midi and check:
        raise HeadwayError(f"{midi[0]}: --check reads texts of events, and this is a MIDI file. Omit --check.")
    if midi:
        _to_text(midi, output, strict=strict or len(midi) == 1, overwrite=overwrite, json=json)
    elif strict:
        raise HeadwayError(f"--strict refuses damaged MIDI files, and {paths[0]} is a text. Omit it.")
    elif check:
        _check(paths, output, json)
    elif output is None:
        raise HeadwayError(f"{paths[0]}: a text. Give --output NAME.mid (or a folder) to convert it, or --check.")
    else:
        _to_midi(paths, output, overwrite=overwrite, json=json)


def _to_text(paths: Sequence[Path], output: Path | None, *, strict: bool, overwrite: bool, json: bool) -> None:
    from ...core.atomic_files import atomic_file, new_path, refuse_existing
    from ...tasks.events.event_files import is_midi_name
    from ..terminal import counting

    found = _Found()
    if output is None:
        if json:
            raise HeadwayError("--json prints a summary, and without --output the pieces are printed. Omit one.")
        for line in found.lines(paths, strict):
            print(line)
        found.show(to_stderr=True)
        return
    output = new_path(output)
    if is_midi_name(output):
        raise HeadwayError(f"{output}: the events of MIDI files are a text. Name the output .txt.")
    refuse_existing(output, overwrite)
    with (
        counting("pieces") as add,
        atomic_file(output, overwrite) as unfinished,
        unfinished.open("w", encoding="utf-8", newline="\n") as file,
    ):
        for line in found.lines(paths, strict):
            file.write(f"{line}\n")
            add(1)
    found.show(to_stderr=json, output=output)
    if json:
        _print_json(output, pieces=found.pieces, events=found.words, changes=found.changes, left_out=found.left_out)


class _Found:
    """What is found in MIDI files while they are converted."""

    def __init__(self) -> None:
        self.pieces = self.words = 0
        self.seconds = 0.0
        self.changes: Counter[str] = Counter()
        self.left_out: list[str] = []

    def lines(self, paths: Sequence[Path], strict: bool) -> Iterator[str]:
        """The pieces as lines.

        Raises:
            HeadwayError: No file can be read, or one cannot and `strict` is set.
        """
        from ...tasks.events import words_of
        from ...tasks.events.event_files import read_performances
        from ...tasks.events.event_words import STEPS_PER_SECOND

        for performance in read_performances(paths, self.left_out, strict=strict):
            words = words_of(performance.notes)
            self.pieces += 1
            self.words += len(words)
            self.seconds += max(note.end for note in performance.notes) / STEPS_PER_SECOND
            self.changes += performance.changes
            yield " ".join(words)
        if not self.pieces:
            raise HeadwayError(f"None of the {len(paths):,} files can be used. The first one: {self.left_out[0]}")

    def show(self, *, to_stderr: bool, output: Path | None = None) -> None:
        """Prints what was written, changed and left out."""
        from ...tasks.data.findings import count
        from ...tasks.events.event_files import describe
        from ..terminal import screen, section

        console = screen(to_stderr=to_stderr)
        named = f"{output}: " if output else ""
        length = timedelta(seconds=round(self.seconds))
        summary = f"{named}{count(self.pieces, 'piece')}, {count(self.words, 'event')}, {length} hours"
        section(console, "Events", summary, describe(self.changes))
        if self.left_out:
            more = len(self.left_out) - MAX_SHOWN
            shown = [*self.left_out[:MAX_SHOWN], f"and {more:,} more" if more > 0 else ""]
            section(console, f"{count(len(self.left_out), 'file')} left out (--strict refuses them)", *shown)


def _to_midi(paths: Sequence[Path], output: Path, *, overwrite: bool, json: bool) -> None:
    from ...core.atomic_files import atomic_file, atomic_folder, new_path, refuse_existing
    from ...tasks.events import notes_of, write_midi
    from ...tasks.events.event_files import check_pieces, is_midi_name

    output = new_path(output)
    refuse_existing(output, overwrite)
    counts = check_pieces(_pieces(paths))
    if not counts.notes:
        raise HeadwayError(f"{paths[0]}: no notes in it. Give a text with note-ons.")
    if is_midi_name(output):
        if counts.pieces > 1:
            raise HeadwayError(
                f"{output}: one MIDI file, and the text has {counts.pieces:,} pieces (lines). Name a folder instead."
            )
        with atomic_file(output, overwrite) as unfinished:
            write_midi(unfinished, notes_of(next(_pieces(paths)).words)[0])
        written = 1
    elif (guess_type(output.name)[0] or "").startswith(("audio/", "text/", "video/")):
        raise HeadwayError(f"{output}: events are written as MIDI files. Name the output .mid, or a folder.")
    else:
        written = 0
        with atomic_folder(output, overwrite) as folder:
            for number, piece in enumerate(_pieces(paths), start=1):
                if notes := notes_of(piece.words)[0]:
                    write_midi(folder / f"{number:04}.mid", notes)
                    written += 1
    _show_counts(counts, json, f"{output}: {written:,} MIDI files" if written > 1 else str(output))
    if json:
        _print_json(output, files=written, **_figures(counts))


def _check(paths: Sequence[Path], output: Path | None, json: bool) -> None:
    from ...tasks.events.event_files import check_pieces

    if output is not None:
        raise HeadwayError("--check writes nothing. Omit --check or --output.")
    counts = check_pieces(_pieces(paths))
    _show_counts(counts, json)
    if json:
        from ..terminal import print_json

        print_json(_figures(counts))


def _pieces(paths: Sequence[Path]) -> "Iterator[Piece]":
    from ...tasks.events.event_files import read_pieces

    return (piece for path in paths for piece in read_pieces(path))


def _figures(counts: "PieceCounts") -> dict[str, Any]:
    names = ("pieces", "well_formed", "share", "words", "notes")
    errors = {field.name: getattr(counts.errors, field.name) for field in fields(counts.errors)}
    return {**{name: getattr(counts, name) for name in names}, **errors}


def _show_counts(counts: "PieceCounts", json: bool, written: str = "") -> None:
    from ..terminal import screen, section, table

    wrong = counts.errors.total
    title = (
        f"{counts.well_formed:,} of {counts.pieces:,} pieces are well-formed ({counts.share:.1%}); "
        f"{wrong:,} errors in {counts.words:,} words ({wrong / counts.words:.1%})"
    )
    rows = [
        {"": name.replace("_", " "), "count": value} for name, value in _figures(counts).items() if name != "share"
    ]
    section(screen(to_stderr=json), title, table(rows), *([written] if written else []))


def _print_json(output: Path, **figures: Any) -> None:
    from ..terminal import print_json

    print_json({"output": str(output), **figures})


def events_command() -> Callable[..., None]:
    """Builds the command with all its options."""
    return with_options(events)
