"""The words of a performance: note-ons, note-offs, shifts of time and velocities.

Oore et al. 2018 (Performance RNN, https://arxiv.org/abs/1808.03715), section 3.2, and Huang et al. 2018 (Music
Transformer, https://arxiv.org/abs/1809.04281): 128 note-ons, 128 note-offs, 100 shifts of 10 ms to 1 s, and 32 bins of
velocity, which hold for the note-ons after them. Time is counted in steps of 10 ms.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields

STEPS_PER_SECOND = 100
NUM_PITCHES, NUM_SHIFTS, NUM_VELOCITIES = 128, 100, 32
VELOCITY_STEP = 4  # of MIDI's 127 velocities in one bin
DEFAULT_VELOCITY = 16  # the bin of MIDI's velocity 64, for notes before the first velocity

# WORD -> its kind and number: "note_on_60" -> ("note_on", 60).
WORDS = {
    f"{kind}_{number}": (kind, number)
    for kind, numbers in {
        "note_on": range(NUM_PITCHES),
        "note_off": range(NUM_PITCHES),
        "shift": range(1, NUM_SHIFTS + 1),
        "velocity": range(1, NUM_VELOCITIES + 1),
    }.items()
    for number in numbers
}
SPECIAL_TOKEN = re.compile(r"<[^<>\s]+>|\[[A-Z]+\]")


@dataclass(frozen=True, order=True)
class Note:
    """A note of a performance.

    Args:
        start: in steps of 10 ms.
        pitch: as in MIDI: 60 is middle C.
        end: in steps, at least start + 1.
        velocity: a bin from 1 to 32.
    """

    start: int
    pitch: int
    end: int
    velocity: int


@dataclass(frozen=True)
class EventErrors:
    """What is wrong in a text of events, as counts of words."""

    unknown_words: int = 0
    note_offs_without_note_on: int = 0
    notes_never_ended: int = 0
    notes_begun_twice: int = 0  # a note-on of a pitch that still sounds

    @property
    def total(self) -> int:
        """All errors together; a piece without any is well-formed."""
        return sum(getattr(self, field.name) for field in fields(self))

    def __add__(self, other: "EventErrors") -> "EventErrors":
        return EventErrors(*(getattr(self, one.name) + getattr(other, one.name) for one in fields(self)))


def velocity_bin(velocity: int) -> int:
    """The bin, from 1 to 32, of a velocity of MIDI from 1 to 127."""
    return (velocity - 1) // VELOCITY_STEP + 1


def midi_velocity(number: int) -> int:
    """The lowest velocity of a bin."""
    return (number - 1) * VELOCITY_STEP + 1


def without_overlaps(notes: Iterable[Note]) -> list[Note]:
    """Notes of which no two of one pitch sound together, because events cannot tell them apart.

    Where a note of the same pitch begins, the earlier one ends. Notes that begin in the same step become one, with the
    highest velocity and the latest end.
    """
    by_pitch: dict[int, list[Note]] = {}
    for note in sorted(notes):
        kept = by_pitch.setdefault(note.pitch, [])
        before = kept[-1] if kept else None
        if before is not None and before.start == note.start:
            velocity = max(before.velocity, note.velocity)
            kept[-1] = Note(note.start, note.pitch, max(before.end, note.end), velocity)
            continue
        if before is not None and before.end > note.start:
            kept[-1] = Note(before.start, before.pitch, note.start, before.velocity)
        kept.append(note)
    return sorted(note for kept in by_pitch.values() for note in kept)


def in_order(notes: Iterable[Note]) -> list[tuple[int, bool, int, int]]:
    """The beginnings and ends of notes, as (step, whether it begins, pitch, velocity).

    In one step the ends come before the beginnings, both by pitch.
    """
    notes = list(notes)
    ends = [(note.end, False, note.pitch, note.velocity) for note in notes]
    return sorted(ends + [(note.start, True, note.pitch, note.velocity) for note in notes])


def words_of(notes: Iterable[Note]) -> list[str]:
    """The words of notes, none of which overlaps another of the same pitch.

    The order is that of `in_order`; a velocity is written where it changes, and the longest shifts come first.
    """
    words: list[str] = []
    now, loudness = 0, None
    for step, begins, pitch, velocity in in_order(notes):
        full, rest = divmod(step - now, NUM_SHIFTS)
        words += [f"shift_{NUM_SHIFTS}"] * full
        if rest:
            words.append(f"shift_{rest}")
        now = step
        if begins and velocity != loudness:
            words.append(f"velocity_{velocity}")
            loudness = velocity
        words.append(f"note_on_{pitch}" if begins else f"note_off_{pitch}")
    return words


def notes_of(words: Iterable[str]) -> tuple[list[Note], EventErrors]:
    """The notes of a text of events, as far as it is well-formed, and what is wrong in it.

    Unknown words and note-offs without a note-on are skipped. A note that is never ended lasts until the end of the
    text, and one that is begun twice ends where it begins again. Every note lasts at least one step.
    """
    notes: list[Note] = []
    sounding: dict[int, tuple[int, int]] = {}  # pitch -> start and velocity
    now, loudness = 0, DEFAULT_VELOCITY
    unknown = without_on = twice = 0

    def end(pitch: int) -> None:
        start, velocity = sounding.pop(pitch)
        notes.append(Note(start, pitch, max(now, start + 1), velocity))

    for word in words:
        kind, number = WORDS.get(word, ("unknown", 0))
        if kind == "shift":
            now += number
        elif kind == "velocity":
            loudness = number
        elif kind == "unknown":
            unknown += 1
        elif kind == "note_off" and number not in sounding:
            without_on += 1
        else:
            if number in sounding:
                twice += kind == "note_on"
                end(number)
            if kind == "note_on":
                sounding[number] = now, loudness
    unfinished = list(sounding)
    for pitch in unfinished:
        end(pitch)
    return without_overlaps(notes), EventErrors(unknown, without_on, len(unfinished), twice)


def token_seconds(tokens: Sequence[str]) -> list[float] | None:
    """When each token of a sequence happens, in seconds from its beginning; None if they are not events.

    Special tokens ([CLS], <|endoftext|>, ...) take no time. A shift happens when it begins.
    """
    known = [WORDS.get(token) for token in tokens]
    named = zip(tokens, known, strict=True)
    if not any(known) or any(one is None and not SPECIAL_TOKEN.fullmatch(token) for token, one in named):
        return None
    steps, now = [], 0
    for one in known:
        steps.append(now)
        now += one[1] if one is not None and one[0] == "shift" else 0
    return [step / STEPS_PER_SECOND for step in steps]


def token_notes(tokens: Sequence[str]) -> list[tuple[int, int, int]]:
    """The notes of a sequence of tokens, as (pitch, position of the note-on, position of the note-off).

    A note that is not ended has the position of the last token, or of the note-on that begins it again.
    """
    found: list[tuple[int, int, int]] = []
    sounding: dict[int, int] = {}
    for position, token in enumerate(tokens):
        kind, pitch = WORDS.get(token, ("", 0))
        if kind in ("note_on", "note_off") and pitch in sounding:
            found.append((pitch, sounding.pop(pitch), position))
        if kind == "note_on":
            sounding[pitch] = position
    return found + [(pitch, position, len(tokens) - 1) for pitch, position in sounding.items()]
