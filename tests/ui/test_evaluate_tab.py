"""The tab Evaluate without a browser: metrics, reports, comparisons, and uploads that cannot be used."""

import csv
import json
import multiprocessing
import shutil
from pathlib import Path
from typing import Any

import pytest
from headway.core.errors import HeadwayError
from headway.ui.browser.tabs.evaluate_compare import compare
from headway.ui.browser.tabs.evaluate_data import read_columns
from headway.ui.browser.tabs.evaluate_labels import find, write_copy
from headway.ui.browser.tabs.evaluate_report import evaluate, make_report
from headway.ui.model_registry import ModelRegistry
from page_elements import HOSTILE, Page
from reviews import REVIEWS, WRONG, write_reviews, write_wrong_reviews

NO_RULES = (False, "", "", "lac")


@pytest.fixture
def pair(registry: ModelRegistry, folder: Path, trained_once: Path) -> ModelRegistry:
    """Two models with the same weights."""
    shutil.copytree(trained_once, folder / "twin")
    return ModelRegistry([registry.find("model").folder, folder / "twin"], built_in=False)


def last(steps: Any) -> Any:
    return list(steps)[-1]


def hostile_reviews(folder: Path) -> Path:
    """Reviews with a hostile text that has the wrong label, and a column that divides them."""
    path = folder / "<b>reviews.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = [[text, label, HOSTILE if i % 2 else "other"] for i, (text, label) in enumerate(REVIEWS)]
        csv.writer(file).writerows([["text", "label", "part"], *rows, [f"what a lovely {HOSTILE} film", "bad", "x"]])
    return path


def test_the_metrics_on_a_file_are_those_of_evaluate(registry, folder):
    data = write_reviews(folder / "reviews.csv")
    with data.open("a", encoding="utf-8") as file:
        file.write("what a lovely walk,bad\n")
    page = Page(last(evaluate(registry, "model", str(data), [], [], *NO_RULES))[0])
    accuracy = registry.task_model("model").evaluate(data).metrics["accuracy"]
    assert f"{accuracy:.3f}" in page.text
    assert "65 examples of reviews.csv" in page.text
    assert "Confusion matrix" in page.text
    assert "reviews.csv, line 66" in page.text
    assert str(folder) not in page.text
    with pytest.raises(HeadwayError, match="upload a file"):
        next(evaluate(registry, "model", None, [], [], *NO_RULES))


def test_a_report_has_the_slices_and_shows_hostile_texts_as_texts(registry, folder):
    data = hostile_reviews(folder)
    shown, download = last(make_report(registry, "model", str(data), ["label"], ["part"], *NO_RULES))
    (frame,) = Page(shown).named("iframe")
    text = Path(download.value["path"]).read_text(encoding="utf-8")
    assert (frame["srcdoc"] or "").replace('<base href="about:srcdoc">', "") == text
    page = Page(text)
    assert {"script", "img", "b"} & {name for name, _ in page.elements} <= {"b"}
    assert "column part" in page.text
    assert "<script>alert(1)</script>" in page.text
    assert str(folder) not in text
    assert download.visible


def test_decision_rules_are_measured_beside_a_report(registry, folder):
    data = write_reviews(folder / "reviews.csv")
    shown, _ = last(make_report(registry, "model", str(data), [], [], False, "0.5", "", "lac"))
    assert "of the rows are answered" in shown.partition("<iframe")[0]


def test_a_comparison_has_the_differences_and_the_differing_rows(pair, folder):
    data = hostile_reviews(folder)
    shown, download = last(compare(pair, ["model", "twin"], str(data), [], ["part"]))
    page = Page(shown)
    assert "No difference between twin and model is shown" in page.text
    assert "95 % interval" in page.text
    assert "The models predict all rows alike" in page.text
    assert not download.visible
    assert str(folder) not in page.text


def test_the_rows_on_which_models_differ_are_shown_and_written(pair, folder):
    data = hostile_reviews(folder)
    twin = pair.task_model("twin")
    head = next(one for one in twin.network.parameters() if one.shape[0] == 2)
    head.data.neg_()
    shown, download = last(compare(pair, ["model", "twin"], str(data), [], []))
    page = Page(shown)
    assert "rows on which the models differ" in page.text
    assert "<script>alert(1)</script>" in page.text
    assert not {"script", "img"} & {name for name, _ in page.elements}
    with Path(download.value["path"]).open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {"place", "gold", "predicted by model", "predicted by twin"} <= rows[0].keys()
    assert all(row["place"].startswith("<b>reviews.csv, line") for row in rows)


def test_a_comparison_needs_two_models_and_a_file(pair, folder):
    data = str(write_reviews(folder / "reviews.csv"))
    for names, file in ((["model"], data), (["model", "model"], data), ([], data), (["model", "twin"], None)):
        with pytest.raises(HeadwayError, match="at least two models, and upload"):
            next(compare(pair, names, file, [], []))
    with pytest.raises(HeadwayError, match="no model 'other'"):
        next(compare(pair, ["model", "other"], data, [], []))


UPLOADS = {
    "empty.csv": b"",
    "header.csv": b"text,label\n",
    "nul.csv": b"text,label\nfine,\0\n",
    "ragged.csv": b'text,label\n"a, b\nc,d\n',
    "unlabelled.csv": b"text\na good film\na bad film\n",
    "picture.xlsx": b"\x89PNG\r\n\x1a\n" + bytes(99),
    "half.jsonl": b'{"text": "a", "label": "good"}\n{"text": ',
    "page.json": b"<html></html>",
    "numbers.parquet": b"PAR1" + bytes(20),
}


@pytest.mark.parametrize("name", UPLOADS)
def test_an_upload_that_cannot_be_used_is_explained_without_its_folder(pair, folder, name):
    data = folder / name
    data.write_bytes(UPLOADS[name])
    for steps in (
        evaluate(pair, "model", str(data), [], [], *NO_RULES),
        make_report(pair, "model", str(data), [], [], *NO_RULES),
        compare(pair, ["model", "twin"], str(data), [], []),
        find(pair, "model", "", "", str(data), []),
    ):
        with pytest.raises(HeadwayError) as raised:
            list(steps)
        assert name in str(raised.value)
        assert str(folder) not in str(raised.value)
        assert "--" not in str(raised.value)


def test_columns_of_the_form_that_the_file_lacks_are_explained(pair, folder):
    data = str(write_reviews(folder / "reviews.csv"))
    for steps in (
        evaluate(pair, "model", data, ["stars"], [], *NO_RULES),
        make_report(pair, "model", data, [], ["stars"], *NO_RULES),
        compare(pair, ["model", "twin"], data, ["stars"], []),
        compare(pair, ["model", "twin"], data, [], ["stars"]),
        find(pair, "model", "", "", data, ["stars"]),
    ):
        with pytest.raises(HeadwayError, match="stars") as raised:
            list(steps)
        assert "--" not in str(raised.value)


def test_the_columns_of_an_upload_are_offered(folder):
    about, labels, slices = last(read_columns(str(hostile_reviews(folder))))
    assert "part" in Page(about).text
    assert labels["choices"] == slices["choices"] == ["text", "label", "part"]
    about, labels, _ = last(read_columns(None))
    assert ("Upload a file" in about, labels["choices"]) == (True, [])


def test_accepted_label_errors_are_corrected_in_a_copy_and_all_else_stays(folder):
    data = write_wrong_reviews(folder / "<b>reviews.csv")
    *_, (shown, search, controls, *_) = find(ModelRegistry(), "mini-bert", "", "", str(data), [])
    page = Page(shown)
    suspects = search.found.suspects
    assert {one.place for one in suspects} == {*WRONG, 22}
    assert "4 of 64 labels are suspect" in page.text
    assert "<script>alert(1)</script>" in page.text
    assert not {"script", "img"} & {name for name, _ in page.elements}
    assert "Nearest rows" in page.text
    assert str(folder) not in page.text
    assert controls["visible"]
    accepted = [number for number, one in enumerate(suspects) if one.place in WRONG]
    download, said = write_copy(json.dumps(accepted), search)
    copy = Path(download.value["path"])
    assert copy.name == "<b>reviews-corrected.csv"
    assert "3 rows have another label" in said
    assert "<b>" not in said
    before, after = data.read_text().splitlines(), copy.read_text().splitlines()
    assert [line for line, text in enumerate(before, 1) if text != after[line - 1]] == list(WRONG)
    assert all(text.rpartition(",")[0] == before[line].rpartition(",")[0] for line, text in enumerate(after))


def test_a_corrected_copy_needs_a_search_an_accepted_label_and_its_file(registry, folder):
    data = hostile_reviews(folder)
    with pytest.raises(HeadwayError, match="Search for label errors first"):
        write_copy("[0]", None)
    search = last(find(registry, "model", "text-classification", "", str(data), ["label"]))[1]
    with pytest.raises(HeadwayError, match="Accept at least one"):
        write_copy("[]", search)
    data.unlink()
    with pytest.raises(HeadwayError, match="deleted from the server"):
        write_copy("[0]", search)
    for given, message in (
        (("model", "", "x", str(folder / "a.csv"), []), "Folds: x is not a whole number"),
        (("model", "", "", None, []), "Choose a model"),
        ((None, "", "", "a", []), "Choose a model"),
        (("other", "", "", __file__, []), "no model 'other'"),
    ):
        with pytest.raises(HeadwayError, match=message):
            next(find(registry, *given))


def test_a_closed_search_ends_its_process(registry, folder):
    data = str(write_reviews(folder / "reviews.csv"))
    steps = find(registry, "model", "", "2", data, [])
    shown, search, controls, cancel, *_ = next(steps)
    assert ("Searching" in shown, search, controls["visible"], cancel["visible"]) == (True, None, False, True)
    (process,) = multiprocessing.active_children()
    steps.close()
    assert not process.is_alive()
