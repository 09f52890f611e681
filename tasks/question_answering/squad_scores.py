"""Exact match and F1 of answers, by the rules of the official SQuAD scripts (Rajpurkar et al. 2016 and 2018).

https://rajpurkar.github.io/SQuAD-explorer/: evaluate-v2.0.py. Version 1.1 differs in nothing but answers of which
normalisation leaves nothing ("the"), which match each other here. All figures are fractions, from 0 to 1; the
official scripts print them times 100.
"""

import re
import string
from collections import Counter
from collections.abc import Sequence

import numpy as np

ARTICLES = re.compile(r"\b(a|an|the)\b")
WITHOUT_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalize_answer(text: str) -> str:
    """Lower case, without ASCII punctuation and English articles, single spaces."""
    return " ".join(ARTICLES.sub(" ", text.lower().translate(WITHOUT_PUNCTUATION)).split())


def answer_scores(answer: str | None, gold: Sequence[str]) -> tuple[float, float]:
    """Exact match and F1 over words, each against the gold answer that fits it best.

    Args:
        answer: None for no answer.
        gold: the answers that are right; none where there is no answer in the context.
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
    """F1 and exact match over all questions; over those with an answer, and over those without, where there are any.

    Of a question without an answer F1 and exact match are the same: 1 if none is given.
    """
    pairs = [answer_scores(answer, right) for answer, right in zip(answers, gold, strict=True)]
    answerable = np.array([bool(right) for right in gold])
    exact, f1 = np.array(pairs).reshape(-1, 2).T
    figures = {"f1": f1, "exact_match": exact}
    if answerable.any():
        figures |= {"has_answer_f1": f1[answerable], "has_answer_exact_match": exact[answerable]}
    if not answerable.all():
        figures["no_answer_f1"] = f1[~answerable]
    return {name: float(values.mean()) for name, values in figures.items()}


def best_threshold(differences: Sequence[float], answered: Sequence[float], declined: Sequence[float]) -> float:
    """Up to which difference an answer should be given, for the best mean score.

    Args:
        differences: of each question, how much surer the model is of no answer than of its best answer.
        answered: the score of each question's best answer.
        declined: the score of giving none.

    Returns:
        The middle between two of the differences; 1 beyond them where all questions, or none, should be answered.
    """
    order = np.argsort(np.asarray(differences, dtype=float), kind="stable")
    ranked = np.asarray(differences, dtype=float)[order]
    gains = (np.asarray(answered, dtype=float) - np.asarray(declined, dtype=float))[order]
    totals = np.concatenate([[0.0], np.cumsum(gains)])  # by how many are answered, the surest first
    totals[1:-1][ranked[1:] == ranked[:-1]] = -np.inf  # a threshold cannot fall between equals
    edges = np.concatenate([[ranked[0] - 2], ranked, [ranked[-1] + 2]])
    count = int(np.argmax(totals))
    return float((edges[count] + edges[count + 1]) / 2)
