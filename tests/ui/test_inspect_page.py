"""The page of headway inspect: self-contained, safe with any text, working in a real browser; the commands."""

import base64
import json
import re
import zlib
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch
from headway.core.checkpoints.checkpoint import save_checkpoint
from headway.core.models.gpt2 import GPT2, GPT2Config
from headway.core.models.heads import Network, language_model_head
from headway.core.tokenizers.tokenizer import Tokenizer
from headway.tasks.inspection import attention_maps, open_model
from headway.ui.commands.inspect_page import inspect_texts, page_data, pool, render_page
from headway.ui.html_page import as_json

HOSTILE = "</script><script>alert(1)</script> <img src=x onerror=alert(2)> & \u2028 ]]> <!-- {{data}} \ud83d"
REVIEW = "what a lovely film, a really good walk, such a great song 🙂"


class Elements(HTMLParser):
    """The elements of a page with their attributes and texts."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, str] = {}
        self._open = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        self._open = dict(attrs).get("id") or tag

    def handle_data(self, data: str) -> None:
        self.texts[self._open] = self.texts.get(self._open, "") + data


def page_of(model: Path, *texts: str) -> str:
    opened = open_model(model)
    return render_page(inspect_texts(opened, dict(zip((field.name for field in opened.fields), texts, strict=False))))


@pytest.fixture(scope="module")
def gpt2(byte_level_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    tokenizer = Tokenizer.load(byte_level_folder)
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_layers": 2, "num_heads": 2, "intermediate_size": 64, "max_positions": 400}
    backbone = GPT2(GPT2Config(vocab_size=tokenizer.vocab_size, **sizes))
    torch.nn.init.normal_(backbone.token_embedding.weight, std=0.5)
    folder = tmp_path_factory.mktemp("gpt2")
    save_checkpoint(folder, Network(backbone, language_model_head(backbone)))
    tokenizer.save(folder)
    return folder


def test_the_page_loads_nothing_and_runs_only_its_own_script(trained_once):
    page = page_of(trained_once, REVIEW)
    elements = Elements(page).found
    assert [tag for tag, _ in elements if tag in ("link", "img", "iframe", "object", "base")] == []
    assert not any("src" in attributes or name.startswith("on") for _, attributes in elements for name in attributes)
    assert all(attributes.get("href", "#").startswith("#") for _, attributes in elements)
    assert re.search(r"""(https?:)?//[a-z]|@import|url\(""", page.replace("// ", "")) is None
    (policy,) = [a["content"] for t, a in elements if a.get("http-equiv") == "Content-Security-Policy"]
    assert policy.startswith("default-src 'none'")
    assert "script-src 'sha256-" in policy


@pytest.mark.parametrize("text", [HOSTILE, "a film " + HOSTILE])
def test_hostile_text_stays_text(trained_once, gpt2, text):
    for model in (trained_once, gpt2):
        page = page_of(model, text)
        elements = Elements(page)
        assert [tag for tag, _ in elements.found].count("script") == 2
        assert "img" not in [tag for tag, _ in elements.found]
        assert json.loads(elements.texts["data"])["texts"] == [text]
        page.encode()


def test_json_in_a_page_is_ascii_without_html_characters():
    content = {"text": HOSTILE, "number": 0.5}
    assert json.loads(as_json(content)) == content
    assert re.search(r"[<>&\u2028\u2029]|[^\x00-\x7f]", as_json(content)) is None


def test_compressed_attention_is_exact_to_half_a_level(trained_once):
    opened = open_model(trained_once)
    encoded = opened.encode(REVIEW)
    weights = attention_maps(opened, encoded).weights
    packed = page_data(inspect_texts(opened, {"text": REVIEW}))["attention"]
    assert [unit["text"] for unit in packed["units"]] == [token.text for token in encoded.tokens]
    for layer, expected in zip(packed["layers"], weights, strict=True):
        levels = torch.frombuffer(bytearray(zlib.decompress(base64.b64decode(layer))), dtype=torch.uint8)
        roots = levels.float().reshape(expected.shape) / 255
        torch.testing.assert_close(roots, expected.sqrt(), rtol=0, atol=0.5 / 255 + 1e-6)


def test_pooled_attention_rows_sum_to_one():
    weights = torch.rand(3, 11, 11, generator=torch.Generator().manual_seed(0)).softmax(-1)
    pooled = pool(weights, 4)
    assert pooled.shape == (3, 3, 3)
    torch.testing.assert_close(pooled.sum(-1), torch.ones(3, 3))
    torch.testing.assert_close(pooled[:, 2, 0], weights[:, 8:, :4].sum(-1).mean(-1))
    assert pool(weights, 1) is weights


def test_the_attention_of_a_long_text_is_pooled_to_the_size_limit(gpt2, monkeypatch):
    monkeypatch.setattr("headway.ui.commands.inspect_page.MAX_BYTES", 10_000)
    found = page_data(inspect_texts(open_model(gpt2), {"text": "the cat sat " * 200}))
    units, together = found["attention"]["units"], found["attention"]["tokens_a_unit"]
    assert len(found["tokens"]) == 400
    assert 2 * 2 * len(units) ** 2 <= 10_000
    assert len(units) == -(-400 // together)
    assert "400 tokens" in found["unread"]


def test_the_page_shows_the_parts_that_a_model_has(trained_once, gpt2):
    classifier = page_data(inspect_texts(open_model(trained_once), {"text": REVIEW}))
    assert [one["method"] for one in classifier["attributions"]] == ["integrated gradients", "leave-one-out"]
    assert all(len(one["words"]) == len(classifier["words"]) for one in classifier["attributions"])
    assert (classifier["lens"], classifier["next"]) == (None, [])
    assert classifier["answer"].startswith("Prediction: good")
    assert classifier["model"] == trained_once.name  # not its path
    language = page_data(inspect_texts(open_model(gpt2), {"text": "the cat"}))
    assert language["attributions"] == []
    assert len(language["lens"]["layers"]) == 3
    assert len(language["next"]) == 10
    assert len(language["next"][0]["likeliest"]) == 10
    assert language["attention"]["causal"]


# The commands.


def test_inspect_writes_a_page(headway, trained, folder):
    ran = headway("inspect", trained, REVIEW)
    assert ran.code == 0, ran.err
    assert "Prediction: good" in ran.out
    assert "inspect.html" in ran.out
    assert (folder / "inspect.html").read_text().startswith("<!doctype html>")
    assert "already exists" in headway("inspect", trained, REVIEW).err
    ran = headway("inspect", trained, "--text", REVIEW, "--explain", "bad", "--overwrite", "--json")
    assert json.loads(ran.out)["answer"].startswith("Prediction: good")
    assert '"output":"bad"' in (folder / "inspect.html").read_text()


def test_inspect_takes_a_pair(headway, tiny, folder):
    for arguments in (["a film", "a book"], ["a film", "--pair", "a book"]):
        assert headway("inspect", tiny, *arguments, "--output", "pair.html", "--overwrite").code == 0
        assert '"texts":["a film","a book"]' in (folder / "pair.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "Give exactly one of: a text"),
        (["a film", "--parameters"], "Give exactly one of"),
        (["--heads"], "--heads and --data must be used together"),
        (["a film", "--data", "reviews.csv"], "--heads and --data must be used together"),
        (["a film", "--text", "a book"], "--text: the text is already given"),
        (["a", "b", "c"], "3 texts are given, but the model reads only text"),
        (["a film", "--pair", "b"], "reads text"),
        (["a film", "--explain", "fine"], "There is: "),
    ],
)
def test_invalid_arguments_are_refused(headway, trained, arguments, words):
    ran = headway("inspect", trained, *arguments)
    assert ran.code == 2
    assert words in ran.err
    assert not Path("inspect.html").exists()


def test_heads_are_ranked_on_a_file(headway, trained, reviews):
    ran = headway("inspect", trained, "--data", reviews, "--heads", "--examples", 40, "--json")
    assert ran.code == 0, ran.err
    found = json.loads(ran.out)
    assert (found["metric"], found["examples"], len(found["switched_off"])) == ("accuracy", 40, 3)
    assert {(row["layer"], row["head"]) for row in found["switched_off"]} == {(1, None), (1, 1), (1, 2)}
    out = headway("inspect", trained, "--data", reviews, "--heads", "--label", "label").out
    assert re.search(r"layer 1, head 2 +\d\.\d+ +[+-]\d\.\d+", out)
    assert "64 examples of reviews.csv" in out


def test_parameters_are_counted(headway, tiny):
    found = json.loads(headway("inspect", tiny, "--parameters", "--json").out)
    assert found["parameters"] == sum(one["parameters"] for one in found["matrices"])
    assert found["memory"]["weights, fp32"] == 4 * found["parameters"]
    out = headway("inspect", tiny, "--parameters").out
    assert re.search(rf"total +{found['parameters']:,}", out)


def test_probe_prints_and_plots_the_score_of_each_layer(headway, tiny, reviews, folder):
    ran = headway("probe", tiny, "--data", reviews, "--seeds", 2, "--plot", "layers.svg", "--json")
    assert ran.code == 0, ran.err
    found = json.loads(ran.out)
    assert [row["layer"] for row in found["layers"]] == [0, 1]
    assert sum(row["mix_weight"] for row in found["layers"]) == pytest.approx(1, abs=1e-5)
    drawing = (folder / "layers.svg").read_text()
    assert "<svg" in drawing
    assert f"mix of all layers: {found['mix']['mean']:.3f}" in drawing
    assert re.search(r"Best single layer: (the embeddings|layer 1)\.", ran.err)
    assert "already exists" in headway("probe", tiny, "--data", reviews, "--plot", "layers.svg").err
    assert "written as .svg or .png" in headway("probe", tiny, "--data", reviews, "--plot", "layers.txt").err
    assert "There is no task" in headway("probe", tiny, "--data", reviews, "--task", "guessing").err


# In a real browser.


@pytest.mark.browser
@pytest.mark.parametrize("width", [1200, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_browser_shows_the_page_without_requests_and_errors(chromium, trained_once, gpt2, folder, scheme, width):
    from playwright.sync_api import expect

    for name, model, text in (("bert", trained_once, HOSTILE), ("gpt2", gpt2, HOSTILE + " the cat sat" * 90)):
        path = folder / f"{name}.html"
        path.write_text(page_of(model, text), encoding="utf-8")
        context = chromium.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
        page = context.new_page()
        events: list[str] = []
        page.on("console", lambda message, events=events: events.append(message.text))
        page.on("pageerror", lambda error, events=events: events.append(str(error)))
        page.on("dialog", lambda dialog, events=events: events.append(dialog.message))
        page.on("request", lambda request, events=events: events.append(request.url))
        page.goto(path.as_uri())
        expect(page.locator("#picked")).to_contain_text("attends to")
        assert events == [path.as_uri()]  # no other request, message or error
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.locator("body img, body script").count() == 2
        if name == "bert":
            shown = page.locator("#words").inner_text()
            assert "</script><script>alert(1)</script>" in shown
            page.get_by_role("button", name="Leave one out").click()
            assert page.locator("#method-note").inner_text().startswith("How much the value falls")
        else:
            page.locator("#says td").first.click()
            assert page.locator("#candidates i").count() == 5
        page.locator("#tokens button").nth(3).click()
        page.locator("#head").select_option(label="2")
        expect(page.locator("#figures")).to_contain_text("head 2")
        page.locator("#overview").click(position={"x": 8, "y": 8})
        expect(page.locator("#figures")).to_contain_text("Layer 1, head 1")
        page.locator("#matrix").hover(position={"x": 150, "y": 150})
        page.locator("#lines canvas").click(position={"x": 20, "y": 20})
        assert events == [path.as_uri()]
        context.close()
