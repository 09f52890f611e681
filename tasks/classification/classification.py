"""Text classification: one label of several, several at once, or a number, for a text or a pair of texts.

BERT reads the `[CLS]` vector through its pooler (Devlin et al. 2019, section 4.1), GPT-2 the last token. A long text
is read in windows, whose logits are averaged in training and in prediction alike.

Shapes: B sequences in a packed batch, E examples, L labels.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...core.errors import HeadwayError
from ...core.models.heads import SequenceHead
from ...core.options import option
from .. import metrics
from ..base.card_text import CardText
from ..base.display import DisplayElement, ScoreBars
from ..base.predictions import Misprediction, Prediction
from ..base.task import Task
from ..data.columns import ColumnMapping, parse_text
from ..data.examples import Field
from ..data.features import Features, group_windows
from ..data.labels import (
    MULTI_LABEL,
    REGRESSION,
    SINGLE_LABEL,
    UNLABELLED,
    infer_problem_type,
    is_missing,
    label_reader,
    map_valid,
    parse_number,
    raw_label,
    rejection_checker,
    sort_labels,
)
from ..data.rows import Table
from ..data.windows import Windowing, pair_windows
from .calibration import best_f1_threshold
from .card import card_text
from .predictions import LabelPrediction, LabelsPrediction, NumberPrediction, TextExample

if TYPE_CHECKING:
    from ...core.checkpoints.checkpoint import Checkpoint
    from ...core.models.heads import Backbone, Network
    from ...core.tokenizers.tokenizer import Tokenizer
    from ...core.training.training_config import TrainConfig
    from ...core.training.training_events import Event

FORMS = {SINGLE_LABEL: "one label", MULTI_LABEL: "any number of labels", REGRESSION: "a number"}
TEMPERATURES = torch.logspace(math.log10(0.25), math.log10(8), 121)
FEWEST_TO_TUNE = 50  # held-out examples below which a temperature would be fitted to noise
FEWEST_ERRORS = 5  # among them: a model that is never wrong would be made ever surer
FEWEST_POSITIVES = 5  # of a label, for its threshold
MANY_ROWS = 50  # from here on a column whose values hardly repeat is taken for something else than labels
TEXTS_AT_ONCE = 1000  # to the tokenizer, which returns more than the ids


@dataclass(frozen=True)
class TextClassification(Task):
    """Puts texts, or pairs of texts, into classes; or gives them a number.

    Args:
        labels: in the order of the outputs; learnt from the training data if left empty.
        numbered: whether people's files may give a label by its position, from 0, instead of its name: so where a
            person said what the names are, and for published models.
        paired: whether there are two texts; settled by the training data's columns if left out.
        weights: the weight of each label that came of `class_weight`.
        shares: for several labels, the part of the training rows that have each.
        thresholds: for several labels, the probability from which a label is given; 0.5 each if left empty.
        temperature: what logits are divided by before they become probabilities (Guo et al. 2017,
            https://arxiv.org/abs/1706.04599).
        target_mean, target_std: for a number, what the network's output is scaled by.
    """

    labels: tuple[str, ...] = option(
        (),
        "File with the names of the labels, one a line; the data may then give a label's line, from 0.",
        file="label_names",
    )
    problem_type: str | None = option(
        None, "What a label is; guessed from the data if left out.", choices=(SINGLE_LABEL, MULTI_LABEL, REGRESSION)
    )
    numbered: bool = False
    paired: bool | None = None
    class_weight: str | None = option(None, "balanced: rare labels count for more.", choices=("balanced",))
    weights: tuple[float, ...] = ()
    shares: tuple[float, ...] = ()
    thresholds: tuple[float, ...] = ()
    temperature: float = 1.0
    target_mean: float = 0.0
    target_std: float = 1.0
    frozen: bool = option(
        False,
        "Leave the model as it is and fit its classifier alone, by logistic regression: seconds instead of minutes. "
        "Of the options of training it needs the seed and the device only.",
    )

    name: ClassVar[str] = "text-classification"
    title: ClassVar[str] = "Text classification"
    inputs: ClassVar[tuple[Field, ...]] = (
        Field(
            "text",
            "Text",
            aliases=(
                *("text", "sentence", "sentence1", "premise", "text_a", "question1", "#1 String"),
                *("review", "content", "comment", "message", "body", "title"),
            ),
        ),
        Field(
            "pair",
            "Second text",
            aliases=("pair", "sentence2", "hypothesis", "text_b", "question2", "#2 String"),
            required=False,
        ),
    )
    architecture: ClassVar[str] = "ForSequenceClassification"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.class_weight and self.problem_type == REGRESSION:
            raise HeadwayError("--class-weight balanced has no meaning for a number; leave it out.")

    # -- people's data -> examples

    @property
    def fields(self) -> tuple[Field, ...]:
        """The text, and the second one if pairs are read; before training, the second one if there is one."""
        text, pair = self.inputs
        if self.paired is None:
            return self.inputs
        return (text, replace(pair, required=True)) if self.paired else (text,)

    @property
    def label_names(self) -> tuple[str, ...]:
        """The labels."""
        return self.labels

    @property
    def sample(self) -> str:
        """Pairs, or single texts."""
        return "pairs.csv" if self.paired else "messages.csv"

    def infer_labels(self, table: Table, columns: ColumnMapping) -> tuple[Self, list[str]]:
        """The form of the target, the labels and their weights."""
        values = list(map_valid(lambda row: raw_label(row, columns.label), table.rows))
        if all(map(is_missing, values)):
            raise HeadwayError(
                f'{table.source}: column "{columns.label}" is empty in every row; training needs labels. '
                "Name another column with --label."
            )
        problem_type, why = (self.problem_type, "as you said") if self.problem_type else infer_problem_type(values)
        if self.labels and problem_type == REGRESSION and not self.problem_type:
            problem_type, why = SINGLE_LABEL, "the names of the labels are given"
        learnt = replace(self, problem_type=problem_type, paired="pair" in columns.texts)
        note = f"each {'pair' if learnt.paired else 'text'} has {FORMS[problem_type]}: {why}"
        if problem_type == REGRESSION:
            return learnt._learn_scale(table.source, values), [note]
        read = label_reader(problem_type, values, self.labels, numbered=bool(self.labels))
        found = list(map_valid(read, values))
        counts = Counter(label for labels in found for label in ([labels] if problem_type == SINGLE_LABEL else labels))
        learnt._check_labels(table.source, columns, counts, len(found))
        labels = self.labels or (columns.label if isinstance(columns.label, tuple) else sort_labels(counts))
        learnt = replace(learnt, labels=labels, numbered=bool(self.labels))
        weights = learnt._balance(counts, len(found)) if self.class_weight else ()
        several = problem_type == MULTI_LABEL
        # Half a row more on either side: what is never there, or always, still has a logit.
        shares = tuple((counts[label] + 0.5) / (len(found) + 1) for label in labels) if several else ()
        return replace(learnt, weights=weights, shares=shares), [note]

    def _learn_scale(self, source: str, values: Sequence[Any]) -> Self:
        """What numbers are scaled by, so that the network learns ones of about size 1."""
        numbers = list(map_valid(parse_number, values))
        if not numbers:
            raise HeadwayError(
                f"{source}: no label is a number ({values[0]!r}, ...). Name another column with --label."
            )
        mean = math.fsum(numbers) / len(numbers)
        std = math.sqrt(math.fsum((number - mean) ** 2 for number in numbers) / len(numbers))
        if std == 0:
            raise HeadwayError(
                f"{source}: every label is {numbers[0]:g}; at least two different ones are needed. "
                "Name another column with --label."
            )
        return replace(self, target_mean=mean, target_std=std)

    def _check_labels(self, source: str, columns: ColumnMapping, counts: Mapping[str, int], rows: int) -> None:
        """Refuses labels from which nothing can be learnt."""
        if not counts:
            raise HeadwayError(
                f"{source}: no row has any label; there is nothing to learn. Name another with --label."
            )
        if self.problem_type != SINGLE_LABEL:
            return
        first = next(iter(counts))
        if len(counts) == 1:
            meaning = ", which usually stands for unlabelled" * (first == UNLABELLED)
            raise HeadwayError(
                f"{source}: every row has the label {first!r}{meaning}; at least two different ones are needed. "
                f'Is "{columns.label}" the column you mean? Name another with --label.'
            )
        if rows >= MANY_ROWS and 2 * len(counts) > rows:
            raise HeadwayError(
                f'{source}: column "{columns.label}" holds {len(counts)} different values in {rows} rows '
                f"({first!r}, ...), which are no labels. Name another with --label."
            )

    def _balance(self, counts: Mapping[str, int], rows: int) -> tuple[float, ...]:
        """For one label, weights whose mean over the rows is 1; for several, negatives over positives."""
        if self.problem_type == SINGLE_LABEL:
            return tuple(rows / (len(counts) * counts[label]) if counts[label] else 0.0 for label in self.labels)
        return tuple((rows - counts[label]) / counts[label] if counts[label] else 1.0 for label in self.labels)

    def reset(self) -> Self:
        """The same options, for other data: the form, the labels and all that is fitted are learnt anew."""
        said = {"class_weight": self.class_weight, "frozen": self.frozen}
        return type(self)(self.max_length, self.long_texts, self.overlap, **said)

    def row_reader(
        self, table: Table, columns: ColumnMapping, *, labelled: bool = True
    ) -> Callable[[int], TextExample]:
        """How to read a row: its text, its pair if there is one, and its label."""
        text, pair = columns.texts["text"], columns.texts.get("pair")
        read_label = self._label_reader(table, columns) if labelled else None
        refuse_rejected = rejection_checker(table.rows, columns.used_columns)

        def read(row: int) -> TextExample:
            cells = table.rows[row]
            if labelled:
                refuse_rejected(cells)
            first = parse_text(cells.get(text), text, "text", labelled=labelled)
            # A published model may have been made for either: a row without a second text is then no pair.
            alone = pair is None or (self.paired is None and cells.get(pair) is None)
            second = None if pair is None or alone else parse_text(cells.get(pair), pair, "pair", labelled=labelled)
            return TextExample(row, table.where(row), first, second, read_label(cells) if read_label else None)

        return read

    def _label_reader(self, table: Table, columns: ColumnMapping) -> Callable[[Mapping[str, Any]], Any]:
        if self.problem_type == REGRESSION:
            return lambda cells: parse_number(raw_label(cells, columns.label))
        values = list(map_valid(lambda row: raw_label(row, columns.label), table.rows))
        problem_type = self.problem_type or infer_problem_type(values)[0]
        read = label_reader(problem_type, values, self.labels, numbered=self.numbered)
        return lambda cells: read(raw_label(cells, columns.label))

    # -- examples -> the model

    def encode(self, examples: Sequence[TextExample], tokenizer: "Tokenizer", limit: int) -> list[Features]:
        """One sequence an example, or one for each window of a long text; those of two long texts are in step."""
        first = _token_ids(tokenizer, [example.text for example in examples])
        second = iter(_token_ids(tokenizer, [example.pair for example in examples if example.pair is not None]))
        features = []
        for i, (example, a) in enumerate(zip(examples, first, strict=True)):
            b = None if example.pair is None else next(second)
            special = tokenizer.num_special(pair=b is not None)
            length = len(a) + len(b or ()) + special
            sequences = [(a, b)] if length <= limit else self._pieces(a, b, limit - special)
            target = self._target(example.label)
            features += [Features(i, *tokenizer.join(one, two), length, target) for one, two in sequences]
        return features

    def _pieces(self, a: list[int], b: list[int] | None, room: int) -> list[tuple[list[int], list[int] | None]]:
        """A text or pair that is too long, in pieces of `room` tokens."""
        size_b = 0 if b is None else min(len(b), max(room // 2, room - len(a)))
        size_a = room - size_b
        if self.long_texts == "cut":
            return [(a[:size_a], None if b is None else b[:size_b])]
        parts_a = Windowing(size_a, self.overlap).divide(len(a))
        if b is None:
            return [(a[one.start : one.stop], None) for one in parts_a]
        parts_b = Windowing(size_b, self.overlap).divide(len(b))
        return [(a[one.start : one.stop], b[two.start : two.stop]) for one, two in pair_windows(parts_a, parts_b)]

    def _target(self, label: str | tuple[str, ...] | float | None) -> Any:
        """What the loss compares with: an index, a row of 0 and 1, or a scaled number."""
        if label is None:
            return None
        if isinstance(label, str):
            return self.labels.index(label)
        if isinstance(label, tuple):
            return [float(name in label) for name in self.labels]
        return (label - self.target_mean) / self.target_std

    def head(self, backbone: "Backbone") -> nn.Module:
        """A linear layer on the summary of a sequence.

        Of several labels most are rare. With biases of zero each would begin as likely as not, and on the way down
        from there the vectors of all texts become one. So the biases begin where each label is as likely as it is
        common (Lin et al. 2017, section 3.3, https://arxiv.org/abs/1708.02002), weighted as the loss is.
        """
        head = SequenceHead(backbone.config, 1 if self.problem_type == REGRESSION else len(self.labels))
        if self.shares and head.classifier.bias is not None:
            weights = torch.tensor(self.weights or (1.0,) * len(self.shares))
            with torch.no_grad():
                head.classifier.bias.copy_(torch.logit(torch.tensor(self.shares)) + weights.log())
        return head

    def fit_head(
        self, network: "Network", windows_by_example: Sequence[list[Features]], config: "TrainConfig"
    ) -> "Iterator[Event] | None":
        """With `frozen`, logistic regression on the features that the model has already."""
        if not self.frozen:
            return None
        from .logistic_regression import fit_classifier

        return fit_classifier(self, network, windows_by_example, config)

    def loss(self, outputs: Tensor, features: Sequence[Features]) -> tuple[Tensor, int]:
        """Cross-entropy over the labels, binary cross-entropy for each, or the squared error.

        Args:
            outputs: (B, L), or (B, 1) for a number.
            features: the B sequences; windows of an example are neighbours.
        """
        logits = join_windows(outputs.float(), features)  # (E, L)
        rows = [windows[0].target for windows in group_windows(features)]
        weights = torch.tensor(self.weights, device=logits.device) if self.weights else None
        if self.problem_type == SINGLE_LABEL:
            targets = torch.tensor(rows, device=logits.device)
            return F.cross_entropy(logits, targets, weight=weights, reduction="sum"), len(rows)
        targets = torch.tensor(rows, device=logits.device, dtype=torch.float)
        if self.problem_type == REGRESSION:
            return F.mse_loss(logits.squeeze(-1), targets, reduction="sum"), len(rows)
        loss = F.binary_cross_entropy_with_logits(logits, targets, pos_weight=weights, reduction="sum")
        return loss, targets.numel()

    # -- outputs -> answers -> figures

    def decode(self, outputs: Sequence[Tensor], features: Sequence[Features]) -> list[Prediction]:
        """Probabilities and labels, or numbers."""
        logits = join_windows(torch.stack(list(outputs)), features)
        if self.problem_type == REGRESSION:
            values = (logits.squeeze(-1).double() * self.target_std + self.target_mean).tolist()
            return [NumberPrediction(value) for value in values]
        logits = logits / self.temperature
        if self.problem_type == SINGLE_LABEL:
            return [self._one(row) for row in logits.softmax(-1).tolist()]
        return [self._several(row) for row in logits.sigmoid().tolist()]

    def _one(self, probabilities: list[float]) -> LabelPrediction:
        scores = dict(zip(self.labels, probabilities, strict=True))
        best = max(scores, key=lambda label: scores[label])
        return LabelPrediction(best, scores[best], scores)

    def _several(self, probabilities: list[float]) -> LabelsPrediction:
        thresholds = self.thresholds or (0.5,) * len(self.labels)
        chosen = zip(self.labels, probabilities, thresholds, strict=True)
        return LabelsPrediction(
            tuple(label for label, probability, threshold in chosen if probability >= threshold),
            dict(zip(self.labels, probabilities, strict=True)),
        )

    def display(self, prediction: Any, texts: Mapping[str, str]) -> tuple[DisplayElement, ...]:
        """As the prediction says; of several labels each with its threshold."""
        shown = prediction.display(texts)
        if self.problem_type != MULTI_LABEL:
            return shown
        limits = dict(zip(self.labels, self.thresholds or (0.5,) * len(self.labels), strict=True))
        return tuple(
            replace(one, bars=tuple(replace(bar, threshold=limits[bar.name]) for bar in one.bars))
            if isinstance(one, ScoreBars)
            else one
            for one in shown
        )

    def score(self, predictions: Sequence[Any], examples: Sequence[TextExample]) -> dict[str, float]:
        """One label: accuracy, macro-F1, ...; several: micro-F1, ...; a number: Pearson's correlation, ..."""
        gold = [example.label for example in examples]
        if self.problem_type == REGRESSION:
            return metrics.regression_metrics([prediction.value for prediction in predictions], gold)
        if self.problem_type == SINGLE_LABEL:
            return metrics.single_label_metrics(predictions, gold, self.labels)
        return metrics.multi_label_metrics([prediction.labels for prediction in predictions], gold, self.labels)

    def per_label(self, predictions: Sequence[Any], examples: Sequence[TextExample]) -> list[dict[str, Any]]:
        """Precision, recall, F1 and number of examples of each label."""
        if self.problem_type == REGRESSION:
            return []
        several = self.problem_type == MULTI_LABEL
        found = [prediction.labels if several else (prediction.label,) for prediction in predictions]
        gold = [example.label if several else (example.label,) for example in examples]
        return metrics.metrics_by_label(found, gold, self.labels)

    def confused(self, predictions: Sequence[Any], examples: Sequence[TextExample]) -> list[tuple[str, str]]:
        """Of one label, the right one and the predicted one of each example."""
        if self.problem_type != SINGLE_LABEL:
            return []
        return [(str(example.label), one.label) for one, example in zip(predictions, examples, strict=True)]

    def misprediction(self, prediction: Any, example: TextExample) -> Misprediction | None:
        """One label: the worse, the less probable the right one was held; several: by the worst of them; a number:
        by how far it is off.
        """
        gold = example.label
        if isinstance(gold, str):
            size = 1 - prediction.scores[gold] if prediction.label != gold else 0.0
            told = gold, f"{prediction.label} ({prediction.score:.2f})"
        elif isinstance(gold, tuple):
            wrong = {*gold} ^ {*prediction.labels}
            size = max((abs((label in gold) - prediction.scores[label]) for label in wrong), default=0.0)
            told = ", ".join(gold) or "none", prediction.brief
        else:
            size = abs(prediction.value - float(gold or 0.0))
            told = f"{gold:g}", prediction.brief
        return Misprediction(example.where, example.texts, *told, size) if size else None

    def calibrate(self, predictions: Sequence[Any], examples: Sequence[TextExample]) -> tuple[Self, list[Any]]:
        """A temperature for the probabilities of one label; a threshold for each of several."""
        if self.problem_type == SINGLE_LABEL:
            return self._tune_temperature(predictions, [self.labels.index(str(example.label)) for example in examples])
        if self.problem_type == MULTI_LABEL:
            return self._tune_thresholds(predictions, examples)
        return self, list(predictions)

    def _tune_temperature(self, predictions: Sequence[LabelPrediction], gold: list[int]) -> tuple[Self, list[Any]]:
        logits = torch.tensor([list(one.scores.values()) for one in predictions]).clamp_min(1e-30).log()  # (E, L)
        targets = torch.tensor(gold)
        errors = int((logits.argmax(-1) != targets).sum())
        if len(gold) < FEWEST_TO_TUNE or errors < FEWEST_ERRORS:
            return self, list(predictions)
        losses = torch.stack([F.cross_entropy(logits / temperature, targets) for temperature in TEMPERATURES])
        temperature = TEMPERATURES[losses.argmin()].item()
        tuned = replace(self, temperature=self.temperature * temperature)
        return tuned, [tuned._one(row) for row in (logits / temperature).softmax(-1).tolist()]

    def _tune_thresholds(
        self, predictions: Sequence[LabelsPrediction], examples: Sequence[TextExample]
    ) -> tuple[Self, list[Any]]:
        thresholds = [
            best_f1_threshold(
                [one.scores[label] for one in predictions],
                [label in example.labels for example in examples],
                FEWEST_POSITIVES,
            )
            for label in self.labels
        ]
        tuned = replace(self, thresholds=tuple(thresholds))
        retuned = [tuned._several(list(one.scores.values())) for one in predictions]
        # Each threshold is the best for its label alone; together they are kept if they do not make things worse.
        better = self.score(retuned, examples)["f1"] >= self.score(predictions, examples)["f1"]
        return (tuned, retuned) if better else (self, list(predictions))

    def reuse_head(self, before: Task) -> Self | None:
        """Goes on with a head for the same labels, or for more than the new data has."""
        if not isinstance(before, TextClassification) or before.problem_type != self.problem_type or self.frozen:
            return None
        if self.problem_type == REGRESSION:
            return self
        if self.numbered:  # the person said which labels there are, and in which order
            return self if self.labels == before.labels else None
        if not set(self.labels) <= set(before.labels):
            return None
        weight = dict(zip(self.labels, self.weights, strict=bool(self.weights)))
        absent = 0.0 if self.problem_type == SINGLE_LABEL else 1.0
        weights = tuple(weight.get(label, absent) for label in before.labels) if weight else ()
        return replace(self, labels=before.labels, numbered=before.numbered, weights=weights, shares=())

    def before_training(self, before: Task, network: nn.Module) -> Self:
        """Scales the last layer, so that a head that gives people's numbers learns ones of about size 1."""
        if not isinstance(before, TextClassification) or self.problem_type != REGRESSION:
            return self
        return replace(self, target_mean=before._rescale(network, self.target_mean, self.target_std).target_mean)

    def after_training(self, network: nn.Module) -> Self:
        """Moves the scale of a number into the last layer, so that the model itself gives people's numbers."""
        return self._rescale(network, 0.0, 1.0) if self.problem_type == REGRESSION else self

    def _rescale(self, network: nn.Module, mean: float, std: float) -> Self:
        """The same answers with another scale of outputs: the last layer takes up the difference.

        GPT-2's published head has no bias to take up a mean: there the mean stays as it is, with the task.
        """
        classifier = network.get_submodule("head.classifier")
        assert isinstance(classifier, nn.Linear)
        with torch.no_grad():
            classifier.weight.mul_(self.target_std / std)
            if classifier.bias is None:
                return replace(self, target_std=std)
            classifier.bias.mul_(self.target_std / std).add_((self.target_mean - mean) / std)
        return replace(self, target_mean=mean, target_std=std)

    # -- model folders

    @classmethod
    def from_published(cls, checkpoint: "Checkpoint") -> Self:
        """Its labels and problem type; a single output without a problem type is a number, as published."""
        labels = checkpoint.labels or ()
        problem_type = checkpoint.problem_type or (REGRESSION if len(labels) == 1 else SINGLE_LABEL)
        return cls(labels=() if problem_type == REGRESSION else labels, problem_type=problem_type, numbered=True)

    @property
    def published(self) -> dict[str, Any]:
        """The labels, under the published name of the form."""
        return {"labels": self.labels or ("LABEL_0",), "problem_type": self.problem_type}

    def card(self, network: "Network", name: str) -> CardText:
        """The labels, how to ask for them, and what to mind."""
        return card_text(self, network, name)


def join_windows(outputs: Tensor, features: Sequence[Features]) -> Tensor:
    """Averages the outputs of each example's windows, (B, L) -> (E, L)."""
    counts = [len(windows) for windows in group_windows(features)]
    if len(counts) == len(features):
        return outputs
    return torch.stack([part.mean(0) for part in outputs.split(counts)])


def _token_ids(tokenizer: "Tokenizer", texts: Sequence[str]) -> list[list[int]]:
    parts = (texts[start : start + TEXTS_AT_ONCE] for start in range(0, len(texts), TEXTS_AT_ONCE))
    return [encoding.ids for part in parts for encoding in tokenizer.encode_batch(part)]
