"""headway events: MIDI files, texts of events, and the music that a model trained on them writes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import mido
import pytest
from headway.tasks.events import notes_of, read_midi, write_midi
from headway.tasks.events.event_files import check_pieces, read_pieces
from headway.tasks.samples import FOLDER

SONG = "velocity_20 note_on_60 shift_50 note_off_60 note_on_64 shift_100 note_off_64"
WRONG = "note_off_61 note_on_60 shift_10 hello note_on_60"
MELODIES = FOLDER / "melodies.txt"


@pytest.fixture
def songs(folder: Path) -> Path:
    """A folder with two songs, a damaged file and one with drums only."""
    (folder / "songs").mkdir()
    for name, text in {"a": SONG, "b": SONG.replace("64", "67")}.items():
        write_midi(folder / f"songs/{name}.mid", notes_of(text.split())[0])
    (folder / "songs/c.mid").write_bytes(b"MThd")
    drums = mido.MidiFile()
    drums.add_track().append(mido.Message("note_on", channel=9, note=35))
    drums.save(str(folder / "songs/d.mid"))
    return folder / "songs"


def test_a_midi_file_becomes_a_text_and_a_midi_file_again(headway, folder, songs):
    assert headway("events", "songs/a.mid", "--output", "a.txt").code == 0
    assert (folder / "a.txt").read_text() == f"{SONG}\n"
    ran = headway("events", "a.txt", "--output", "again.mid")
    assert ran.code == 0
    assert "1 of 1 pieces are well-formed (100.0%); 0 errors in 7 words" in ran.out
    assert read_midi(folder / "again.mid")[0].notes == read_midi(songs / "a.mid")[0].notes
    refused = headway("events", "a.txt", "--output", "again.mid")
    assert refused.code == 2
    assert "already exists" in refused.err


def test_without_an_output_the_pieces_are_printed_and_nothing_else(headway, songs):
    ran = headway("events", "songs/a.mid", "songs/b.mid")
    assert ran.out.splitlines() == [SONG, SONG.replace("64", "67")]
    assert "2 pieces, 14 events" in ran.err


@pytest.mark.posix
def test_the_pieces_go_to_stdout_also_if_stderr_is_a_terminal(songs):
    import pty

    terminal, theirs = pty.openpty()
    command = [sys.executable, "-m", "headway.ui.cli", "events", "songs/a.mid"]
    ran = subprocess.run(command, stdout=subprocess.PIPE, stderr=theirs, text=True, check=True)
    os.close(theirs)
    os.close(terminal)
    assert ran.stdout == f"{SONG}\n"


def test_damaged_files_of_a_folder_are_left_out_and_named(headway, folder, songs):
    ran = headway("events", "songs", "--output", "pieces.txt", "--json")
    result = json.loads(ran.out)
    assert (result["pieces"], result["events"]) == (2, 14)
    assert len((folder / "pieces.txt").read_text().splitlines()) == 2
    assert "2 files left out (--strict refuses them)" in ran.err
    assert "c.mid: the MIDI file is damaged: its header is incomplete" in ran.err
    assert "d.mid: no notes (1 notes of the percussion channel left out)" in ran.err
    strict = headway("events", "songs/*.mid", "--output", "strict.txt", "--strict")
    assert (strict.code, len(strict.err.splitlines())) == (2, 1)
    assert not (folder / "strict.txt").exists()
    assert headway("events", "songs/c.mid", "songs/d.mid", "--output", "none.txt").code == 2


def test_what_is_wrong_in_a_text_is_counted(headway, folder):
    (folder / "new.txt").write_text(f"{SONG}\n{WRONG}\n", encoding="utf-8")
    ran = headway("events", "--check", "new.txt", "--json")
    assert "1 of 2 pieces are well-formed (50.0%); 4 errors in 12 words" in ran.err
    result = json.loads(ran.out)
    assert result == {
        "pieces": 2,
        "well_formed": 1,
        "share": 0.5,
        "words": 12,
        "notes": 4,
        "unknown_words": 1,
        "note_offs_without_note_on": 1,
        "notes_never_ended": 1,
        "notes_begun_twice": 1,
    }
    ran = headway("events", "new.txt", "--output", "new", "--json")
    assert json.loads(ran.out) == {"output": "new", "files": 2, **result}
    assert sorted(path.name for path in (folder / "new").iterdir()) == ["0001.mid", "0002.mid"]
    assert mido.MidiFile(folder / "new/0002.mid").length == pytest.approx(0.11)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["songs/a.mid", "new.txt"], "convert them with two commands"),
        (["songs/a.mid", "--check"], "--check reads texts"),
        (["songs/a.mid", "--output", "b.mid"], "Name the output .txt"),
        (["songs/a.mid", "--json"], "Omit one"),
        (["new.txt"], "Give --output NAME.mid"),
        (["new.txt", "--output", "b.mid"], "has 2 pieces"),
        (["new.txt", "--check", "--output", "b"], "writes nothing"),
        (["new.txt", "--check", "--strict"], "Omit it"),
        (["words.txt", "--check"], "no events in it"),
        (["new.txt", "--output", "b.wav"], "Name the output .mid, or a folder"),
        (["silent.txt", "--output", "b.mid"], "no notes in it"),
        (["missing.mid"], "no such file"),
        (["empty.txt", "--check"], "empty"),
    ],
)
def test_what_cannot_be_done_is_refused_with_one_line(headway, folder, songs, arguments, message):
    texts = {"new": f"{SONG}\n{WRONG}", "words": "some words", "silent": "shift_5 velocity_3", "empty": ""}
    for name, text in texts.items():
        (folder / f"{name}.txt").write_text(text, encoding="utf-8")
    before = sorted(folder.rglob("*"))
    ran = headway("events", *arguments)
    assert (ran.code, ran.out) == (2, "")
    assert len(ran.err.splitlines()) == 1
    assert message in ran.err
    assert sorted(folder.rglob("*")) == before


def test_the_melodies_are_well_formed():
    counts = check_pieces(read_pieces(MELODIES))
    assert (counts.pieces, counts.well_formed, counts.words) == (56, 56, 7_555)


def test_a_model_trained_on_the_melodies_writes_events_that_become_midi_files(headway, folder):
    sizes = ("--max-length", "64", "--batch-size", "16", "--max-steps", "12", "--learning-rate", "3e-3")
    vocabulary = ("--size", "tiny", "--vocabulary", "words", "--learn-tokenizer", "400")
    data = ("--data", MELODIES, "--documents", "lines")
    assert headway("train", "text-generation", *data, *vocabulary, *sizes, "--output", "music").code == 0
    (folder / "beginnings.jsonl").write_text('{"text": "velocity_22 note_on_60 shift_56"}\n' * 3, encoding="utf-8")
    options = ("--temperature", "1", "--seed", "3", "--max-new-tokens", "40")
    assert headway("generate", "music", "--data", "beginnings.jsonl", "--output", "new.jsonl", *options).code == 0
    pieces = list(read_pieces(folder / "new.jsonl"))
    assert [piece.words[:3] for piece in pieces] == [["velocity_22", "note_on_60", "shift_56"]] * 3
    assert all(len(piece.words) > 10 for piece in pieces)
    assert check_pieces(pieces).errors.unknown_words == 0
    assert headway("events", "new.jsonl", "--output", "new").code == 0
    files = sorted((folder / "new").iterdir())
    assert len(files) == 3
    assert all(mido.MidiFile(file).length > 0.5 for file in files)
