"""The command headway probe --structure and its page: scores, drawn trees, safe with any word, offline."""

import json
import re
from pathlib import Path

import pytest
from headway.tasks.inspection import DrawnTree, LayerStructure, StructureResult, TreeScores
from headway.ui.commands.structure_page import page_data, render_page
from page_elements import HOSTILE, Page

SENTENCE = "\n".join(
    f"{i}\t{word}\t_\t{tag}\t_\t_\t{head}\t_\t_\t_"
    for i, (word, tag, head) in enumerate(
        [("a", "DET", 3), ("lovely", "ADJ", 3), ("film", "NOUN", 5), ("I", "PRON", 5), ("like", "VERB", 0)], start=1
    )
)


@pytest.fixture
def trees(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("headway.tasks.inspection.structural_probe.MAX_EPOCHS", 1)
    sentences = (SENTENCE.replace("film", f"film{i}") for i in range(20))
    (folder / "trees.conllu").write_text("\n\n".join(sentences) + "\n", encoding="utf-8")
    return folder / "trees.conllu"


def result(*words: str) -> StructureResult:
    """Two layers, the second of which attaches the first word to the last."""
    scores = [LayerStructure(i, (TreeScores(0.4 + i / 10, 0.5, 0.25, 0.75),)) for i in range(2)]
    chain = frozenset((i, i + 1) for i in range(len(words) - 1))
    other = chain - {(0, 1)} | {(0, len(words) - 1)}
    drawn = DrawnTree(words, chain, (chain, other))
    return StructureResult(tuple(scores), tuple(scores), scores[0], 20, 64, (drawn,), ())


def test_the_command_prints_draws_and_writes_the_scores_of_each_layer(headway, tiny, trees, folder):
    command = ["probe", tiny, "--data", trees, "--structure", "--rank", 4]
    ran = headway(*command, "--plot", "layers.svg", "--output", "page.html", "--json")
    assert ran.code == 0, ran.err
    found = json.loads(ran.out)
    assert [row["layer"] for row in found["layers"]] == [row["layer"] for row in found["random_layers"]] == [0, 1]
    assert (found["rank"], found["sentences"], found["chain"]["uuas"]) == (4, 20, 0.5)
    assert "neighbours attached" in ran.err
    drawing = (folder / "layers.svg").read_text(encoding="utf-8")
    assert all(words in drawing for words in ("attachment (UUAS)", "random weights", "neighbours attached"))
    page = (folder / "page.html").read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>")
    assert '"words":["a","lovely","film' in page
    assert "already exists" in headway(*command, "--output", "page.html").err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--structure", "--task", "token-classification"], "--task is an option of probes for labels"),
        (["--structure", "--pooling", "mean"], "--pooling is an option of probes for labels"),
        (["--rank", "4"], "--rank is an option of probes for structure"),
        (["--output", "page.html"], "--output is an option of probes for structure"),
        (["--structure", "--output", "page.pdf"], "written as .html"),
        (["--structure", "--label", "lemma"], "word 1 has no head"),
    ],
)
def test_options_that_do_not_fit_are_refused(headway, tiny, trees, arguments, words):
    ran = headway("probe", tiny, "--data", trees, *arguments)
    assert ran.code == 2
    assert re.search(words, " ".join(ran.err.split()))


def test_data_without_trees_is_refused(headway, tiny, reviews):
    ran = headway("probe", tiny, "--data", reviews, "--structure")
    assert ran.code == 2
    assert "there is no column of words" in " ".join(ran.err.split())


def test_hostile_words_stay_text_and_the_page_loads_nothing():
    page = Page(render_page(result("a", HOSTILE, "film"), HOSTILE))
    assert [name for name, _ in page.elements].count("script") == 2
    assert not page.named("img")
    assert not page.named("link")
    assert page_data(result("a", HOSTILE, "film"), "model")["trees"][0]["words"][1] == HOSTILE
    assert page.named("meta")[1]["content"].startswith("default-src 'none'")


@pytest.mark.browser
@pytest.mark.parametrize("width", [1200, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_browser_draws_the_trees_of_the_chosen_layer(chromium, folder, scheme, width):
    path = folder / "page.html"
    path.write_text(render_page(result("a", "film", HOSTILE, *["very"] * 40, "long"), HOSTILE), encoding="utf-8")
    context = chromium.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
    page = context.new_page()
    events: list[str] = []
    page.on("console", lambda message: events.append(message.text))
    page.on("pageerror", lambda error: events.append(str(error)))
    page.on("dialog", lambda dialog: events.append(dialog.message))
    page.on("request", lambda request: events.append(request.url))
    page.goto(path.as_uri())
    page.locator("figure").wait_for()
    assert page.locator("#layer").input_value() == "1"  # the best
    assert page.locator("path.gold").count() == 43
    assert (page.locator("path.right").count(), page.locator("path.wrong").count()) == (42, 1)
    assert page.locator("figcaption").inner_text() == "42 of 43 edges found"
    assert page.locator("svg title").text_content() == HOSTILE
    page.get_by_role("button", name="embeddings").click()
    assert page.locator("path.wrong").count() == 0
    page.locator("#layer").select_option(label="layer 1")
    assert page.locator("path.wrong").count() == 1
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert events == [path.as_uri()]
    context.close()
