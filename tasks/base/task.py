"""The contract of a task: what a new task supplies, and every hook with its default.

The way of a row: a `Table` row -> an `Example` (checked texts) -> `Features` (token ids, one for each window of a long
text) -> outputs of the network -> a `Prediction` (plain Python) -> metrics.

Shapes: B sequences in a packed batch, T tokens in total, N outputs.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Self, TypeVar

import torch
from torch import Tensor, nn

from ...core.errors import HeadwayError
from ...core.models.packing import BatchSampler, PackedBatch
from ..data.column_inference import infer_columns
from ..data.column_names import LABEL_COLUMNS
from ..data.columns import ColumnMapping
from ..data.examples import Example, ExampleWarning, Field, Problem
from ..data.features import INFERENCE_BATCH_TOKENS, Features, pack
from ..data.spool import spool
from .card_text import CardText, generic_card
from .display import DisplayElement
from .evaluation_hooks import EvaluationHooks
from .explanation import InspectionHooks
from .label_checks import LabelCheckHooks
from .predictions import Prediction
from .ranking_hooks import RankingHooks
from .row_hooks import RowHooks
from .task_options import TaskOptions

if TYPE_CHECKING:
    from ...core.checkpoints.checkpoint import Checkpoint
    from ...core.models.heads import Backbone, Network
    from ...core.tokenizers.tokenizer import Tokenizer
    from ...core.training.training_config import TrainConfig
    from ...core.training.training_events import Event
    from ...core.training.training_inputs import Targets
    from ..data.findings import Finding
    from ..data.rows import RowStream, Table
    from .model import TaskModel
    from .rival import Rival
    from .training_data import TrainingData

ExampleT = TypeVar("ExampleT", bound=Example)
PredictionT = TypeVar("PredictionT", bound=Prediction)
REQUIRED = ("name", "title", "inputs", "architecture")


@dataclass(frozen=True)
class Task(
    TaskOptions,
    RowHooks,
    EvaluationHooks,
    LabelCheckHooks,
    InspectionHooks,
    RankingHooks,
    ABC,
    Generic[ExampleT, PredictionT],
):
    """What is trained on a model: the texts it reads, its labels, its head, its loss, its predictions and metrics.

    A task is frozen: what is found in the training data (labels) or in held-out predictions (thresholds) is returned
    as a changed copy. Its dataclass fields are stored in the model folder; those made with `option` are set by users.

    A new task supplies:

    - `name`, `title`, `inputs`, `architecture`: class variables, described below;
    - `infer_labels`, `row_reader`: rows -> examples;
    - `encode`, `head`, `loss`: examples -> features -> outputs -> loss;
    - `decode`, `score`: outputs -> predictions -> metrics.

    Everything else has a default that works for any task and may be overridden:

    - rows: `fields`, `label_columns`, `columns`, `warnings`, `findings`, and those of `RowHooks`;
    - the model: `models`, `per_token`, `headless`, `pack`, `pool`;
    - training: `measure`, `targets`, `self_supervised`, `training_windows`, `in_batch_negatives`, `corrupt`,
      `uses_training_loop`, `fit_head`, `measure_rival`, `reuse_head`, `before_training`, `after_training`;
    - prediction: `predict_batch`, `predict_windows`, `join_windows`, `scored_labels`, `display`, `document`,
      `has_document`;
    - evaluation: `higher_is_better`, `measure_loss`, and those of `EvaluationHooks` and `LabelCheckHooks`;
    - the model folder: `reset`, `label_names`, `head_class`, `published`, `is_published`, `from_published`, `publish`;
    - cards, forms, inspection, ranking: `card`, `sample`, and those of `InspectionHooks` and of `RankingHooks`.
    """

    name: ClassVar[str]  # usually the Hub's pipeline tag
    title: ClassVar[str]  # a few words, for lists and forms
    inputs: ClassVar[tuple[Field, ...]]  # the texts it reads, the main one first
    architecture: ClassVar[str | tuple[str, ...]]  # suffixes of the published classes: "ForSequenceClassification"

    models: ClassVar[tuple[str, ...]] = ("bert", "gpt2")  # that it can be trained on
    label_columns: ClassVar[tuple[str, ...]] = LABEL_COLUMNS  # names that a column of labels may have
    self_supervised: ClassVar[bool] = False  # trains on texts without labels, read as a corpus that may exceed memory
    per_token: ClassVar[bool] = False  # what `pool` returns is one row per token instead of one per sequence
    headless: ClassVar[bool] = False  # reads the hidden states themselves: there is no head
    higher_is_better: ClassVar[bool] = True  # of the first metric of `score`
    has_document: ClassVar[bool] = False  # whether `document` is implemented

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        abstract = any(getattr(getattr(cls, name), "__isabstractmethod__", False) for name in Task.__abstractmethods__)
        missing = [name for name in REQUIRED if not hasattr(cls, name)]
        if missing and not abstract:
            raise TypeError(f"{cls.__name__} must define the class variables {', '.join(missing)}")

    @property
    def fields(self) -> tuple[Field, ...]:
        """The texts that this task reads: those of `inputs` that its data has, once that is known."""
        return self.inputs

    @property
    def label_names(self) -> tuple[str, ...]:
        """What its predictions choose from: labels, types of entities; empty if there is no such set."""
        return ()

    @property
    def scored_labels(self) -> tuple[str, ...]:
        """The labels whose probabilities are in the `scores` of every prediction; may be empty."""
        return ()

    @property
    def sample(self) -> str | None:
        """The file in tasks/samples with example inputs, if there is one."""
        return None

    # -- rows -> examples

    def columns(self, table: "Table | RowStream", chosen: Mapping[str, Any], *, need_label: bool) -> ColumnMapping:
        """Infers which column holds what.

        Args:
            table: the rows.
            chosen: field name, "label" or "group" -> the column that the user named.
            need_label: whether there must be a column of labels.

        Raises:
            HeadwayError: a column does not exist or cannot be inferred, or the task has no such field.
        """
        texts, label, group = _named_columns(chosen, self.fields)
        named = {"chosen": texts, "label": label, "group": group}
        return infer_columns(table, self.fields, **named, label_aliases=self.label_columns, need_label=need_label)

    @abstractmethod
    def infer_labels(self, table: "Table", columns: ColumnMapping) -> tuple[Self, list[str]]:
        """A copy that knows its labels (or scale, or schema), and what was inferred, a sentence each.

        Rows that cannot be used are skipped here: `examples` reports them.

        Raises:
            HeadwayError: there is nothing to learn from this data.
        """

    def measure(self, examples: Sequence[ExampleT]) -> Self:
        """A copy whose weights, shares and scales are those of the training examples, without the rows held out."""
        return self

    @abstractmethod
    def row_reader(
        self, table: "Table", columns: ColumnMapping, *, labelled: bool = True
    ) -> Callable[[int], ExampleT]:
        """A function that reads the row at a position as an example; without its label if not `labelled`.

        The function raises HeadwayError for a row that cannot be used: what is wrong and what to do, not where.
        """

    def read(
        self, table: "Table", columns: ColumnMapping, *, labelled: bool = True, file: Path | None = None
    ) -> tuple[Sequence[ExampleT], list[Problem]]:
        """The rows that can be used, as examples (many in `file`, if given), and what is wrong with the others."""
        wrong: dict[str, list[str]] = {}
        examples = spool(_usable(table, self.row_reader(table, columns, labelled=labelled), wrong), file)
        return examples, [Problem(what, tuple(places)) for what, places in wrong.items()]

    def examples(
        self, table: "Table", columns: ColumnMapping, *, labelled: bool = True, file: Path | None = None
    ) -> Sequence[ExampleT]:
        """Every row as a checked example. Many examples are kept in `file`, if it is given.

        Raises:
            HeadwayError: rows cannot be used; the message names them.
        """
        examples, problems = self.read(table, columns, labelled=labelled, file=file)
        if problems:
            others = f" Rows have {len(problems)} kinds of errors; `headway check` lists all of them."
            raise HeadwayError(f"{problems[0]}{others if len(problems) > 1 else ''}")
        return examples

    # -- examples -> features -> outputs -> loss

    @abstractmethod
    def encode(self, examples: Sequence[ExampleT], tokenizer: "Tokenizer", limit: int) -> list[Features]:
        """The sequences of examples, at most `limit` tokens each; several if a long text is read in windows."""

    @abstractmethod
    def head(self, backbone: "Backbone") -> nn.Module | None:
        """The head on top of the backbone, with new weights; None if the task is `headless`."""

    def targets(self, features: Sequence[Features]) -> "Targets":
        """What `loss` compares the outputs of a packed batch with, as tensors on the CPU; by default each `target`."""
        return {"targets": torch.tensor([one.target for one in features])}

    @abstractmethod
    def loss(self, outputs: Any, targets: "Targets") -> tuple[Tensor, int]:
        """The SUM of the losses of a packed batch, and its number of terms.

        Reading a tensor here (`item`, `tolist`, a condition) would make the host wait for the device. With
        `in_batch_negatives` there is a third argument, `gather` (training_inputs.py).

        Args:
            outputs: (B, N) or (T, N), as `pool` returned them.
            targets: what `targets` returned, on the device of the outputs.
        """

    def pack(self, features: Sequence[Features]) -> PackedBatch:
        """The sequences as the network reads them."""
        return pack(features)

    def pool(self, outputs: Any, batch: PackedBatch) -> Any:
        """What `loss` and `decode` read of the outputs, all by default; it is kept for all windows at once."""
        return outputs

    def training_windows(self, windows_by_example: Sequence[list[Features]]) -> Sequence[list[Features]]:
        """What training draws from: the windows of each example, or whatever else must be in one batch together."""
        return windows_by_example

    @property
    def in_batch_negatives(self) -> bool:
        """Whether the loss of an example depends on the other examples of its batch."""
        return False

    def corrupt(self, features: Sequence[Features], seed: int) -> Sequence[Features]:
        """The sequences as one training step reads them; random draws depend on the seed and the sequence only."""
        return features

    @property
    def uses_training_loop(self) -> bool:
        """Whether the training loop trains it, by gradient descent; otherwise `fit_head` does."""
        return True

    def fit_head(
        self, network: "Network", windows_by_example: Sequence[list[Features]], config: "TrainConfig"
    ) -> "Iterator[Event] | None":
        """Trains the head by another algorithm, as the events of a run; None: the training loop trains it."""
        return None

    def measure_rival(self, network: "Network", data: "TrainingData", config: "TrainConfig") -> "Rival | None":
        """A cheaper way to train, measured on the held-out rows; the network is unchanged. None: not worth it."""
        return None

    def reuse_head(self, before: "Task[Any, Any]") -> Self | None:
        """A copy that trains the head of `before`, a task of the same class, further; None if it needs a new head."""
        return self if self.published == before.published else None

    def before_training(self, before: "Task[Any, Any] | None", network: "Network") -> Self:
        """Called before training, with the task whose head is trained further (it undoes `after_training`) or None."""
        return self

    def after_training(self, network: nn.Module) -> Self:
        """Called once after training; moves into the weights what was kept apart during training."""
        return self

    # -- outputs -> predictions -> metrics

    def predict_batch(self, network: nn.Module, features: Sequence[Features]) -> list[PredictionT]:
        """One prediction per example, in the order of `features`; the network is in eval mode."""
        return self.join_windows(self.predict_windows(network, features), features)

    def predict_windows(self, network: nn.Module, features: Sequence[Features]) -> list[Any]:
        """What the network says about each of the features; a server computes other texts between two windows."""
        return outputs_of(network, features, self)

    def join_windows(self, found: Sequence[Any], features: Sequence[Features]) -> list[PredictionT]:
        """One prediction per example, from what `predict_windows` returned for its windows."""
        return self.decode(found, features)

    def measure_loss(self, outputs: Sequence[Tensor], features: Sequence[Features]) -> tuple[float, int]:
        """The sum of the losses of labelled examples and the number of its terms; the arguments are as in `decode`."""
        joined = torch.cat(list(outputs)) if self.per_token else torch.stack(list(outputs))
        total, count = self.loss(joined, self.targets(features))
        return float(total), count

    @abstractmethod
    def decode(self, outputs: Sequence[Tensor], features: Sequence[Features]) -> list[PredictionT]:
        """One prediction per example, in the order of `features`; its windows, which are neighbours, are joined.

        `outputs` are what the network computed for each of the features, on the CPU in fp32: (N,) or (n, N).
        """

    @abstractmethod
    def score(self, predictions: Sequence[PredictionT], examples: Sequence[ExampleT]) -> dict[str, float]:
        """Metrics by their usual names; the first one selects the best weights, unless the user names another one."""

    def display(self, prediction: PredictionT, texts: Mapping[str, str]) -> tuple[DisplayElement, ...]:
        """How a prediction for some texts, given by the names of `fields`, is shown."""
        return prediction.display(texts)

    def warnings(self, example: ExampleT, windows: Sequence[Features]) -> Iterable[ExampleWarning]:
        """What the user should know about an example and its windows (none if there is no tokenizer yet)."""
        return ()

    def findings(self, examples: Sequence[ExampleT]) -> "Iterable[Finding]":
        """What the user should know about all training examples together, beyond what is said of any labels."""
        return ()

    def document(self, found: "Iterable[tuple[Mapping[str, Any], PredictionT]]") -> dict[str, Any]:
        """Rows with their predictions as one JSON document, in the format of the task's official scorer.

        Raises:
            HeadwayError: a row lacks what the document needs.
        """
        raise HeadwayError(f"{self.name} has no format of one JSON document. Name the output .jsonl, .csv or .tsv.")

    # -- model folders

    @classmethod
    def is_published(cls, checkpoint: "Checkpoint") -> bool:
        """Whether a published checkpoint has a head of this task."""
        return checkpoint.architecture.endswith(cls.architecture) and checkpoint.network.head is not None

    @classmethod
    def from_published(cls, checkpoint: "Checkpoint") -> Self:
        """The task of a published checkpoint with such a head."""
        return cls()

    @property
    def head_class(self) -> str | tuple[str, ...]:
        """The suffixes of the published classes that the head of this task, with its options, can have."""
        return self.architecture

    @property
    def published(self) -> dict[str, Any]:
        """What a published config.json says about the head: `labels`, `problem_type`, and further `fields`."""
        return {"labels": self.label_names or None, "problem_type": None}

    def publish(self, folder: Path, network: "Network", tokenizer: "Tokenizer") -> None:
        """Writes further files that other libraries read into a model folder."""

    def card(self, network: "Network", name: str) -> CardText:
        """The task's parts of the card of a model folder called `name`."""
        return generic_card(self, network, name)

    # -- the way to a model

    def on(self, model: "str | Path") -> "TaskModel":
        """The task on a model (a folder, a built-in name or a hub id); HeadwayError if it cannot be read."""
        from .model import TaskModel  # which imports this module: users begin at either end

        return TaskModel.plug(self, model)


def _usable(table: "Table", read_row: Callable[[int], ExampleT], wrong: dict[str, list[str]]) -> Iterator[ExampleT]:
    """The rows that can be used, as examples; adds to `wrong` what is wrong with the others, with their places."""
    for row in range(len(table)):
        try:
            yield read_row(row)
        except HeadwayError as error:
            wrong.setdefault(str(error), []).append(table.where(row))


def _named_columns(
    chosen: Mapping[str, Any], fields: Sequence[Field]
) -> tuple[dict[str, str | None], str | list[str] | None, str | None]:
    """The columns of texts, the column or columns of labels, and the column of groups that the user named.

    Raises:
        HeadwayError: there is no such field.
    """
    texts = {name: None if column is None else str(column) for name, column in chosen.items()}
    group, _ = texts.pop("group", None), texts.pop("label", None)
    known = [field.name for field in fields]
    for name, column in texts.items():
        if column and name not in known:
            raise HeadwayError(f"--{name} {column}: the model reads {' and '.join(known)} only. Remove --{name}.")
    label = chosen.get("label")
    return texts, [str(one) for one in label] if isinstance(label, list | tuple) else label and str(label), group


@torch.inference_mode()
def outputs_of(network: nn.Module, features: Sequence[Features], task: Task[Any, Any]) -> list[Tensor]:
    """What the network computes for each of the features, on the CPU in fp32."""
    device = next(network.parameters()).device
    outputs: list[Tensor] = []
    sampler = BatchSampler([len(one.input_ids) for one in features], batch_tokens=INFERENCE_BATCH_TOKENS)
    for indices in sampler.in_order():
        batch = task.pack([features[i] for i in indices]).to(device)
        found = task.pool(network(batch), batch).float().cpu()  # (B, N) or (T, N)
        if not found.isfinite().all():
            raise HeadwayError(
                "The model's outputs are not finite numbers: its weights are damaged, or its training diverged. Copy "
                "the model folder again, or train with a lower --learning-rate."
            )
        outputs += batch.split(found) if task.per_token else found.unbind()
    return outputs
