"""Music as words: MIDI files as the events of a performance, and back."""

from .event_words import EventErrors, Note, notes_of, token_notes, token_seconds, words_of
from .midi_reading import read_midi
from .midi_writing import write_midi
from .performance import Performance

__all__ = [
    "EventErrors",
    "Note",
    "Performance",
    "notes_of",
    "read_midi",
    "token_notes",
    "token_seconds",
    "words_of",
    "write_midi",
]
