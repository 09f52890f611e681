"""headway evaluate --reference: the drift of rows with and without labels."""

import json

import pytest

THINGS = ["film", "book", "meal", "room", "play"]


@pytest.fixture
def unlabelled(folder):
    rows = [f"{i},the waiter brought {thing} after {thing} and nobody came" for i, thing in enumerate(THINGS * 8)]
    (folder / "new.csv").write_text("\n".join(["id,text", *rows]) + "\n")
    return "new.csv"


def test_rows_without_labels_are_compared_with_the_reference(headway, trained, reviews, unlabelled):
    command = ["evaluate", trained, "--data", unlabelled, "--reference", reviews]
    ran = headway(*command)
    assert (ran.code, ran.err) == (0, "")
    assert "Drift of length: median" in ran.out
    assert 'new.csv has no column "label", where the training data has its labels: drift only' in ran.out
    found = json.loads(headway(*command, "--json").out)
    assert list(found) == ["drift"]
    assert found["drift"]["drifted"]


def test_rows_with_labels_are_also_evaluated_and_the_report_shows_the_drift(headway, trained, reviews, folder):
    ran = headway("evaluate", trained, "--data", reviews, "--reference", reviews, "--report", "report.json", "--json")
    found = json.loads(ran.out)
    assert not found["drift"]["drifted"]
    assert found["metrics"]["accuracy"] > 0.5
    parts = json.loads((folder / "report.json").read_text(encoding="utf-8"))["parts"]
    assert [one["title"] for one in parts][-1] == "Drift"
    assert headway("evaluate", trained, "--data", reviews, "--reference", reviews, "--report", "page.html").code == 0
    assert "No drift of length is shown" in (folder / "page.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("option", [["--report", "report.html"], ["--per-label", "labels.csv"], ["--coverage", "0.9"]])
def test_what_needs_labels_is_refused_without_them(headway, trained, reviews, unlabelled, folder, option):
    before = sorted(folder.iterdir())
    ran = headway("evaluate", trained, "--data", unlabelled, "--reference", reviews, *option)
    assert (ran.code, "needs labels" in ran.err) == (2, True)
    assert sorted(folder.iterdir()) == before
