"""MIDI files as texts of events and back: what is kept, what is changed, what is refused."""

import struct
import sys
from pathlib import Path
from random import Random

import mido
import pytest
from headway.core.errors import HeadwayError
from headway.tasks.events import EventErrors, Note, notes_of, read_midi, token_seconds, words_of, write_midi
from headway.tasks.events.event_files import Piece, check_pieces, find_files, read_pieces
from headway.tasks.events.event_words import WORDS, midi_velocity, velocity_bin, without_overlaps
from headway.tasks.events.midi_reading import MAX_BYTES
from hypothesis import given, settings
from hypothesis import strategies as st

SCALE = "velocity_20 note_on_60 shift_50 note_off_60 note_on_62 shift_100 shift_30 note_off_62"


def varint(number: int) -> bytes:
    parts = [number & 0x7F]
    while number := number >> 7:
        parts.append(number & 0x7F | 0x80)
    return bytes(reversed(parts))


def track(*events: tuple[int, bytes]) -> bytes:
    """A track chunk of (ticks since the event before, bytes), with its end."""
    content = b"".join(varint(delta) + message for delta, message in (*events, (0, b"\xff\x2f\x00")))
    return b"MTrk" + struct.pack(">L", len(content)) + content


def midi(*tracks: bytes, kind: int = 1, division: int = 480) -> bytes:
    return b"MThd" + struct.pack(">LHHH", 6, kind, len(tracks), division) + b"".join(tracks)


def on(pitch: int, velocity: int = 77, channel: int = 0) -> bytes:
    return bytes([0x90 | channel, pitch, velocity])


def off(pitch: int, channel: int = 0) -> bytes:
    return bytes([0x80 | channel, pitch, 0])


def pedal(value: int, channel: int = 0) -> bytes:
    return bytes([0xB0 | channel, 64, value])


def tempo(microseconds: int) -> bytes:
    return b"\xff\x51\x03" + microseconds.to_bytes(3, "big")


def performances(tmp_path: Path, content: bytes) -> list:
    path = tmp_path / "song.mid"
    path.write_bytes(content)
    return read_midi(path)


def text_of(tmp_path: Path, content: bytes) -> str:
    (one,) = performances(tmp_path, content)
    return " ".join(words_of(one.notes))


note_lists = st.lists(
    st.builds(
        lambda start, pitch, length, velocity: Note(start, pitch, start + length, velocity),
        st.integers(0, 2_000),
        st.integers(0, 127),
        st.integers(1, 1_000),
        st.integers(1, 32),
    ),
    min_size=1,
    max_size=60,
)


@settings(max_examples=200, deadline=None)
@given(notes=note_lists)
def test_events_are_equal_after_a_file_and_back(notes, tmp_path_factory):
    notes = without_overlaps(notes)
    words = words_of(notes)
    assert notes_of(words) == (notes, EventErrors())
    path = tmp_path_factory.mktemp("midi") / "song.mid"
    write_midi(path, notes)
    (read,) = read_midi(path)
    assert words_of(read.notes) == words
    assert not read.changes


def test_there_are_the_388_words_of_the_papers():
    assert len(WORDS) == 128 + 128 + 100 + 32
    assert {velocity_bin(velocity) for velocity in range(1, 128)} == set(range(1, 33))
    assert all(velocity_bin(midi_velocity(number)) == number for number in range(1, 33))


@pytest.mark.parametrize("kind", [0, 1])
def test_a_plain_file_is_read(tmp_path, kind):
    content = midi(track((0, on(60)), (480, off(60)), (0, on(62)), (1248, off(62))), kind=kind)
    assert text_of(tmp_path, content) == SCALE


def test_running_status_and_note_ons_of_velocity_zero_are_read(tmp_path):
    content = midi(track((0, on(60)), (480, bytes([60, 0])), (0, bytes([62, 77])), (1248, bytes([62, 0]))))
    assert text_of(tmp_path, content) == SCALE


def test_a_tempo_change_between_two_ends_of_a_note_in_another_track_is_read(tmp_path):
    notes = track((0, on(60)), (480, off(60)), (0, on(62)), (960, off(62)))
    # 0.5 s a beat; from the middle of the second note 0.8 s a beat: its beats take 0.5 s and 0.8 s.
    tempos = track((0, tempo(500_000)), (960, tempo(800_000)))
    for tracks in ((tempos, notes), (notes, tempos)):
        assert text_of(tmp_path, midi(*tracks)) == SCALE


def test_rounding_does_not_add_up(tmp_path):
    # 1,000 notes of 1/3 of a beat at 0.5 s: 166.67 ms each.
    notes = [(0, on(60)) if i % 2 == 0 else (160, off(60)) for i in range(2_000)]
    (one,) = performances(tmp_path, midi(track(*notes)))
    assert len(one.notes) == 1_000
    assert one.notes[-1].end == round(1_000 * 160 / 480 * 0.5 * 100)


def test_the_sustain_pedal_extends_notes_until_it_is_lifted_or_the_pitch_begins_again(tmp_path):
    content = midi(
        track(
            (0, on(60)), (0, pedal(64)), (96, off(60)), (96, on(64)), (96, off(64)), (96, on(64)), (96, off(64)),
            (480, pedal(63)), (0, on(67, channel=1)), (96, off(67, channel=1)),
        )
    )  # fmt: skip
    (one,) = performances(tmp_path, content)
    assert [(note.pitch, note.start, note.end) for note in one.notes] == [
        (60, 0, 100),
        (64, 20, 40),
        (64, 40, 100),
        (67, 100, 110),
    ]


def test_a_pedal_holds_only_its_channel_and_controllers_end_notes(tmp_path):
    all_notes_off = b"\xb0\x7b\x00"
    content = midi(
        track((0, on(60)), (0, pedal(127, channel=1)), (96, off(60)), (0, on(62)), (96, all_notes_off), (960, off(62)))
    )
    (one,) = performances(tmp_path, content)
    assert [(note.pitch, note.start, note.end) for note in one.notes] == [(60, 0, 10), (62, 10, 20)]


def test_percussion_is_left_out_and_counted(tmp_path):
    content = midi(track((0, on(60)), (0, on(35, channel=9)), (96, off(35, channel=9)), (384, off(60))))
    (one,) = performances(tmp_path, content)
    assert [note.pitch for note in one.notes] == [60]
    assert one.changes == {"notes of the percussion channel left out": 1}


def test_overlapping_notes_of_one_pitch_end_where_the_next_begins(tmp_path):
    content = midi(track((0, on(60)), (96, on(60)), (96, off(60)), (96, off(60))))
    (one,) = performances(tmp_path, content)
    assert [(note.start, note.end) for note in one.notes] == [(0, 10), (10, 30)]
    unison = midi(track((0, on(60, 40)), (96, off(60))), track((0, on(60, 90, 1)), (192, off(60, 1))))
    (one,) = performances(tmp_path, unison)
    assert one.notes == [Note(0, 60, 20, velocity_bin(90))]
    assert one.changes == {"notes joined with another of the same pitch and time": 1}


def test_notes_never_ended_end_with_the_piece_and_are_counted(tmp_path):
    (one,) = performances(tmp_path, midi(track((0, on(60)), (96, on(62)), (96, off(62)))))
    assert [(note.pitch, note.end) for note in one.notes] == [(60, 20), (62, 20)]
    assert one.changes == {"notes never ended, ended with the piece": 1}


@pytest.mark.parametrize(("frames", "ticks", "second"), [(24, 10, 240), (25, 40, 1_000), (30, 80, 2_400)])
def test_smpte_time_does_not_depend_on_the_tempo(tmp_path, frames, ticks, second):
    division = (0x100 - frames) << 8 | ticks
    content = midi(track((0, tempo(100_000)), (0, on(60)), (second, off(60))), division=division)
    (one,) = performances(tmp_path, content)
    assert one.notes[0].end == 100


def test_thirty_frames_with_dropped_numbers_are_a_little_slower(tmp_path):
    division = (0x100 - 29) << 8 | 100
    (one,) = performances(tmp_path, midi(track((0, on(60)), (3_000 * 100, off(60))), division=division))
    assert one.notes[0].end == 10_010


def test_the_tracks_of_format_2_are_pieces_of_their_own(tmp_path):
    first, second = track((0, on(60)), (96, off(60))), track((0, tempo(1_000_000)), (0, on(62)), (96, off(62)))
    found = performances(tmp_path, midi(first, second, kind=2))
    assert [[(note.pitch, note.end) for note in one.notes] for one in found] == [[(60, 10)], [(62, 20)]]
    assert found[1].source.endswith("song.mid, track 2")


def test_chunks_of_other_kinds_are_skipped(tmp_path):
    other = b"XFIH" + struct.pack(">L", 5) + b"hello"
    notes = track((0, on(60)), (480, off(60)), (0, on(62)), (1248, off(62)))
    content = midi(notes)
    assert text_of(tmp_path, content[:14] + other + content[14:] + other) == SCALE


HOLD = track((0, on(60)), (480, off(60)))
DAMAGED = {
    "no MThd": b"RIFF" + midi(HOLD),
    "empty": b"",
    "header": b"MThd\0\0\0\2\0\1",
    "half a header": b"MThd\0\0",
    "format": midi(HOLD, kind=7),
    "tracks": midi(HOLD)[:10] + b"\0\5" + midi(HOLD)[12:],
    "no tracks": midi(),
    "no ticks": midi(HOLD, division=0),
    "frames": midi(HOLD, division=0xF000),
    "no ticks per frame": midi(HOLD, division=0xE700),
    "cut": midi(HOLD)[:-9],
    "data byte": midi(track((0, bytes([0x90, 60, 200])))),
    "status": midi(track((0, b"\xf4"))),
    "no running status": midi(track((0, b"\x3c\x40"))),
    "tempo of two bytes": midi(track((0, b"\xff\x51\x02\1\2"))),
    "key": midi(track((0, b"\xff\x59\x02\x40\x05"))),
    "long message": midi(track((0, b"\xff\x01" + varint(1 << 27)))),
    "long time": midi(track((0, on(60)), (1 << 200, off(60)))),
    "slow": midi(track((0, tempo((1 << 24) - 1)), (0, on(60)), (1 << 20, off(60))), division=1),
    "beyond its track": midi(b"MTrk\0\0\0\3\0\x90\x3c"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_file_is_refused_with_one_message(tmp_path, name):
    with pytest.raises(HeadwayError, match=r"song\.mid") as caught:
        performances(tmp_path, DAMAGED[name])
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


def test_a_huge_file_is_refused(tmp_path):
    with pytest.raises(HeadwayError, match=r"4,194,305 bytes"):
        performances(tmp_path, midi(HOLD).ljust(MAX_BYTES + 1, b"\0"))


def test_a_text_longer_than_a_midi_file_may_be_is_refused():
    long = Piece("pieces.txt, line 2", ["note_on_60", *["shift_100"] * 21_601, "note_off_60"])
    with pytest.raises(HeadwayError, match=r"pieces\.txt, line 2: an event after more than 6 hours"):
        check_pieces([long])


def test_without_mido_the_message_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "mido", None)
    for convert in (lambda: performances(tmp_path, midi(HOLD)), lambda: write_midi(tmp_path / "new.mid", [])):
        with pytest.raises(HeadwayError, match=r'pip install "headway\[music\]"'):
            convert()


def test_mido_reads_the_same_notes_and_times(tmp_path):
    """Live reference: mido's own playback of a file with several tracks and tempo changes."""
    random = Random(3)
    parts = []
    for channel in range(3):
        events = [(0, tempo(random.randrange(200_000, 900_000)))]
        for _ in range(40):
            pitch = random.randrange(20, 40) + 25 * channel
            events += [(random.randrange(300), on(pitch, random.randrange(1, 128), channel))]
            if random.random() < 0.3:
                events += [(random.randrange(300), tempo(random.randrange(200_000, 900_000)))]
            events += [(random.randrange(10, 300), off(pitch, channel))]
        parts.append(track(*events))
    (one,) = performances(tmp_path, midi(*parts))
    expected, now = [], 0.0
    for message in mido.MidiFile(tmp_path / "song.mid"):
        now += message.time
        if message.type == "note_on":
            expected.append((message.note, now * 100))
    found = sorted((note.pitch, note.start) for note in one.notes)
    assert len(found) == 120
    for (pitch, step), (expected_pitch, exact) in zip(found, sorted(expected), strict=True):
        assert pitch == expected_pitch
        assert abs(step - exact) <= 0.51


def test_what_is_wrong_in_a_text_is_counted_and_left_out():
    words = "note_off_60 note_on_60 shift_10 hello note_on_60 shift_10 note_off_60 note_on_64 shift_5 velocity_33"
    notes, errors = notes_of(words.split())
    assert errors == EventErrors(
        unknown_words=2, note_offs_without_note_on=1, notes_never_ended=1, notes_begun_twice=1
    )
    assert [(note.pitch, note.start, note.end) for note in notes] == [(60, 0, 10), (60, 10, 20), (64, 20, 25)]
    assert [note.velocity for note in notes] == [16, 16, 16]  # in the middle, before the first velocity


def test_the_time_of_each_token_is_known_if_all_are_events():
    tokens = ["<|endoftext|>", "velocity_20", "note_on_60", "shift_100", "shift_50", "note_off_60", "[UNK]"]
    assert token_seconds(tokens) == [0, 0, 0, 0, 1, 1.5, 1.5]
    assert token_seconds(["[CLS]", "note_on_60", "is", "a", "word"]) is None
    assert token_seconds(["[CLS]", "[SEP]"]) is None


def test_pieces_are_read_from_lines_and_from_the_rows_that_headway_generate_writes(tmp_path):
    lines = tmp_path / "new.txt"
    lines.write_text(f"{SCALE}\n  (score -2.10, ended by length)\n\nhello\n", encoding="utf-8")
    assert [piece.words for piece in read_pieces(lines)] == [SCALE.split(), ["hello"]]
    rows = tmp_path / "new.jsonl"
    rows.write_text('{"text": "note_on_60", "continuations": ["shift_10 note_off_60", ""]}\n', encoding="utf-8")
    assert [" ".join(piece.words) for piece in read_pieces(rows)] == ["note_on_60 shift_10 note_off_60", "note_on_60"]
    counts = check_pieces([*read_pieces(lines), *read_pieces(rows)])
    assert (counts.pieces, counts.well_formed, counts.share) == (4, 2, 0.5)
    with pytest.raises(HeadwayError, match="no events"):
        check_pieces([])
    other = tmp_path / "new.csv"
    other.write_text("a,b\n1,2\n", encoding="utf-8")
    with pytest.raises(HeadwayError, match='no column "text"; it has a, b'):
        list(read_pieces(other))


def test_files_are_found_by_name_pattern_and_folder(tmp_path):
    for name in ("b.mid", "a.MIDI", "deep/c.mid", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    names = [path.name for path in find_files([str(tmp_path)])]
    assert names == ["a.MIDI", "b.mid", "c.mid"]
    assert [path.name for path in find_files([f"{tmp_path}/*.mid"])] == ["b.mid"]
    assert [path.name for path in find_files([f"{tmp_path}/**/*.mid", str(tmp_path / "notes.txt")])][-1] == "notes.txt"
    for wrong, message in (("*.kar", "no file matches"), ("c.mid", "no such file"), ("empty", "no MIDI file")):
        (tmp_path / "empty").mkdir(exist_ok=True)
        with pytest.raises(HeadwayError, match=message):
            find_files([str(tmp_path / wrong)])
