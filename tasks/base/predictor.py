"""A model that predicts and is evaluated: a network with a task, prepared for inference when it is first used."""

import copy
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Self

import numpy as np

from ...core.checkpoints.checkpoint import Checkpoint, fill
from ...core.checkpoints.families.registry import family_of
from ...core.errors import HeadwayError
from ...core.inference.pausing import pausing
from ...core.models.heads import Config, Network
from ...core.tokenizers.tokenizer import Tokenizer
from ...core.training.distributed import broadcast_object, inference_device
from ...core.training.failures import failing_together
from ...core.training.turns import in_turns
from ..data.columns import ColumnMapping
from ..data.examples import Example
from ..data.features import Features, text_length
from ..data.places import shorten
from ..data.read import read_table, stream_rows
from ..data.read_options import ReadOptions
from ..data.rows import LeftOutRow, RowStream, Table
from .arguments import explains_arguments
from .baseline import HowTrained, explain_no_learning
from .decision_rules import DecisionRules
from .evaluation import WRONG, Observer, evaluate_rows, evaluate_text
from .inference import EXAMPLES_AT_ONCE, Encoder, in_parts, predict_examples, predict_here
from .inputs import is_single, is_table, iterate, name_rows, read_inputs
from .known_columns import columns_as_trained
from .left_out import write_left_out
from .precision import AUTO, choose_precision
from .predictions import Prediction
from .prepared import PreparedNetwork
from .progress import is_interactive, show_lines
from .results import Evaluation
from .task import Task
from .text_distance import TextDistance
from .training_rows import TrainingRows

AnyTask = Task[Any, Any]
Threshold = float | str | Mapping[str, float]


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
        self.task = task = task.for_model(checkpoint.network.config)
        self.tokenizer = tokenizer
        self.base = name
        self.info: dict[str, Any] = {}  # headway.json without the task
        self.left_out: Sequence[LeftOutRow] = ()  # rows of the training data that were not used
        self.out_of_fold: Sequence[str] = ()  # of a cross-validation: a line of JSON per row (fold.py)
        self.training_rows: TrainingRows | None = None  # hashes of the texts it was trained on
        self.distance: TextDistance | None = None  # of texts from the training texts, for a rule that needs it
        self.trained = False  # whether the network has a trained head for the task
        self.held_out: Evaluation | None = None  # of the last training run, on its evaluation data
        self.precision = AUTO  # of predictions: one of precision.PRECISION_CHOICES
        self.device = AUTO  # of a loaded model, by name: auto, cpu, cuda, cuda:1, ...
        self._initial_task = task
        self._stored_task = stored
        self._checkpoint = checkpoint
        self._network = checkpoint.network
        self._weights_changed = False  # whether training has changed the checkpoint's weights
        self._prepared = PreparedNetwork()

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {_describe(self)}>"

    def __getstate__(self) -> dict[str, Any]:
        """For pickle and deepcopy: the weights themselves instead of their files; without the prepared network."""
        network = _filled_on_cpu(self._network, self._checkpoint.weights)
        checkpoint = replace(self._checkpoint, network=network, weights={})
        return {**self.__dict__, "_network": network, "_checkpoint": checkpoint}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._network.to(inference_device(self.device))

    @property
    def network(self) -> Network:
        """The network with plain fp32 weights, read on first access; predictions on the CPU do not need them."""
        with self._prepared.lock:
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

    def with_options(self, **options: Any) -> Self:
        """Another model with the same network, and other options of its task as by `set_options`."""
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)  # `copy` would read all weights
        other.set_options(**options)
        return other

    @property
    def rules(self) -> DecisionRules:
        """The decision rules that its predictions follow: when it abstains, prediction sets, texts of no label."""
        return DecisionRules.of(self.info)

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels or types of entities that predictions choose from, in the order of the model's outputs."""
        return self.task.label_names

    @explains_arguments
    def predict(
        self,
        inputs: Any,
        *,
        columns: Mapping[str, Any] | None = None,
        threshold: Threshold | None = None,
        min_confidence: float | None = None,
    ) -> Any:
        """Predictions for texts.

        Args:
            inputs: one text (one prediction is returned), or several: a list, a generator, a Series, a DataFrame, the
                Path of a file, ... If the task reads several texts, each input is a tuple in the order of
                `task.fields`, or a dict with their names.
            columns: of a table: field name -> column, where the inferred one is wrong.
            threshold: several labels only: the probability from which a label is predicted; one number, or numbers by
                label. Default: fitted in training. `set_options(threshold=...)` keeps one.
            min_confidence: predictions with a lower confidence are `abstained`; 0: none is. Default: the stored rule.

        Raises:
            HeadwayError: an input does not have the texts that the task reads, or the model has no threshold.
        """
        if is_table(inputs) or columns is not None:
            chosen: dict[str, Any] = {"threshold": threshold, "min_confidence": min_confidence}
            return broadcast_object([prediction for _, prediction in self.predict_rows(inputs, columns, **chosen)])
        single, task = is_single(inputs), _task_at(self.task, threshold)
        rules = self.rules.with_min_confidence(min_confidence)
        predictions = rules.apply(self._predict(task, read_inputs(task, [inputs] if single else iterate(inputs))))
        return predictions[0] if single else predictions

    @explains_arguments
    def predict_proba(self, inputs: Any, *, columns: Mapping[str, Any] | None = None) -> np.ndarray:
        """The probability of each label for texts, as an array like that of scikit-learn's classifiers.

        Args:
            inputs: as for `predict`; one text gives one row.
            columns: as for `predict`.

        Returns:
            (n, L) in the order of `labels`. For one label per text the rows sum to 1; for several labels each number
            is the probability of its label.

        Raises:
            HeadwayError: the model does not predict probabilities of labels, or as `predict`.
        """
        labels = self.task.scored_labels
        if not labels:
            self._need_training()
            raise HeadwayError(f"{self!r} does not predict a probability for each of a set of labels. Use predict().")
        predictions = self.predict([inputs] if is_single(inputs) else inputs, columns=columns)
        rows = np.array([[one.scores[label] for label in labels] for one in predictions], dtype=np.float64)
        if predictions and hasattr(predictions[0], "label"):
            rows /= rows.sum(1, keepdims=True)  # exactly 1 in fp64, as scikit-learn's metrics require
        return rows.reshape(-1, len(labels))

    @explains_arguments
    def predict_rows(
        self,
        data: Any,
        columns: ColumnMapping | Mapping[str, Any] | None = None,
        *,
        threshold: Threshold | None = None,
        min_confidence: float | None = None,
        at_once: int = EXAMPLES_AT_ONCE,
        **reading: Any,
    ) -> Iterator[tuple[dict[str, Any], Prediction]]:
        """Predictions for rows as they are read, in order and in bounded memory: (row, prediction).

        Under a launcher every process makes the same call and reads to the end: the main process gets all rows, the
        others none.

        Args:
            data: the rows: a file name, a DataFrame, a list or generator of dicts, texts or tuples, ...
            columns: those of the texts, or field name -> column where the inferred one is wrong.
            threshold: as for `predict`.
            min_confidence: as for `predict`.
            at_once: number of rows that are predicted together.
            **reading: fields of ReadOptions: header, encoding, ...

        Raises:
            HeadwayError: the data cannot be read, or a row does not have the texts that the task reads.
        """
        task, rules = _task_at(self.task, threshold), self.rules.with_min_confidence(min_confidence)
        ReadOptions(**reading).refuse_for_prediction()
        stream = stream_rows(name_rows(self.task, data, labelled=False), **reading)
        if not isinstance(columns, ColumnMapping):
            columns = self.columns(stream, columns or {})
            if is_interactive():
                show_lines([*stream.notes, *columns.notes])
        rows, mapping = iter(stream), columns

        def predict(part: list[tuple[int, dict[str, Any]]]) -> list[Any]:
            table = stream.table([row for _, row in part], [place for place, _ in part])
            return rules.apply(self._predict(task, task.examples(table, mapping, labelled=False), predict_here))

        for part, predictions in in_turns(iter(lambda: list(islice(rows, at_once)), []), predict):
            yield from zip((row for _, row in part), predictions, strict=True)

    @explains_arguments
    @failing_together()
    def evaluate(
        self,
        data: Any,
        labels: Any = None,
        *,
        columns: Mapping[str, Any] | None = None,
        unknown_labels: str = WRONG,
        observe: Observer | None = None,
        keep_predictions: bool = True,
        progress: bool | None = None,
        **reading: Any,
    ) -> Evaluation:
        """The metrics of the model on labelled data.

        Args:
            data: anything that `train` takes.
            labels: one per text, if they are not in `data`.
            columns: field name or "label" -> column, where the inferred one is wrong.
            unknown_labels: rows with labels that the model does not know are counted as "wrong", left out ("skip") or
                refused ("error").
            observe: called with the examples and their predictions, part by part.
            keep_predictions: whether the result has all predictions; else a random sample, and memory stays bounded.
            progress: whether to show a progress bar on stderr. Default: in terminals and notebooks.
            **reading: fields of ReadOptions: header, encoding, ...

        Raises:
            HeadwayError: the data cannot be read, has no labels, or has labels that are refused.
        """
        self._need_training()
        task, encoder, chosen, options = self.task, self.encoder, columns or {}, ReadOptions(**reading)
        data = name_rows(task, data, labels, labelled=True)
        how: dict[str, Any] = {"observe": observe, "progress": progress}
        if task.self_supervised:
            given = {"chosen": chosen, "options": options, "keep_predictions": keep_predictions, **how}
            return evaluate_text(task, self._for_inference, encoder, data, **given)
        how["unknown_labels"] = unknown_labels
        return _evaluate_table(self, data, chosen, options, how if keep_predictions else {**how, "folder": None})

    def columns(
        self, data: Table | RowStream, chosen: Mapping[str, Any], *, need_label: bool = False
    ) -> ColumnMapping:
        """The columns that the model reads: those chosen, else those of its training data, else inferred ones.

        Raises:
            HeadwayError: they cannot be inferred, or a chosen one does not exist.
        """
        return columns_as_trained(self.task, self.info.get("columns"), data, chosen, need_label=need_label)

    def _predict(
        self, task: AnyTask, examples: Sequence[Example], compute: Callable[..., list[Any]] = predict_examples
    ) -> list[Any]:
        self._need_training()
        predictions = []
        for part in in_parts(examples):
            windows_by_example = self.encoder.encode(task, part)
            predictions += with_lengths(compute(task, self._for_inference, windows_by_example), windows_by_example)
        return predictions

    # -- the steps of a prediction, for a server that computes long texts window by window

    def windows(self, inputs: Sequence[Any], options: Mapping[str, Any] | None = None) -> list[list[Features]]:
        """The windows of each input of `predict`; options are for these inputs alone, some of `task.request_options`.

        Raises:
            HeadwayError: an input does not have the texts that the task reads, or an option is not possible.
        """
        self._need_training()
        task = self.task.with_options(options) if options else self.task
        return self.encoder.encode(task, read_inputs(task, inputs))

    def predict_windows(self, windows: Sequence[Features], pause: Callable[[], None] | None = None) -> list[Any]:
        """What the model says about each window, in order.

        Args:
            windows: of one input or of several.
            pause: called before every layer; it may predict other windows.
        """
        network = self._for_inference
        order = sorted(range(len(windows)), key=lambda i: -len(windows[i].input_ids))  # equal lengths: neighbours
        with nullcontext() if pause is None else pausing(network.backbone, pause):
            found = self.task.predict_windows(network, [windows[i] for i in order])
        return [one for _, one in sorted(zip(order, found, strict=True), key=lambda pair: pair[0])]

    def join_windows(self, windows_by_input: Sequence[list[Features]], found: Sequence[Any]) -> list[Any]:
        """One prediction per input, from what `predict_windows` returned for the windows of all inputs."""
        windows = [replace(one, example=i) for i, part in enumerate(windows_by_input) for one in part]
        return self.rules.apply(with_lengths(self.task.join_windows(found, windows), windows_by_input))

    @property
    def _for_inference(self) -> Network:
        """The network prepared for inference; prepared again if its weights or the precision have changed."""
        weights = self._checkpoint.weights if self._unread else None
        choose = partial(choose_precision, self.precision, self.info)
        return self._prepared.make(self._network, weights, choose, self.distance)

    def _need_training(self) -> None:
        if not self.trained:
            raise HeadwayError(
                f"{self.base} has no trained head for {self.task.name} here. Train it with fit(), or open a trained "
                "model with headway.tasks.load()."
            )


def _evaluate_table(
    model: Predictor, data: Any, chosen: Mapping[str, Any], options: ReadOptions, how: dict[str, Any]
) -> Evaluation:
    """Evaluates rows; with a "folder" among the arguments of `evaluate_rows`, many rows are kept in files there."""
    with tempfile.TemporaryDirectory(prefix="headway-") if "folder" in how else nullcontext() as name:
        folder = None if name is None else Path(name)
        table, network = read_table(data, options, folder=folder), model._for_inference
        mapping = model.columns(table, chosen, need_label=True)
        stored = (model.info.get("columns") or {}).get("label")
        stored = tuple(stored) if isinstance(stored, list) else stored
        inferred = isinstance(data, str | Path) and "label" not in chosen and mapping.label != stored
        how["label_inferred"] = stored is not None and inferred
        found = evaluate_rows(model.task, network, model.encoder, table, mapping, **{**how, "folder": folder})
    found = replace(found, predictions=model.rules.apply(found.predictions))
    write_left_out(options.left_out, found.left_out)
    return _with_warnings(model, found)


def _with_warnings(model: Predictor, found: Evaluation) -> Evaluation:
    """An evaluation that says whether the model was trained on the examples, or has learnt nothing."""
    trained = HowTrained.of(model.info, len(model.labels), model.config.hidden_size)
    had_learnt = bool(model.info.get("metrics")) and not model.info.get("nothing_learnt")
    baseline = found.baseline or model.task.baseline(found.predictions, found.examples)
    seen = model.training_rows and model.training_rows.describe_known(found.examples)
    if seen and found.number is not None:
        seen = f"in a random sample, {seen}"
    return replace(found, seen=seen, nothing_learnt=explain_no_learning(baseline, trained, had_learnt=had_learnt))


def _task_at(task: AnyTask, threshold: Threshold | None) -> AnyTask:
    return task if threshold is None else task.with_options({"threshold": threshold})


def _describe(model: Predictor) -> str:
    backbone = f"{model.base} ({family_of(model.config).title})"
    labels = f"{len(model.labels)} labels: {shorten(', '.join(model.labels), 120)}" if model.labels else ""
    parts = (f"{model.task.name} on {backbone}", labels, "trained" if model.trained else "not trained")
    return "; ".join(part for part in parts if part)


def _filled_on_cpu(network: Network, weights: Mapping[str, Any]) -> Network:
    """The network if its weights are read and on the CPU, else such a copy."""
    first = next(network.parameters())
    if not first.is_meta and first.device.type == "cpu":
        return network
    network = copy.deepcopy(network)
    if first.is_meta:
        fill(network, weights)
    return network.to("cpu")


def with_lengths(predictions: Sequence[Prediction], windows_by_example: Sequence[list[Features]]) -> list[Any]:
    """The predictions with the lengths of their inputs."""
    lengths = map(text_length, windows_by_example)
    return [replace(one, length=length) for one, length in zip(predictions, lengths, strict=True)]
