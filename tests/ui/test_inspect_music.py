"""The inspection page of a piece of music: attention over time, in seconds."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from headway.core.tokenizers.vocabulary import learn_words
from headway.tasks.events import token_notes
from headway.tasks.inspection import open_model
from headway.tasks.samples import FOLDER
from headway.ui.browser.tabs import inspection
from headway.ui.commands import inspect_page
from headway.ui.commands.inspect_page import inspect_texts, page_data, render_page
from headway.ui.model_registry import ModelRegistry
from tiny_gpt2 import make_gpt2

MELODIES = (FOLDER / "melodies.txt").read_text(encoding="utf-8").splitlines()
SONG = "velocity_22 note_on_60 shift_60 note_off_60 note_on_67 note_on_60 shift_100 note_off_67 shift_20 note_off_60"


@pytest.fixture(scope="module")
def music(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GPT-2 with random weights whose words are events."""
    folder = tmp_path_factory.mktemp("words")
    learn_words([*MELODIES, "sol"], 400, "gpt2").save(folder)
    return make_gpt2(folder, tmp_path_factory.mktemp("music"), max_positions=400)


def piece_of(model: Path, text: str) -> dict | None:
    return page_data(inspect_texts(open_model(model), {"text": text}))["attention"]["piece"]


def test_the_notes_of_a_sequence_are_found():
    tokens = ["note_on_60", "note_off_61", "note_on_62", "shift_5", "note_on_60", "note_off_60", "shift_5", "[UNK]"]
    assert token_notes(tokens) == [(60, 0, 4), (60, 4, 5), (62, 2, 7)]


def test_the_page_of_a_piece_has_the_time_of_each_token_and_the_notes(music):
    piece = piece_of(music, SONG)
    assert piece is not None
    assert piece["seconds"] == [0, 0, 0, 0.6, 0.6, 0.6, 0.6, 1.6, 1.6, 1.8]
    assert piece["notes"] == [(60, 0, 0.6, 1, 3), (67, 0.6, 1.6, 4, 7), (60, 0.6, 1.8, 5, 9)]


def test_pooled_units_have_the_time_of_their_first_token(music, monkeypatch):
    monkeypatch.setattr(inspect_page, "MAX_BYTES", 60)  # of 100 weights a head: two tokens a unit
    piece = piece_of(music, SONG)
    assert piece is not None
    assert piece["seconds"] == [0, 0, 0.6, 0.6, 1.6]
    assert piece["notes"] == [(60, 0, 0.6, 0, 1), (67, 0.6, 1.6, 2, 3), (60, 0.6, 1.8, 2, 4)]


def test_a_text_that_is_not_music_has_no_times(music, gpt2):
    assert piece_of(music, f"{SONG} sol") is None
    assert piece_of(gpt2, "note_on_60 shift_10 note_off_60") is None  # in pieces of words


def test_the_inspect_tab_offers_melodies_to_a_model_of_music(music):
    registry = ModelRegistry([music], built_in=False)
    examples = inspection.choose_model(registry, 2, music.name)[4]
    assert MELODIES[1].startswith("velocity_22 note_on_60")
    assert MELODIES[1] in examples
    event: Any = SimpleNamespace(choice=1)
    text = inspection.take_example(registry, 2, music.name, event)[0]
    assert text == MELODIES[1]
    ((frame, _, _),) = list(inspection.inspect(registry, music.name, None, text))
    assert "&quot;seconds&quot;:[0.0," in frame


@pytest.mark.browser
@pytest.mark.parametrize("width", [1200, 390])
def test_a_browser_shows_the_notes_over_time(chromium, music, gpt2, folder, width):
    from playwright.sync_api import expect

    model = open_model(music)
    for name, text in {"song": SONG, "long": MELODIES[0], "short": "note_on_60"}.items():
        (folder / f"{name}.html").write_text(render_page(inspect_texts(model, {"text": text})), encoding="utf-8")
    context = chromium.new_context(viewport={"width": width, "height": 800})
    page = context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda message: errors.append(message.text))
    for name in ("long", "short"):
        page.goto((folder / f"{name}.html").as_uri())
        expect(page.locator("#picked")).to_contain_text(" at ")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.goto((folder / "song.html").as_uri())
    expect(page.locator("#picked")).to_contain_text("“note_off_60” at 1.80 s attends to")
    roll = page.locator("#roll")
    # The first note is C4, which takes a third of the width, in the twelfth row from the top.
    first = {"x": 60, "y": 13 * 7 + 3}
    roll.hover(position=first)
    expect(page.locator("#note")).to_contain_text("attends to C4 from 0.00 to 0.60 s: ")
    roll.click(position=first)
    expect(page.locator("#picked")).to_contain_text("“note_on_60” at 0.00 s attends to")
    page.locator("#matrix").hover(position={"x": 60, "y": 300})
    expect(page.locator("#cell")).to_contain_text(" s (")
    assert errors == []
    text = (folder / "plain.html").as_uri()
    (folder / "plain.html").write_text(render_page(inspect_texts(open_model(gpt2), {"text": "a song"})), "utf-8")
    page.goto(text)
    expect(page.locator("#picked")).to_contain_text("attends to")
    expect(page.locator("#piece")).to_be_hidden()
    context.close()
