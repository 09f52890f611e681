"""Zero-shot classification by entailment: labels that a model was never trained on.

Yin, Hay and Roth 2019 (https://arxiv.org/abs/1909.00161). A classifier of pairs that was trained for natural language
inference reads each text with one hypothesis per label, such as "This text is about sport." One label: a softmax over
the outputs for entailment of all hypotheses. Several labels: for each hypothesis, entailment against contradiction.
The scores are those of ZeroShotClassificationPipeline in transformers; a long text, which is truncated there, is read
in windows, whose outputs are averaged.

Shapes: B sequences in a packed batch, P pairs of a text and a hypothesis, E texts, L labels, N outputs of the model.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
from torch import Tensor, nn

from ...core.errors import HeadwayError
from ...core.options import option
from ..base.predictions import Prediction
from ..base.task import Task
from ..classification.classification import TextClassification
from ..classification.encoding import average_windows, token_ids
from ..classification.predictions import TextExample
from ..data.columns import ColumnMapping
from ..data.examples import TEXT, Field
from ..data.features import Features, group_windows
from ..data.labels import MULTI_LABEL, SINGLE_LABEL
from ..data.rows import Table
from ..data.windows import Windowing
from ..prompting.label_words import read_words
from ..prompting.templates import DEFAULT, words_of_labels
from .entailment import ADVICE, contradiction_index, entailment_index

if TYPE_CHECKING:
    from ...core.models.heads import Backbone
    from ...core.tokenizers.tokenizer import Tokenizer

LABEL = "{label}"
FEWEST_TOKENS = 4  # of a text beside a hypothesis
KEPT = ("max_length", "long_texts", "overlap")  # options of the classifier of pairs that hold here as well


@dataclass(frozen=True)
class ZeroShotClassification(TextClassification):
    """Chooses from any labels, by a classifier of pairs that knows entailment; nothing is trained.

    Args:
        model: the name of the model, for messages.
        model_labels: the labels of the model.
        asked: number of labels with a hypothesis, the first ones; None: all. Labelled rows may have others.
    """

    labels: tuple[str, ...] = option(
        (),
        "Labels of your own, also joined by commas, for a model that was trained for natural language inference "
        "(labels entailment, neutral and contradiction): zero-shot classification.",
        when="after",
    )
    hypothesis: str = option(
        f"This text is about {LABEL}.",
        f"Sentence that is true of a text with a label, with {LABEL} where the label goes.",
        when="after",
    )
    # Spellings may have commas, which separate those of `--prompt-template`.
    verbalize: tuple[str, ...] = option(  # pyright: ignore[reportIncompatibleVariableOverride]
        (), "How the hypothesis spells labels: 0=bad,1=good. Predictions keep the label names.", when="after"
    )
    problem_type: str | None = option(
        None, "With --labels: whether a text has one label or several. Default: one.",
        choices=(SINGLE_LABEL, MULTI_LABEL), when="after",
    )  # fmt: skip
    entailment: str | None = option(
        None, "Label of the model that means entailment. Default: found by its name.", when="after"
    )
    contradiction: str | None = option(
        None, "Label of the model that means contradiction. Default: found by its name.", when="after"
    )
    numbered: bool = True
    paired: bool | None = False
    model: str = ""
    model_labels: tuple[str, ...] = ()
    asked: int | None = None

    name: ClassVar[str] = "zero-shot-classification"
    title: ClassVar[str] = "Zero-shot classification"
    inputs: ClassVar[tuple[Field, ...]] = (TEXT,)
    models: ClassVar[tuple[str, ...]] = ()
    request_options: ClassVar[tuple[str, ...]] = (
        "labels", "hypothesis", "verbalize", "problem_type", "threshold", "entailment", "contradiction"
    )  # fmt: skip

    how: ClassVar[str] = 'headway predict MODEL --labels sport,politics "a text"'
    not_trained: ClassVar[str] = (
        f"{name} trains nothing: open a classifier of pairs that knows entailment with labels of your own ({how}), or "
        "train text-classification."
    )

    def __post_init__(self) -> None:
        labels = (self.labels,) if isinstance(self.labels, str) else tuple(map(str, self.labels))
        object.__setattr__(self, "labels", labels)
        object.__setattr__(self, "verbalize", read_words(self.verbalize))
        object.__setattr__(self, "problem_type", self.problem_type or SINGLE_LABEL)
        # transformers writes an empty pair of braces
        object.__setattr__(self, "hypothesis", self.hypothesis.replace("{}", LABEL))
        super().__post_init__()
        if LABEL not in self.hypothesis:
            raise HeadwayError(
                f"--hypothesis {self.hypothesis!r} has no {LABEL}, which stands for the label. Add it, as in "
                f'"This text is about {LABEL}."'
            )
        if len(set(labels)) < len(labels) or any(not label.strip() for label in labels):
            raise HeadwayError(f"--labels {','.join(labels)}: the labels must be different, and none empty.")
        if labels:
            if len(labels) == 1 and self.problem_type == SINGLE_LABEL:
                raise HeadwayError(
                    f"--labels {labels[0]}: a text that has exactly one of one label always has it. Name at least two "
                    "labels, or say that a text may have none or several (--multi-label)."
                )
            self._check_model()

    def _check_model(self) -> None:
        """Raises HeadwayError if the outputs of the model are not known, or `verbalize` names other labels."""
        _ = self.label_words, self._entails
        if self.problem_type == MULTI_LABEL:
            _ = self._contradicts

    @property
    def label_words(self) -> dict[str, str]:
        """How the hypothesis spells each label."""
        return words_of_labels(self.labels, self.verbalize, DEFAULT)

    @property
    def _entails(self) -> int:
        return entailment_index(self.model_labels, self.entailment, self.model)

    @property
    def _contradicts(self) -> int:
        return contradiction_index(self.model_labels, self._entails, self.contradiction, self.model)

    def check_cloze(self) -> None:
        """Nothing: the words are those of the hypothesis."""

    @property
    def explains(self) -> bool:
        """No: its outputs belong to pairs with a hypothesis."""
        return False

    @property
    def hypotheses(self) -> tuple[str, ...]:
        """The sentence of each label, (L,)."""
        spelled = self.label_words
        return tuple(self.hypothesis.replace(LABEL, spelled[label]) for label in self.labels[: self.asked])

    @classmethod
    def of(cls, task: Task[Any, Any], model: str, options: Mapping[str, Any] | None = None) -> Self:
        """The task on a classifier of pairs.

        Args:
            task: of the classifier.
            model: its name.
            options: of this task.

        Raises:
            HeadwayError: the model is no classifier of pairs with one label, or an option is not possible.
        """
        if not isinstance(task, TextClassification) or isinstance(task, cls):
            raise HeadwayError(f"{model} is a model for {task.name}, not a classifier of pairs. {ADVICE}")
        if task.problem_type != SINGLE_LABEL or task.paired is False:
            reads = "single texts" if task.paired is False else "pairs, but does not predict exactly one label"
            raise HeadwayError(f"{model} reads {reads}, so that it cannot choose from other labels. {ADVICE}")
        kept = {name: getattr(task, name) for name in KEPT}
        return cls(**kept, model=model, model_labels=task.labels).with_options(options or {})

    # -- texts and hypotheses -> model

    def encode(self, examples: Sequence[TextExample], tokenizer: "Tokenizer", limit: int) -> list[Features]:
        """One sequence for each text and label, or one for each window if it is too long."""
        if not self.labels:
            raise HeadwayError("--labels: name the labels to choose from, as in --labels sport,politics.")
        asked = self if self.asked is None else replace(self, labels=self.labels[: self.asked], asked=None)
        hypotheses, special = token_ids(tokenizer, asked.hypotheses), tokenizer.num_special(pair=True)
        rooms = [Windowing(limit - special - len(one), self.overlap, self.long_texts) for one in hypotheses]
        for hypothesis, room in zip(asked.hypotheses, rooms, strict=True):
            if room.limit < FEWEST_TOKENS:
                raise HeadwayError(
                    f"The hypothesis {hypothesis!r} leaves no room for texts in the {limit} tokens that {self.model} "
                    "reads. Shorten it."
                )
        target, features = self.target, []
        texts = token_ids(tokenizer, [example.text for example in examples])
        for i, (example, ids) in enumerate(zip(examples, texts, strict=True)):
            gold = None if example.label is None else target.encode(example.label)
            for label, (hypothesis, room) in enumerate(zip(hypotheses, rooms, strict=True)):
                length = len(ids) + len(hypothesis) + special
                for part in room.divide(len(ids)):
                    joined = tokenizer.join(ids[part.start : part.stop], hypothesis)
                    features.append(Features(i, *joined, length, gold, asked, label))
        return features

    def head(self, backbone: "Backbone") -> nn.Module:  # noqa: ARG002
        """Raises HeadwayError: the head is that of the model."""
        raise HeadwayError(self.not_trained)

    def infer_labels(self, table: Table, columns: ColumnMapping) -> tuple[Self, list[str]]:  # noqa: ARG002
        """Raises HeadwayError: nothing is trained."""
        raise HeadwayError(self.not_trained)

    def with_labels_of(self, table: Table, columns: ColumnMapping) -> Self:
        """The labels, then those of labelled rows, for which there are no hypotheses."""
        return replace(super().with_labels_of(table, columns), asked=len(self.labels))

    # -- outputs -> predictions

    def decode(self, outputs: Sequence[Tensor], features: Sequence[Features]) -> list[Prediction]:
        """The labels with their probabilities; the labels are those that the texts were encoded with."""
        found: list[Prediction] = []
        for task, logits in _logits(outputs, features):
            found += task.target.decode(logits)
        return found

    def measure_loss(self, outputs: Sequence[Tensor], features: Sequence[Features]) -> tuple[float, int]:
        """Of the probabilities of the labels."""
        ((task, logits),) = _logits(outputs, features)
        gold = torch.tensor([windows[0].target for windows in group_windows(features)])
        total, count = task.target.loss(logits, gold, None)
        return float(total), count

    @property
    def cannot_store_rules(self) -> str:
        """Its labels are those of the caller."""
        return "predicts the labels of --labels, and its folder stores no rules for them"

    @property
    def cannot_be_none_of_these(self) -> str:
        """No text has taught its labels."""
        return "needs the texts that taught the labels, and with --labels none did"

    @property
    def compared_as(self) -> str:
        """Its predictions can be compared with those of trained classifiers."""
        return TextClassification.name

    def scores(self, outputs: Tensor) -> Tensor:
        """The outputs of the model for each text and label, (E * L, N), as logits of the labels, (E, L)."""
        logits = outputs[:, self._entails]
        if self.problem_type == MULTI_LABEL:
            logits = logits - outputs[:, self._contradicts]  # its sigmoid is the softmax over both
        return logits.view(-1, len(self.labels))

    # -- model folders

    @property
    def published(self) -> dict[str, Any]:
        """Raises HeadwayError: the folder of the model is enough."""
        raise HeadwayError(
            f"There is nothing to save: {self.model} is used unchanged. Open it again with the same labels."
        )


def _logits(outputs: Sequence[Tensor], features: Sequence[Features]) -> list[tuple[ZeroShotClassification, Tensor]]:
    """The tasks that neighbouring texts were encoded with, each with the logits of their labels, (E, L)."""
    found, start = [], 0
    for _, part in groupby(features, key=lambda one: id(one.metadata)):
        windows = list(part)
        sizes = [len(list(same)) for _, same in groupby(windows, key=lambda one: (one.example, one.text_index))]
        pairs = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
        stacked = torch.stack(list(outputs[start : start + len(windows)])).float()
        start += len(windows)
        found.append((windows[0].metadata, windows[0].metadata.scores(average_windows(stacked, pairs, len(sizes)))))
    return found
