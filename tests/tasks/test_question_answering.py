"""Question answering: formats of answers, windows, the search for spans, "no answer", training and prediction."""

import json
import random
import re
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from headway.core.errors import HeadwayError
from headway.core.tokenizers.tokenizer import Tokenizer
from headway.core.training.training_config import TrainConfig
from headway.tasks import TaskModel, load
from headway.tasks.base.check import check_data
from headway.tasks.data.features import group_windows, num_truncated_tokens, pack
from headway.tasks.data.read import read_table
from headway.tasks.data.rows import Table
from headway.tasks.data.token_counts import TokenCounts
from headway.tasks.data.windows import sliding_windows
from headway.tasks.question_answering.answer_spans import ContextWindow, Passage, best_spans
from headway.tasks.question_answering.answers import (
    ABSENT,
    AMBIGUOUS,
    CORRECTED,
    FIRST_OF_SEVERAL,
    Answer,
    locate_answer,
    parse_answers,
)
from headway.tasks.question_answering.question_answering import QuestionAnswering
from headway.tasks.question_answering.squad_file import squad_predictions
from hypothesis import given, settings
from hypothesis import strategies as st

SAMPLE = Path(__file__).parents[2] / "tasks/samples/questions.json"
TASKS = {QuestionAnswering.name: QuestionAnswering}
CONTEXT = "Ada Lovelace lived in London, and wrote the first program."
CONFIG = TrainConfig(
    max_steps=250, batch_size=8, learning_rate=3e-3, precision="fp32", device="cpu", save_steps=1000, weight_decay=0.0
)
ROWS = [
    {"id": "q1", "question": "who sat?", "context": "the cat sat on the mat", "answers": ["the cat"]},
    {"id": "q2", "question": "on what?", "context": "the cat sat on the mat", "answers": "mat"},
    {
        "id": "q3",
        "question": "who lived?",
        "context": "🙂🙂 Ada Lovelace lived in London",
        "answers": ["Ada Lovelace"],
    },
    {"id": "q4", "question": "when?", "context": "the quick brown fox jumps", "answers": []},
    {"id": "q5", "question": "where?", "context": "🙂🙂 Ada Lovelace lived in London", "answers": "London"},
    {"id": "q6", "question": "what jumps?", "context": "the quick brown fox jumps", "answers": ["fox"]},
    {"id": "q7", "question": "who wrote?", "context": "send my card back", "answers": ""},
    {"id": "q8", "question": "my what?", "context": "send my card back", "answers": "card"},
]
RIGHT = ["the cat", "mat", "Ada Lovelace", None, "London", "fox", None, "card"]
MIXED = [
    *("cat", " ", "é", "e\u0301", "猫坐", "👩\u200d👧", "🏳\ufe0f\u200d🌈", "[SEP]", "<|endoftext|>"),
    *("ש\u05c1ל\u05d5\u05b9ם", "م\u064eرحبا", "\x00", "\u200b", "\n"),
]


def table_of(*rows: dict) -> Table:
    return read_table(list(rows))


def examples_of(table: Table, task: QuestionAnswering | None = None, labelled: bool = True) -> list:
    task = task or QuestionAnswering()
    return task.examples(table, task.columns(table, {}, need_label=labelled), labelled=labelled)


def row(answers, context: str = CONTEXT, question: str = "where?", **more) -> dict:
    return {"question": question, "context": context, "answers": answers, **more}


def encode(task: QuestionAnswering, rows: list[dict], tokenizer: Tokenizer, limit: int = 48) -> list[list]:
    labelled = "answers" in rows[0]
    return group_windows(task.encode(examples_of(table_of(*rows), task, labelled), tokenizer, limit))


@pytest.fixture(scope="module", params=["wordpiece", "byte-level"])
def tokenizer(request, wordpiece_folder, byte_level_folder) -> Tokenizer:
    return Tokenizer.load({"wordpiece": wordpiece_folder, "byte-level": byte_level_folder}[request.param])


class TestParsingAnswers:
    @pytest.mark.parametrize(
        ("value", "starts"),
        [
            ({"text": ["London"], "answer_start": [22]}, None),
            ({"text": "London", "answer_start": 22}, None),
            ([{"text": "London", "answer_start": 22}], None),
            ([{"answer": "London", "start": "22"}], None),
            (["London"], [22]),
            (["London"], 22),
            ("London", 22),
            ("London", "22"),
            ("London", "[22]"),
            ("London", 22.0),
            ('{"text": ["London"], "answer_start": [22]}', None),
            ("{'text': ['London'], 'answer_start': [22]}", None),
            ("[{'text': 'London', 'answer_start': 22}]", None),
        ],
    )
    def test_every_format_gives_the_same_answer(self, value, starts):
        assert parse_answers(value, starts) == [("London", 22)]

    @pytest.mark.parametrize("value", ["London", ["London"], {"text": ["London"]}, [{"text": "London"}], '["London"]'])
    def test_an_offset_is_not_needed(self, value):
        assert parse_answers(value) == [("London", None)]

    @pytest.mark.parametrize(
        "value", ["", "  ", [], {}, "[]", {"text": [], "answer_start": []}, {"text": "", "answer_start": -1}, [""]]
    )
    def test_an_empty_value_means_no_answer(self, value):
        assert parse_answers(value) == []
        assert parse_answers("", -1) == parse_answers([], []) == parse_answers([], -1) == []

    def test_a_text_in_brackets_is_not_parsed(self):
        assert parse_answers("[sic]") == [("[sic]", None)]
        assert parse_answers("{x}") == [("{x}", None)]
        assert parse_answers("[1, 2]") == [("[1, 2]", None)]

    @pytest.mark.parametrize(
        ("value", "starts", "says"),
        [
            (None, None, "null"),
            (7, None, "not answers: 7"),
            ([1], None, r"not answers: \[1\]"),
            ({"start": 3}, None, "not answers"),
            (["a", "b"], [1], "2 answers .* offsets are"),
            ({"text": ["a", "b"], "answer_start": [1]}, None, "2 answers"),
            ("a", "x", "offset of an answer is x"),
            ("a", 1.5, "offset of an answer is 1.5"),
            ("a", True, "offset of an answer is True"),
            ("a", "[1", r"offset of an answer is \[1"),
            ("{'text': array(['a'])}", None, "not valid JSON"),
        ],
    )
    def test_an_unknown_format_is_shown_with_a_way_to_fix_it(self, value, starts, says):
        with pytest.raises(HeadwayError, match=says) as error:
            parse_answers(value, starts)
        assert re.search(r"Write|Give", str(error.value))


class TestLocatingAnswers:
    @pytest.mark.parametrize(
        ("text", "start", "placed"),
        [
            ("London", 22, Answer("London", 22)),
            ("London", None, Answer("London", 22)),
            ("London", 21, Answer("London", 22, CORRECTED)),
            ("London", 9999, Answer("London", 22, CORRECTED)),
            (" London ", 21, Answer(" London ", 22)),
            ("Paris", 3, Answer("Paris", None, ABSENT)),
            ("Paris", None, Answer("Paris", None, ABSENT)),
            ("in", 19, Answer("in", 19)),
            ("o", 1, Answer("o", None, AMBIGUOUS)),
            ("o", None, Answer("o", 5, FIRST_OF_SEVERAL)),
        ],
    )
    def test_an_answer_is_at_its_offset_or_where_it_occurs_once(self, text, start, placed):
        assert locate_answer(text, start, CONTEXT) == placed

    def test_offsets_in_utf16_units_or_bytes_are_corrected(self):
        context = "🙂🙂 the café is open"
        for encoding, size in (("utf-16-le", 2), ("utf-8", 1)):
            said = len(context[: context.index("open")].encode(encoding)) // size
            assert locate_answer("open", said, context) == Answer("open", context.index("open"), CORRECTED)


class TestRows:
    def test_squad_files_and_flat_files_give_the_same_examples(self, tmp_path):
        nested = read_table(SAMPLE)
        task = QuestionAnswering()
        flat = tmp_path / "flat.jsonl"
        flat.write_text("".join(json.dumps(one, ensure_ascii=False) + "\n" for one in nested.rows), encoding="utf-8")
        csv = tmp_path / "flat.csv"
        read_csv = [{**one, "answers": str(one["answers"])} for one in nested.rows]
        import csv as csv_module

        with csv.open("w", encoding="utf-8", newline="") as file:
            writer = csv_module.DictWriter(file, list(read_csv[0]))
            writer.writeheader()
            writer.writerows(read_csv)
        first, second, third = (
            [(e.id, e.texts, e.answers) for e in examples_of(read_table(f))] for f in (SAMPLE, flat, csv)
        )
        assert first == second == third
        assert len(first) == 279
        inferred, notes = task.infer_labels(nested, task.columns(nested, {}, need_label=True))
        assert inferred.says_none
        assert notes == ['96 of 279 questions have no answer: the model may predict "no answer"']

    def test_the_id_of_a_row_without_one_is_its_number(self):
        example, other = examples_of(table_of(row("London"), row("London")))
        assert (example.id, other.id) == ("1", "2")
        (example,) = examples_of(table_of(row("London", id="q7")))
        assert example.id == "q7"
        assert example.where.endswith("id q7")

    def test_the_offset_may_be_in_a_separate_column(self):
        (example,) = examples_of(table_of({"question": "o?", "context": CONTEXT, "answer": "o", "answer_start": "19"}))
        assert example.answers == (Answer("o", None, AMBIGUOUS),)
        start = CONTEXT.rindex("o")
        (example,) = examples_of(
            table_of({"question": "o?", "context": CONTEXT, "answer": "o", "answer_start": start})
        )
        assert example.answers == (Answer("o", start),)

    def test_a_question_marked_as_impossible_has_no_answer(self):
        rows = [row("London", is_impossible=False), row("London", is_impossible=True)]
        assert [bool(one.answers) for one in examples_of(table_of(*rows))] == [True, False]

    @pytest.mark.parametrize(
        ("rows", "says"),
        [
            ([{"question": "a b?", "answers": "c"}], "cannot infer which column is the context"),
            ([{"context": "a b", "answers": "c"}], "cannot infer which column is the question"),
            ([{"question": "a b?", "context": "a b"}], "no column is called answers.*--label"),
            ([row("London", context="")], r'row 1: column "context" is empty'),
            ([row("London", question=" ")], r'row 1: column "question" contains only spaces'),
            ([row("London"), row(None)], 'row 2: column "answers": the cell is null'),
            ([row("London"), row(7)], 'row 2: column "answers": these are not answers: 7'),
            ([row("London", context=["a"])], "contains a list"),
        ],
    )
    def test_unusable_rows_are_named(self, rows, says):
        with pytest.raises(HeadwayError, match=says):
            examples_of(table_of(*rows))

    def test_data_without_any_answer_is_refused(self, bert_folder, tmp_path):
        with pytest.raises(HeadwayError, match="no question has an answer"):
            QuestionAnswering().on(bert_folder).fit([row([])], output=tmp_path / "out")
        with pytest.raises(HeadwayError, match="the answers are in one column"):
            QuestionAnswering().on(bert_folder).fit(
                [row("London", other="x")], output=tmp_path / "out", columns={"label": ["answers", "other"]}
            )

    def test_whether_no_answer_may_be_predicted_is_inferred_or_given(self):
        with_none, without = table_of(row("London"), row([])), table_of(row("London"))

        def inferred(table, **options):
            task = QuestionAnswering(**options)
            return task.infer_labels(table, task.columns(table, {}, need_label=True))[0].says_none

        assert inferred(with_none)
        assert not inferred(without)
        assert inferred(without, unanswerable="yes")
        assert not inferred(with_none, unanswerable="no")

    @pytest.mark.parametrize(
        ("options", "says"),
        [
            ({"n_best": 0}, "--n-best 0"),
            ({"max_answer_length": 0}, "--max-answer-length 0"),
            ({"unanswerable": "maybe"}, "unanswerable='maybe' is invalid"),
        ],
    )
    def test_invalid_options_are_refused(self, options, says):
        with pytest.raises(HeadwayError, match=says):
            QuestionAnswering(**options)


class TestEncoding:
    def test_the_sequence_has_the_special_tokens_of_the_model(self, tokenizer):
        ((one,),) = encode(QuestionAnswering(), [row("London")], tokenizer, 200)
        question, context = tokenizer.encode("where?").ids, tokenizer.encode(CONTEXT).ids
        if tokenizer.kind == "wordpiece":
            assert one.input_ids == [tokenizer.cls_id, *question, tokenizer.sep_id, *context, tokenizer.sep_id]
            assert one.segment_ids == [0] * (len(question) + 2) + [1] * (len(context) + 1)
            assert one.metadata.no_answer == 0
        else:
            end = tokenizer.end_of_text_id
            assert one.input_ids == [*question, end, *context, end]
            assert one.metadata.no_answer == len(one.input_ids) - 1
        start, stop = one.target
        assert tokenizer.decode(one.input_ids[start : stop + 1]).strip().lower() == "london"
        assert one.length == len(one.input_ids)

    def test_the_target_is_the_answer_in_windows_that_contain_it_and_no_answer_in_others(self, tokenizer):
        context = " ".join(f"word{i}" for i in range(60)) + " London " + " ".join(f"word{i}" for i in range(60))
        (group,) = encode(QuestionAnswering(max_answer_length=8), [row("London", context)], tokenizer)
        passage = group[0].metadata.passage
        gold = passage.tokens_of(context.index("London"), context.index("London") + 6)
        inferred = 0
        for one in group:
            place = one.metadata
            whole = place.tokens.start <= gold.start and gold.stop <= place.tokens.stop
            inferred += whole
            if whole:
                first, last = (position - place.first + place.tokens.start for position in one.target)
                assert context[slice(*passage.characters(first, last))] == "London"
            else:
                assert one.target == (place.no_answer, place.no_answer)
        assert 0 < inferred < len(group)
        assert {token for one in group for token in one.metadata.tokens} == set(range(len(passage.starts)))

    def test_some_window_contains_the_whole_of_every_answer_of_the_maximum_length(self, tokenizer):
        context = "the cat sat on the mat " * 40
        for length in (1, 5, 12):
            (group,) = encode(QuestionAnswering(max_answer_length=length), [row([], context)], tokenizer)
            tokens = len(group[0].metadata.passage.starts)
            for start in range(tokens - length + 1):
                parts = [one.metadata.tokens for one in group]
                assert any(part.start <= start and start + length <= part.stop for part in parts)

    def test_a_question_longer_than_half_of_the_room_is_truncated_and_reported(self, tokenizer):
        task = QuestionAnswering()
        long = "where is my parcel " * 20
        context = CONTEXT + " my card" * 20
        (group,) = encode(task, [row("London", context, long)], tokenizer)
        assert len(group) > 1
        assert max(len(one.input_ids) for one in group) <= 48
        room = 48 - (3 if tokenizer.kind == "wordpiece" else 2)
        (example,) = examples_of(table_of(row("London", context, long)))
        assert [warning.message[:27] for warning in task.warnings(example, group)] == ["the question is longer than"]
        assert group[0].metadata.passage.unread_tokens == len(tokenizer.encode(long).ids) - room // 2
        ((short,),) = encode(task, [row("on", "on", question=long)], tokenizer)  # a short context leaves more room
        assert len(short.input_ids) == 48
        for windows in (group, [short]):
            assert TokenCounts.of([windows], 48, None).truncated == {}  # --long-texts does not truncate it
            assert num_truncated_tokens(windows) > 0

    def test_truncation_keeps_the_start_of_the_context_and_reports_what_is_lost(self, tokenizer):
        task = QuestionAnswering(long_texts="cut")
        context = "the cat sat on the mat " * 20 + "in London"
        ((one,),) = encode(task, [row("London", context)], tokenizer)
        assert one.target == (one.metadata.no_answer, one.metadata.no_answer)
        assert one.metadata.passage.unread_tokens == one.length - len(one.input_ids) > 0
        assert TokenCounts.of([[one]], 48, None).truncated == {0: one.metadata.passage.unread_tokens}
        (example,) = examples_of(table_of(row("London", context)))
        assert [warning.message for warning in task.warnings(example, [one])] == [
            "the answer is truncated and counts as missed"
        ]

    def test_an_answer_too_long_for_a_window_or_for_the_option_is_reported(self, tokenizer):
        context = "the cat sat on the mat " * 20
        rows = [row(context.strip()[:300], context), row("cat sat on", context)]
        task = QuestionAnswering(max_answer_length=2)
        long, short = zip(examples_of(table_of(*rows)), encode(task, rows, tokenizer), strict=True)
        assert "no window contains the whole answer" in "".join(warning.message for warning in task.warnings(*long))
        assert "longer than 2 tokens" in "".join(warning.message for warning in task.warnings(*short))

    @settings(max_examples=150, deadline=None)
    @given(
        st.lists(
            st.one_of(
                st.text(max_size=6),
                st.sampled_from(MIXED),
            ),
            min_size=1,
            max_size=12,
        ).map("".join),
        st.data(),
    )
    def test_spans_are_at_their_offsets_in_any_text(self, wordpiece_folder, byte_level_folder, text, data):
        start = data.draw(st.integers(0, len(text)))
        end = data.draw(st.integers(start, len(text)))
        for folder in (wordpiece_folder, byte_level_folder):
            tokenizer = TOKENIZERS.setdefault(folder, Tokenizer.load(folder))
            assert_offsets(text, tokenizer.encode(text).offsets, start, end)

    def test_spans_are_at_their_offsets_in_thousands_of_mixed_texts(self, tokenizer):
        chance = random.Random(0)
        pieces = [*MIXED, *"abc .,-äßñЖ東か한ไ'", "\u0301", "\u00a0", "ﬁ", "½", "İ"]
        texts = ["".join(chance.choices(pieces, k=chance.randrange(1, 25))) for _ in range(3000)]
        for text, encoding in zip(texts, tokenizer.encode_batch(texts), strict=True):
            start = chance.randrange(len(text))
            assert_offsets(text, encoding.offsets, start, chance.randrange(start + 1, len(text) + 1))

    def test_combining_marks_that_the_tokenizer_drops_stay_in_the_answer(self, wordpiece_folder):
        text = "a cafe\u0301 is open"
        tokenizer = Tokenizer.load(wordpiece_folder)
        passage = passage_for(text, tokenizer.encode(text).offsets, [])
        tokens = passage.tokens_of(2, 7)
        assert text[slice(*passage.characters(tokens.start, tokens.stop - 1))] == "cafe\u0301"


TOKENIZERS: dict[Path, Tokenizer] = {}


def assert_offsets(text: str, offsets: list[tuple[int, int]], start: int, end: int) -> None:
    """The tokens of text[start:end] cover all of it that any token covers, and so does the span of these tokens."""
    passage = passage_for(text, offsets, [range(len(offsets))])
    tokens = passage.tokens_of(start, end)
    covered = {i for first, stop in offsets[tokens.start : tokens.stop] for i in range(first, stop)}
    known = {i for first, stop in offsets for i in range(first, stop)}
    assert set(range(start, end)) & known <= covered
    if tokens:
        first, stop = passage.characters(tokens.start, tokens.stop - 1)
        assert covered <= set(range(first, stop)) <= set(range(len(text)))


def passage_for(text: str, offsets: list[tuple[int, int]], parts: list[range]) -> Passage:
    return Passage(text, [start for start, _ in offsets], [end for _, end in offsets], parts)


def passage_of(length: int, size: int, overlap: int, *, index_of_blank: int | None = None) -> list[ContextWindow]:
    """A text of one-letter words, one token each, in windows after two other tokens."""
    letters = [" " if i == index_of_blank else chr(ord("a") + i % 26) for i in range(length)]
    parts = sliding_windows(length, size, overlap)
    passage = passage_for(" ".join(letters), [(2 * i, 2 * i + 1) for i in range(length)], parts)
    return [ContextWindow(passage, i, 2, 0) for i in range(len(parts))]


def brute_force_search(
    windows: list[ContextWindow], logits: list[torch.Tensor], max_length: int, knows_none: bool
) -> dict[Any, float]:
    """The probability of every span, computed span by span."""
    parts = [window.tokens for window in windows]
    length = parts[-1].stop

    def context(part: range, first: int, last: int) -> float:
        left = float("inf") if part.start == 0 else first - part.start
        right = float("inf") if part.stop == length else part.stop - 1 - last
        return min(left, right) if first in part and last in part else -1

    weights = {}
    for first, last in product(range(length), range(length)):
        rooms = [context(part, first, last) for part in parts]
        if not first <= last < first + max_length or max(rooms) < 0:
            continue
        chosen = rooms.index(max(rooms))
        window, output = windows[chosen], logits[chosen].double()
        text = windows[0].passage.text
        if not text[2 * first].strip() or not text[2 * last].strip():
            continue
        score = output[first - window.tokens.start + 2, 0] + output[last - window.tokens.start + 2, 1]
        weights[first, last] = torch.exp(score - (output[0].sum() if knows_none else 0)).item()
    total = sum(weights.values()) + (1 if knows_none else 0)
    return {"none": 1 / total if knows_none else 0.0, **{span: weight / total for span, weight in weights.items()}}


class TestSearch:
    @settings(max_examples=60, deadline=None)
    @given(
        st.integers(1, 24),
        st.integers(3, 12),
        st.integers(0, 6),
        st.integers(1, 9),
        st.booleans(),
        st.integers(0, 999),
    )
    def test_the_best_spans_equal_those_of_a_brute_force_search(
        self, length, size, overlap, max_length, knows_none, seed
    ):
        windows = passage_of(length, size, min(overlap, size // 2), index_of_blank=seed % 7)
        generator = torch.Generator().manual_seed(seed)
        logits = [3 * torch.randn(len(window.tokens) + 3, 2, generator=generator) for window in windows]
        expected = brute_force_search(windows, logits, max_length, knows_none)
        spans, none = best_spans(windows, logits, count=10_000, max_length=max_length, knows_none=knows_none)
        if len(expected) == 1:
            assert (spans, none) == ([], 1.0)
            return
        found = {(span.start // 2, span.end // 2): span.score for span in spans}
        assert {**found, "none": none} == pytest.approx(expected)
        assert [span.score for span in spans] == sorted(found.values(), reverse=True)
        assert sum(found.values()) + none == pytest.approx(1)
        few, _ = best_spans(windows, logits, count=3, max_length=max_length, knows_none=knows_none)
        assert few == spans[:3]

    def test_an_answer_is_found_wherever_it_is_planted(self):
        """At every position of a text in many windows: at its start, at the edges of windows, at its end."""
        windows = passage_of(90, 20, 6)
        assert len(windows) > 5
        for length in (1, 4, 7):
            for first in range(90 - length + 1):
                logits = planted(windows, first, first + length - 1)
                spans, none = best_spans(windows, logits, count=2, max_length=7, knows_none=True)
                assert (spans[0].start, spans[0].end) == (2 * first, 2 * (first + length - 1) + 1)
                assert spans[0].score > 0.9
                assert none < 0.1

    def test_adding_a_constant_to_all_logits_of_a_window_changes_nothing(self):
        windows = passage_of(40, 12, 4)
        generator = torch.Generator().manual_seed(1)
        logits = [torch.randn(len(window.tokens) + 3, 2, generator=generator) for window in windows]
        shifted = [one + 10 * i for i, one in enumerate(logits)]
        one, other = (
            best_spans(windows, given, count=3, max_length=5, knows_none=True) for given in (logits, shifted)
        )
        assert [span.text for span in one[0]] == [span.text for span in other[0]]
        assert [span.score for span in one[0]] == pytest.approx([span.score for span in other[0]], rel=1e-4)

    @pytest.mark.linux
    def test_twenty_thousand_words_are_searched_in_bounded_memory(self, wordpiece_folder):
        tokenizer = Tokenizer.load(wordpiece_folder)
        words = ["cat"] * 20_000
        words[13_131] = "London"
        context = " ".join(words)
        (group,) = encode(QuestionAnswering(), [{"question": "where?", "context": context}], tokenizer, 512)
        passage = group[0].metadata.passage
        gold = passage.tokens_of(context.index("London"), context.index("London") + 6)
        places = [one.metadata for one in group]
        logits = planted(places, gold.start, gold.stop - 1, [len(one.input_ids) for one in group])
        import resource

        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        (prediction,) = QuestionAnswering().decode(logits, group)
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KB
        assert prediction.answer == "London"
        assert context[prediction.start : prediction.end] == "London"


def planted(
    windows: list[ContextWindow], first: int, last: int, lengths: list[int] | None = None
) -> list[torch.Tensor]:
    """Logits of a model that finds the answer, and "no answer" in the windows without it."""
    logits = []
    for i, window in enumerate(windows):
        output = torch.zeros(lengths[i] if lengths else len(window.tokens) + 3, 2)
        whole = window.tokens.start <= first and last < window.tokens.stop
        if whole:
            output[window.first + first - window.tokens.start, 0] = 12
            output[window.first + last - window.tokens.start, 1] = 12
        else:
            output[window.no_answer] = 12
        logits.append(output)
    return logits


class TestLoss:
    def test_the_loss_is_transformers_loss_summed_over_windows(self, tiny_model, tmp_path):
        model = QuestionAnswering().on(tiny_model)
        model.fit(ROWS, output=tmp_path / "out", eval_fraction=0, config=CONFIG, max_steps=1)
        published = transformers.AutoModelForQuestionAnswering.from_pretrained(tmp_path / "out").eval()
        rows = [*ROWS, row("London", CONTEXT + " and then" * 60)]
        features = [one for group in encode(model.task, rows, model.tokenizer) for one in group]
        total, count = model.task.loss(model.network(pack(features)), model.task.targets(features))
        expected = []
        for one in features:
            batch = pack([one])
            given = {"input_ids": batch.input_ids[None]}
            if "Bert" in type(published).__name__:
                given["token_type_ids"] = batch.segment_ids[None]
            start, end = (torch.tensor([position]) for position in one.target)
            expected.append(published(**given, start_positions=start, end_positions=end).loss)
        assert count == len(features) > len(rows)
        torch.testing.assert_close(total, torch.stack(expected).sum(), atol=1e-4, rtol=1e-5)


class Fitted:
    def __init__(self, folder: Path, output: Path) -> None:
        self.output = output
        self.model = QuestionAnswering(max_answer_length=12).on(folder)
        self.model.fit(ROWS, output=output, eval_fraction=0, config=CONFIG)
        self.inputs = [(one["question"], one["context"]) for one in ROWS]


@pytest.fixture(scope="module")
def fitted(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Fitted:
    return Fitted(tiny_model, tmp_path_factory.mktemp("answers") / "model")


class TestModels:
    def test_a_model_can_overfit_eight_questions(self, fitted):
        evaluation = fitted.model.evaluate(ROWS)
        names = ("f1", "exact_match", "has_answer_f1", "has_answer_exact_match", "no_answer_f1")
        loss = evaluation.metrics.pop("loss")
        assert evaluation.metrics == dict.fromkeys(names, 1.0)
        assert 0 < loss < 0.1
        assert [one.answer for one in evaluation.predictions] == RIGHT

    def test_answers_are_at_their_offsets(self, fitted):
        for (_, context), prediction in zip(fitted.inputs, fitted.model.predict(fitted.inputs), strict=True):
            for span in prediction.alternatives:
                assert context[span.start : span.end] == span.text
            if prediction.answer is None:
                assert prediction.start is prediction.end is None
                assert prediction.score == prediction.no_answer_score > 0.5
            else:
                assert context[prediction.start : prediction.end] == prediction.answer
                assert prediction.alternatives[0].text == prediction.answer
                assert prediction.score == prediction.alternatives[0].score > 0.5
            assert len(prediction.alternatives) == 5
            assert sum(span.score for span in prediction.alternatives) + prediction.no_answer_score <= 1 + 1e-9

    def test_a_saved_model_predicts_the_same_answers(self, fitted):
        opened = TaskModel.load(fitted.output, TASKS)
        assert opened.task == fitted.model.task
        assert opened.predict(fitted.inputs) == fitted.model.predict(fitted.inputs)
        again = TaskModel.plug(QuestionAnswering(), fitted.output)
        prepared = next(again.train(ROWS, output=fitted.output.parent / "x", eval_fraction=0))
        assert any("is trained further" in note for note in prepared.notes)

    def test_transformers_opens_the_folder_with_equal_logits(self, fitted):
        published = transformers.AutoModelForQuestionAnswering.from_pretrained(fitted.output).eval()
        theirs = transformers.AutoTokenizer.from_pretrained(fitted.output)
        for (group,), (question, context) in zip(
            encode(fitted.model.task, ROWS, fitted.model.tokenizer, 400), fitted.inputs, strict=True
        ):
            if fitted.model.tokenizer.kind == "wordpiece":
                tokens = theirs(question, context, return_tensors="pt")
            else:
                tokens = theirs(f"{question}<|endoftext|>{context}<|endoftext|>", return_tensors="pt")
            assert tokens["input_ids"][0].tolist() == group.input_ids
            if len(group.input_ids) > 48:
                continue
            with torch.no_grad():
                found = fitted.model.network(pack([group]))
                expected = published(**tokens)
            torch.testing.assert_close(found[:, 0], expected.start_logits[0], atol=1e-5, rtol=1e-5)
            torch.testing.assert_close(found[:, 1], expected.end_logits[0], atol=1e-5, rtol=1e-5)

    def test_a_batch_gives_the_same_answers_as_single_questions(self, fitted):
        together = fitted.model.predict(fitted.inputs)
        for one, prediction in zip(fitted.inputs, together, strict=True):
            alone = fitted.model.predict(one)
            assert alone.answer == prediction.answer
            assert alone.score == pytest.approx(prediction.score, abs=1e-5)

    def test_unusual_texts_are_predicted_without_errors(self, fitted):
        unusual = [
            "",
            " \n\t",
            "🙂👩‍👧",
            "a\0b",
            "שלום עולם مرحبا",
            "[CLS] [SEP] [MASK] <|endoftext|>",
            "\ud83d",
            "\x01\u200b",
            "cat " * 300,
        ]
        asked = [(one, other) for one in unusual for other in unusual]
        predictions = fitted.model.predict(asked)
        json.dumps([one.to_json() for one in predictions], allow_nan=False)
        for (_, context), prediction in zip(asked, predictions, strict=True):
            for span in prediction.alternatives:
                assert context[span.start : span.end] == span.text
                assert span.text.strip()
            if not context.strip():
                assert prediction.answer is None
                assert prediction.no_answer_score == prediction.score == 1.0
        assert fitted.model.predict(("cat " * 300, "the cat")).unread_tokens > 200

    def test_a_text_of_twenty_thousand_words_is_answered(self, fitted):
        context = "the cat sat on the mat " * 3400
        prediction = fitted.model.predict(("who sat?", context))
        assert context[prediction.start : prediction.end] == prediction.answer
        assert prediction.unread_tokens == 0

    def test_the_card_shows_how_to_ask_and_its_lines_run(self, fitted, capsys):
        card = (fitted.output / "README.md").read_text(encoding="utf-8")
        assert "pipeline_tag: question-answering" in card
        code = next(part for part in re.findall(r"```python\n(.*?)```", card, re.S) if "transformers" in part)
        exec(code.replace('"model"', repr(str(fitted.output))), {})
        assert capsys.readouterr().out

    def test_predictions_are_written_in_squads_format(self, fitted):
        evaluation = fitted.model.evaluate(ROWS)
        found = squad_predictions(evaluation.predictions, evaluation.examples)
        assert found["q1"] == "the cat"
        assert found["q4"] == ""
        assert list(found) == [one["id"] for one in ROWS]
        assert squad_predictions(evaluation.predictions, ROWS) == found
        with pytest.raises(HeadwayError, match="Two questions have the id 'q1'"):
            squad_predictions(evaluation.predictions[:2], [ROWS[0], ROWS[0]])
        with pytest.raises(HeadwayError, match="needs the id"):
            squad_predictions(evaluation.predictions[:1], [{"question": "where?"}])


class TestNoAnswer:
    def held_out(self, task: QuestionAnswering, odds: list[float], answerable: list[bool]):
        """Predictions with these log-odds of no answer; the best span is correct where there is an answer."""
        rows = [row("London" if has else []) for has in answerable]
        passage = passage_for(CONTEXT, [(22, 28)], [range(1)])
        windows = [ContextWindow(passage, 0, 1, 0)]
        predictions = []
        for one in odds:
            spans, none = best_spans(
                windows, [torch.tensor([[one, 0.0], [0.0, 0.0]])], count=1, max_length=5, knows_none=True
            )
            predictions.append(task._decide(tuple(spans), none, 0))
        return predictions, examples_of(table_of(*rows))

    def test_the_threshold_is_fitted_to_held_out_data(self):
        task = QuestionAnswering(says_none=True)
        odds = [-4, -3, -2, 1, 2, 3, 4, 5, 6, 7, 8, 9]
        predictions, examples = self.held_out(task, odds, [True] * 6 + [False] * 6)
        assert [one.answer for one in predictions] == ["London"] * 3 + [None] * 9
        calibrated = task.calibrate(predictions, examples)
        better = task.recalibrate(predictions, calibrated)
        assert calibrated.threshold == pytest.approx(3.5)
        assert [one.answer for one in better] == ["London"] * 6 + [None] * 6
        assert task.score(predictions, examples)["f1"] == 0.75
        assert calibrated.score(better, examples)["f1"] == 1.0
        assert QuestionAnswering.from_json(json.loads(json.dumps(calibrated.to_json()))) == calibrated
        assert calibrated.reset().threshold == 0

    def test_no_threshold_is_fitted_to_too_few_questions_of_a_kind(self):
        task = QuestionAnswering(says_none=True)
        predictions, examples = self.held_out(task, [1] * 12, [True] * 8 + [False] * 4)
        assert task.calibrate(predictions, examples) == task

    def test_a_model_trained_without_unanswerable_questions_always_predicts_an_answer(self):
        task = QuestionAnswering(says_none=False)
        predictions, examples = self.held_out(task, [50.0] * 12, [True] * 6 + [False] * 6)
        assert all(one.answer == "London" for one in predictions)
        assert task.calibrate(predictions, examples) == task


BAD_ROWS = [
    row("London", id="fine"),
    row({"text": ["London"], "answer_start": [21]}, id="moved"),
    row("Paris", id="absent"),
    row({"text": ["o"], "answer_start": [1]}, id="unclear"),
    row("o", id="several"),
    row([], id="none"),
    row([], id="none"),
    row(CONTEXT, id="long"),
]


class TestDataProblems:
    def test_problems_are_reported_with_ids_and_such_rows_are_not_trained_on(self, bert_folder, tmp_path):
        model = QuestionAnswering(max_answer_length=5).on(bert_folder)
        events = list(model.train(BAD_ROWS, output=tmp_path / "out", eval_fraction=0, config=CONFIG, max_steps=1))
        reported = {finding.message for finding in events[0].report.findings if finding.kind == "remark"}
        assert len(reported) == 7
        for what, names in {
            CORRECTED: "id moved",
            ABSENT: "id absent",
            AMBIGUOUS: "id unclear",
            FIRST_OF_SEVERAL: "id several",
            "an earlier question has the same id": "id none",
            "training skips the question": "ids absent and unclear",
            "longer than 5 tokens": "id long",
        }.items():
            assert any(what in message and names in message for message in reported), (what, reported)
        assert any("Paris" in message for message in reported)
        inferred = model.task.training_windows(encode(model.task, BAD_ROWS, model.tokenizer))
        assert all(len(group) == 1 and group[0].target is not None for group in inferred)
        assert {one.example for (one,) in inferred} == {0, 1, 4, 5, 6, 7}
        evaluation = model.evaluate(BAD_ROWS)
        assert sum("examples: " in note for note in evaluation.notes) == 7
        assert len(evaluation.predictions) == len(BAD_ROWS)  # all are scored

    def test_a_check_reports_the_same_before_training(self):
        report = check_data(QuestionAnswering(), BAD_ROWS)
        reported = [finding.message for finding in report.findings if finding.kind == "remark"]
        assert len(reported) == 6  # without a model, the number of tokens is unknown
        assert not report.errors

    def test_data_without_a_located_answer_is_refused(self, bert_folder, tmp_path):
        with pytest.raises(HeadwayError, match="nothing to train on"):
            list(QuestionAnswering().on(bert_folder).train([row("Paris")], output=tmp_path / "out", eval_fraction=0))


class TestPublishedModels:
    def test_a_published_head_predicts_without_training(self, tiny_model, tmp_path):
        folder = tmp_path / "published"
        config = transformers.AutoConfig.from_pretrained(tiny_model)
        torch.manual_seed(3)
        published = transformers.AutoModelForQuestionAnswering.from_config(config).eval()
        published.qa_outputs.weight.data.normal_(std=2)
        published.save_pretrained(folder)
        Tokenizer.load(tiny_model).save(folder)
        model = TaskModel.load(folder, TASKS)
        bert = model.tokenizer.kind == "wordpiece"
        assert model.task == QuestionAnswering(says_none=bert, knows_none=bert)
        context = "the cat sat on the mat"
        prediction = model.predict(("who sat?", context))
        ((one,),) = encode(model.task, [{"question": "who sat?", "context": context}], model.tokenizer)
        with torch.no_grad():
            ids = torch.tensor([one.input_ids])
            types = {"token_type_ids": torch.tensor([one.segment_ids])} if bert else {}
            outputs = published(input_ids=ids, **types)
        starts, ends = outputs.start_logits[0], outputs.end_logits[0]
        place = one.metadata
        tokens = range(place.first, place.first + len(place.tokens))
        first, last = max(
            ((i, j) for i in tokens for j in tokens if i <= j), key=lambda pair: starts[pair[0]] + ends[pair[1]]
        )
        expected = place.passage.characters(first - place.first, last - place.first)
        assert (prediction.alternatives[0].start, prediction.alternatives[0].end) == expected
        assert prediction.answer is not None or bert


def test_the_sample_data_is_read_and_split_by_kind(bert_folder, tmp_path):
    model = QuestionAnswering().on(bert_folder)
    prepared = next(model.train(SAMPLE, output=tmp_path / "out", seed=1))
    assert prepared.examples + prepared.eval_examples == 279
    assert 23 <= prepared.eval_examples <= 33
    found = [finding.message for finding in prepared.report.findings if finding.kind == "remark"]
    assert all("longer" in one or "whole" in one for one in found)  # than the tiny model reads; no answer is misplaced


def test_questions_about_one_context_are_on_the_same_side_of_a_split(bert_folder, tmp_path):
    """Otherwise training would show the held-out contexts."""
    asked = [{"question": "who?", "context": f"Ada lived here {i % 10}", "answer": "Ada"} for i in range(40)]
    assert [one.group for one in examples_of(table_of(*asked))] == [row["context"] for row in asked]
    model = QuestionAnswering().on(bert_folder)
    prepared = next(model.train(asked, output=tmp_path / "out"))
    assert (prepared.examples, prepared.eval_examples) == (36, 4)
    about_one = [{**row, "context": "Ada lived here"} for row in asked]
    prepared = next(model.train(about_one, output=tmp_path / "out"))
    assert (prepared.examples, prepared.eval_examples) == (40, 0)
    assert any(note.startswith("nothing is held out") for note in prepared.notes)


def test_prediction_options_can_be_changed_on_a_trained_model(bert_folder, tmp_path):
    model = QuestionAnswering(max_length=40).on(bert_folder)
    model.fit(SAMPLE, output=tmp_path / "out", config=CONFIG, max_steps=2)
    asked = ("who sat?", "the cat sat on the mat")
    given = load(tmp_path / "out", n_best=2, max_answer_length=1, threshold=1e9).predict(asked)
    assert len(given.alternatives) == 2
    assert all(" " not in span.text for span in given.alternatives)
    assert given.answer == given.alternatives[0].text
    model.set_options(threshold=-1e9)
    assert model.predict(asked).answer is None
    for options, says in (
        ({"viterbi": True}, r"--viterbi cannot be set on a trained model for question-answering.*--threshold"),
        ({"max_length": 8}, "--max-length cannot be set"),
        ({"n_best": 0}, "--n-best 0"),
        ({"threshold": float("nan")}, "--threshold nan"),
    ):
        with pytest.raises(HeadwayError, match=says):
            model.set_options(**options)


def test_the_threshold_is_fitted_in_training_and_stored(bert_folder, tmp_path):
    model = QuestionAnswering(max_length=40).on(bert_folder)
    trained = model.fit(SAMPLE, output=tmp_path / "out", config=CONFIG, max_steps=2, eval_steps=2)
    assert model.task.says_none
    assert model.task.threshold != 0
    assert {"f1", "exact_match", "has_answer_f1", "no_answer_f1"} <= set(trained.metrics)
    stored = json.loads((tmp_path / "out/headway.json").read_text(encoding="utf-8"))
    assert stored["options"]["threshold"] == model.task.threshold
    assert TaskModel.load(tmp_path / "out", TASKS).task == model.task


def test_random_windows_cover_every_token():
    chance = random.Random(0)
    for _ in range(200):
        limit, length = chance.randrange(8, 60), chance.randrange(0, 300)
        task = QuestionAnswering(max_answer_length=chance.randrange(1, 40))
        parts = task.windowing(limit).divide(length)
        assert {token for part in parts for token in part} == set(range(length))
        assert max(map(len, parts)) <= limit


def test_if_no_answer_is_in_its_context_the_check_counts_and_training_refuses():
    rows = [{"question": "Who?", "context": "Ada sat.", "answers": ["Eve"]}] * 3
    (error,) = check_data(QuestionAnswering(), rows).errors
    assert "none of the answers of 3 questions is in its context" in error.message
    assert "rows 1, 2 and 3" in error.message
    table = read_table(rows)
    columns = QuestionAnswering().columns(table, {}, need_label=True)
    with pytest.raises(HeadwayError, match="none of the answers of 3 questions"):
        QuestionAnswering().infer_labels(table, columns)
    assert not check_data(QuestionAnswering(), [*rows, {**rows[0], "answers": ["Ada"]}]).errors
