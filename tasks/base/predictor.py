"""A model that predicts and is evaluated: a network with a task, prepared for inference when it is first used."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import torch

from ...core.checkpoints.checkpoint import Checkpoint, fill
from ...core.errors import HeadwayError
from ...core.inference.inference import prepare_for_inference
from ...core.models.heads import Config, Network
from ...core.tokenizers.tokenizer import Tokenizer
from ..data.columns import ColumnMapping
from ..data.examples import Example
from ..data.read import read_table
from ..data.read_options import ReadOptions
from ..data.rows import RowStream
from .evaluation import evaluate_rows, evaluate_text
from .inference import EXAMPLES_AT_ONCE, Encoder, in_parts, predict_examples
from .inputs import is_single, read_inputs
from .precision import AUTO, choose_precision
from .predictions import Prediction
from .results import Evaluation
from .task import Task

AnyTask = Task[Any, Any]


class Predictor:
    """A task on a backbone, in use.

    Args:
        task: with the user's options, before anything is inferred from data.
        stored: the task whose head the checkpoint has; None if it has none of this kind.
        checkpoint: the model.
        tokenizer: of the model.
        name: under which the model was opened.
    """

    def __init__(
        self, task: AnyTask, stored: AnyTask | None, checkpoint: Checkpoint, tokenizer: Tokenizer, name: str
    ) -> None:
        self.task = task
        self.tokenizer = tokenizer
        self.base = name
        self.info: dict[str, Any] = {}  # headway.json without the task
        self.trained = False  # whether the network has a trained head for the task
        self.held_out: Evaluation | None = None  # of the last training run, on its evaluation data
        self.precision = AUTO  # of predictions: one of precision.PRECISION_CHOICES
        self._initial_task = task
        self._stored_task = stored
        self._checkpoint = checkpoint
        self._network = checkpoint.network
        self._weights_changed = False  # whether training has changed the checkpoint's weights
        self._prepared: tuple[Any, Network] | None = None  # for inference, with the state it was prepared from

    @property
    def network(self) -> Network:
        """The network with plain fp32 weights, read on first access; predictions on the CPU do not need them."""
        if self._unread:
            fill(self._network, self._checkpoint.weights)
        return self._network

    @property
    def _unread(self) -> bool:
        return next(self._network.parameters()).is_meta

    @property
    def config(self) -> Config:
        """The configuration of the backbone."""
        return self._network.config

    @property
    def encoder(self) -> Encoder:
        """Encodes examples for this model."""
        return Encoder(self.base, self.tokenizer, self.config)

    @property
    def limit(self) -> int:
        """The longest sequence in tokens, special tokens included."""
        return self.encoder.limit(self.task)

    def set_options(self, **options: Any) -> None:
        """Sets options of the task that may be changed on a trained model.

        Raises:
            HeadwayError: the task has no such option, or the value is not possible.
        """
        self.task, self._initial_task = self.task.with_options(options), self._initial_task.with_options(options)

    def predict(self, inputs: Any) -> Any:
        """Predictions for texts.

        Args:
            inputs: one text (one prediction is returned) or a list of texts; if the task reads several texts, tuples
                in the order of `task.fields`, or dicts with their names.

        Raises:
            HeadwayError: an input does not have the texts that the task reads.
        """
        single = is_single(inputs)
        predictions = self._predict(read_inputs(self.task, [inputs] if single else inputs))
        return predictions[0] if single else predictions

    def predict_rows(
        self,
        stream: RowStream,
        columns: ColumnMapping | Mapping[str, Any] | None = None,
        *,
        at_once: int = EXAMPLES_AT_ONCE,
    ) -> Iterator[tuple[dict[str, Any], Prediction]]:
        """Predictions for rows as they are read, in order and in bounded memory: (row, prediction).

        Args:
            stream: the rows.
            columns: those of the texts, or field name -> column where the inferred one is wrong.
            at_once: number of rows that are predicted together.
        """
        if not isinstance(columns, ColumnMapping):
            columns = self.task.columns(stream, columns or {}, need_label=False)
        rows = iter(stream)
        while part := list(islice(rows, at_once)):
            places, values = [place for place, _ in part], [row for _, row in part]
            table = stream.table(values, places)
            predictions = self._predict(self.task.examples(table, columns, labelled=False))
            yield from zip(values, predictions, strict=True)

    def evaluate(self, data: Any, *, columns: Mapping[str, Any] | None = None, **reading: Any) -> Evaluation:
        """The metrics of the model on labelled data.

        Args:
            data: anything that `train` takes.
            columns: field name or "label" -> column, where the inferred one is wrong.
            **reading: fields of ReadOptions: header, encoding, ...

        Raises:
            HeadwayError: the data cannot be read, has no labels, or has a label that the model does not know.
        """
        self._need_training()
        task, chosen, options = self.task, columns or {}, ReadOptions(**reading)
        if task.self_supervised:
            return evaluate_text(task, self._for_inference, self.encoder, data, chosen=chosen, options=options)
        return evaluate_rows(task, self._for_inference, self.encoder, read_table(data, options), chosen)

    def _predict(self, examples: Sequence[Example]) -> list[Any]:
        self._need_training()
        return [
            prediction
            for part in in_parts(examples)
            for prediction in predict_examples(self.task, self._for_inference, self.encoder.encode(self.task, part))
        ]

    @property
    def _for_inference(self) -> Network:
        """The network prepared for inference; prepared again if its weights or the precision have changed."""
        parameters = list(self._network.parameters())
        device = torch.device("cpu") if self._unread else parameters[0].device
        precision = choose_precision(self.precision, self.info, device.type)
        state = (precision, *(parameter._version for parameter in parameters))
        if self._prepared is None or self._prepared[0] != state:
            self._prepared = None  # frees its memory first
            weights = self._checkpoint.weights if self._unread else None
            self._prepared = state, prepare_for_inference(self._network.eval(), precision, weights)
        return self._prepared[1]

    def _need_training(self) -> None:
        if not self.trained:
            raise HeadwayError(
                f"{self.base} has no trained head for {self.task.name} here. Train it with fit(), or open a trained "
                "model with headway.tasks.load()."
            )
