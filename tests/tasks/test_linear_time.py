"""Texts of hundreds of thousands of characters, and many questions on one context, take linear time."""

import time
from collections.abc import Callable

import pytest
from headway.core.checkpoints.hub import BUILT_IN
from headway.core.tokenizers.tokenizer import Tokenizer
from headway.tasks import QuestionAnswering
from headway.tasks.data.windows import best_window, sliding_windows
from headway.tasks.data.words import WordSegmenter, tokens_of_spans
from headway.tasks.question_answering.predictions import QuestionExample

UNITS = {
    "one word of letters": "a",
    "one number": "7",
    "words": "The river is long. ",
    "spaces": " ",
    "lines": "\n",
    "punctuation": "!",
    "ideographs": "\N{CJK UNIFIED IDEOGRAPH-6F22}",
    "combining marks": "\N{COMBINING ACUTE ACCENT}",
    "emoji": "\N{GRINNING FACE}",
}


def growth(work: Callable[[int], object], size: int) -> float:
    """How many times longer four times as much takes: 4 in linear time, 16 in quadratic time."""

    def seconds(amount: int) -> float:
        best = float("inf")
        for _ in range(2):
            start = time.process_time()
            work(amount)
            best = min(best, time.process_time() - start)
        return best

    seconds(size)
    return seconds(4 * size) / seconds(size)


@pytest.mark.parametrize("model", BUILT_IN)
@pytest.mark.parametrize("unit", UNITS.values(), ids=UNITS)
def test_tokenizing_a_long_text_takes_linear_time(model, unit):
    tokenizer = Tokenizer.load(BUILT_IN[model])
    assert growth(lambda size: tokenizer.encode_batch([(unit * size)[:size]]), 10_000) < 9


def test_finding_the_windows_of_all_words_of_a_long_text_takes_linear_time():
    def find(size: int) -> None:
        windows = sliding_windows(size, 512, 64)
        assert {best_window(windows, position) for position in range(size)} == {*range(len(windows))}

    assert growth(find, 50_000) < 9


def test_finding_the_tokens_of_all_words_of_a_long_text_takes_linear_time():
    def find(count: int) -> None:
        text = "rivers " * count
        offsets = [(7 * i + part, 7 * i + part + 3) for i in range(count) for part in (0, 3)]
        assert tokens_of_spans(WordSegmenter().split(text), offsets) == [[2 * i, 2 * i + 1] for i in range(count)]

    assert growth(find, 4000) < 9


def test_encoding_many_questions_on_a_long_context_takes_linear_time():
    tokenizer = Tokenizer.load(BUILT_IN["mini-bert"])
    context = "The river is long. " * 2000

    def question(i: int) -> QuestionExample:
        return QuestionExample(i, str(i), id=str(i), question=f"Is river {i} long?", context=context)

    def encode(count: int) -> None:
        examples = [question(i) for i in range(count)]
        assert len({one.example for one in QuestionAnswering().encode(examples, tokenizer, 512)}) == count

    assert growth(encode, 40) < 9
