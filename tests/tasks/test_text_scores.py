"""Scores of generated text, against the packages that define them."""

import random
import subprocess
import sys

import pytest
from headway.tasks.text_to_text import scores
from headway.tasks.text_to_text.scores import bleu_tokenizer, common_subsequence, repetition, score_texts, text_scores
from headway.tasks.text_to_text.words import sentences, words

WORDS = ("the", "a", "cat", "sat", "ran", "on", "under", "mat,", "tree.", "It's", "3", "o'clock", "and", "THE", "end")


def random_texts(count: int, seed: int) -> list[str]:
    draw = random.Random(seed)
    return [" ".join(draw.choices(WORDS, k=draw.randint(0, 30))) for _ in range(count)]


def test_rouge_equals_rouge_score_on_ascii_text() -> None:
    from rouge_score.rouge_scorer import RougeScorer

    outputs, first, second = (random_texts(60, seed) for seed in range(3))
    found = text_scores(outputs, list(zip(first, second, strict=True)))
    scorer = RougeScorer(["rouge1", "rouge2", "rougeL"])
    rows = [scorer.score_multi([a, b], output) for output, a, b in zip(outputs, first, second, strict=True)]
    for name in ("rouge1", "rouge2", "rougeL"):
        expected = sum(row[name].fmeasure for row in rows) / len(rows)
        assert 0.1 < expected < 0.9
        assert found[name] == pytest.approx(expected)


def test_bleu_and_chrf_equal_sacrebleu_with_a_varying_number_of_references() -> None:
    import sacrebleu

    outputs, first, second = (random_texts(40, seed) for seed in range(3))
    references = [[a, b] if i % 3 else [a] for i, (a, b) in enumerate(zip(first, second, strict=True))]
    found = score_texts(outputs, references)
    streams = [first, [b if i % 3 else None for i, b in enumerate(second)]]
    assert found.metrics["bleu"] == pytest.approx(sacrebleu.corpus_bleu(outputs, streams).score)
    assert found.metrics["chrf"] == pytest.approx(sacrebleu.corpus_chrf(outputs, streams).score)
    assert 1 < found.metrics["bleu"] < 90
    assert found.tally is not None
    for rows in (range(3), range(5, 20), [39]):
        some = found.tally.formulas(found.tally.counts[list(rows)].sum(0)[None])
        part = [outputs[i] for i in rows], [[one[i] for i in rows] for one in streams]
        assert some["bleu"][0] == pytest.approx(sacrebleu.corpus_bleu(*part).score)
        assert some["chrf"][0] == pytest.approx(sacrebleu.corpus_chrf(*part).score)
    assert "tok:13a" in found.signatures["bleu"]
    assert "nrefs:var" in found.signatures["chrf"]


def test_outputs_equal_to_their_references_have_the_best_scores() -> None:
    texts = ["a longer sentence with seven different words", "deux mots été déjà vus là-bas", "我们今天去学校看书"]
    found = text_scores(texts, [[text] for text in texts])
    expected = {"rouge1": 1, "rouge2": 1, "rougeL": 1, "exact_match": 1, "length_ratio": 1, "repetition": 0}
    assert {name: found[name] for name in expected} == pytest.approx(expected)
    assert found["bleu"] == pytest.approx(100)
    assert found["chrf"] == pytest.approx(100)


def test_empty_outputs_and_empty_references_are_scored() -> None:
    found = text_scores(["", "", "a b c"], [["a b c"], [""], [""]])
    assert found["rouge1"] == found["rougeL"] == found["bleu"] == 0
    assert found["exact_match"] == pytest.approx(1 / 3)
    assert found["length_ratio"] == 1
    assert text_scores([], []) == {}


def test_an_example_without_reference_is_an_error() -> None:
    with pytest.raises(ValueError, match="2 outputs"):
        text_scores(["a", "b"], [["a"], []])


@pytest.mark.parametrize(
    ("references", "tokenizer"),
    [
        (["The cat sat.", "Le chat était là."], "13a"),
        (["고양이가 매트 위에 앉았다."], "13a"),
        (["我今天用Python写了一个程序。"], "zh"),
        (["私は今日学校に行きました。"], "char"),
        (["แมวนั่งบนเสื่อ"], "char"),
        (["", "..."], "13a"),
    ],
)
def test_bleu_splits_scripts_without_spaces_by_their_own_tokenizer(references: list[str], tokenizer: str) -> None:
    assert bleu_tokenizer(references) == tokenizer
    assert f"tok:{tokenizer}" in score_texts(references, [[one] for one in references]).signatures["bleu"]


def test_words_read_the_letters_of_every_script() -> None:
    assert words("L'été déjà-vu, NAÏVE!") == ["l", "été", "déjà", "vu", "naïve"]
    assert words("e\u0301te\u0301") == ["été"]
    assert words("हिन्दी में") == ["हिन्दी", "में"]
    assert words("用Python写 1.5") == ["用", "python", "写", "1", "5"]
    assert words("...") == []
    assert text_scores(["我们去学校"], [["我们去公园"]])["rouge1"] == pytest.approx(3 / 5)


def test_sentences_end_with_punctuation_or_a_line() -> None:
    assert sentences('He left. "Why?" she asked! (No answer.) Then 3.5 km\nof road…  ') == [
        "He left.",
        '"Why?"',
        "she asked!",
        "(No answer.)",
        "Then 3.5 km",
        "of road…",
    ]
    assert sentences("我去学校。你呢？好！") == ["我去学校。", "你呢？", "好！"]
    assert sentences(" \n ") == []


def test_repetition_counts_word_sequences_that_occur_again() -> None:
    assert repetition("one two three") == 0
    assert repetition("one two three four five") == 0
    assert repetition("a b c d " * 25) == pytest.approx(1 - 4 / 97)


def test_exact_match_ignores_white_space_and_unicode_forms_but_not_case() -> None:
    found = text_scores([" e\u0301te\u0301\n deux", "Paris"], [["été deux"], ["paris", "Lyon"]])
    assert found["exact_match"] == 0.5


def test_the_length_ratio_takes_the_reference_of_the_closest_length() -> None:
    assert text_scores(["a b c d"], [["a", "a b c d e"]])["length_ratio"] == pytest.approx(4 / 5)


def test_the_common_subsequence_of_very_long_texts_is_exact() -> None:
    from rouge_score.rouge_scorer import _lcs_table

    draw = random.Random(0)
    first, second = (draw.choices("abcdefgh", k=size) for size in (300, 170))
    assert common_subsequence(first, second) == _lcs_table(first, second)[-1][-1]
    assert common_subsequence(["x"] * 50_000, ["x", "y"] * 20_000) == 20_000
    assert common_subsequence([], ["a"]) == 0


def test_without_the_packages_the_other_scores_remain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scores, "is_installed", lambda _name: False)
    found = score_texts(["a b"], [["a b"]])
    assert found.metrics == {"exact_match": 1, "length_ratio": 1, "repetition": 0}
    (note,) = found.notes
    assert "headway[text]" in note


def test_a_bleu_of_zero_for_want_of_words_is_explained() -> None:
    short = score_texts(["a red cat", "b"], [["a red cat"], ["b"]])
    assert short.metrics["bleu"] == 0
    assert "no output has 4 words" in short.notes[0]
    assert "chrf" in short.notes[0]
    assert score_texts(["a red cat sits"], [["x y z w"]]).notes == ()


def test_scoring_leaves_a_redirected_stderr_open_when_logging_is_configured():
    program = """
import contextlib, io, logging.config
from headway.tasks.text_to_text.scores import score_texts
shown = io.StringIO()
with contextlib.redirect_stderr(shown):
    score_texts(["a cat"], [["a cat"]])
logging.config.dictConfig({"version": 1})
assert not shown.closed
"""
    subprocess.run([sys.executable, "-c", program], check=True)
