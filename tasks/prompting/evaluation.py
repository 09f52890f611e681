"""How good a prompt is, over several choices and orders of its worked examples, and whether it is worth anything.

Perez et al. 2021, "True Few-Shot Learning with Language Models" (https://arxiv.org/abs/2105.11447): one lucky prompt
says nothing, so figures are means with a confidence interval. It is Student's over the seeds (orders of the same
examples are no independent tries, so a seed counts with the mean of its orders), or over the orders where one seed is
all there is. The measure to beat is always giving the commonest answer.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ...core.errors import HeadwayError
from .. import metrics
from ..classification.predictions import LabelPrediction, LabelsPrediction, TextExample
from ..data.labels import SEVERAL
from ..data.read import read_table
from ..question_answering.squad_scores import squad_scores
from .answers import WrittenAnswer, one_label, several_labels
from .demonstrations import BALANCED, RANDOM
from .model import PreparedPrompt, PromptModel

CONFIDENCE = 0.95
ENOUGH_TO_TRAIN = 100  # labelled examples, from where fine-tuning as a rule does better than a prompt
METRICS = {"one": ("accuracy", "f1"), "several": ("f1", "f1_macro"), "written": ("exact_match", "f1")}


@dataclass(frozen=True)
class Figure:
    """A measure over several runs."""

    mean: float
    low: float | None  # of the confidence interval; None where there was one run
    high: float | None
    worst: float
    best: float


@dataclass(frozen=True)
class PromptEvaluation:
    """How a prompt does on labelled data."""

    figures: dict[str, dict[str, Figure]]  # "calibrated", "uncalibrated", ... -> measure -> figure
    runs: list[dict[str, Any]]  # seed and order of each, with its measures
    verdict: tuple[str, ...]  # what to make of it, a sentence each
    examples: list[TextExample]
    predictions: list[Any]  # of the first seed, as `predict` gives them
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Figures, runs and verdict, without the examples themselves."""
        figures = {
            row: {name: asdict(figure) for name, figure in measures.items()} for row, measures in self.figures.items()
        }
        return {"figures": figures, "runs": self.runs, "verdict": list(self.verdict), "examples": len(self.examples)}


def evaluate_prompt(
    model: PromptModel,
    data: Any,
    examples: Any,
    seeds: int,
    columns: Mapping[str, Any],
    unlabelled: Any,
    header: bool | None,
) -> PromptEvaluation:
    """As `PromptModel.evaluate`."""
    if not isinstance(seeds, int) or seeds < 1:
        raise HeadwayError(f"--seeds {seeds}: a whole number, 1 or more.")
    table = read_table(data, header=header)
    settled = model.columns(table, columns, None, need_label=True)
    asked = model.ask(
        examples, columns, unlabelled=unlabelled, paired="pair" in settled.texts, header=header, data=table
    )
    texts = model.labelled_texts(table, settled, asked)
    # Another seed changes nothing where no example is shown, or where it is settled which.
    varies = bool(asked.questions.shots) and model.prompt.choice in (RANDOM, BALANCED)
    measured: dict[str, list[list[dict[str, float]]]] = {}  # row -> seed -> order -> measures
    runs: list[dict[str, Any]] = []
    first: list[Any] = []
    left_out = [0] * len(texts)  # the most over the seeds: each text is told of once
    for seed in range(model.prompt.seed, model.prompt.seed + (seeds if varies else 1)):
        model.left_out = []
        found = _answers(model, asked, texts, seed)
        left_out = list(map(max, left_out, model.left_out))
        first = first or next(iter(found.values()))[-1]
        for row, of_orders in found.items():
            figures = [_measure(asked, answers, texts) for answers in of_orders]
            measured.setdefault(row, []).append(figures)
            runs += [{"seed": seed, "order": i, "answers": row, **one} for i, one in enumerate(figures)]
    model.left_out = left_out
    figures = {row: _figures(of_seeds) for row, of_seeds in measured.items()}
    commonest, baseline = _commonest(asked, texts)
    figures[f"always {commonest}"] = _figures([[_measure(asked, baseline, texts)]])
    verdict = _verdict(figures, len(asked.questions.examples), commonest)
    notes = (f"{table.source}: {len(texts)} rows, {table.kind}", *settled.notes, *asked.notes, *model.remarks)
    return PromptEvaluation(figures, runs, verdict, texts, first, notes)


def _answers(
    model: PromptModel, asked: PreparedPrompt, texts: Sequence[TextExample], seed: int
) -> dict[str, list[list[Any]]]:
    """What there is to measure -> order -> answers; the first of them is what `predict` gives."""
    if model.prompt.writes:
        return {"written": [list(model.write(asked, texts, seed))]}
    shares, prior = model.shares(asked, texts, seed)
    answers = several_labels if asked.problem_type == SEVERAL else one_label
    by_order = [slice(i, i + 1) for i in range(len(shares))]
    found: dict[str, list[list[Any]]] = {}
    if prior is not None:
        found["calibrated"] = [list(answers(asked.labels, shares[one], prior[one])) for one in by_order]
    if len(shares) > 1:
        found = {f"mean of {len(shares)} orders": [list(answers(asked.labels, shares, prior))], **found}
    found["uncalibrated"] = [list(answers(asked.labels, shares[one], None)) for one in by_order]
    return found


def _measure(asked: PreparedPrompt, answers: Sequence[Any], texts: Sequence[TextExample]) -> dict[str, float]:
    gold = [text.label for text in texts]
    if not asked.labels:
        figures, kind = squad_scores([one.answer for one in answers], [[str(label)] for label in gold]), "written"
    elif asked.problem_type == SEVERAL:
        figures, kind = metrics.multi_label_metrics([one.labels for one in answers], gold, asked.labels), "several"
    else:
        figures, kind = metrics.single_label_metrics(answers, gold, asked.labels), "one"
    return {name: figures[name] for name in METRICS[kind]}


def _commonest(asked: PreparedPrompt, texts: Sequence[TextExample]) -> tuple[str, list[Any]]:
    """The commonest label or answer in the data, and giving it every time."""
    counts = Counter(label for text in texts for label in text.labels)
    label = counts.most_common(1)[0][0] if counts else asked.labels[0]
    if not asked.labels:
        answer = WrittenAnswer(label, 0.0, "length")
    elif asked.problem_type == SEVERAL:
        answer = LabelsPrediction((label,), {})
    else:
        answer = LabelPrediction(label, 1.0, {})
    return label, [answer] * len(texts)


def _figures(of_seeds: Sequence[Sequence[Mapping[str, float]]]) -> dict[str, Figure]:
    """Each measure over all runs: seed -> order -> measures."""
    return {name: _figure([[one[name] for one in orders] for orders in of_seeds]) for name in of_seeds[0][0]}


def _figure(of_seeds: Sequence[Sequence[float]]) -> Figure:
    values = [value for orders in of_seeds for value in orders]
    tries = np.array([np.mean(orders) for orders in of_seeds] if len(of_seeds) > 1 else of_seeds[0])
    mean = float(tries.mean())
    if len(tries) == 1:
        return Figure(mean, None, None, min(values), max(values))
    from scipy.special import stdtrit  # Student's quantile, without the seconds that importing scipy.stats takes

    half = float(stdtrit(len(tries) - 1, (1 + CONFIDENCE) / 2) * tries.std(ddof=1) / len(tries) ** 0.5)
    return Figure(mean, max(0.0, mean - half), min(1.0, mean + half), min(values), max(values))


def _verdict(figures: Mapping[str, Mapping[str, Figure]], examples: int, commonest: str) -> tuple[str, ...]:
    (name, ours), *_ = next(iter(figures.values())).items()
    bar = figures[f"always {commonest}"][name].mean
    least = ours.mean if ours.low is None else ours.low
    shown = name.replace("_", " ")
    if least > bar:
        told = f"The prompt beats always answering {commonest} ({shown} {ours.mean:.3f} against {bar:.3f})."
        if ours.low is None:
            told += " One run says little: there is no interval."
    else:
        told = (
            f"The prompt is no better than always answering {commonest} ({shown} {ours.mean:.3f}"
            f"{'' if ours.low is None else f', interval from {ours.low:.3f}'}, against {bar:.3f}): do not rely on it."
        )
    train = (
        f"There are {examples:,} labelled examples: fine-tuning is worth it (headway train)."
        if examples >= ENOUGH_TO_TRAIN
        else f"With {ENOUGH_TO_TRAIN} labelled examples or more, fine-tuning is as a rule better (headway train)."
    )
    return told, train
