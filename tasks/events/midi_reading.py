"""Standard MIDI files as performances.

The Standard MIDI File specification 1.0 (MIDI Manufacturers Association, RP-001). mido reads the messages of a track;
the chunks of the file and its clock are read here.
"""

import io
import struct
from pathlib import Path

from ...core.errors import HeadwayError
from ...core.extras import require
from .event_words import STEPS_PER_SECOND
from .performance import Clock, MidiMessage, Performance, perform

MAX_BYTES = 4 << 20  # of a file: hours of piano music; mido keeps every message in memory
# Frames per second of SMPTE time: 29 stands for 30 with dropped frame numbers, 30,000/1,001 in a second.
FRAME_RATES = {24: (24, 1), 25: (25, 1), 29: (30_000, 1_001), 30: (30, 1)}


def read_midi(path: Path) -> list[Performance]:
    """Reads a Standard MIDI file: its performance, or in format 2 that of each track.

    Tracks and channels are joined, without channel 10 (percussion). The sustain pedal extends the notes.

    Raises:
        HeadwayError: mido is not installed, or the file is not a MIDI file, is damaged, or is far larger or longer
            than music.
    """
    require("music", f"{path}: reading a MIDI file")
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise HeadwayError(
            f"{path}: {size:,} bytes; a MIDI file of at most {MAX_BYTES:,} is read. Divide it into several files."
        )
    try:
        content = path.read_bytes()
    except PermissionError as error:
        raise HeadwayError(f"{path}: cannot be read ({error.strerror}). Change the file's permissions.") from error
    kind, clock, chunks = _divide(path, content)
    tracks = [_read_track(path, number, chunk) for number, chunk in enumerate(chunks, start=1)]
    if kind == 2:
        return [perform(f"{path}, track {i}", [track], clock) for i, track in enumerate(tracks, start=1)]
    return [perform(str(path), tracks, clock)]


def _divide(path: Path, content: bytes) -> tuple[int, Clock, list[bytes]]:
    """The format, the clock and the track chunks of a file; other chunks are skipped, as the specification demands."""
    if content[:4] != b"MThd":
        raise HeadwayError(f'{path}: not a MIDI file: it does not begin with "MThd". Save it as a Standard MIDI file.')
    chunks: list[tuple[bytes, bytes]] = []
    place = 0
    while place + 8 <= len(content):
        name, size = struct.unpack_from(">4sL", content, place)
        place += 8
        if place + size > len(content):
            raise _damaged(path, f"a chunk of {size:,} bytes at byte {place - 8:,} goes beyond the end of the file")
        chunks.append((name, content[place : place + size]))
        place += size
    header = chunks[0][1] if chunks else b""
    if len(header) < 6:
        raise _damaged(path, "its header is incomplete")
    kind, num_tracks, division = struct.unpack_from(">HHH", header)
    if kind > 2:
        raise _damaged(path, f"its format is {kind}, and there are 0, 1 and 2")
    tracks = [chunk for name, chunk in chunks[1:] if name == b"MTrk"][:num_tracks]
    if len(tracks) < num_tracks or not tracks:
        raise _damaged(path, f"its header announces {num_tracks} tracks, and it has {len(tracks)}")
    return kind, _clock(path, division), tracks


def _clock(path: Path, division: int) -> Clock:
    """The clock of a division of the header: ticks per quarter note, or frames per second and ticks per frame."""
    if division < 0x8000:
        if division == 0:
            raise _damaged(path, "a quarter note has 0 ticks")
        return Clock(STEPS_PER_SECOND, division * 1_000_000, has_tempo=True)
    frames, ticks = 0x100 - (division >> 8), division & 0xFF
    if frames not in FRAME_RATES or ticks == 0:
        raise _damaged(path, f"its clock has {frames} frames per second and {ticks} ticks per frame")
    rate, seconds = FRAME_RATES[frames]
    return Clock(STEPS_PER_SECOND * seconds, rate * ticks, has_tempo=False)


def _read_track(path: Path, number: int, chunk: bytes) -> list[MidiMessage]:
    import mido

    header = b"MThd" + struct.pack(">LHHH", 6, 0, 1, 1)
    try:
        file = mido.MidiFile(file=io.BytesIO(header + b"MTrk" + struct.pack(">L", len(chunk)) + chunk))
    except EOFError as error:
        raise _damaged(path, f"track {number} ends in the middle of a message") from error
    except (OSError, ValueError, LookupError, mido.KeySignatureError) as error:
        raise _damaged(path, f"track {number}: {str(error)[:200] or type(error).__name__}") from error
    return list(file.tracks[0])


def _damaged(path: Path, problem: str) -> HeadwayError:
    return HeadwayError(f"{path}: the MIDI file is damaged: {problem}. Export it again from the program it is from.")
