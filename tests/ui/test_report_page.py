"""The reports of headway evaluate: written by the command, safe with any text, readable offline, small and dark."""

import json

import pytest
from headway.tasks import TASKS
from headway.tasks.base.report_parts import Chart, Series
from headway.tasks.evaluation.likely_errors import SuspectLabel, SuspectLabels
from headway.ui.charts import draw_chart
from headway.ui.report_page import _draw_label_errors
from page_elements import HOSTILE, Page
from task_inputs import SAMPLES, TRAINING


@pytest.fixture
def hostile(folder):
    """Reviews with texts, labels and columns that try to inject HTML."""
    texts = ["a lovely film", "such a dull walk", HOSTILE, "$x_{1}$ & \x00 \x1b[31m <b>", "é" * 700]
    rows = [
        json.dumps({"text": f"{words} {i}", "label": label, HOSTILE: HOSTILE if i % 2 else "$\\frac{1}{0}$"})
        for i, words in enumerate(texts * 8)
        for label in (["good", "bad", HOSTILE][i % 3],)
    ]
    rows.append('{"text": "a film", "label": "_good", "' + json.dumps(HOSTILE)[1:-1] + '": "🙂"}')
    (folder / "hostile.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return folder / "hostile.jsonl"


def test_the_command_writes_the_same_content_as_a_page_and_as_json(headway, trained, reviews, folder):
    for name in ("report.html", "report.json"):
        ran = headway("evaluate", trained, "--data", reviews, "--report", name, "--reference", reviews)
        assert ran.code == 0, ran.err
        assert name in ran.out
    content = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    page = Page((folder / "report.html").read_text(encoding="utf-8"))
    for one in content["metrics"]:
        assert f"{one['value']:.3f}" in page.text
    assert all(row["label"] in page.text for row in content["per_label"])
    assert f"Of {content['label_errors']['checked']:,} labels in the file" in page.text
    assert f"{content['near_duplicates']:,} of {content['examples']:,} examples almost equal" in page.text
    assert "already exists" in headway("evaluate", trained, "--data", reviews, "--report", "report.html").err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--slice", "label"], "Add --report FILE"),
        (["--report", "report.pdf"], "written as .html or .json"),
        (["--report", "report.html", "--slice", "nowhere"], "--slice nowhere"),
    ],
)
def test_options_that_cannot_be_used_are_refused_and_nothing_is_written(
    headway, trained, reviews, folder, arguments, words
):
    before = sorted(folder.iterdir())
    ran = headway("evaluate", trained, "--data", reviews, *arguments)
    assert ran.code == 2
    assert words in " ".join(ran.err.split())
    assert sorted(folder.iterdir()) == before


def test_labels_to_check_stay_text():
    row = SuspectLabel(HOSTILE, HOSTILE, HOSTILE, HOSTILE, HOSTILE, 0.01, 0.9875)
    page = Page(_draw_label_errors(SuspectLabels(120, 7, [row])))
    assert page.text.count(HOSTILE) == 5
    assert "Of 120 labels in the file, 7 are suspect" in page.text
    assert "(0.010)" in page.text
    assert not [name for name, _ in page.elements if name in ("script", "img", "iframe", "link")]


def test_hostile_texts_labels_and_columns_stay_text(headway, trained, hostile, folder):
    ran = headway("evaluate", trained, "--data", hostile, "--report", "report.html", "--slice", HOSTILE)
    assert ran.code == 0, ran.err
    page = Page((folder / "report.html").read_text(encoding="utf-8"))
    assert not [name for name, _ in page.elements if name in ("script", "img", "iframe", "link", "b ")]
    assert page.text.count(HOSTILE) > 3
    assert page.named("meta")[1]["content"].startswith("default-src 'none'")
    assert all(link["href"].startswith("#") for link in page.named("a"))
    places = {attributes["id"] for _, attributes in page.elements if "id" in attributes}
    assert {link["href"][1:] for link in page.named("a")} <= places


def test_a_share_that_is_always_0_has_no_negative_axis():
    drawn = draw_chart(Chart("Risk", ("share answered", "share wrong"), (Series("", (0.1, 1.0), (0.0, 0.0)),)))
    assert "\u2212" not in drawn  # a minus sign
    assert "0.8" in drawn


def visit(chromium, path, width, scheme):
    """The open page, and everything that it loaded or complained about."""
    context = chromium.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
    page = context.new_page()
    events: list[str] = []
    page.on("console", lambda message: events.append(message.text))
    page.on("pageerror", lambda error: events.append(str(error)))
    page.on("dialog", lambda dialog: events.append(dialog.message))
    page.on("request", lambda request: events.append(request.url))
    page.goto(path.as_uri())
    return page, events


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_browser_shows_hostile_texts_as_text_and_cells_lead_to_rows(
    headway, chromium, trained, hostile, folder, scheme
):
    headway("evaluate", trained, "--data", hostile, "--report", "report.html", "--slice", HOSTILE)
    path = folder / "report.html"
    page, events = visit(chromium, path, 390, scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == (
        "rgb(255, 255, 255)" if scheme == "light" else "rgb(20, 23, 28)"
    )
    assert not page.locator(".cell:visible").count()
    page.locator(".confusion td a").first.click()
    assert page.locator(".cell:visible").count() == 1
    assert page.locator(".cell:visible li").count() >= 1
    assert {one.partition("#")[0] for one in events} == {path.as_uri()}
    assert page.locator("svg.chart text").count() > 10
    page.context.close()


@pytest.mark.browser
@pytest.mark.parametrize("task", TASKS)
def test_the_report_of_every_task_opens_offline_on_a_small_dark_screen(
    headway, chromium, task_models, reviews, folder, task
):
    (folder / "corpus.txt").write_text("what a lovely film, such a great song\n" * 40)
    (folder / "scores.csv").write_text("text,pair,score\na film,a song,0.5\na film,a film,1\na walk,a film,0.2\n")
    name, _ = TRAINING.get(task, (str(reviews), []))
    data = folder / name if (folder / name).exists() else SAMPLES / name
    for report in ("report.html", "report.json"):
        ran = headway("evaluate", task_models[task], "--data", data, "--report", report)
        assert ran.code == 0, ran.err
    path = folder / "report.html"
    page, events = visit(chromium, path, 390, "dark")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert events == [path.as_uri()]
    metric = json.loads((folder / "report.json").read_text(encoding="utf-8"))["metrics"][0]["metric"]
    assert metric.replace("_", " ") in page.locator("#metrics").inner_text()
    page.context.close()
