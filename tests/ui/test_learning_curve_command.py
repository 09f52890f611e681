"""headway learning-curve."""

import json
from pathlib import Path
from xml.etree import ElementTree

from page_elements import HOSTILE, Page
from reviews import REVIEWS, write_reviews

FILES = ["curve-dark.png", "curve.html", "curve.json", "curve.png", "curve.svg", "plan.json", "runs"]
QUICK = ["--methods", "frozen", "--sizes", "8,16,32", "--seeds", "2", "--device", "cpu"]


def test_the_folder_has_the_numbers_the_page_and_the_pictures(headway, tiny, folder):
    data = write_reviews(Path("reviews.csv"))
    ran = headway("learning-curve", "--data", data, "--model", tiny, *QUICK, "--output", "curve", "--json")
    assert ran.code == 0, ran.err
    found = json.loads(ran.out)
    stored = json.loads((folder / "curve/curve.json").read_text())
    assert {**stored, "output": "curve"} == found
    assert [point["size"] for point in found["points"]["frozen"]] == [8, 16, 32]
    assert sorted(path.name for path in (folder / "curve").iterdir()) == FILES
    assert len(list((folder / "curve/runs").iterdir())) == 6
    page = Page((folder / "curve/curve.html").read_text(encoding="utf-8"))
    for shown in (found["advice"], "Power law", "reviews.csv", *found["notes"]):
        assert shown in page.text
        assert shown in ran.err.replace("\n", " ") or shown == "reviews.csv"
    assert (
        page.text.index("Score by labelled rows") < page.text.index("Power law") < page.text.index("minutes per run")
    )
    assert " 1 of 6  frozen, 8 rows, draw 1: accuracy" in ran.err
    root = ElementTree.parse(folder / "curve/curve.svg").getroot()
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert "prefers-color-scheme: dark" in (folder / "curve/curve.svg").read_text()
    light, dark = ((folder / "curve" / name).read_bytes() for name in ("curve.png", "curve-dark.png"))
    assert light[:8] == dark[:8] == b"\x89PNG\r\n\x1a\n"
    assert light != dark


def test_a_curve_is_resumed_with_more_seeds_and_not_replaced_by_accident(headway, tiny, folder):
    data = write_reviews(Path("reviews.csv"))
    command = ["learning-curve", "--data", data, "--model", tiny, "--methods", "frozen", "--sizes", "8"]
    assert headway(*command, "--seeds", "2").code == 0
    ran = headway(*command)
    assert ran.code == 2
    assert "--resume to continue it" in ran.err
    ran = headway(*command, "--seeds", "3", "--resume", "--json")
    assert ran.code == 0, ran.err
    assert ran.err.count("(stored before)") == 2
    assert len(json.loads(ran.out)["runs"]) == 3
    ran = headway(*command, "--resume", "--test-rows", "9")
    assert ran.code == 2
    assert "(test_data, test_rows)" in ran.err
    assert len(list((folder / "learning-curve/runs").iterdir())) == 3


def test_zero_shot_alone_has_a_page_and_a_picture_without_sizes(headway, folder):
    data = write_reviews(Path("reviews.csv"))
    ran = headway("learning-curve", "--data", data, "--methods", "zero-shot", "--test-rows", "4", "--device", "cpu")
    assert ran.code == 0, ran.err
    assert sorted(path.name for path in (folder / "learning-curve").iterdir()) == FILES
    assert "zero-shot (0 rows)" in (folder / "learning-curve/curve.svg").read_text(encoding="utf-8")


def test_hostile_labels_stay_text(headway, tiny, folder):
    labels = {"good": HOSTILE, "bad": "_$x^2$ <b>bad</b>"}
    rows = [{"text": text, "label": labels[label]} for text, label in REVIEWS]
    Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    ran = headway("learning-curve", "--data", "rows.jsonl", "--label", "label", "--model", tiny, *QUICK)
    assert ran.code == 0, ran.err
    text = (folder / "learning-curve/curve.html").read_text(encoding="utf-8")
    assert not {"script", "img"} & {name for name, _ in Page(text).elements}
    ElementTree.parse(folder / "learning-curve/curve.svg")


def test_what_cannot_be_used_is_refused_before_anything_is_written(headway, tiny, folder):
    Path("one.csv").write_text("text,label\n" + "".join(f"a film {i},good\n" for i in range(40)))
    ran = headway("learning-curve", "--data", "one.csv", "--model", tiny, *QUICK)
    assert (ran.code, ran.out) == (2, "")
    assert "every row has the label 'good'" in ran.err
    assert sorted(path.name for path in folder.iterdir()) == ["one.csv"]
