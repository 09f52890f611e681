"""The findings of a data check, with their locations."""

import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from headway.core.errors import HeadwayError
from headway.core.tokenizers.tokenizer import Tokenizer
from headway.tasks import SentenceSimilarity, TextClassification, TokenClassification
from headway.tasks.base.check import check_data
from headway.tasks.classification.predictions import TextExample
from headway.tasks.data.features import group_windows
from headway.tasks.data.findings import Finding
from headway.tasks.data.label_findings import _similar_labels
from headway.tasks.data.report import DataReport, check_examples
from headway.tasks.data.token_counts import TokenCounts

FINE = [("my parcel has arrived", "post"), ("where is the money", "bank"), ("the money is here", "bank")] * 5
FINE = [(f"{text} {i}", label) for i, (text, label) in enumerate(FINE)]


def examples(rows: list[tuple[str, Any]], source: str = "train.tsv") -> list[TextExample]:
    return [TextExample(i, f"{source}, line {i + 1}", text, None, label) for i, (text, label) in enumerate(rows)]


def found(report: DataReport, kind: str) -> Finding | None:
    of_kind = [finding for finding in report.findings if finding.kind == kind]
    assert len(of_kind) <= 1
    return of_kind[0] if of_kind else None


def look(rows: list[tuple[str, Any]], held_out: list[tuple[str, Any]] | None = None) -> DataReport:
    return check_examples(examples(rows), examples(held_out or [], "dev.tsv"))


def test_clean_data_has_counts_and_no_findings():
    report = look(FINE, [("something else", "post"), ("another thing", "bank")])
    assert report.findings == ()
    assert report.label_counts == {"bank": 10, "post": 5}
    assert (report.examples, report.eval_examples) == (15, 2)


def test_lengths_are_summarized_by_percentiles():
    report = look([("x" * length, "ab"[length % 2]) for length in range(1, 101)])
    assert report.lengths is not None
    lengths = report.lengths
    assert (lengths.unit, lengths.shortest, lengths.median, lengths.p90, lengths.p99, lengths.longest) == (
        "characters", 1, 50, 90, 99, 100,
    )  # fmt: skip


def test_a_repeated_text_is_a_duplicate_or_a_conflict_of_labels():
    report = look([*FINE, ("my parcel  has arrived 0 ", "post"), ("where is the money 1", "post")])
    repeat, conflict = found(report, "duplicate"), found(report, "conflict")
    assert repeat is not None
    assert conflict is not None
    assert (repeat.level, repeat.places) == ("note", ("train.tsv, line 16",))
    assert (conflict.level, conflict.places) == ("warning", ("train.tsv, line 2", "train.tsv, line 17"))
    assert "'bank'" in conflict.message
    assert "'post'" in conflict.message
    assert "train.tsv, lines 2 and 17" in conflict.message


def test_a_text_in_training_and_evaluation_data_is_a_leak():
    leak = found(look(FINE, [("the money is here 2", "bank"), ("new", "post"), ("new too", "bank")]), "leak")
    assert leak is not None
    assert (leak.level, leak.places) == ("warning", ("dev.tsv, line 1",))
    assert "1 of 3 evaluation texts is also in the training data" in leak.message


def test_rare_unbalanced_and_missing_labels_are_found():
    rows = [(f"text {i}", "often") for i in range(40)] + [("rarely seen", "rare")]
    report = look(rows, [("one", "often"), ("two", "new")])
    assert report.label_counts == {"often": 40, "rare": 1}
    for kind, level, part in [
        ("rare", "warning", "'rare' (1)"),
        ("imbalance", "note", "--class-weight balanced"),
        ("unmeasured", "note", "'rare'"),
        ("untrained", "warning", "'new'"),
    ]:
        finding = found(report, kind)
        assert finding is not None, kind
        assert finding.level == level
        assert part in finding.message
    assert found(report, "untrained").places == ("dev.tsv, line 2",)  # pyright: ignore[reportOptionalMemberAccess]


def test_the_label_minus_one_among_class_ids_is_a_warning():
    report = look(
        [(f"text {i}", str(i % 3 - 1)) for i in range(30)], [("new", "-1"), ("new too", "0"), ("newer", "1")]
    )
    finding = found(report, "minus one")
    assert finding is not None
    assert finding.level == "warning"
    assert "11 rows have the label -1" in finding.message
    assert finding.places[-1] == "dev.tsv, line 1"
    for labels in (("-1", "1"), ("-1", "0", "bank"), ("0", "1")):
        assert found(look([(f"text {i}", labels[i % len(labels)]) for i in range(30)]), "minus one") is None


def test_the_order_of_several_labels_does_not_matter():
    report = look([("a text", ("price", "quality")), ("a text", ("quality", "price")), ("b text", ("price",))])
    assert found(report, "conflict") is None
    repeat = found(report, "duplicate")
    assert repeat is not None
    assert repeat.places == ("train.tsv, line 2",)


def test_a_row_without_a_label_is_a_note_if_labels_are_multiple():
    finding = found(look([(f"text {i}", ("a",) if i else ()) for i in range(8)]), "unlabelled")
    assert finding is not None
    assert finding.places == ("train.tsv, line 1",)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Refund", "refund"),
        ("order status", "order_status"),
        ("refund", "refunds"),
        ("recieve", "receive"),
        ("delivery", "delivary"),
        ("Café", " café"),
    ],
)
def test_nearly_identical_labels_are_found(one: str, other: str):
    rows = [(f"text {i}", (one, other, "something")[i % 3]) for i in range(30)]
    finding = found(look(rows), "similar")
    assert finding is not None
    assert repr(one) in finding.message
    assert repr(other) in finding.message


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("1", "2"), ("-1", "1"), ("1 star", "2 stars"), ("LABEL_1", "LABEL_2"), ("cat", "car"), ("agree", "disagree"),
        ("certain", "uncertain"), ("approval", "disapproval"), ("C", "C#"), ("10", "1.0"), ("+", "-"),
    ],
)  # fmt: skip
def test_labels_that_differ_in_meaning_are_not_similar(one: str, other: str):
    assert found(look([(f"text {i}", (one, other)[i % 2]) for i in range(20)]), "similar") is None


@pytest.mark.parametrize("number", [3000, 60_000])
def test_thousands_of_labels_are_compared_quickly(number):
    counts = Counter(f"topic number {'abcdefghij'[i % 10]} {i:05}" for i in range(number))
    start = time.process_time()
    assert list(_similar_labels([], counts)) == []
    assert time.process_time() - start < 3  # comparing all pairs takes several times as long


def test_labels_that_differ_in_case_and_spaces_are_shown_with_the_option_that_merges_them():
    rows = [(f"text {i}", ("Billing", "billing ", "BILLING", "Praise")[i % 4]) for i in range(30)]
    finding = found(look(rows), "similar")
    assert finding is not None
    assert "with --merge-labels 'billing ' (8) and 'BILLING' (7) become 'Billing' (8)" in finding.message


def test_short_texts_are_found():
    finding = found(look([*FINE, ("ok", "post"), (" ? ", "bank")]), "short")
    assert finding is not None
    assert (finding.level, len(finding.places)) == ("note", 2)


@pytest.mark.parametrize("long_texts", ["windows", "cut"])
def test_long_texts_are_divided_or_truncated(wordpiece_folder: Path, long_texts: str):
    tokenizer = Tokenizer.load(wordpiece_folder)
    task = TextClassification(
        labels=("bank", "post"), problem_type="single_label_classification", long_texts=long_texts
    )
    train = examples([*FINE, ("the money " * 30, "bank"), ("my parcel " * 20, "post")])
    windows_by_example = group_windows(task.encode(train, tokenizer, 16))
    report = check_examples(train, [], TokenCounts.of(windows_by_example, 16, tokenizer.unk_id))
    windowed, cut = found(report, "long"), found(report, "cut")
    assert report.lengths is not None
    assert report.lengths.unit == "tokens"
    assert report.lengths.longest == 62
    if long_texts == "windows":
        assert cut is None
        assert windowed is not None
        windows = len(windows_by_example[-1]) + len(windows_by_example[-2])
        assert (
            f"2 of 17 texts are longer than 16 tokens and are read in {windows} overlapping windows"
            in windowed.message
        )
        assert (windowed.level, windowed.places) == ("note", ("train.tsv, line 16", "train.tsv, line 17"))
    else:
        assert windowed is None
        assert cut is not None
        lost = 62 - 16 + 42 - 16
        share = lost / sum(windows[0].length for windows in windows_by_example)
        assert (
            f"2 of 17 texts are truncated to 16 tokens (--long-texts cut): {lost} tokens ({share:.1%} of all)"
            in cut.message
        )
        assert (cut.level, cut.places) == ("warning", ("train.tsv, line 16", "train.tsv, line 17"))


def test_a_vocabulary_of_another_language_is_found(wordpiece_folder: Path):
    tokenizer = Tokenizer.load(wordpiece_folder)
    task = TextClassification(labels=("a", "b"), problem_type="single_label_classification")
    train = examples([(f"이것은 한국어 문장입니다 {i}", "ab"[i % 2]) for i in range(10)])
    finding = found(
        check_examples(
            train, [], TokenCounts.of(group_windows(task.encode(train, tokenizer, 32)), 32, tokenizer.unk_id)
        ),
        "unknown",
    )
    assert finding is not None
    assert "unknown to the model's vocabulary" in finding.message


def test_a_report_is_plain_json():
    report = look([*FINE, ("ok", "post")], FINE)
    plain = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert plain["label_counts"] == {"bank": 10, "post": 6}
    assert plain["lengths"]["unit"] == "characters"
    assert {"kind", "level", "message", "places"} == plain["findings"][0].keys()
    levels = [finding["level"] for finding in plain["findings"]]
    assert levels == sorted(levels, key=("error", "warning", "note").index)


# From files


def write(folder: Path, name: str, content: str) -> Path:
    path = folder / name
    path.write_text(content, encoding="utf-8")
    return path


BAD = """text,label
my parcel has arrived,post
,post
where is the money,bank
   ,bank
the money is here,
my parcel is here,post
,bank
"""


def test_every_unusable_row_is_listed(tmp_path: Path):
    report = check_data(TextClassification(), write(tmp_path, "train.csv", BAD), strict=True)
    errors = {finding.message: finding.places for finding in report.errors}
    places = [tuple(place.removeprefix(f"{tmp_path}/") for place in one) for one in errors.values()]
    assert sorted(places) == [
        ("train.csv, line 3", "train.csv, line 5", "train.csv, line 8"),
        ("train.csv, line 6",),
    ]
    assert report.examples == 3
    assert report.label_counts == {"post": 2, "bank": 1}
    assert any("label" in note for note in report.notes)


def test_the_check_has_errors_exactly_where_training_fails(bert_folder: Path, tmp_path: Path):
    invalid = {"one class", "all unlabelled"}
    files = {
        "fine": "text,label\na text,x\nb text,y\n",
        "one class": "text,label\na text,x\nb text,x\n",
        "unlabelled": "text,label\na text,x\nb text,y\nc text,\n",
        "all unlabelled": "text,label\na text,\nb text,\n",
        "a number missing": "text,label\na text,1.5\nb text,2.5\nc text,nan\n",
    }
    for name, content in files.items():
        path = write(tmp_path, f"{name}.csv", content)
        errors = check_data(TextClassification(), path, columns={"text": "text", "label": "label"}).errors
        assert bool(errors) == (name in invalid), name
        training = (
            TextClassification().on(bert_folder).train(path, output=tmp_path / "out", columns={"label": "label"})
        )
        if errors:
            with pytest.raises(HeadwayError) as caught:
                next(iter(training))
            assert any(finding.message.split(": ", 1)[1] in str(caught.value) for finding in errors), name
        else:
            next(iter(training))


def test_evaluation_data_is_checked_too(tmp_path: Path):
    train = write(tmp_path, "train.csv", "text,label\na text,x\nb text,y\n")
    dev = write(tmp_path, "dev.csv", "text,label\na text,x\nc text,z\n,y\n")
    report = check_data(TextClassification(), train, dev, strict=True)
    assert found(report, "leak") is not None
    assert {place for finding in report.errors for place in finding.places} == {f"{dev}, line 3", f"{dev}, line 4"}


def test_evaluation_data_is_read_from_the_columns_of_the_training_data(tmp_path: Path):
    lines = [f"a text of some words {i},another text {i},{'xy'[i % 2]}" for i in range(12)]
    train = write(tmp_path, "train.csv", "\n".join(["text,remark,kind", *lines]) + "\n")
    dev = write(tmp_path, "dev.csv", "text,remark,kind\nc text,x,x\nd text,y,y\n")
    report = check_data(TextClassification(), train, dev)
    assert (report.errors, report.eval_examples) == ((), 2)


def test_the_length_of_an_example_includes_all_its_texts(bert_folder: Path):
    texts = ("the cat sat on the mat " * 20, "the dog")
    rows = [{"anchor": texts[0], "positive": texts[1]}, {"anchor": "my parcel", "positive": "the cat"}]
    report = check_data(SentenceSimilarity(), rows, model=bert_folder)
    tokenizer = Tokenizer.load(bert_folder)
    assert report.lengths is not None
    assert report.lengths.longest == sum(len(tokenizer.encode(text).ids) + 2 for text in texts)


def test_lengths_are_in_tokens_of_the_given_model(gpt2_folder: Path, tmp_path: Path):
    path = write(tmp_path, "train.csv", "text,label\n" + "the cat sat on the mat,x\nthe dog,y\n" * 3)
    report = check_data(TextClassification(), path, model=gpt2_folder)
    tokenizer = Tokenizer.load(gpt2_folder)
    assert report.lengths is not None
    assert report.lengths.unit == "tokens"
    assert report.lengths.longest == len(tokenizer.encode("the cat sat on the mat").ids)
    with pytest.raises(HeadwayError, match="at most 48"):
        check_data(TextClassification(max_length=64), path, model=gpt2_folder)


def test_a_malformed_table_is_an_error(tmp_path: Path):
    with pytest.raises(HeadwayError, match="line 3"):
        check_data(TextClassification(), write(tmp_path, "train.csv", "text,label\na,x\nb,y,z\n"))


def test_the_report_has_the_first_examples(tmp_path: Path):
    report = check_data(TextClassification(), write(tmp_path, "train.csv", "text,label\na text,x\nb text,y\n"))
    assert [one.texts for one in report.first] == [("a text",), ("b text",)]
    assert report.to_json()["first"][0]["label"] == "x"


def test_errors_that_differ_in_numbers_and_quoted_values_are_one():
    rows = [
        {"tokens": ["a"] * words, "ner_tags": ["O"] * tags} for words, tags in ((3, 2), (5, 4), (4, 4), (7, 1), (2, 2))
    ]
    report = check_data(TokenClassification(), rows)
    (found,) = report.errors
    assert len(found.places) == 3
    assert "there are 3 words but 2 tags" in found.message
    assert "(2 similar errors)" in found.message
