"""The labels of data beside their out-of-fold predictions, from a frozen model, from a file, or by fine-tuning.

Shapes: E examples, N labels, K classes, C hidden size.
"""

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ...core.atomic_files import user_path
from ...core.errors import HeadwayError
from ...core.training.training_config import TrainConfig
from ..base.fold import FILE, OutOfFold, folds_of
from ..base.label_checks import LabelsToCheck
from ..base.model_folder import read_info
from ..base.repeats import FOLDS
from ..base.results import RepeatFinished
from ..base.task import Task
from ..data.columns import ColumnMapping
from ..data.groups import example_groups
from ..data.rows import Table
from .frozen_vectors import FrozenModel, out_of_fold_numbers, out_of_fold_probabilities

LEAST = 1e-6  # probability of which the logarithm is taken


@dataclass(frozen=True, eq=False)
class Checked:
    """Labels of one kind with out-of-fold predictions.

    Args:
        labels: those that have a prediction.
        predicted: the probabilities of the classes, (N, K), or numbers, (N,).
        units: the vectors of the texts or words in the last layer, scaled to length 1, (N, C).
    """

    labels: LabelsToCheck
    predicted: np.ndarray
    units: np.ndarray

    @classmethod
    def known(cls, labels: LabelsToCheck, predicted: np.ndarray, units: np.ndarray) -> "Checked":
        """Without the labels that have no out-of-fold prediction."""
        rows = np.flatnonzero(np.isfinite(predicted.reshape(len(predicted), -1)).all(1))
        kept = {name: getattr(labels, name)[rows] for name in ("examples", "items", "given")}
        return cls(replace(labels, **kept), predicted[rows], units[rows])


@dataclass(frozen=True, eq=False)
class Found:
    """What is checked: one part, or one for each of several labels; and how it was predicted, a sentence."""

    parts: Sequence[Checked]
    note: str


@dataclass(frozen=True)
class FineTuning:
    """How models are fine-tuned for out-of-fold predictions.

    Args:
        folds: number of models, each of which predicts the rows that it was not trained on.
        repeats: how often, with other folds; the predictions are averaged.
        config: of each training.
        follow: reads the events of a training.
    """

    folds: int
    repeats: int
    config: TrainConfig
    follow: Callable[[Iterable[Any]], Any]


@dataclass(frozen=True, eq=False)
class Sources:
    """Where the out-of-fold predictions of data come from.

    Args:
        task: with its labels.
        table: of the rows.
        examples: of the usable rows.
        columns: of the table.
        model: a folder, a built-in model or a Hub id.
        device: of the vectors.
    """

    task: Task[Any, Any]
    table: Table
    examples: Sequence[Any]
    columns: ColumnMapping
    model: str | Path
    device: str

    @cached_property
    def labels(self) -> Sequence[LabelsToCheck]:
        """What is checked."""
        return self.task.labels_to_check(self.examples)

    @cached_property
    def _vectors(self) -> Sequence[np.ndarray]:
        """For each part the vectors of its texts or words in several layers, (N, S, C); NaN: not read."""
        frozen = FrozenModel.open(self.model, self.device)
        if not self.labels[0].of_words:
            texts = frozen.text_vectors(self.task, self.examples)
            return [texts[part.examples] for part in self.labels]
        vectors, owners, words = frozen.word_vectors(self.task, self.examples)
        row_of = {pair: row for row, pair in enumerate(zip(owners.tolist(), words.tolist(), strict=True))}
        (part,) = self.labels
        rows = [row_of.get(pair, -1) for pair in zip(part.examples.tolist(), part.items.tolist(), strict=True)]
        return [np.concatenate([vectors, np.full_like(vectors[:1], np.nan)])[rows]]

    # -- the three sources

    def frozen(self, count: int) -> Found:
        """Logistic regression, or ridge regression for numbers, on the vectors of the model."""
        note = f"predicted by a linear model on the vectors of {self.model}, with {count} folds"
        return self._found(self._linear(count), note)

    def _linear(self, count: int) -> list[np.ndarray]:
        groups, _ = example_groups(self.examples, self.table, self.columns.group)
        folds = folds_of(self.examples, groups, count, seed=0)
        found = []
        for labels, vectors in zip(self.labels, self._vectors, strict=True):
            inputs = vectors.reshape(len(vectors), -1)
            rows = np.flatnonzero(np.isfinite(inputs).all(1))
            own = inputs[rows], labels.given[rows], folds[labels.examples[rows]]
            num_classes = len(labels.classes)
            predicted = out_of_fold_probabilities(*own, num_classes) if num_classes else out_of_fold_numbers(*own)
            found.append(np.full((len(inputs), *predicted.shape[1:]), np.nan))
            found[-1][rows] = predicted
        return found

    def stored(self) -> Found | None:
        """The file of a model that was trained with folds on the same rows; None if the model has none.

        Raises:
            HeadwayError: it was trained on other rows.
        """
        folder = user_path(self.model)
        if not (folder / FILE).exists():
            return None
        if read_info(folder).get("data", {}).get("train", {}).get("fingerprint") != self.table.fingerprint():
            raise HeadwayError(
                f"{folder / FILE} has the predictions for other data than {self.table.source}. Give the data that the "
                "model was trained on, or another --model."
            )
        lines = (folder / FILE).read_text(encoding="utf-8").splitlines()
        return self._found(self._of_lines(lines), f"predicted by the models of the folds of {folder}")

    def fine_tune(self, chosen: Mapping[str, Any], tuning: FineTuning) -> Found:
        """The mean predictions of linear models, and of models that are fine-tuned with folds, several times."""
        model = self.task.reset().on(self.model)
        predicted = [[one] for one in self._linear(tuning.folds)] if self.labels[0].classes else [[]]
        for repeat in range(tuning.repeats):
            config = replace(tuning.config, seed=tuning.config.seed + repeat)  # other folds, too
            with tempfile.TemporaryDirectory(prefix="headway-") as folder:
                output = Path(folder) / "model"
                events = model.train(self.table, columns=chosen, folds=tuning.folds, config=config, output=output)
                with closing(events):
                    tuning.follow(_before_last_run(events))
                files = sorted(output.with_name(f"{output.name}.{FOLDS}").glob(f"*/{FILE}"))
                lines = [line for file in files for line in file.read_text(encoding="utf-8").splitlines()]
            for of_part, new in zip(predicted, self._of_lines(lines), strict=True):
                of_part.append(new)
        times = "" if tuning.repeats == 1 else f", {tuning.repeats} times"
        note = f"predicted by {self.model}, fine-tuned with {tuning.folds} folds{times}"
        if self.labels[0].classes:
            note += ", and by linear models on its vectors"
        return self._found([mean_prediction(of_part) for of_part in predicted], note)

    def _of_lines(self, lines: Iterable[str]) -> list[np.ndarray]:
        """The predictions that lines have for each part."""
        found = {one.row: one.prediction for one in map(OutOfFold.of_line, lines)}
        predictions: list[Any] = [found.get(example.row) for example in self.examples]
        return [self.task.predicted_labels(part, predictions) for part in self.labels]

    def _found(self, predicted: Sequence[np.ndarray], note: str) -> Found:
        parts = []
        for labels, of_part, vectors in zip(self.labels, predicted, self._vectors, strict=True):
            last = vectors[:, -1]
            units = last / np.maximum(np.linalg.norm(last, axis=1, keepdims=True), 1e-9)
            parts.append(Checked.known(labels, of_part, units))
        return Found(parts, note)


def _before_last_run(events: Iterable[Any]) -> Iterator[Any]:
    """The events of the folds, without those of the model that would be trained on all rows."""
    for event in events:
        yield event
        if isinstance(event, RepeatFinished) and event.number == event.count:
            return


def mean_prediction(predicted: Sequence[np.ndarray]) -> np.ndarray:
    """The normalized geometric mean of probabilities, (N, K), or the mean of numbers, (N,)."""
    if predicted[0].ndim == 1:
        return np.mean(predicted, axis=0)
    logs = np.mean([np.log(np.maximum(one, LEAST)) for one in predicted], axis=0)
    found = np.exp(logs - logs.max(1, keepdims=True))
    return found / found.sum(1, keepdims=True)
