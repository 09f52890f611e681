"""The notes of a performance from the messages of its tracks: time, the sustain pedal, and the ends of the notes."""

from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from ...core.errors import HeadwayError
from .event_words import STEPS_PER_SECOND, Note, velocity_bin, without_overlaps

MidiMessage = Any  # of mido, whose messages have the attributes of their type

MAX_HOURS = 6  # of a performance: a damaged time would otherwise become millions of shifts
DEFAULT_TEMPO = 500_000  # microseconds per quarter note, until a tempo is set
PERCUSSION = 9  # channel 10: its "pitches" are instruments
SUSTAIN, ALL_SOUND_OFF, RESET_CONTROLLERS, ALL_NOTES_OFF = 64, 120, 121, 123  # controllers
PEDAL_DOWN = 64  # the smallest value of the sustain pedal at which it is down


@dataclass(frozen=True)
class Performance:
    """The notes of a file, or of a track of a file whose tracks are independent.

    Args:
        source: the file, and the track if there are several performances in it.
        notes: without overlaps of one pitch.
        changes: what was left out or changed, as counts by description.
    """

    source: str
    notes: list[Note]
    changes: Counter[str]


@dataclass(frozen=True)
class Clock:
    """How ticks become steps of 10 ms.

    Args:
        steps: steps of `ticks` ticks, or of `ticks` ticks times microseconds per quarter note.
        ticks: see `steps`.
        has_tempo: whether the length of a tick depends on the tempo.
    """

    steps: int
    ticks: int
    has_tempo: bool


@dataclass
class _Channel:
    """The notes of a channel that sound, and its pedal."""

    is_down: bool = False
    pressed: dict[int, deque[tuple[int, int]]] = field(default_factory=dict)  # pitch -> starts and velocities
    held: list[tuple[int, int, int]] = field(default_factory=list)  # by the pedal alone: start, pitch, velocity

    def release(self, pitch: int) -> None:
        """Releases a key, whose note is then held by the pedal alone: of several notes of the pitch, the earliest."""
        if starts := self.pressed.get(pitch):
            start, velocity = starts.popleft()
            self.held.append((start, pitch, velocity))

    def release_all(self) -> None:
        """Releases all keys."""
        for pitch, starts in self.pressed.items():
            while starts:
                self.release(pitch)

    def ended(self, now: int) -> Iterator[Note]:
        """The notes that neither a key nor the pedal holds any longer."""
        for start, pitch, velocity in self.held:
            yield Note(start, pitch, max(now, start + 1), velocity_bin(velocity))
        self.held.clear()


def perform(source: str, tracks: Sequence[Sequence[MidiMessage]], clock: Clock) -> Performance:
    """The notes of tracks that are played together.

    Args:
        source: the file, for messages.
        tracks: their messages, with times in ticks since the message before.
        clock: of the file.

    Raises:
        HeadwayError: the performance takes more than MAX_HOURS.
    """
    notes: list[Note] = []
    changes: Counter[str] = Counter()
    channels: dict[int, _Channel] = {}
    now = 0
    for now, message in _timed(source, tracks, clock):
        if message.type not in ("note_on", "note_off", "control_change"):
            continue
        if message.channel == PERCUSSION:
            changes["notes of the percussion channel left out"] += _begins(message)
            continue
        channel = channels.setdefault(message.channel, _Channel())
        _play(channel, message, now)
        if not channel.is_down:
            notes += channel.ended(now)
    for channel in channels.values():
        changes["notes never ended, ended with the piece"] += sum(map(len, channel.pressed.values()))
        channel.release_all()
        notes += channel.ended(now)
    apart = without_overlaps(notes)
    changes["notes joined with another of the same pitch and time"] += len(notes) - len(apart)
    return Performance(source, apart, +changes)


def refuse_longer(source: str, step: int) -> None:
    """Raises HeadwayError if a step is later than MAX_HOURS."""
    if step > MAX_HOURS * 3600 * STEPS_PER_SECOND:
        raise HeadwayError(
            f"{source}: an event after more than {MAX_HOURS} hours, so this is damaged or not music. Correct it, or "
            "divide it into several pieces."
        )


def _begins(message: MidiMessage) -> bool:
    """Whether a message begins a note; a note-on with velocity zero ends one."""
    return message.type == "note_on" and message.velocity > 0


def _play(channel: _Channel, message: MidiMessage, now: int) -> None:
    """Presses or releases keys and the pedal."""
    if _begins(message):
        channel.pressed.setdefault(message.note, deque()).append((now, message.velocity))
    elif message.type != "control_change":
        channel.release(message.note)
    elif message.control == SUSTAIN:
        channel.is_down = message.value >= PEDAL_DOWN
    elif message.control in (RESET_CONTROLLERS, ALL_SOUND_OFF):
        channel.is_down = False
    if message.type == "control_change" and message.control in (ALL_SOUND_OFF, ALL_NOTES_OFF):
        channel.release_all()


def _timed(source: str, tracks: Sequence[Sequence[MidiMessage]], clock: Clock) -> Iterator[tuple[int, MidiMessage]]:
    """The messages of all tracks in the order of time, each with its step; a tempo holds for all tracks."""
    messages: list[tuple[int, MidiMessage]] = []
    for track in tracks:
        tick = 0
        for message in track:
            tick += message.time
            messages.append((tick, message))
    messages.sort(key=lambda one: one[0])
    position = last = 0
    tempo = DEFAULT_TEMPO if clock.has_tempo else 1
    for tick, message in messages:
        position += (tick - last) * tempo
        last = tick
        step = (2 * position * clock.steps + clock.ticks) // (2 * clock.ticks)  # rounded
        refuse_longer(source, step)
        if message.type == "set_tempo" and clock.has_tempo:
            tempo = message.tempo
        yield step, message
