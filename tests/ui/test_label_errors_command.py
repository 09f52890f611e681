"""headway label-errors."""

import csv
import json
from pathlib import Path

from reviews import REVIEWS


def write(path: Path) -> None:
    rows = [(f"{text} {i}", label) for i in range(6) for text, label in REVIEWS]
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *rows])


def test_suspects_are_listed_and_written(headway, tiny, folder):
    write(Path("train.csv"))
    ran = headway("label-errors", "--data", "train.csv", "--model", tiny, "--output", "suspects.csv", "--json")
    assert ran.code == 0, ran.err
    found = json.loads(ran.out)
    assert found["checked"] == 6 * len(REVIEWS)
    assert "labels are suspect" in ran.err
    with (folder / "suspects.csv").open(newline="") as file:
        header, *rows = csv.reader(file)  # the header also if no label is suspect
    columns = ["place", "where", "text", "item", "word", "given", "likely", "given_probability", "likely_probability"]
    assert header == [*columns, "suspicion", "nearest_1", "nearest_2", "nearest_3"]
    assert [int(row[0]) for row in rows] == [one["place"] for one in found["suspects"]]


def test_a_list_of_a_model_that_predicts_no_label_is_distrusted(headway, tiny):
    lines = [f"the same words {i},{'abc'[i * i % 7 % 3]}" for i in range(60)]
    Path("train.csv").write_text("text,label\n" + "\n".join([*lines, "a single one,d"]) + "\n")
    ran = headway("label-errors", "--data", "train.csv", "--model", tiny, "--output", "suspects.csv")
    assert ran.code == 0
    assert "distrust the list" in ran.out
    assert "not checked: 1 row with labels" in ran.out
    with Path("suspects.csv").open(newline="") as file:
        first, *_ = csv.DictReader(file)
    assert first["nearest_1"]


def test_what_cannot_be_written_is_refused_before_the_search(headway, folder):
    write(Path("train.csv"))
    ran = headway("label-errors", "--data", "train.csv", "--output", "suspects.conll")
    assert (ran.code, ran.out) == (2, "")
    assert ".csv, .tsv, .xlsx or .jsonl" in ran.err
    Path("there.csv").write_text("mine")
    ran = headway("label-errors", "--data", "train.csv", "--output", "there.csv")
    assert ran.code == 2
    assert "--overwrite" in ran.err
    assert (folder / "there.csv").read_text() == "mine"


def test_accepted_suspects_are_corrected_in_a_copy(headway, tiny, folder):
    write(Path("train.csv"))
    before = Path("train.csv").read_bytes()
    lines = before.decode().splitlines()
    text, _, given = lines[1].rpartition(",")
    likely = next(label for _, label in REVIEWS if label != given)
    Path("suspects.csv").write_text(f"place,item,given,likely\n2,,{given},{likely}\n")
    ran = headway("label-errors", "--data", "train.csv", "--apply", "suspects.csv", "--output", "new.csv", "--json")
    assert ran.code == 0, ran.err
    assert json.loads(ran.out)["changed"] == 1
    assert Path("new.csv").read_bytes() == before.replace(lines[1].encode(), f"{text},{likely}".encode(), 1)
    assert Path("train.csv").read_bytes() == before
    for wrong in ([], ["--output", "other.csv", "--folds", "3"], ["--output", "train.csv", "--overwrite"]):
        ran = headway("label-errors", "--data", "train.csv", "--apply", "suspects.csv", *wrong)
        assert ran.code == 2
        assert "--output" in ran.err
    assert Path("train.csv").read_bytes() == before


def test_repeats_need_folds(headway, folder):
    write(Path("train.csv"))
    ran = headway("label-errors", "--data", "train.csv", "--repeats", "2")
    assert ran.code == 2
    assert "--folds" in ran.err
