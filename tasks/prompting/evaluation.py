"""Scores a prompt over several choices and orders of its demonstrations, and compares it with baselines.

Perez et al. 2021, "True Few-Shot Learning with Language Models" (https://arxiv.org/abs/2105.11447): the score of a
single prompt says little, so scores are means with a confidence interval. It is Student's t interval over the seeds.
Orders of the same demonstrations are not independent, so a seed counts with the mean over its orders; with a single
seed, the interval is over the orders.

Labels are compared with the most common one; generated answers also with outputs that cost nothing
(../text_to_text/baselines.py).
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from ..classification.predictions import LabelPrediction, LabelsPrediction, TextExample
from ..data.places import shorten
from ..tallies import tally_label_sets, tally_labels
from ..text_to_text.baselines import BASELINES, baseline_outputs
from ..text_to_text.scores import SCALES, TextScores, score_texts
from .demonstrations import BALANCED, RANDOM
from .predictions import WrittenAnswer
from .prepared_prompt import PreparedPrompt

CONFIDENCE = 0.95
ENOUGH_TO_TRAIN = 100  # labelled examples from which fine-tuning usually beats a prompt
METRICS = {"single": ("accuracy", "f1"), "multi": ("f1", "f1_macro")}
WRITTEN = ("rougeL", "chrf", "bleu", "exact_match")  # those that are installed


@dataclass(frozen=True)
class Figure:
    """A metric over several runs."""

    mean: float
    low: float | None  # of the confidence interval; None after a single run
    high: float | None
    worst: float
    best: float


@dataclass(frozen=True)
class PromptEvaluation:
    """The scores of a prompt on labelled data."""

    figures: dict[str, dict[str, Figure]]  # "calibrated", "uncalibrated", ... -> metric -> figure
    runs: list[dict[str, Any]]  # seed, order and metrics of each run
    verdict: tuple[str, ...]  # conclusions, one sentence each
    examples: Sequence[TextExample]
    predictions: list[Any]  # of the first seed, as `predict` gives them
    notes: tuple[str, ...] = ()
    signatures: dict[str, str] = field(default_factory=dict)  # of the scores of generated answers

    def to_json(self) -> dict[str, Any]:
        """Everything but the examples and predictions, as plain JSON types."""
        figures = {
            row: {name: asdict(figure) for name, figure in measures.items()} for row, measures in self.figures.items()
        }
        found = {"figures": figures, "runs": self.runs, "verdict": list(self.verdict), "examples": len(self.examples)}
        return found | ({"signatures": self.signatures} if self.signatures else {})


def evaluate_prompt(prompt: PreparedPrompt, texts: Sequence[TextExample], num_seeds: int) -> PromptEvaluation:
    """Scores a prompt.

    Args:
        prompt: with its labels and examples.
        texts: labelled queries.
        num_seeds: choices of demonstrations, starting at the seed of the prompt.
    """
    # Another seed has no effect without demonstrations, or if they are always the same.
    varies = bool(prompt.runner.shots) and prompt.runner.choice in (RANDOM, BALANCED)
    scores: dict[str, list[list[dict[str, float]]]] = {}  # row of the table -> seed -> order -> metrics
    runs: list[dict[str, Any]] = []
    first: list[Any] = []
    dropped = [0] * len(texts)  # the largest number over the seeds
    for seed in range(prompt.seed, prompt.seed + (num_seeds if varies else 1)):
        predictions, dropped_now = _predict(prompt, texts, seed)
        dropped = list(map(max, dropped, dropped_now))
        first = first or next(iter(predictions.values()))[0]
        for row, by_order in predictions.items():
            found = [_score(prompt, one, texts) for one in by_order]
            scores.setdefault(row, []).append(found)
            runs += [{"seed": seed, "order": i, "answers": row, **one} for i, one in enumerate(found)]
    prompt.dropped.extend(dropped)
    figures = {row: _figures(by_seed) for row, by_seed in scores.items()}
    baselines = {name: _figures([[_score(prompt, one, texts)]]) for name, one in _baselines(prompt, texts).items()}
    verdict = _verdict(figures, baselines, len(prompt.runner.examples))
    scored = _score_written(first, texts) if prompt.reader.writes else TextScores({})
    return PromptEvaluation(figures | baselines, runs, verdict, texts, first, scored.notes, scored.signatures)


def _predict(
    prompt: PreparedPrompt, texts: Sequence[TextExample], seed: int
) -> tuple[dict[str, list[list[Any]]], list[int]]:
    """Row of the table -> order -> predictions, the first of which `predict` gives; and the dropped demonstrations."""
    if prompt.reader.writes:
        answers, dropped = prompt.write(texts, seed)
        return {"written": [answers]}, dropped
    found = prompt.label_probabilities(texts, seed)
    probabilities, prior = found.probabilities, found.prior
    orders = [slice(i, i + 1) for i in range(len(probabilities))]
    rows: dict[str, list[list[Any]]] = {}
    if len(orders) > 1:
        rows[f"mean of {len(orders)} orders"] = [prompt.predictions(probabilities, prior)]
    if prior is not None:
        rows["calibrated"] = [prompt.predictions(probabilities[one], prior[one]) for one in orders]
    rows["uncalibrated"] = [prompt.predictions(probabilities[one], None) for one in orders]
    return rows, found.dropped


def _score(prompt: PreparedPrompt, predictions: Sequence[Any], texts: Sequence[TextExample]) -> dict[str, float]:
    gold = [text.label for text in texts]
    if prompt.reader.writes:
        found = _score_written(predictions, texts).metrics
        return {name: found[name] for name in WRITTEN if name in found}
    if prompt.multi_label:
        tally, kind = tally_label_sets([one.labels for one in predictions], gold, prompt.labels), "multi"
    else:
        tally, kind = tally_labels(predictions, gold, prompt.labels), "single"
    found = tally.metrics()
    return {name: found[name] for name in METRICS[kind]}


def _score_written(answers: Sequence[WrittenAnswer], texts: Sequence[TextExample]) -> TextScores:
    """All scores of generated answers; the references of a text are the answers of all rows with this text."""
    references: dict[tuple[str, ...], list[str]] = {}
    for text in texts:
        references.setdefault(text.texts, []).append(str(text.label))
    return score_texts([one.answer for one in answers], [references[text.texts] for text in texts])


def _baselines(prompt: PreparedPrompt, texts: Sequence[TextExample]) -> dict[str, list[Any]]:
    """Predictions that cost nothing, by their names: the most common label or answer, and outputs from the input."""
    label, constant = _majority_baseline(prompt, texts)
    found = {f"always {shorten(label)}": constant}
    if prompt.reader.writes:
        examples = [(example.text, str(example.label)) for example in prompt.runner.examples]
        outputs = baseline_outputs([text.text for text in texts], examples, prompt.seed)
        found |= {name: [WrittenAnswer(one, 0.0, "length") for one in given] for name, given in outputs.items()}
    return found


def _majority_baseline(prompt: PreparedPrompt, texts: Sequence[TextExample]) -> tuple[str, list[Any]]:
    """The most common label or answer, and a prediction of it for every text."""
    counts = Counter(label for text in texts for label in text.labels)
    label = counts.most_common(1)[0][0] if counts else prompt.labels[0]
    if prompt.reader.writes:
        prediction = WrittenAnswer(label, 0.0, "length")
    elif prompt.multi_label:
        prediction = LabelsPrediction((label,), {})
    else:
        prediction = LabelPrediction(label, 1.0, {})
    return label, [prediction] * len(texts)


def _figures(by_seed: Sequence[Sequence[Mapping[str, float]]]) -> dict[str, Figure]:
    """Each metric over all runs; `by_seed` is seed -> order -> metrics."""
    return {
        name: _figure([[one[name] for one in orders] for orders in by_seed], SCALES.get(name, 1.0))
        for name in by_seed[0][0]
    }


def _figure(by_seed: Sequence[Sequence[float]], best: float) -> Figure:
    values = [value for orders in by_seed for value in orders]
    samples = np.array([np.mean(orders) for orders in by_seed] if len(by_seed) > 1 else by_seed[0])
    mean = float(samples.mean())
    if len(samples) == 1:
        return Figure(mean, None, None, min(values), max(values))
    from scipy.special import stdtrit  # Student's quantile; importing scipy.stats takes seconds

    half = float(stdtrit(len(samples) - 1, (1 + CONFIDENCE) / 2) * samples.std(ddof=1) / len(samples) ** 0.5)
    return Figure(mean, max(0.0, mean - half), min(best, mean + half), min(values), max(values))


def _verdict(
    figures: Mapping[str, Mapping[str, Figure]], baselines: Mapping[str, Mapping[str, Figure]], num_examples: int
) -> tuple[str, ...]:
    """Whether the prompt beats the best baseline, and whether there is enough data to train."""
    (name, ours), *_ = next(iter(figures.values())).items()
    best, found = max(baselines.items(), key=lambda one: one[1][name].mean)
    baseline = found[name].mean
    other = BASELINES.get(best) or best.replace("always ", "always answering ", 1)
    lower = ours.mean if ours.low is None else ours.low
    metric = name.replace("_", " ")
    if lower > baseline:
        verdict = f"The prompt beats {other} ({metric} {ours.mean:.3f} against {baseline:.3f})."
        if ours.low is None:
            verdict += " A single run has no interval and says little."
    else:
        interval = "" if ours.low is None else f", interval from {ours.low:.3f}"
        verdict = (
            f"The prompt is no better than {other} ({metric} {ours.mean:.3f}{interval}, against {baseline:.3f}): do "
            "not rely on it."
        )
    advice = (
        f"There are {num_examples:,} labelled examples: fine-tuning is worth it (headway train)."
        if num_examples >= ENOUGH_TO_TRAIN
        else f"With {ENOUGH_TO_TRAIN} labelled examples or more, fine-tuning usually gives better results (headway "
        "train)."
    )
    return verdict, advice
