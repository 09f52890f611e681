"""Exact match and F1 of answers by the rules of the official SQuAD scripts (Rajpurkar et al. 2016 and 2018).

https://rajpurkar.github.io/SQuAD-explorer/: evaluate-v2.0.py. Version 1.1 gives the same scores except for answers
that are empty after normalization ("the"), which are equal to each other here. All scores are between 0 and 1; the
official scripts print percentages.
"""

import re
import string
from collections import Counter
from collections.abc import Sequence

import numpy as np

from ..tallies import Tally, tally_means

ARTICLES = re.compile(r"\b(a|an|the)\b")
WITHOUT_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalize_answer(text: str) -> str:
    """Lower case, without ASCII punctuation and English articles, single spaces."""
    return " ".join(ARTICLES.sub(" ", text.lower().translate(WITHOUT_PUNCTUATION)).split())


def answer_scores(answer: str | None, gold: Sequence[str]) -> tuple[float, float]:
    """Exact match and F1 over words, each the best over the gold answers.

    Args:
        answer: None for no answer.
        gold: the gold answers; empty if the context has no answer.
    """
    words = normalize_answer(answer or "").split()
    truths = [truth for one in gold if (truth := normalize_answer(one).split())] or [[]]
    return float(words in truths), max(_f1(words, truth) for truth in truths)


def _f1(words: Sequence[str], truth: Sequence[str]) -> float:
    if not words or not truth:
        return float(words == truth)
    common = sum((Counter(words) & Counter(truth)).values())
    return 2 * common / (len(words) + len(truth))


def squad_scores(answers: Sequence[str | None], gold: Sequence[Sequence[str]]) -> dict[str, float]:
    """F1 and exact match over all questions, over those with an answer and over those without, if there are any.

    For a question without an answer, F1 and exact match are the same: 1 if no answer is predicted.
    """
    return tally_answers(answers, gold).metrics()


def tally_answers(answers: Sequence[str | None], gold: Sequence[Sequence[str]]) -> Tally:
    """The scores of each question; the arguments are as in `squad_scores`."""
    pairs = [answer_scores(answer, truths) for answer, truths in zip(answers, gold, strict=True)]
    answerable = np.array([bool(truths) for truths in gold])
    exact, f1 = np.array(pairs).reshape(-1, 2).T
    scores = {
        "f1": f1,
        "exact_match": exact,
        "has_answer_f1": np.where(answerable, f1, np.nan),
        "has_answer_exact_match": np.where(answerable, exact, np.nan),
        "no_answer_f1": np.where(answerable, np.nan, f1),
    }
    return tally_means(scores, of_01=["exact_match"])


def best_no_answer_threshold(log_odds: Sequence[float], answered: Sequence[float], declined: Sequence[float]) -> float:
    """The log-odds of no answer up to which an answer should be given, for the best mean score.

    Args:
        log_odds: of no answer against the best answer, for each question.
        answered: the score of each question's best answer.
        declined: the score of no answer.

    Returns:
        The middle between two neighbouring log-odds; 1 beyond them if all questions, or none, should be answered.
    """
    order = np.argsort(np.asarray(log_odds, dtype=float), kind="stable")
    ranked = np.asarray(log_odds, dtype=float)[order]
    gains = (np.asarray(answered, dtype=float) - np.asarray(declined, dtype=float))[order]
    totals = np.concatenate([[0.0], np.cumsum(gains)])  # by the number of answered questions
    totals[1:-1][ranked[1:] == ranked[:-1]] = -np.inf  # no threshold separates equal log-odds
    edges = np.concatenate([[ranked[0] - 2], ranked, [ranked[-1] + 2]])
    count = int(np.argmax(totals))
    return float((edges[count] + edges[count + 1]) / 2)
