"""SQuAD's scores against a second implementation of the published rules, on thousands of random cases."""

import random
import re
import string
from collections import Counter

import pytest
from headway.tasks.question_answering.squad_scores import (
    answer_scores,
    best_no_answer_threshold,
    normalize_answer,
    squad_scores,
)
from hypothesis import given, settings
from hypothesis import strategies as st

WORDS = [
    "the",
    "a",
    "an",
    "The",
    "cat",
    "Cat",
    "cats",
    "theatre",
    "U.S.",
    "us",
    "3.5",
    "35",
    "naïve",
    "İ",
    "ß",
    "東京",
]
PIECES = [*WORDS, ".", "-", "'s", "’", "—", " ", "  ", "\n", "\t", "\u00a0", "!?", '"']
texts = st.one_of(st.lists(st.sampled_from(PIECES), max_size=6).map("".join), st.text(max_size=12))
phrases = st.lists(st.sampled_from([*WORDS, "."]), min_size=1, max_size=5).map(" ".join)
answers = st.one_of(texts, phrases)


# A second implementation of the published rules.


def normalized(text: str) -> str:
    kept = "".join(sign for sign in text.lower() if sign not in set(string.punctuation))
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", kept, flags=re.UNICODE).split())


def f1_of(gold: str, found: str) -> float:
    there, given = normalized(gold).split(), normalized(found).split()
    shared = sum((Counter(there) & Counter(given)).values())
    if not there or not given:
        return float(there == given)
    if shared == 0:
        return 0.0
    precision, recall = shared / len(given), shared / len(there)
    return 2 * precision * recall / (precision + recall)


def raw_scores(found: str, gold: list[str]) -> tuple[float, float]:
    gold = [one for one in gold if normalized(one)] or [""]
    return max(float(normalized(one) == normalized(found)) for one in gold), max(f1_of(one, found) for one in gold)


def official(cases: list[tuple[str, list[str]]]) -> dict[str, float]:
    def mean(values: list[float]) -> float:
        return sum(values) / len(values)

    scored = [(raw_scores(found, gold), bool(gold)) for found, gold in cases]
    scores = {"exact": mean([one[0] for one, _ in scored]), "f1": mean([one[1] for one, _ in scored])}
    for name, kind in (("HasAns", True), ("NoAns", False)):
        part = [one for one, has_answer in scored if has_answer == kind]
        if part:
            scores |= {f"{name}_exact": mean([one[0] for one in part]), f"{name}_f1": mean([one[1] for one in part])}
    return scores


def best_score(cases: list[tuple[str, list[str], float]]) -> float:
    """The best mean F1 of any threshold, by adding questions in the order of their log-odds of no answer."""
    current = float(sum(not gold for _, gold, _ in cases))
    best = current
    for found, gold, _ in sorted(cases, key=lambda case: case[2]):
        current += raw_scores(found, gold)[1] if gold else (-1 if found else 0)
        best = max(best, current)
    return best / len(cases)


def random_text(chance: random.Random) -> str:
    return chance.choice(["", " "]).join(chance.choices(PIECES, k=chance.randrange(6)))


def random_cases(seed: int, files: int) -> list[list[tuple[str, list[str]]]]:
    """Files of questions with answers and gold answers; words repeat, so that many answers are partly correct."""
    chance = random.Random(seed)
    return [
        [
            (random_text(chance), [random_text(chance) for _ in range(chance.randrange(4))])
            for _ in range(chance.randrange(1, 9))
        ]
        for _ in range(files)
    ]


@settings(max_examples=300, deadline=None)
@given(answers, st.lists(answers, max_size=2))
def test_every_answer_has_the_published_score(answer, gold):
    assert normalize_answer(answer) == normalized(answer)
    assert answer_scores(answer, gold) == pytest.approx(raw_scores(answer, gold))


def test_the_scores_of_a_thousand_files_are_the_published_ones():
    names = {
        "f1": "f1",
        "exact_match": "exact",
        "has_answer_f1": "HasAns_f1",
        "has_answer_exact_match": "HasAns_exact",
        "no_answer_f1": "NoAns_f1",
    }
    agreed = Counter()
    for cases in random_cases(0, 1000):
        found = squad_scores([answer or None for answer, _ in cases], [gold for _, gold in cases])
        expected = official(cases)
        assert next(iter(found)) == "f1"  # it selects the best weights
        wanted = {ours: expected[theirs] for ours, theirs in names.items() if theirs in expected}
        assert found == pytest.approx(wanted, abs=1e-12)
        # For a question without an answer both scores are equal, so only one is reported.
        assert expected.get("NoAns_exact") == expected.get("NoAns_f1")
        agreed.update(answer_scores(*case)[1] for case in cases)
    assert len(agreed) > 10  # not only 0 and 1


def test_the_best_threshold_of_a_thousand_files_gives_the_published_best_score():
    chance = random.Random(1)
    for cases in random_cases(2, 1000):
        # The published search does not allow answers that are empty after normalization.
        kept = [
            (answer, gold) for answer, gold in cases if normalized(answer) and all(normalized(one) for one in gold)
        ]
        if not kept:
            continue
        odds = [one / 100 for one in chance.sample(range(-1000, 1000), len(kept))]
        threshold = best_no_answer_threshold(
            odds,
            [answer_scores(answer, gold)[1] for answer, gold in kept],
            [answer_scores(None, gold)[1] for _, gold in kept],
        )
        given = [answer if one <= threshold else None for (answer, _), one in zip(kept, odds, strict=True)]
        best = best_score([(answer, gold, one) for (answer, gold), one in zip(kept, odds, strict=True)])
        assert squad_scores(given, [gold for _, gold in kept])["f1"] == pytest.approx(best)


def test_no_threshold_separates_equal_log_odds():
    threshold = best_no_answer_threshold([0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 1.0])
    assert not 0 < threshold < 0.5  # answering only one of the two is impossible
    assert best_no_answer_threshold([1.0, 3.0], [1.0, 0.0], [0.0, 1.0]) == 2.0


def test_an_answer_to_an_unanswerable_question_is_wrong():
    assert squad_scores(["cat", None], [[], []]) == {"f1": 0.5, "exact_match": 0.5, "no_answer_f1": 0.5}
    assert squad_scores([None], [["cat"]])["has_answer_f1"] == 0.0
