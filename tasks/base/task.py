"""The contract of a task, and what goes in and comes out of one.

A row's way through the house: a `Table` row -> an `Example` (checked text) -> `Features` (token ids, one for each
window of a long text) -> the model's outputs -> a `Prediction` (plain Python) -> figures.

Shapes: B sequences in a packed batch, T tokens in all, N outputs.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from torch import Tensor, nn

from ...core.errors import HeadwayError
from ...core.options import check_choices, option, options_of
from ..data.examples import Example, ExampleWarning, Field, Problem
from ..data.features import Features
from .display import DisplayElement
from .predictions import Misprediction

if TYPE_CHECKING:
    from ...core.checkpoints.checkpoint import Checkpoint
    from ...core.models.heads import Backbone, Config, Network
    from ...core.models.packing import PackedBatch
    from ...core.tokenizers.tokenizer import Tokenizer
    from ...core.training.training_config import TrainConfig
    from ...core.training.training_events import Event
    from ..data.columns import ColumnMapping
    from ..data.rows import RowStream, Table
    from .card_text import CardText
    from .model import TaskModel


@dataclass(frozen=True)
class Task:
    """What is plugged onto a model: which texts it reads, which labels it knows, how outputs become answers.

    A task is frozen; what it learns from data (its labels) or from held-out predictions (thresholds) comes back as a
    changed copy. Its fields are its options, stored in the model folder.

    Fields made with `option` are what people set.
    """

    max_length: int | None = option(
        None, "The longest sequence in tokens, special tokens included; the model's own limit if left out."
    )
    long_texts: str = option(
        "windows",
        "Longer texts: windows reads them in overlapping pieces, cut reads their beginning only.",
        choices=("windows", "cut"),
    )
    overlap: int | None = option(
        None,
        "Tokens that neighbouring windows share at least; an eighth of a window or more if left out.",
    )

    name: ClassVar[str]  # the Hub's pipeline tag
    title: ClassVar[str]  # a few words for lists and forms
    inputs: ClassVar[tuple[Field, ...]]
    # What the published classes of such a head end in: "ForSequenceClassification"; several where heads differ.
    architecture: ClassVar[str | tuple[str, ...]]
    models: ClassVar[tuple[str, ...]] = ("bert", "gpt2")  # that it can be plugged onto
    self_supervised: ClassVar[bool] = (
        False  # learns from texts without labels, read as a corpus that may exceed the memory
    )
    label_columns: ClassVar[tuple[str, ...]] = ()  # of the column with the gold; those of classification if empty
    per_token: ClassVar[bool] = False  # outputs are one row a token, instead of one a sequence
    higher_is_better: ClassVar[bool] = True  # of the first figure of `score`
    has_document: ClassVar[bool] = False  # whether `document` can be asked for
    headless: ClassVar[bool] = False  # reads the hidden states themselves: nothing is plugged on

    @property
    def fields(self) -> tuple[Field, ...]:
        """The texts that this very task reads: fewer than `inputs` once its data has shown which there are."""
        return self.inputs

    @property
    def label_names(self) -> tuple[str, ...]:
        """What its answers choose among, if anything: labels, types of entities."""
        return ()

    @property
    def sample(self) -> str | None:
        """The file in tasks/samples whose texts show what it is asked; None where there is none."""
        return None

    def __post_init__(self) -> None:
        check_choices(self)
        if self.max_length is not None and self.max_length < 8:
            raise HeadwayError(f"--max-length {self.max_length}: at least 8 tokens are needed.")
        if self.overlap is not None and self.overlap < 0:
            raise HeadwayError(f"--overlap {self.overlap}: a number of tokens, 0 or more.")

    def limit(self, most: int, model: str) -> int:
        """The longest sequence in tokens, special tokens included, on a model that reads `most`.

        Raises:
            HeadwayError: the person's options do not fit the model.
        """
        limit = self.max_length or most
        if limit > most:
            raise HeadwayError(f"--max-length {limit}: {model} reads at most {most} tokens.")
        if self.overlap is not None and self.overlap > limit // 2:
            raise HeadwayError(f"--overlap {self.overlap}: at most half a window of {limit} tokens is possible.")
        return limit

    # -- people's data -> examples

    def columns(self, table: "Table | RowStream", chosen: Mapping[str, Any], *, need_label: bool) -> "ColumnMapping":
        """Settles which column holds what; `chosen` maps field names and "label" to what the person said.

        Raises:
            HeadwayError: a column does not exist or cannot be told, or the task has no such field.
        """
        from ..data.column_names import LABEL_COLUMNS
        from ..data.columns import infer_columns

        texts = {name: None if said is None else str(said) for name, said in chosen.items() if name != "label"}
        known = [field.name for field in self.fields]
        for name, said in texts.items():
            if said and name not in known:
                raise HeadwayError(f"--{name} {said}: the model reads {' and '.join(known)} only. Leave it out.")
        label = chosen.get("label")
        label = [str(one) for one in label] if isinstance(label, list | tuple) else label and str(label)
        names = self.label_columns or LABEL_COLUMNS
        return infer_columns(table, self.fields, chosen=texts, label=label, label_aliases=names, need_label=need_label)

    def infer_labels(self, table: "Table", columns: "ColumnMapping") -> tuple[Self, list[str]]:
        """A copy that knows what the training data alone can tell (form, labels), and that in a sentence each.

        Rows that cannot be used are passed over here: `examples` names them.

        Raises:
            HeadwayError: there is nothing to learn from this data.
        """
        raise NotImplementedError

    def reset(self) -> Self:
        """A copy without what `infer_labels` and `calibrate` have found: only what a person says is left."""
        raise NotImplementedError

    def row_reader(
        self, table: "Table", columns: "ColumnMapping", *, labelled: bool = True
    ) -> "Callable[[int], Example]":
        """How to read the row at a position as an example, its label left alone where `labelled` is false.

        The function raises HeadwayError for a row that cannot be used: what is wrong and what to do, not where.
        """
        raise NotImplementedError

    def read(
        self, table: "Table", columns: "ColumnMapping", *, labelled: bool = True
    ) -> tuple[list[Any], list[Problem]]:
        """The rows that can be used as examples, and what is wrong with the others."""
        read_row = self.row_reader(table, columns, labelled=labelled)
        examples: list[Any] = []
        wrong: dict[str, list[str]] = {}
        for row in range(len(table)):
            try:
                examples.append(read_row(row))
            except HeadwayError as error:
                wrong.setdefault(str(error), []).append(table.where(row))
        return examples, [Problem(what, tuple(places)) for what, places in wrong.items()]

    def examples(self, table: "Table", columns: "ColumnMapping", *, labelled: bool = True) -> list[Any]:
        """Every row as a checked example.

        Raises:
            HeadwayError: rows cannot be used; the message names them.
        """
        examples, problems = self.read(table, columns, labelled=labelled)
        if problems:
            ways = f" Rows are wrong in {len(problems)} ways; `headway check` lists all of them."
            more = ways if len(problems) > 1 else ""
            raise HeadwayError(f"{problems[0]}{more}")
        return examples

    # -- examples -> the model

    def encode(self, examples: Sequence[Any], tokenizer: "Tokenizer", limit: int) -> list[Features]:
        """The sequences of some examples, at most `limit` tokens each; several where a long text needs windows.

        All examples at once, because the tokenizer then uses all cores.
        """
        raise NotImplementedError

    def training_windows(self, windows_by_example: Sequence[list[Features]]) -> Sequence[list[Features]]:
        """What training draws from: the windows of each example, or whatever else must be in one batch together."""
        return windows_by_example

    def warnings(self, example: Any, windows: Sequence[Features]) -> Iterable[ExampleWarning]:  # noqa: ARG002
        """What is worth knowing about an example and its windows (none where there is no tokenizer yet)."""
        return ()

    def head(self, backbone: "Backbone") -> nn.Module | None:
        """What is plugged onto the backbone, with fresh weights; None where it is `headless`."""
        raise NotImplementedError

    @property
    def in_batch_negatives(self) -> bool:
        """Whether an example's loss depends on those that are computed with it."""
        return False

    def tokens_at_once(self, config: "Config") -> int | None:  # noqa: ARG002
        """How many tokens the memory is safe to compute at once in training; None: as many as fit any model."""
        return None

    def pack(self, features: Sequence[Features]) -> "PackedBatch":
        """The sequences as the network reads them."""
        from ..data.features import pack

        return pack(features)

    def corrupt(self, features: Sequence[Features]) -> Sequence[Features]:
        """The sequences as a training step sees them, drawn anew each time from torch's random state."""
        return features

    def loss(self, outputs: Any, features: Sequence[Features]) -> tuple[Tensor, int]:
        """The SUM of the losses of a packed batch, and the number of labels in it.

        Args:
            outputs: the network's, (B, N) or (T, N).
            features: the B sequences, in order; all windows of an example are neighbours.
        """
        raise NotImplementedError

    def fit_head(
        self,
        network: "Network",  # noqa: ARG002
        windows_by_example: Sequence[list[Features]],  # noqa: ARG002
        config: "TrainConfig",  # noqa: ARG002
    ) -> "Iterator[Event] | None":
        """Trains the head in a way of the task's own, as the events of a run; None: the training loop does it."""
        return None

    # -- outputs -> answers -> figures

    def predict_batch(self, network: nn.Module, features: Sequence[Features]) -> list[Any]:
        """One prediction an example, in the order of `features`: the network's outputs, decoded.

        Args:
            network: in eval mode.
            features: all windows of an example are neighbours.
        """
        from .inference import outputs

        return self.decode(outputs(self, network, features), features)

    def decode(self, outputs: Sequence[Tensor], features: Sequence[Features]) -> list[Any]:
        """One prediction an example, in the order of `features`, whose windows are joined.

        Args:
            outputs: on the CPU in fp32, for each of the features what the network gave it: (N,) or (n, N).
            features: all windows of an example are neighbours.
        """
        raise NotImplementedError

    def display(self, prediction: Any, texts: Mapping[str, str]) -> tuple[DisplayElement, ...]:
        """What there is to see of a prediction about some texts, given by the names of `fields`."""
        return prediction.display(texts)

    def score(self, predictions: Sequence[Any], examples: Sequence[Any]) -> dict[str, float]:
        """Figures by their usual names; the first is the one that chooses the best weights."""
        raise NotImplementedError

    def document(self, found: "Iterable[tuple[Mapping[str, Any], Any]]") -> dict[str, Any]:
        """Rows with their predictions as one JSON document, as the scripts read it that score the task elsewhere.

        Raises:
            HeadwayError: a row lacks what the document needs.
        """
        raise NotImplementedError

    def per_label(self, predictions: Sequence[Any], examples: Sequence[Any]) -> list[dict[str, Any]]:  # noqa: ARG002
        """A table with a row a label, where that means something."""
        return []

    def confused(self, predictions: Sequence[Any], examples: Sequence[Any]) -> list[tuple[str, str]]:  # noqa: ARG002
        """The right label and the predicted one of everything that has one of each; empty where nothing has."""
        return []

    def misprediction(self, prediction: Any, example: Any) -> Misprediction | None:  # noqa: ARG002
        """What is wrong with a prediction; None: nothing, or the task cannot say."""
        return None

    def calibrate(self, predictions: Sequence[Any], examples: Sequence[Any]) -> tuple[Self, list[Any]]:  # noqa: ARG002
        """A copy whose thresholds and the like are fitted to held-out data, and the predictions as it makes them."""
        return self, list(predictions)

    def reuse_head(self, before: "Task") -> Self | None:
        """A copy that trains the head of `before`, a task of the same class; None where it needs a new head."""
        return self if self.published == before.published else None

    def before_training(self, before: "Task", network: nn.Module) -> Self:  # noqa: ARG002
        """Called before the head of `before` is trained further: the opposite of `after_training`."""
        return self

    def after_training(self, network: nn.Module) -> Self:  # noqa: ARG002
        """Called once after training: what was kept apart while learning is moved into the weights."""
        return self

    # -- model folders

    @classmethod
    def is_published(cls, checkpoint: "Checkpoint") -> bool:
        """Whether a published checkpoint has a head of this task."""
        return checkpoint.architecture.endswith(cls.architecture) and checkpoint.network.head is not None

    @classmethod
    def from_published(cls, checkpoint: "Checkpoint") -> Self:
        """The task of a published checkpoint with such a head."""
        raise NotImplementedError

    @property
    def published(self) -> dict[str, Any]:
        """What a published config.json says of the head: `labels` and `problem_type`."""
        return {"labels": None, "problem_type": None}

    def card(self, network: "Network", name: str) -> "CardText":
        """What the card of a model folder of this name says about it."""
        raise NotImplementedError

    def publish(self, folder: Path, network: "Network") -> None:
        """Writes what other libraries read besides the weights into a model folder; nothing for most tasks."""

    def with_options(self, given: Mapping[str, Any]) -> Self:
        """A copy in which options have other values that may be changed on a trained model.

        Raises:
            HeadwayError: it has no such option, or the value is not possible.
        """
        known = [f"--{found.name.replace('_', '-')}" for found in options_of(type(self), "after")]
        for name in given:
            typed = f"--{name.replace('_', '-')}"
            if typed not in known:
                has = f"What can be set on one: {', '.join(known)}." if known else "Leave it out."
                raise HeadwayError(f"{typed} cannot be set on a trained model for {self.name}. {has}")
        return replace(self, **given)

    def to_json(self) -> dict[str, Any]:
        """The options as plain JSON types."""
        return asdict(self)

    @classmethod
    def from_json(cls, options: Mapping[str, Any]) -> Self:
        """The task with these options; lists become tuples again."""
        known = {field.name for field in fields(cls)}
        unknown = sorted(options.keys() - known)
        if unknown:
            raise HeadwayError(
                f"the model folder has options for {cls.name} that this version does not know: {', '.join(unknown)}. "
                "Update Headway, or train the model again."
            )
        frozen: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in options.items()
        }
        return cls(**frozen)

    def on(self, model: "str | Path") -> "TaskModel":
        """Plugs the task onto a model: a folder, a built-in name or a hub id.

        Raises:
            HeadwayError: there is no such model, or it cannot be read.
        """
        from .model import TaskModel

        return TaskModel.plug(self, model)
