"""Notes as a Standard MIDI file, in which a tick is a millisecond: no note moves."""

from collections.abc import Sequence
from pathlib import Path

from ...core.extras import require
from .event_words import STEPS_PER_SECOND, Note, in_order, midi_velocity
from .performance import DEFAULT_TEMPO

TICKS_PER_BEAT = DEFAULT_TEMPO // 1000
TICKS_PER_STEP = 1000 // STEPS_PER_SECOND


def write_midi(path: Path, notes: Sequence[Note]) -> None:
    """Writes notes, none of which overlaps another of the same pitch, as a file of format 0 for a piano.

    Raises:
        HeadwayError: mido is not installed.
    """
    require("music", f"{path}: writing a MIDI file")
    import mido

    file = mido.MidiFile(type=0, ticks_per_beat=TICKS_PER_BEAT)
    track = file.add_track()
    track.append(mido.MetaMessage("set_tempo", tempo=DEFAULT_TEMPO))
    now = 0
    for step, begins, pitch, velocity in in_order(notes):
        kind, time = "note_on" if begins else "note_off", (step - now) * TICKS_PER_STEP
        track.append(mido.Message(kind, note=pitch, velocity=midi_velocity(velocity), time=time))
        now = step
    file.save(str(path))
