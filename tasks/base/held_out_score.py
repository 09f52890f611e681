"""Scores on held-out examples, and what was chosen on them.

Thresholds and temperatures are fitted to evaluation examples. Scored on the same examples, they look better than they
are: a label that says nothing would score above chance. So there the metrics are cross-fitted: each example is scored
with what was fitted to the other folds. The model keeps what was fitted to all. Test examples are scored with that.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch import nn

from ..data.folds import folds_of
from ..data.spool import select
from .inference import evaluate_examples, mean_loss
from .score_notes import CROSS_FITTED, HELD_OUT, TEST
from .task import Task
from .training_data import CorpusData, LabelledData


@dataclass(frozen=True)
class HeldOutScore:
    """Predictions for held-out examples, with their metrics.

    Args:
        task: with what was fitted to all examples.
        predictions: one per example.
        metrics: of the predictions, with the loss.
        metrics_from: TEST, CROSS_FITTED or HELD_OUT (nothing was fitted).
        fitted: the predictions of `task`; they differ from `predictions` where these are cross-fitted.
        calibrated: what was fitted, as `Task.calibrated` says it.
    """

    task: Task[Any, Any]
    predictions: list[Any]
    metrics: dict[str, float]
    metrics_from: str
    fitted: list[Any]
    calibrated: str = ""


def score_evaluation(task: Task[Any, Any], network: nn.Module, data: LabelledData | CorpusData) -> HeldOutScore:
    """Calibrates a task on the examples for evaluation, and scores them cross-fitted.

    Args:
        task: not calibrated yet.
        network: in eval mode.
        data: for evaluation.
    """
    found, loss, count = evaluate_examples(task, network, data.windows_by_example)
    score = cross_fit(task, found, data.examples, data.groups)
    return replace(score, metrics=score.metrics | mean_loss(loss, count))


def score_test(task: Task[Any, Any], network: nn.Module, data: LabelledData | CorpusData) -> HeldOutScore:
    """Scores the test examples, which choose nothing, with a calibrated task."""
    found, loss, count = evaluate_examples(task, network, data.windows_by_example)
    metrics = task.score(found, data.examples) | mean_loss(loss, count)
    return HeldOutScore(task, found, metrics, TEST, found)


def cross_fit(
    task: Task[Any, Any], predictions: Sequence[Any], examples: Sequence[Any], groups: np.ndarray | None = None
) -> HeldOutScore:
    """The task calibrated on all examples, and each prediction as a task makes it that is calibrated on other folds.

    Args:
        task: that made the predictions, not calibrated yet.
        predictions: one per example.
        examples: with their labels.
        groups: the number of the group of each example, (E,): a group is in one fold. None: no example belongs to
            another one.
    """
    calibrated = task.calibrate(predictions, examples)
    found, fitted = list(predictions), _what_is_fitted(calibrated, task)
    if type(task).calibrate is not Task.calibrate:
        folds = folds_of(np.arange(len(examples)) if groups is None else groups)
        for fold in range(folds.max(initial=0) + 1):
            others, rows = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold).tolist()
            if not len(others):
                break  # one group: there is nothing else to calibrate on
            part = task.calibrate(_at(predictions, others), _at(examples, others))
            fitted = fitted or _what_is_fitted(part, task)
            for row, one in zip(rows, task.recalibrate([predictions[row] for row in rows], part), strict=True):
                found[row] = one
    metrics = calibrated.score(found, examples)
    metrics_from = CROSS_FITTED if fitted else HELD_OUT
    return HeldOutScore(calibrated, found, metrics, metrics_from, task.recalibrate(predictions, calibrated), fitted)


def _what_is_fitted(calibrated: Task[Any, Any], before: Task[Any, Any]) -> str:
    return "" if calibrated == before else calibrated.calibrated or "the calibration"


def _at(items: Sequence[Any], positions: np.ndarray) -> Sequence[Any]:
    return select(items, positions.tolist())
