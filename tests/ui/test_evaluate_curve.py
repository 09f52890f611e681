"""The learning curve of the tab Evaluate, without a browser."""

from pathlib import Path
from typing import Any

import pytest
from headway.core.errors import HeadwayError
from headway.core.options import options_of
from headway.tasks.learning_curves.options import CurveOptions
from headway.tasks.learning_curves.runs import RUNS
from headway.ui.browser.tabs import evaluate_curve
from headway.ui.model_registry import ModelRegistry
from page_elements import HOSTILE, Page
from reviews import REVIEWS, write_reviews


@pytest.fixture
def models(tiny: Path, monkeypatch: pytest.MonkeyPatch, folder: Path) -> ModelRegistry:
    """A tiny model, and a folder for uploads."""
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(folder / "uploads"))
    return ModelRegistry([tiny], built_in=False, device="cpu")


def form(models: ModelRegistry, file: Path | None, **changed: Any) -> list[Any]:
    """The values of the form with the defaults, a quick method and the changed ones."""
    (entry,) = models.entries()
    own = {"methods": "frozen", "sizes": "8, 16", "seeds": 1, "model": entry.name, "prompt_model": None}
    known = [one.name for one in options_of(CurveOptions)]
    values = {**vars(CurveOptions()), "verbalize": "", **own, **changed}
    return [file and str(file), [], None, *(values[name] for name in known)]


def stored(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob(f"uploads/headway-curves/*/{RUNS}/*.json"))


def test_a_curve_is_measured_drawn_and_continued(models, folder):
    data = write_reviews(folder / "reviews.csv")
    *progress, (shown, _, download) = evaluate_curve.measure(models, *form(models, data))
    assert all("runs are finished" in one for one, *_ in progress)
    (frame,) = Page(shown).named("iframe")
    page = Page(frame["srcdoc"] or "")
    for text in ("Power law", "reviews.csv: 64 rows", "Use frozen"):
        assert text in page.text
    assert str(folder) not in (frame["srcdoc"] or "")
    assert "--" not in page.text.partition("Advice")[2]
    assert Path(download.value["path"]).name == "curve.html"
    assert stored(folder) == ["frozen-16-1.json", "frozen-8-1.json"]
    before = {path: path.stat().st_mtime_ns for path in folder.glob(f"uploads/headway-curves/*/{RUNS}/*.json")}
    list(evaluate_curve.measure(models, *form(models, data, seeds=2)))
    assert len(stored(folder)) == 4
    assert all(path.stat().st_mtime_ns == changed for path, changed in before.items())
    list(evaluate_curve.measure(models, *form(models, data, test_rows=9)))
    assert len(stored(folder)) == 6  # another curve


def test_a_cancelled_curve_keeps_its_runs(models, folder):
    data = write_reviews(folder / "reviews.csv")
    running = evaluate_curve.measure(models, *form(models, data, sizes="8, 9, 10, 11, 12, 13, 14", seeds=100))
    for _ in running:
        if stored(folder):
            break
    running.close()
    assert stored(folder)


def test_hostile_labels_and_names_stay_text(models, folder):
    data = folder / "<b>reviews.csv"
    rows = (f'{text},"{HOSTILE.replace(chr(34), "")} {label}"\n' for text, label in REVIEWS)
    data.write_text("text,label\n" + "".join(rows), encoding="utf-8")
    *_, (shown, *_) = evaluate_curve.measure(models, *form(models, data))
    assert {name for name, _ in Page(shown).elements} == {"iframe"}
    (frame,) = Page(shown).named("iframe")
    assert not {"script", "img"} & {name for name, _ in Page(frame["srcdoc"] or "").elements}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"sizes": "500"}, "“Sizes” 500: there are 48 rows to draw from"),
        ({"methods": "svm"}, "“Methods” svm: one or several of"),
        ({"minutes": "x"}, "Minutes: x is not a number"),
        ({"model": "other"}, "no model 'other'"),
    ],
)
def test_what_cannot_be_measured_is_explained(models, folder, changed, message):
    data = write_reviews(folder / "reviews.csv")
    with pytest.raises(HeadwayError, match=message) as raised:
        list(evaluate_curve.measure(models, *form(models, data, **changed)))
    assert str(folder) not in str(raised.value)
    assert "--" not in str(raised.value)
    with pytest.raises(HeadwayError, match="Upload a file"):
        list(evaluate_curve.measure(models, *form(models, None)))
