"""Damaged MIDI files and texts of events: each is converted, or refused with one message, within seconds."""

import time
from collections import Counter
from pathlib import Path
from random import Random

import mido
import pytest
from campaign_options import cases, random_of
from children import failures, summary
from headway.core.errors import HeadwayError
from headway.tasks.events import EventErrors, notes_of, read_midi, words_of, write_midi
from headway.tasks.events.event_words import WORDS
from mutations import damage

FILES = 30_000  # in the whole campaign
FEW = 500  # in the default run
SECONDS = 10.0
WELL_FORMED = EventErrors()


def write_song(path: Path) -> None:
    """A file of many kinds of messages: three tracks, tempos, pedal, signatures, texts, system exclusive."""
    file = mido.MidiFile(type=1, ticks_per_beat=96)
    for channel in (0, 1, 9):
        track = file.add_track(f"track {channel}")
        track.append(mido.MetaMessage("set_tempo", tempo=400_000 + 1_000 * channel))
        track.append(mido.MetaMessage("key_signature", key="D"))
        track.append(mido.MetaMessage("time_signature", numerator=3, denominator=4))
        track.append(mido.MetaMessage("smpte_offset", frame_rate=25))
        track.append(mido.MetaMessage("sequence_number", number=channel))
        track.append(mido.MetaMessage("lyrics", text="la"))
        track.append(mido.Message("sysex", data=(1, 2, 3)))
        track.append(mido.Message("program_change", channel=channel, program=4))
        for pitch in (60, 64, 67):
            track.append(mido.Message("control_change", channel=channel, control=64, value=127))
            track.append(mido.Message("note_on", channel=channel, note=pitch, velocity=80, time=10))
            track.append(mido.Message("pitchwheel", channel=channel, pitch=100, time=5))
            track.append(mido.Message("note_off", channel=channel, note=pitch, time=90))
            track.append(mido.Message("control_change", channel=channel, control=64, value=0, time=4))
    file.save(str(path))


def damage_track(path: Path, random: Random) -> None:
    """Damages the messages of the first track, whose header then has their new length."""
    content = path.read_bytes()
    end = 22 + int.from_bytes(content[18:22], "big")
    path.write_bytes(content[22:end])
    damage(path, random)
    body = path.read_bytes()
    path.write_bytes(content[:18] + len(body).to_bytes(4, "big") + body + content[end:])


def outcome(folder: Path, number: int) -> str:
    """How a damaged file ends: "converted" or "refused"."""
    random = random_of("midi", number)
    path = folder / f"{number}.mid"
    write_song(path)
    (damage_track if random.random() < 0.7 else damage)(path, random)
    try:
        found = read_midi(path)
    except HeadwayError as error:
        message = str(error)
        assert str(path) in message, message
        assert "\n" not in message, message
        assert len(message) < 1_000, message
        return "refused"
    finally:
        path.unlink()
    for one in found:
        words = words_of(one.notes)
        assert set(words) <= WORDS.keys()
        assert notes_of(words) == (one.notes, WELL_FORMED)
    return "converted"


def odd_text(number: int) -> list[str]:
    """Random events with a few other words: what an untrained model writes."""
    random = random_of("text", number)
    words = random.sample(sorted(WORDS), 40)
    return [random.choice(["note_on_128", "shift_0", "x", *words]) for _ in range(random.randrange(1, 300))]


def check_text(folder: Path, number: int) -> None:
    notes, errors = notes_of(odd_text(number))
    assert notes_of(words_of(notes)) == (notes, WELL_FORMED)
    assert (errors == WELL_FORMED) == (errors.total == 0)
    if notes:
        path = folder / f"{number}.mid"
        write_midi(path, notes)
        (read,) = read_midi(path)
        assert read.notes == notes
        path.unlink()


def test_a_few_damaged_midi_files_are_converted_or_refused(tmp_path):
    outcomes: Counter[str] = Counter()
    for number in range(FEW):
        began = time.perf_counter()
        outcomes[outcome(tmp_path, number)] += 1
        assert time.perf_counter() - began < SECONDS, number
    assert outcomes["refused"] > FEW // 10
    assert outcomes["converted"] > FEW // 10


def test_a_few_odd_texts_become_midi_files_with_the_same_notes(tmp_path):
    for number in range(100):
        check_text(tmp_path, number)


@pytest.mark.campaign
def test_damaged_midi_files_are_converted_or_refused(tmp_path):
    found = failures(cases(FILES), lambda number: outcome(tmp_path, number), SECONDS)
    assert not found, summary(found)


@pytest.mark.campaign
def test_odd_texts_become_midi_files_with_the_same_notes(tmp_path):
    found = failures(cases(FILES // 10), lambda number: check_text(tmp_path, number), SECONDS)
    assert not found, summary(found)
