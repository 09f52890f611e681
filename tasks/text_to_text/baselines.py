"""What costs nothing to write: outputs that a trained model has to beat, and a table of all scores.

| baseline | its output |
|---|---|
| copy | the input |
| lead_3 | the first three sentences of the input |
| random_3 | three random sentences of the input, in their order |
| nearest | the output of the most similar training input, by the cosine of TF-IDF vectors of words |
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import numpy as np

from ..base.baseline import FEWEST_TO_TEST, SIGNIFICANT, Baseline, paired
from .scores import normalize, similarity, text_scores
from .words import sentences, words

SENTENCES = 3
MAX_TRAINING_ROWS = 50_000  # to search in
MAX_FEATURES = 200_000  # words of the vectors
MAX_WORDS = 2_000  # of a text
MAX_SIMILARITIES = 4_000_000  # computed at once
MODEL = "model"
BASELINES = {
    "copy": "copying the input",
    "lead_3": "the first three sentences of the input",
    "random_3": "three random sentences of the input",
    "nearest": "the output of the most similar example",
}
METRIC = "chrf"  # sorts the table: it needs no tokenizer, so it suits every language


def copy(inputs: Sequence[str]) -> list[str]:
    """The inputs."""
    return list(inputs)


def lead(inputs: Sequence[str], count: int = SENTENCES) -> list[str]:
    """The first sentences of each input."""
    return [" ".join(sentences(text)[:count]) for text in inputs]


def random_sentences(inputs: Sequence[str], count: int = SENTENCES, seed: int = 0) -> list[str]:
    """Random sentences of each input, in their order."""
    random, found = Random(seed), []
    for text in inputs:
        parts = sentences(text)
        chosen = sorted(random.sample(range(len(parts)), min(count, len(parts))))
        found.append(" ".join(parts[i] for i in chosen))
    return found


def nearest(
    inputs: Sequence[str], training_inputs: Sequence[str], training_outputs: Sequence[str], seed: int = 0
) -> list[str]:
    """The output of the training example whose input is the most similar to each input.

    The vectors are sparse; of more than MAX_TRAINING_ROWS examples, that many random ones are searched.

    Args:
        inputs: texts.
        training_inputs: one or more texts.
        training_outputs: as many.
        seed: of the choice among many examples.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    chosen = range(len(training_inputs))
    if len(chosen) > MAX_TRAINING_ROWS:
        chosen = sorted(Random(seed).sample(chosen, MAX_TRAINING_ROWS))
    options: dict[str, Any] = {"analyzer": _features, "max_features": MAX_FEATURES, "dtype": np.float32}
    vectorizer = TfidfVectorizer(**options)
    training = vectorizer.fit_transform(training_inputs[i] for i in chosen).T.tocsr()
    step = max(1, MAX_SIMILARITIES // len(chosen))
    found: list[str] = []
    for start in range(0, len(inputs), step):
        similarity = vectorizer.transform(inputs[start : start + step]) @ training
        best: list[int] = np.asarray(similarity.argmax(axis=1)).ravel().tolist()  # of equal ones the first
        found += [training_outputs[chosen[i]] for i in best]
    return found


def _features(text: str) -> list[str]:
    """The words of a text; of one without words, the text."""
    return words(text)[:MAX_WORDS] or [text]


def baseline_outputs(
    inputs: Sequence[str], training: Sequence[tuple[str, str]] = (), seed: int = 0
) -> dict[str, list[str]]:
    """The outputs of every baseline by its name, one of BASELINES.

    Args:
        inputs: of the examples. If all have three sentences or fewer, lead_3 and random_3 are the same as copy and
            left out.
        training: (input, output) of training examples, for the nearest one.
        seed: of the random sentences.
    """
    found = {"copy": copy(inputs), "lead_3": lead(inputs), "random_3": random_sentences(inputs, seed=seed)}
    for name in ("lead_3", "random_3"):
        if list(map(normalize, found[name])) == list(map(normalize, inputs)):
            del found[name]
    if training:
        found["nearest"] = nearest(inputs, [one for one, _ in training], [one for _, one in training], seed=seed)
    return found


def compare_with_baselines(
    outputs: Sequence[str],
    inputs: Sequence[str],
    references: Sequence[Sequence[str]],
    training: Sequence[tuple[str, str]] = (),
    *,
    score: Callable[[Sequence[str], Sequence[Sequence[str]]], dict[str, float]] = text_scores,
    metric: str = METRIC,
) -> list[dict[str, Any]]:
    """The scores of a model beside those of the baselines, best first.

    Each row has `outputs`, a name from BASELINES or MODEL, then the score that sorts the rows, then the others.

    Args:
        outputs: of the model.
        inputs: of the examples.
        references: one or more per example.
        training: (input, output) of training examples, for the nearest one.
        score: computes the scores.
        metric: sorts the rows; the first score if it is missing, because its package is.
    """
    rows = [
        {"outputs": name, **score(texts, references)}
        for name, texts in {MODEL: outputs, **baseline_outputs(inputs, training)}.items()
    ]
    by = metric if metric in rows[0] else next(name for name in rows[0] if name != "outputs")
    rows = [{"outputs": row["outputs"], by: row[by], **row} for row in rows]
    return sorted(rows, key=lambda row: row[by], reverse=True)


@dataclass(frozen=True)
class OutputBaseline(Baseline):
    """The generated outputs beside the best of the other outputs (`constant`).

    `deviations` are of the outputs' similarity to their own references above that to the references of other inputs.
    """

    @property
    def complaint(self) -> str | None:
        """A sentence, if a baseline is at least as good, or if the outputs might belong to other inputs as well."""
        by_chance = self.deviations < SIGNIFICANT
        scores = f"{self.metric} {self.score:.3f} on {self.num_examples:,} outputs"
        if self.score <= self.constant_score:
            follow = "" if by_chance else " The outputs do follow their inputs."
            nothing = "Nothing was learnt: " * by_chance
            return f"{nothing}{scores} is no better than {self.constant} ({self.constant_score:.3f}).{follow}"
        if by_chance and self.num_examples >= FEWEST_TO_TEST:
            return f"Nothing was learnt that could not be chance: the outputs fit other inputs as well ({scores})."
        return None


def best_baseline(
    comparison: Sequence[Mapping[str, Any]], outputs: Sequence[str], references: Sequence[Sequence[str]]
) -> OutputBaseline:
    """The outputs of a model beside the best baseline.

    Args:
        comparison: from `compare_with_baselines`.
        outputs: of the model.
        references: one or more per example.
    """
    _, by, *_ = comparison[0]
    score = next(row[by] for row in comparison if row["outputs"] == MODEL)
    best = next(row for row in comparison if row["outputs"] != MODEL)
    own = [similarity(*one) for one in zip(outputs, references, strict=True)]
    others = [similarity(*one) for one in zip(outputs, [*references[1:], references[0]], strict=True)]
    return OutputBaseline(BASELINES[best["outputs"]], by, score, best[by], paired(own, others), len(outputs))
