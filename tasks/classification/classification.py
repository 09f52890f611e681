"""Text classification: one label, several labels or a number for a text or a pair of texts.

BERT reads the `[CLS]` vector through its pooler (Devlin et al. 2019, section 4.1), GPT-2 the last token. A long text
is read in windows; their logits are averaged, in training and in prediction.

Shapes: B sequences in a packed batch, E examples, L labels.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
from torch import Tensor, nn

from ...core.errors import HeadwayError
from ...core.models.heads import SequenceHead
from ...core.options import option
from ..base.card_text import CardText
from ..base.display import DisplayElement
from ..base.explanation import ExplainableOutput, ProbeTargets
from ..base.predictions import Prediction
from ..base.task import Task
from ..data.columns import ColumnMapping, parse_text
from ..data.examples import PAIR, TEXT, Field
from ..data.features import Features
from ..data.labels import (
    MULTI_LABEL,
    REGRESSION,
    SINGLE_LABEL,
    describe_merging,
    infer_problem_type,
    is_missing,
    label_reader,
    map_valid,
    raw_label,
)
from ..data.numbers import number_reader
from ..data.rows import Table
from ..tallies import Tally
from .card import classification_card
from .cloze_training import ClozeTraining
from .cross_encoder import PairScore, published_fields
from .encoding import average_windows, example_targets, join_windows
from .few_labels import POOLING, FewLabels
from .frozen_comparison import measure_frozen
from .label_checks import TextLabelChecks
from .multi_label import MultiLabel
from .predictions import TextExample
from .regression import Regression
from .reused_labels import with_labels_of
from .single_label import SingleLabel
from .target import LabelColumn, Target
from .target_evaluation import TargetEvaluation
from .thresholds import apply_threshold, normalize_threshold

if TYPE_CHECKING:
    from ...core.checkpoints.checkpoint import Checkpoint
    from ...core.models.heads import Backbone, Network
    from ...core.training.training_config import TrainConfig
    from ...core.training.training_events import Event
    from ...core.training.training_inputs import Targets
    from ..base.rival import Rival
    from ..base.training_data import TrainingData

TARGETS: dict[str, type[Target]] = {SINGLE_LABEL: SingleLabel, MULTI_LABEL: MultiLabel, REGRESSION: Regression}


@dataclass(frozen=True)
class TextClassification(
    PairScore, TargetEvaluation, TextLabelChecks, FewLabels, ClozeTraining, Task[TextExample, Prediction]
):
    """Predicts one label, several labels or a number for a text or a pair of texts.

    Args:
        labels: in the order of the outputs; empty until they are inferred from the training data.
        numbered: whether data may give a label by its index in `labels` instead of its name, as for published models
            and where the user gives the names.
        paired: whether texts come in pairs; None until it is inferred from the columns of the training data.
        weights, shares: of each label: its weight in the loss, from `class_weight`; its share of the training rows.
        thresholds: several labels only: the probability from which each label is predicted; empty: 0.5.
        temperature: one label only: the divisor of the logits (Guo et al. 2017, https://arxiv.org/abs/1706.04599).
        target_mean, target_std: numbers only: the scale of the network's output.
        sigmoid: numbers only: whether they are the sigmoid of the output, as of published cross-encoders.
    """

    labels: tuple[str, ...] = option(
        (),
        "File with the label names, one per line. The data may then give a label by its line number, from 0.",
        file="label_names",
    )
    problem_type: str | None = option(
        None, "Kind of label. Default: inferred from the data.", choices=(SINGLE_LABEL, MULTI_LABEL, REGRESSION)
    )
    numbered: bool = False
    paired: bool | None = None
    class_weight: str | None = option(
        None, "balanced: rare labels have up to 100 times as much weight in the loss.", choices=("balanced",)
    )
    merge_labels: bool = option(False, "Treat labels that differ only in case and spaces as one label.")
    weights: tuple[float, ...] = ()
    shares: tuple[float, ...] = ()
    thresholds: tuple[float, ...] = ()
    temperature: float = 1.0
    target_mean: float = 0.0
    target_std: float = 1.0
    sigmoid: bool = False
    threshold: str | None = option(
        None,
        "Several labels only: probability from which a label is predicted: one number, or numbers by label "
        "(billing=0.3,refund=0.6). Default: fitted to held-out data in training, or 0.5.",
        when="after",
    )
    frozen: bool = option(
        False,
        "Train only the classifier, by logistic regression on the frozen model's features: seconds instead of "
        "minutes. Of the training options, only seed and device apply.",
    )
    few_shot: bool = option(
        False,
        "For 8 to 64 rows per label, in minutes: texts with the same label are made similar (where cross-validation "
        "says that it helps), then logistic regression as with --frozen. Of the training options, only seed, device "
        "and precision apply.",
    )
    pooling: str | None = option(
        None,
        "With --frozen or --few-shot: what represents a text: the vector of [CLS], or the mean of its tokens' "
        "vectors. Default: as the folder of a sentence encoder says; for other models the best in cross-validation.",
        choices=POOLING,
    )

    name: ClassVar[str] = "text-classification"
    title: ClassVar[str] = "Text classification"
    inputs: ClassVar[tuple[Field, ...]] = (TEXT, PAIR)
    architecture: ClassVar[str] = "ForSequenceClassification"
    fitted_fields: ClassVar[tuple[str, ...]] = ("temperature", "thresholds")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.class_weight and self.problem_type == REGRESSION:
            raise HeadwayError("--class-weight balanced cannot be used where the label is a number. Leave it out.")
        self.check_few_labels()
        self.check_cloze()
        if self.threshold is not None:
            if self.problem_type not in (None, MULTI_LABEL):
                raise HeadwayError("--threshold is only for models that predict several labels. Omit it.")
            object.__setattr__(self, "threshold", normalize_threshold(self.threshold))
            _ = self.target  # raises if there is no such label

    @property
    def target(self) -> Target:
        """What is predicted: one label, several labels or a number."""
        kind = TARGETS[self.problem_type or SINGLE_LABEL]
        target = kind(**{field.name: getattr(self, field.name) for field in fields(kind)})
        if self.threshold is None or not self.labels or not isinstance(target, MultiLabel):
            return target
        return replace(target, thresholds=apply_threshold(self.threshold, self.labels, self.thresholds))

    def _with(self, target: Target) -> Self:
        return replace(self, **vars(target))

    @property
    def fields(self) -> tuple[Field, ...]:
        """The text, and the second text: optional until the training data shows whether there is one."""
        if self.paired is None:
            return self.inputs
        return (TEXT, replace(PAIR, required=True)) if self.paired else (TEXT,)

    @property
    def label_names(self) -> tuple[str, ...]:
        """The labels."""
        return self.labels

    @property
    def scored_labels(self) -> tuple[str, ...]:
        """The labels, unless a number is predicted."""
        return () if self.problem_type == REGRESSION else self.labels

    @property
    def calibrated(self) -> str:
        """The temperature of one label, or the thresholds of several labels."""
        return self.target.calibrated

    @property
    def sample(self) -> str:
        """Pairs or single texts."""
        return "pairs.csv" if self.paired else "messages.csv"

    def infer_labels(self, table: Table, columns: ColumnMapping) -> tuple[Self, list[str]]:
        """Infers the kind of target, the labels and their weights."""
        values = list(map_valid(lambda row: raw_label(row, columns.label), table.rows))
        if isinstance(columns.label, tuple) and not values:
            raw_label(table.rows[0], columns.label)  # raises: no row has 0 and 1 only
        if columns.label is None or all(map(is_missing, values)):
            raise HeadwayError(
                f'{table.source}: column "{columns.label}" is empty in every row; training needs labels. '
                "Name another column with --label."
            )
        problem_type, why = (
            (self.problem_type, "as requested") if self.problem_type else infer_problem_type(values, table.decimal)
        )
        if isinstance(columns.label, tuple) and not self.problem_type:
            why = "one column of 0 and 1 per label"
        if self.labels and problem_type == REGRESSION and not self.problem_type:
            problem_type, why = SINGLE_LABEL, "label names are given"
        task = replace(self, problem_type=problem_type, paired="pair" in columns.texts)
        column = LabelColumn.of(table, columns, merge=self.merge_labels)
        target = TARGETS[problem_type].infer(column, self.labels, balanced=self.class_weight is not None)
        notes = [f"each {'pair' if task.paired else 'text'} has {target.description}: {why}"]
        if self.merge_labels and problem_type != REGRESSION:
            notes.append(describe_merging(problem_type, values))
        return replace(task._with(target), numbered=bool(self.labels) and problem_type != REGRESSION), notes

    def measure(self, examples: Sequence[TextExample]) -> Self:
        """The weights and the shares of the labels, or the scale of the numbers."""
        return replace(self, **self.target.measure(example.label for example in examples))

    def unlabelled(self, table: Table, columns: ColumnMapping) -> Callable[[Mapping[str, Any]], bool]:
        """As for every task; where a row may have several labels, none at all is an answer."""
        is_missing_label = super().unlabelled(table, columns)
        several_columns = isinstance(columns.label, tuple)
        problem_type = cache(lambda: _problem_type_of(self, table, columns))  # inferred if a row has no label
        return lambda cells: is_missing_label(cells) and (several_columns or problem_type() != MULTI_LABEL)

    def with_labels_of(self, table: Table, columns: ColumnMapping) -> Self:
        """The labels of the model, then the others."""
        column = LabelColumn.of(table, columns, merge=self.merge_labels)
        others = column.unknown_labels(self.problem_type, self.labels, numbered=self.numbered)
        return replace(self, labels=(*self.labels, *others))

    def reset(self) -> Self:
        """The same options without anything inferred from data."""
        kept = {"class_weight": self.class_weight, "merge_labels": self.merge_labels, "frozen": self.frozen}
        kept |= {"few_shot": self.few_shot, "pooling": self.pooling, "prompt_template": self.prompt_template}
        kept |= {"verbalize": self.verbalize}
        return type(self)(self.max_length, self.long_texts, self.overlap, **kept)

    def row_reader(
        self, table: Table, columns: ColumnMapping, *, labelled: bool = True
    ) -> Callable[[int], TextExample]:
        """Reads the text, the second text and the label of a row."""
        return _example_reader(self, table, columns, labelled)

    # -- examples -> model

    def head(self, backbone: "Backbone") -> nn.Module:
        """A linear layer on the summary of a sequence, or the head of a masked language model."""
        if self.prompt_template:
            return self.masked_head(backbone)
        head = SequenceHead(backbone.config, self.target.num_outputs)
        self.target.init_head(head)
        return head

    def fit_head(
        self, network: "Network", windows_by_example: Sequence[list[Features]], config: "TrainConfig"
    ) -> "Iterator[Event] | None":
        """With `frozen` or `few_shot`, logistic regression on the backbone's features."""
        if self.uses_training_loop:
            return None
        from .few_shot import fit_few_shot
        from .frozen_training import fit_classifier

        return (fit_few_shot if self.few_shot else fit_classifier)(self, network, windows_by_example, config)

    def measure_rival(self, network: "Network", data: "TrainingData", config: "TrainConfig") -> "Rival | None":
        """With many labels, what `frozen` would give."""
        return measure_frozen(self, network, data, config)

    def targets(self, features: Sequence[Features]) -> "Targets":
        """The encoded label of each example, the example of each window, and the weights of the labels."""
        return example_targets(features) | ({"weights": torch.tensor(self.weights)} if self.weights else {})

    def loss(self, outputs: Tensor, targets: "Targets") -> tuple[Tensor, int]:
        """The sum of the target's losses, from outputs (B, L) or (B, 1) for a number, and the number of its terms."""
        gold = targets["gold"]
        logits = average_windows(outputs.float(), targets["examples"], len(gold))  # (E, L)
        return self.target.loss(logits, gold, targets.get("weights"))

    def measure_loss(self, outputs: Sequence[Tensor], features: Sequence[Features]) -> tuple[float, int]:
        """As in training, but for a number it is the squared error on the scale of the labels."""
        total, count = super().measure_loss([one[: self.target.num_outputs] for one in outputs], features)
        return total * self.target_std**2, count

    # -- outputs -> predictions -> metrics

    def decode(self, outputs: Sequence[Tensor], features: Sequence[Features]) -> list[Prediction]:
        """The labels with their probabilities, or the numbers; with distances, if the network computed them."""
        joined = join_windows(torch.stack(list(outputs)), features)
        found, further = self.target.decode(joined[:, : self.target.num_outputs]), joined[:, self.target.num_outputs :]
        if not further.shape[1]:
            return found
        pairs = zip(found, further[:, 0].tolist(), strict=True)
        return [replace(one, certainty=replace(one.certainty, distance=distance)) for one, distance in pairs]

    @property
    def label_thresholds(self) -> tuple[float, ...]:
        """Several labels: the probability from which each is predicted; empty: 0.5, or another kind of target."""
        return self.target.thresholds if isinstance(self.target, MultiLabel) else ()

    def choose_labels(self, scores: Mapping[str, float]) -> list[str]:
        """Several labels: those whose probability reaches their threshold."""
        thresholds = self.label_thresholds or (0.5,) * len(self.labels)
        return [label for label, least in zip(self.labels, thresholds, strict=True) if scores[label] >= least]

    def display(self, prediction: Any, texts: Mapping[str, str]) -> tuple[DisplayElement, ...]:
        """The predicted labels and all probabilities, or the number."""
        return self.target.display(prediction, texts)

    def score(self, predictions: Sequence[Any], examples: Sequence[TextExample]) -> dict[str, float]:
        """One label: accuracy, F1, ...; several labels: micro F1, ...; a number: Pearson correlation, ..."""
        return self.tally(predictions, examples).metrics()

    def tally(self, predictions: Sequence[Any], examples: Sequence[TextExample]) -> Tally:
        """What the metrics are functions of."""
        return self.target.tally(predictions, [example.label for example in examples])

    def calibrate(self, predictions: Sequence[Any], examples: Sequence[TextExample]) -> Self:
        """Fits the temperature of one label, or the thresholds of several labels."""
        return self._with(self.target.calibrate(predictions, [example.label for example in examples]))

    def recalibrate(self, predictions: Sequence[Any], calibrated: Any) -> list[Any]:
        """By the temperature or the thresholds of the copy."""
        return self.target.recalibrate(predictions, calibrated.target)

    # -- training

    def reuse_head(self, before: Task) -> Self | None:
        """Reuses a head with the same labels, or with these labels and others."""
        return with_labels_of(before, self) if isinstance(before, TextClassification) else None

    def before_training(self, before: Task | None, network: "Network") -> Self:
        """Scales the outputs of a reused head for numbers, so that it learns numbers of about size 1."""
        target = before.target if isinstance(before, TextClassification) else None
        if isinstance(target, Regression) and self.problem_type == REGRESSION:
            scaled = target.rescale(_classifier(network), self.target_mean, self.target_std)
            return replace(self, target_mean=scaled.target_mean)
        return self

    def after_training(self, network: nn.Module) -> Self:
        """Moves the scale of numbers into the last layer, so that the network outputs numbers on their own scale."""
        target = self.target
        return self._with(target.rescale(_classifier(network), 0.0, 1.0)) if isinstance(target, Regression) else self

    def explainable_outputs(self, outputs: Tensor, features: Any, words: Any) -> list[ExplainableOutput]:  # noqa: ARG002
        """The probability of every label in descending order, or the number."""
        return self.target.explain(outputs)

    def probe_targets(self, features: Features) -> ProbeTargets | None:
        """The one label of the text."""
        return ProbeTargets(len(self.labels), [features.target]) if self.problem_type == SINGLE_LABEL else None

    # -- model folders

    @classmethod
    def from_published(cls, checkpoint: "Checkpoint") -> Self:
        """Takes over labels and problem type; one output without a problem type is a number."""
        kind = checkpoint.problem_type or (REGRESSION if len(checkpoint.labels or ()) == 1 else SINGLE_LABEL)
        return replace(cls(problem_type=kind, numbered=True), **published_fields(checkpoint, kind))

    @property
    def published(self) -> dict[str, Any]:
        """Labels and problem type; for a number for a pair, what a cross-encoder's score is."""
        if self.prompt_template:
            return {"labels": None, "problem_type": None}
        return {"labels": self.labels or ("LABEL_0",), "problem_type": self.problem_type, "fields": self.score_fields}

    def card(self, network: "Network", name: str) -> CardText:
        """Labels, usage and limitations."""
        return classification_card(self, network, name)


def _classifier(network: nn.Module) -> nn.Linear:
    classifier = network.get_submodule("head.classifier")
    assert isinstance(classifier, nn.Linear)
    return classifier


def _example_reader(
    task: TextClassification, table: Table, columns: ColumnMapping, labelled: bool
) -> Callable[[int], TextExample]:
    text, pair = columns.texts["text"], columns.texts.get("pair")
    read_label = _label_reader(task, table, columns) if labelled else None

    def read(row: int) -> TextExample:
        cells = table.rows[row]
        first = parse_text(cells.get(text), text, "text", labelled=labelled)
        # A published model may read texts or pairs: a row without a second text is then a single text.
        single = pair is None or (task.paired is None and cells.get(pair) is None)
        second = None if pair is None or single else parse_text(cells.get(pair), pair, "pair", labelled=labelled)
        return TextExample(row, table.where(row), first, second, read_label(cells) if read_label else None)

    return read


def _label_reader(
    task: TextClassification, table: Table, columns: ColumnMapping
) -> Callable[[Mapping[str, Any]], Any]:
    values = map_valid(lambda row: raw_label(row, columns.label), table.rows)
    if task.problem_type == REGRESSION:
        read_number = number_reader(values, table.decimal)
        return lambda cells: read_number(raw_label(cells, columns.label))
    problem_type = _problem_type_of(task, table, columns)
    read = label_reader(problem_type, values, task.labels, numbered=task.numbered, merge=task.merge_labels)
    return lambda cells: read(raw_label(cells, columns.label))


def _problem_type_of(task: TextClassification, table: Table, columns: ColumnMapping) -> str:
    values = map_valid(lambda row: raw_label(row, columns.label), table.rows)
    return task.problem_type or infer_problem_type(list(values), table.decimal)[0]
