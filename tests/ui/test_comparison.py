"""A model beside outputs that cost nothing: the same table in the terminal, in the browser and in JSON."""

import io
import json

import pytest
from headway.tasks.base.results import Evaluation
from headway.ui.browser.run_drawing import draw_metrics
from headway.ui.terminal import SafeConsole, show_evaluation
from page_elements import Page

ROWS = [{"outputs": "model", "rougeL": 0.5, "chrf": 43.25}, {"outputs": "lead_3", "rougeL": 0.25, "chrf": 39.0}]
FOUND = Evaluation({"loss": 1.5}, [], [], [], (), comparison=ROWS)


def test_the_terminal_shows_the_comparison_only_if_there_is_one():
    def printed(**options):
        console = SafeConsole(file=io.StringIO(), width=100)
        show_evaluation(console, FOUND.metrics, [], "Evaluation", **options)
        return console.file.getvalue()

    shown = printed(comparison=ROWS)
    lines = [line.split() for line in shown.splitlines()]
    assert ["model", "0.500", "43.250"] in lines
    assert lines.index(["model", "0.500", "43.250"]) < lines.index(["lead_3", "0.250", "39.000"])
    assert "Comparison" not in printed()


@pytest.mark.parametrize("comparison", [ROWS, []])
def test_the_browser_and_json_have_the_same_rows(comparison):
    found = json.loads(json.dumps(Evaluation({"loss": 1.5}, [], [], [], (), comparison=comparison).to_json()))
    assert found["comparison"] == comparison
    drawn = Page(draw_metrics(found, "Metrics", {})).text
    assert ("lead_3" in drawn, "43.25" in drawn) == (bool(comparison),) * 2
