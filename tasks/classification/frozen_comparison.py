"""What --frozen would give, measured before a classifier for many labels is fine-tuned.

With many labels, each has few rows, and fine-tuning needs many steps before it is as good as logistic regression on
the features of the unchanged model. The features cost one forward pass over the rows: a tenth of three epochs.
"""

import copy
import time
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ...core.models.heads import Network
from ...core.training.training_config import TrainConfig
from ..base.inference import predict_examples
from ..base.rival import Rival
from ..base.training_data import LabelledData, TrainingData
from ..data.labels import SINGLE_LABEL
from .frozen_training import fit_classifier

if TYPE_CHECKING:
    from .classification import TextClassification

MANY_LABELS = 20
MAX_ROWS = 50_000  # with more, three epochs are thousands of steps, and the features take gigabytes
QUICK_FROM = 250_000  # rows times labels: choosing the regularization would take minutes


def measure_frozen(
    task: "TextClassification", network: Network, data: TrainingData, config: TrainConfig
) -> Rival | None:
    """The accuracy of logistic regression on the network's features; None with few labels, or several per text."""
    if (
        not task.uses_training_loop
        or task.prompt_template
        or task.problem_type != SINGLE_LABEL
        or len(task.labels) < MANY_LABELS
        or not data.scored
    ):
        return None
    train, held_out = data.train, data.scored
    assert isinstance(train, LabelledData)
    assert isinstance(held_out, LabelledData)
    if len(train.examples) > MAX_ROWS or {example.label for example in train.examples} != set(task.labels):
        return None  # a label without a row cannot be fitted
    began = time.perf_counter()
    classifier = Network(network.backbone, copy.deepcopy(network.head))
    quick = len(train.examples) * len(task.labels) > QUICK_FROM
    _finish(fit_classifier(task, classifier, train.windows_by_example, config, quick=quick))
    predictions = predict_examples(replace(task, frozen=True), classifier, held_out.windows_by_example)
    accuracy = task.score(predictions, held_out.examples)["accuracy"]
    what = "logistic regression on frozen features"
    return Rival("--frozen", what, "accuracy", accuracy, time.perf_counter() - began)


def _finish(events: Iterable[Any]) -> None:
    for _ in events:
        pass
