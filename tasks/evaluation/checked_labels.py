"""The labels of data beside their out-of-fold predictions, from a frozen model, from a file, or by fine-tuning.

Shapes: E examples, N labels, K classes, C hidden size.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ...core.atomic_files import user_path
from ...core.errors import HeadwayError
from ...core.training.training_config import TrainConfig
from ..base.fold import FILE, OutOfFold, folds_of
from ..base.model_folder import read_info
from ..base.task import Task
from ..classification.classification import TextClassification
from ..data.columns import ColumnMapping
from ..data.groups import example_groups
from ..data.labels import MULTI_LABEL, REGRESSION
from ..data.rows import Table
from ..tagging.tag_schemes import OUTSIDE, WordSpan, tags_to_spans
from ..tagging.tagging import TokenClassification
from .frozen_vectors import FrozenModel, out_of_fold_numbers, out_of_fold_probabilities

NO, YES = "no", "yes"


@dataclass(frozen=True, eq=False)
class Checked:
    """Labels of one kind with out-of-fold probabilities.

    Args:
        examples: the example of each label, (N,).
        items: its word in the example, or the index of the label that is checked; 0 if there is only one, (N,).
        classes: the names of the classes.
        given: the class in the data, (N,).
        probabilities: out of fold, (N, K).
        units: the vectors of the texts or words in the last layer, scaled to length 1, (N, C).
        label: the label that is checked; None: the classes are labels.
    """

    examples: np.ndarray
    items: np.ndarray
    classes: tuple[str, ...]
    given: np.ndarray
    probabilities: np.ndarray
    units: np.ndarray
    label: str | None = None
    of_words: bool = False

    def name_of(self, row: int, example: Any) -> str:
        """What the label is of: a label, a word, or (empty) the whole text."""
        return example.words[self.items[row]] if self.of_words else self.label or ""

    def label_of(self, row: int) -> str:
        """The label in the data."""
        return self.classes[self.given[row]]

    def known(self) -> "Checked":
        """Without the labels that have no out-of-fold prediction."""
        rows = np.flatnonzero(np.isfinite(self.probabilities).all(1))
        names = ("examples", "items", "given", "probabilities", "units")
        return replace(self, **{name: getattr(self, name)[rows] for name in names})


@dataclass(frozen=True, eq=False)
class CheckedNumbers:
    """Numbers with out-of-fold predictions, (N,) each; the other fields are as in `Checked`."""

    examples: np.ndarray
    items: np.ndarray
    numbers: np.ndarray
    predicted: np.ndarray
    units: np.ndarray

    def name_of(self, row: int, example: Any) -> str:  # noqa: ARG002
        """A number is that of the whole text."""
        return ""

    def label_of(self, row: int) -> str:
        """The number in the data."""
        return f"{self.numbers[row]:g}"

    def known(self) -> "CheckedNumbers":
        """Without the numbers that have no out-of-fold prediction."""
        rows = np.flatnonzero(np.isfinite(self.predicted))
        names = ("examples", "items", "numbers", "predicted", "units")
        return replace(self, **{name: getattr(self, name)[rows] for name in names})


@dataclass(frozen=True, eq=False)
class Found:
    """What is checked: one part, or one for each of several labels; and how it was predicted, a sentence."""

    parts: Sequence[Checked | CheckedNumbers]
    note: str


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
    def _frozen(self) -> FrozenModel:
        return FrozenModel.open(self.model, self.device)

    @cached_property
    def _vectors(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The vectors in several layers, (N, S, C), the example of each, and the position of its word, (N,) each."""
        if isinstance(self.task, TokenClassification):
            return self._frozen.word_vectors(self.task, self.examples)
        vectors = self._frozen.text_vectors(self.task, self.examples)
        return vectors, np.arange(len(vectors)), np.zeros(len(vectors), dtype=np.int64)

    # -- the three sources

    def frozen(self, count: int) -> Found:
        """Logistic regression, or ridge regression for numbers, on the vectors of the model."""
        groups, _ = example_groups(self.examples, self.table, self.columns.group)
        folds = folds_of(self.examples, groups, count, seed=0)
        vectors, owners, _ = self._vectors
        inputs = vectors.reshape(len(vectors), -1)

        def predict(targets: np.ndarray, num_classes: int) -> np.ndarray:
            rows = targets >= 0  # words without a tag are not trained on
            found = np.full((len(inputs), num_classes), np.nan)
            found[rows] = out_of_fold_probabilities(inputs[rows], targets[rows], num_classes, folds[owners[rows]])
            return found

        def predict_numbers(numbers: np.ndarray) -> np.ndarray:
            return out_of_fold_numbers(inputs, numbers, folds)

        note = f"predicted by a linear model on the vectors of {self.model}, with {count} folds"
        return Found(self._parts(predict, predict_numbers), note)

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
        return self._of_lines(lines, f"predicted by the models of the folds of {folder}")

    def fine_tune(
        self,
        chosen: Mapping[str, Any],
        count: int,
        config: TrainConfig,
        follow: Callable[[Iterable[Any]], Any],
    ) -> Found:
        """The predictions of models that are fine-tuned on the other folds."""
        model = self.task.reset().on(self.model)
        follow(model.train(self.table, columns=chosen, folds=count, config=config))
        return self._of_lines(model.out_of_fold, f"predicted by {self.model}, fine-tuned with {count} folds")

    def _of_lines(self, lines: Iterable[str], note: str) -> Found:
        found = {one.row: one.prediction for one in map(OutOfFold.of_line, lines)}
        predictions: list[Any] = [found.get(example.row) for example in self.examples]
        _, owners, words = self._vectors

        def predict(targets: np.ndarray, num_classes: int) -> np.ndarray:  # noqa: ARG001
            if isinstance(self.task, TokenClassification):
                return self._of_tags(predictions, owners, words)
            labels = self._labels
            rows = [None if one is None else [one.scores[label] for label in labels] for one in predictions]
            return np.array([row or [np.nan] * len(labels) for row in rows], dtype=float)

        def predict_numbers(numbers: np.ndarray) -> np.ndarray:  # noqa: ARG001
            return np.array([np.nan if one is None else one.value for one in predictions])

        return Found(self._parts(predict, predict_numbers, all_labels=True), note)

    def _of_tags(self, predictions: Sequence[Any], owners: np.ndarray, words: np.ndarray) -> np.ndarray:
        """The probability of each word's predicted type; the rest is divided evenly among the other types."""
        assert isinstance(self.task, TokenClassification)
        classes = self._labels
        index = {label: i for i, label in enumerate(classes)}
        found = np.full((len(words), len(classes)), np.nan)
        spans = [
            None
            if one is None
            else tags_to_spans(one.tags, self.task.scheme != "IO", every_word=self.task.tags_every_word)
            for one in predictions
        ]
        types = [
            None if one is None else _types(one, len(example.words))
            for one, example in zip(spans, self.examples, strict=True)
        ]
        for i, (owner, word) in enumerate(zip(owners.tolist(), words.tolist(), strict=True)):
            if (of_words := types[owner]) is not None:
                probability = predictions[owner].probabilities[word]
                found[i] = (1 - probability) / max(1, len(classes) - 1)
                found[i, index[of_words[word]]] = probability
        return found

    # -- labels

    @cached_property
    def _labels(self) -> tuple[str, ...]:
        if isinstance(self.task, TokenClassification):
            types = {span.label for example in self.examples for span in example.spans}
            return (OUTSIDE, *sorted(types))
        return self.task.label_names

    def _parts(
        self,
        predict: Callable[[np.ndarray, int], np.ndarray],
        predict_numbers: Callable[[np.ndarray], np.ndarray],
        *,
        all_labels: bool = False,
    ) -> list[Checked | CheckedNumbers]:
        """The labels with their predictions.

        Args:
            predict: class of each vector (-1: none) and number of classes -> probabilities.
            predict_numbers: number of each vector -> predicted numbers.
            all_labels: whether `predict` returns the probabilities of all of several labels at once.
        """
        vectors, owners, items = self._vectors
        last = vectors[:, -1]
        units = last / np.maximum(np.linalg.norm(last, axis=1, keepdims=True), 1e-9)
        labels = self._labels
        index = {label: i for i, label in enumerate(labels)}
        if isinstance(self.task, TokenClassification):
            given = self._word_classes(owners, items, index)
            rows = np.flatnonzero(given >= 0)
            probabilities = predict(given, len(labels))
            whole = owners[rows], items[rows], labels, given[rows], probabilities[rows], units[rows]
            return [Checked(*whole, of_words=True).known()]
        assert isinstance(self.task, TextClassification)
        gold = [example.label for example in self.examples]
        if self.task.problem_type == REGRESSION:
            numbers = np.array(gold, dtype=float)
            return [CheckedNumbers(owners, items, numbers, predict_numbers(numbers), units).known()]
        if self.task.problem_type != MULTI_LABEL:
            given = np.array([index[label] for label in gold])
            return [Checked(owners, items, labels, given, predict(given, len(labels)), units).known()]
        every = predict(np.empty(0), len(labels)) if all_labels else None
        parts: list[Checked | CheckedNumbers] = []
        for i, label in enumerate(labels):
            given = np.array([label in one for one in gold], dtype=np.int64)
            found = predict(given, 2) if every is None else np.column_stack([1 - every[:, i], every[:, i]])
            parts.append(Checked(owners, items + i, (NO, YES), given, found, units, label).known())
        return parts

    def _word_classes(self, owners: np.ndarray, words: np.ndarray, index: Mapping[str, int]) -> np.ndarray:
        """The class of each word, (N,); -1: it has no tag."""
        classes = []
        for example in self.examples:
            types = [index[one] for one in _types(example.spans, len(example.words))]
            for word in example.ignored:
                types[word] = -1
            classes.append(types)
        return np.array([classes[owner][word] for owner, word in zip(owners.tolist(), words.tolist(), strict=True)])


def _types(spans: Iterable[WordSpan], length: int) -> list[str]:
    """The type of the entity of each word."""
    types = [OUTSIDE] * length
    for span in spans:
        types[span.start : span.stop] = [span.label] * (span.stop - span.start)
    return types
