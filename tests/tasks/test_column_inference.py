"""Columns are inferred by name, then by content; the user's choice overrides both; the rest is an error."""

import time

import pytest
from headway.core.errors import HeadwayError
from headway.tasks.data.column_inference import infer_columns
from headway.tasks.data.column_names import LABEL_COLUMNS
from headway.tasks.data.columns import ColumnMapping
from headway.tasks.data.examples import Field
from headway.tasks.data.read import read_table, stream_rows

TEXT = Field(
    "text", "Text", aliases=("text", "sentence", "sentence1", "premise", "text_a", "question1", "review", "title")
)
PAIR = Field("pair", "Second text", aliases=("pair", "sentence2", "hypothesis", "text_b", "question2"), required=False)
CLASSIFY = (TEXT, PAIR)
TAGGING = (Field("tokens", "Words"),)
ANSWERING = (Field("question", "Question"), Field("context", "Context"))


def text(number):
    """A sentence that no other row has."""
    return f"the {('quick', 'slow', 'old')[number % 3]} fox number {number} ran over {number * 7} hills"


def rows(count=20, **columns):
    return [{name: make(number) for name, make in columns.items()} for number in range(count)]


def headerless(tmp_path, given, name="a.csv"):
    path = tmp_path / name
    lines = ("\t".join(str(cell) for cell in row.values()) for row in given)
    path.write_text("\n".join(lines), encoding="utf-8")
    table = read_table(path, header=False)
    assert table.columns == tuple(str(number) for number in range(len(given[0])))
    return table


def infer(given, fields=CLASSIFY, **options):
    return infer_columns(given if hasattr(given, "columns") else read_table(given), fields, **options)


def assert_error(given, *parts, **options):
    with pytest.raises(HeadwayError) as caught:
        infer(given, **options)
    shown = str(caught.value)
    for part in parts:
        assert part in shown
    assert "\n" not in shown
    return shown


# By name


@pytest.mark.parametrize(
    ("columns", "texts", "label"),
    [
        (("text", "label"), {"text": "text"}, "label"),
        (("Label", "TEXT"), {"text": "TEXT"}, "Label"),
        (("Sentence 1", "sentence_2", "Gold Label"), {"text": "Sentence 1", "pair": "sentence_2"}, "Gold Label"),
        (("premise", "hypothesis", "label"), {"text": "premise", "pair": "hypothesis"}, "label"),
        (("label", "text_a"), {"text": "text_a"}, "label"),
        (("title", "text", "labels", "id"), {"text": "text"}, "labels"),
        (("review", "stars", "sentiment"), {"text": "review"}, "sentiment"),
        (("text", "label", "label_text"), {"text": "text"}, "label"),
    ],
)
def test_usual_names_identify_columns(columns, texts, label):
    found = infer([dict.fromkeys(columns, "x")])
    assert found.texts == texts
    assert found.label == label
    assert found.notes[0] == f'text: column "{texts["text"]}" (by name)'
    assert found.notes[-1] == f'label: column "{label}" (by name)'


def test_the_fields_and_label_aliases_of_a_task_identify_its_columns():
    found = infer([{"tokens": ["a"], "ner_tags": ["O"]}], TAGGING, label_aliases=("ner_tags", "tags"))
    assert found == ColumnMapping({"tokens": "tokens"}, "ner_tags", found.notes)
    squad = [{"id": "1", "title": "t", "context": "c", "question": "q", "answers": {"text": []}}]
    found = infer(squad, ANSWERING, label_aliases=("answers",))
    assert found.texts == {"question": "question", "context": "context"}
    assert found.label == "answers"


def test_columns_named_by_the_format_are_identified_by_name(tmp_path):
    (tmp_path / "a.conll").write_text("Ada B-PER\nruns O\n")
    found = infer(read_table(tmp_path / "a.conll"), TAGGING, label_aliases=("ner_tags",))
    assert (found.texts, found.label) == ({"tokens": "tokens"}, "ner_tags")
    (tmp_path / "a.txt").write_text("NUM:date When was it ?\nHUM:ind Who was it ?\n")
    found = infer(read_table(tmp_path / "a.txt"))
    assert (found.texts, found.label) == ({"text": "text"}, "label")


def test_texts_and_notes_are_in_the_order_of_the_fields():
    found = infer([{"label": 1, "sentence2": "b", "sentence1": "a"}])
    assert list(found.texts) == ["text", "pair"]
    assert [note.split(":")[0] for note in found.notes] == ["text", "pair", "label"]


# By content


@pytest.mark.parametrize("order", [("body", "kind", "key"), ("key", "kind", "body")])
def test_content_identifies_texts_and_labels(order):
    columns = {"body": text, "kind": lambda n: "ab"[n % 2], "key": lambda n: f"x{n:05d}"}
    found = infer(rows(**{name: columns[name] for name in order}))
    assert (found.texts, found.label) == ({"text": "body"}, "kind")
    assert found.notes == (
        'text: column "body" (the only column of texts)',
        'label: column "kind" (2 different values)',
    )


def test_content_identifies_columns_without_a_header(tmp_path):
    found = infer(headerless(tmp_path, rows(a=lambda n: n % 3, b=text, c=lambda n: f"id{n}")))
    assert (found.texts, found.label) == ({"text": "1"}, "0")
    assert "text: column 1 (the only column of texts)" in found.notes


def test_chinese_texts_are_texts_although_they_have_no_spaces(tmp_path):
    found = infer(headerless(tmp_path, rows(a=lambda n: f"这个宾馆{n}号房比较陈旧了", b=lambda n: n % 2)))
    assert (found.texts, found.label) == ({"text": "0"}, "1")


def test_two_texts_and_a_number_without_a_header_are_a_labelled_pair(tmp_path):
    given = rows(40, a=text, b=lambda n: text(n + 3), c=lambda n: n / 7)
    found = infer(headerless(tmp_path, given))
    assert (found.texts, found.label) == ({"text": "0", "pair": "1"}, "2")
    assert found.notes[1] == "pair: column 1 (the second of two texts)"
    assert found.notes[2] == "label: column 2 (numbers)"


def test_two_columns_with_numbered_names_are_a_pair():
    given = rows(
        **{"q": lambda n: n % 2, "#1 ID": str, "#2 ID": str, "#1 String": text, "#2 String": lambda n: text(n + 1)}
    )
    found = infer(given)
    assert (found.texts, found.label) == ({"text": "#1 String", "pair": "#2 String"}, "q")


def test_a_pair_needs_numbered_names_and_a_task_with_pairs():
    found = infer(rows(text=text, about=lambda n: text(n + 5), label=lambda n: n % 2))
    assert found.texts == {"text": "text"}
    twins = rows(said1=text, said2=lambda n: text(n + 1), label=lambda n: n % 2)
    assert_error(twins, 'columns={"text": COLUMN}', '(candidates: "said1", "said2")', fields=(TEXT,))


PAIR_NAMES = [
    *(("text", "text2"), ("text_1", "text_2"), ("q1", "q2"), ("Sentence", "sentence_2"), ("text", "text.1")),
    *(("sentA", "sentB"), ("first text", "second text"), ("text", "other_text"), ("left", "right")),
    *(("premise", "hypothesis"), ("question", "sentence"), ("query", "passage"), ("claim", "evidence")),
]


@pytest.mark.parametrize("names", PAIR_NAMES, ids="-".join)
@pytest.mark.parametrize("need_label", [True, False])
def test_names_that_belong_together_are_a_pair_that_can_be_declined(names, need_label):
    first, second = names
    given = rows(**{"label": lambda n: n % 2, second: lambda n: text(n + 1), first: text})
    found = infer(given, need_label=need_label)
    assert found.texts == {"text": first, "pair": second}
    if "by name" not in found.notes[1]:
        assert 'columns={"pair": ""} leaves it out' in found.notes[1]
    alone = infer(given, chosen={"text": first, "pair": ""}, need_label=need_label)
    assert alone.texts == {"text": first}
    assert "not read" not in "".join(alone.notes)


def test_texts_that_are_not_read_are_named():
    found = infer(rows(text=text, about=lambda n: text(n + 5), label=lambda n: n % 2))
    assert found.notes[1].startswith('not read: column "about", which contains texts as well')
    assert 'columns={"pair": COLUMN}' in found.notes[1]
    assert "not read" not in "".join(infer(rows(text=text, label=lambda n: n % 2)).notes)
    single = infer(rows(text=text, about=lambda n: text(n + 5)), (TEXT,), need_label=False)
    assert "not read" not in "".join(single.notes)


def test_a_column_that_many_rows_leave_empty_is_not_a_second_text():
    half = infer(rows(text=text, text2=lambda n: text(n + 1) if n % 2 else "", label=lambda n: n % 2))
    assert half.texts == {"text": "text"}
    assert 'not read: column "text2"' in half.notes[1]


def test_an_optional_pair_is_not_inferred_without_a_label(tmp_path):
    given = headerless(tmp_path, rows(a=text, b=lambda n: text(n + 3)))
    assert_error(given, "cannot infer which column is the text (candidates: 0, 1)", need_label=False)
    needed = (TEXT, Field("pair", "Second text"))
    assert infer(given, needed, need_label=False).texts == {"text": "0", "pair": "1"}


def test_the_much_longer_one_of_two_texts_is_the_text():
    given = rows(head=lambda n: f"News {n}", story=lambda n: text(n) * 4, label=lambda n: n % 2)
    found = infer(given)
    assert found.texts == {"text": "story"}
    assert found.notes[0] == 'text: column "story" (the longest texts)'


def test_attributions_that_all_start_alike_are_not_the_text(tmp_path):
    given = rows(a=text, b=lambda n: f"CC-BY 2.0 Attribution: example.org number {n} " * 5, c=lambda n: n % 2)
    assert infer(headerless(tmp_path, given)).texts == {"text": "0"}


def test_the_remaining_column_of_texts_is_the_context():
    given = rows(question=lambda n: f"Who is {n}?", passage=lambda n: text(n) * 9)
    assert infer(given, ANSWERING, need_label=False).texts == {"question": "question", "context": "passage"}


@pytest.mark.parametrize("values", [(0, 1), ("0", "1"), (False, True)])
def test_many_columns_of_0_and_1_are_the_labels(values):
    flags = {name: lambda n, k=k: values[n % (k + 2) == 0] for k, name in enumerate(("rude", "loud", "odd"))}
    never = {"never": lambda _: values[0]}
    found = infer(rows(id=lambda n: n % 2, comment_body=text, **flags, **never))
    assert found.label == ("rude", "loud", "odd", "never")
    assert found.notes[-1] == "label: 4 columns of 0 and 1 (rude, loud, odd, never)"


def test_a_label_by_name_takes_precedence_over_columns_of_0_and_1():
    flags = {name: lambda n: n % 2 for name in ("rude", "loud", "odd")}
    assert infer(rows(text=text, label=lambda n: "ab"[n % 2], **flags)).label == "label"


def test_a_named_label_of_0_and_1_beside_others_shows_the_reading_as_one_column_per_label():
    flags = {name: lambda n, k=k: int(n % (k + 2) == 0) for k, name in enumerate(("price", "quality", "service"))}
    found = infer(rows(text=text, **flags))
    assert found.label == "quality"
    assert found.notes[-1] == (
        'label: column "quality" (by name; --label price,quality,service reads one column of 0 and 1 per label)'
    )
    two = {name: flags[name] for name in ("price", "quality")}
    assert infer(rows(text=text, **two)).notes[-1] == 'label: column "quality" (by name)'


def test_a_column_of_lists_is_the_label():
    assert infer(rows(text=text, topics_of_it=lambda n: ["a"] * (n % 3))).label == "topics_of_it"


def test_two_rows_are_enough_to_infer_columns():
    given = [{"words said": "a lovely film", "mood": "good"}, {"words said": "two hours lost", "mood": "bad"}]
    found = infer(given)
    assert (found.texts, found.label) == ({"text": "words said"}, "mood")


def test_the_columns_of_a_stream_are_inferred_from_its_first_rows(tmp_path):
    path = tmp_path / "a.tsv"
    path.write_text("".join(f"{text(number)}\t{number % 2}\n" for number in range(3000)) + "a\tbroken\trow\n")
    found = infer(stream_rows(path))
    assert (found.texts, found.label) == ({"text": "0"}, "1")


# Chosen columns


def test_chosen_columns_override_usual_names():
    given = [{"text": "a", "body": "b", "label": "c", "mood": "d"}]
    found = infer(given, chosen={"text": "body", "pair": None}, label="mood")
    assert found == ColumnMapping({"text": "body"}, "mood", ())


def test_choices_ignore_case_and_column_numbers_start_at_0(tmp_path):
    given = [{"The Text": "a", "Mood_of": "b", "1": "c"}]
    assert infer(given, chosen={"text": "the_text"}, label="mood of").label == "Mood_of"
    found = infer(given, chosen={"text": "0"}, label="1")
    assert (found.texts["text"], found.label) == ("The Text", "1"), "a name takes precedence over a number"
    table = headerless(tmp_path, [{"a": "x", "b": "y", "c": "z"}])
    found = infer(table, chosen={"text": "2", "pair": "0"}, label="1")
    assert (found.texts, found.label) == ({"text": "2", "pair": "0"}, "1")


def test_several_label_columns_can_be_chosen():
    given = [{"text": "a", "x": 0, "y": 1, "z": 1}]
    assert infer(given, label=["x", "2"]).label == ("x", "y")
    assert infer(given, label=["z"]).label == "z"


def test_an_empty_name_declines_a_pair():
    given = [{"sentence1": "a", "sentence2": "b", "label": "c"}]
    assert infer(given, chosen={"pair": ""}).texts == {"text": "sentence1"}
    assert_error(given, "--text must not be empty", chosen={"text": ""})


def test_the_error_of_a_wrong_name_suggests_a_similar_one_and_lists_all():
    given = [{"sentence": "a", "label": "b"}]
    assert_error(
        given,
        'the given rows: there is no column "sentense" (--text)',
        'Did you mean --text "sentence"?',
        "The columns are: sentence, label.",
        chosen={"text": "sentense"},
    )
    assert_error(given, '"Lable" (--label)', 'Did you mean --label "label"?', label="Lable")
    assert_error(given, '"zzz" (--pair)', "Choose another --pair", chosen={"pair": "zzz"})
    assert_error(given, '"2" (--label)', label="2")


def test_the_error_of_a_name_for_a_file_without_a_header_gives_the_column_numbers(tmp_path):
    table = headerless(tmp_path, [{"a": "good film", "b": "1"}])
    shown = assert_error(table, "--text", '"text"', "no header", "0 to 1", "Give a number", chosen={"text": "text"})
    assert str(tmp_path / "a.csv") in shown
    assert '0 = "good film", 1 = "1"' in shown


def test_one_column_cannot_be_chosen_twice():
    given = [{"text": "a", "label": "b"}]
    assert_error(given, '--text and --label both name column "text"', chosen={"text": "text"}, label="text")
    assert_error(given, '--text and --pair both name column "text"', chosen={"text": "text", "pair": "text"})
    assert_error(given, '--label and --label both name column "label"', label=["label", "1"])


# Columns that cannot be inferred


def test_the_error_of_an_ambiguous_text_shows_the_columns_and_the_first_row(tmp_path):
    given = rows(one=text, two=lambda n: text(n + 9), label=lambda n: n % 2)
    path = tmp_path / "a.csv"
    path.write_text("one,two,label\n" + "".join(",".join(map(str, row.values())) + "\n" for row in given))
    shown = assert_error(
        read_table(path),
        str(path),
        'the text (candidates: "one", "two")',
        "Give --text COLUMN",
        "a.csv, line 2): one = ",
    )
    assert text(0)[:20] in shown


def test_the_error_of_an_ambiguous_label_lists_the_candidates():
    given = rows(text=text, mood=lambda n: "ab"[n % 2], place=lambda n: "xyz"[n % 3])
    assert_error(
        given,
        'which column is the label (candidates: "mood", "place")',
        'Give columns={"label": COLUMN}',
        'mood = "a"',
    )
    assert_error(
        rows(text=text, lang=lambda _: "en"),
        'cannot infer which column is the label. Give columns={"label"',
        'lang = "en"',
    )
    assert_error(rows(text=text), "there is no label", "Add a column with the label")


def test_prediction_needs_no_label():
    assert infer(rows(text=text), need_label=False).label is None
    assert infer(rows(text=text, mood=lambda n: "ab"[n % 2]), need_label=False).label is None
    assert infer(rows(text=text, label=lambda n: n), need_label=False).label == "label"
    assert infer(rows(1, words=lambda _: "great"), need_label=False).texts == {"text": "words"}


def test_the_error_of_two_missing_texts_names_both_options():
    given = rows(a=text, b=lambda n: text(n + 2))
    assert_error(given, 'Give columns={"question": COLUMN, "context": COLUMN}', fields=ANSWERING, need_label=False)


def test_the_error_shows_the_first_of_many_columns():
    given = [{f"column {number}": "x" for number in range(40)}]
    assert "and 28 more" in assert_error(given)


def test_label_names_are_distinct():
    assert len(set(LABEL_COLUMNS)) == len(LABEL_COLUMNS)


def test_columns_of_a_very_wide_table_are_inferred_quickly():
    names = ["sentence", "topic", *(f"column {number}" for number in range(10_000))]
    rows = [dict.fromkeys(names, str(row % 3)) | {"sentence": f"some text {row}"} for row in range(5)]
    table = read_table(rows)
    start = time.process_time()
    mapping = infer_columns(table, (TEXT,))
    assert mapping.texts == {"text": "sentence"}
    assert mapping.label == "topic"
    assert time.process_time() - start < 3


@pytest.mark.parametrize("name", ["Kategorie", "étiquette", "Categoría", "метка", "标签"])
def test_a_label_column_is_known_by_its_name_in_other_languages(name):
    subject, message = (lambda number: "Hilfe" if number % 3 else "Anfrage"), text
    given = rows(Betreff=subject, Nachricht=message, **{name: lambda number: "ab"[number % 2]})
    mapping = infer(given)
    assert (mapping.texts, mapping.label) == ({"text": "Nachricht"}, name)
