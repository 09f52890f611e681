"""A task on a model: what users train, predict with, evaluate, save and load; the same for every task."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, Self

import torch

from ...core.atomic_files import new_path
from ...core.checkpoints.checkpoint import Checkpoint, fill, load_checkpoint, load_head
from ...core.checkpoints.config_file import published_class, read_config
from ...core.checkpoints.hub import find_folder
from ...core.checkpoints.weight_names import model_of
from ...core.errors import HeadwayError
from ...core.inference.inference import prepare_for_inference
from ...core.models.heads import Config, Network
from ...core.tokenizers.tokenizer import Tokenizer
from ...core.training.distributed import inference_device, processes, wants_cpu
from ...core.training.training_config import TrainConfig
from ...core.training.training_events import Event
from ..data.columns import ColumnMapping
from ..data.examples import Example
from ..data.read import read_table
from ..data.rows import RowStream
from .evaluation import evaluate_rows, evaluate_text
from .inference import EXAMPLES_AT_ONCE, Encoder, in_parts, predict_examples
from .inputs import is_single, read_inputs
from .model_folder import name_base, read_info, require_task, stored_task, write_model
from .precision import AUTO, choose_precision
from .predictions import Prediction
from .results import Evaluation, Trained
from .task import Task
from .training_data import DataSource, TrainingData, encode_labelled, read_labelled, write_corpora
from .training_run import RunOptions, describe_run, refuse_output, run_training, scratch_folder, trained_event

AnyTask = Task[Any, Any]
MODELS = {"bert": "a BERT", "gpt2": "a GPT-2"}


class TaskModel:
    """A task on a backbone.

    Make one with `TextClassification().on("bert-base-uncased")`, or load one with `headway.tasks.load`.

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

    @classmethod
    def plug(cls, task: AnyTask, name: str | Path) -> Self:
        """The task on the backbone of a model folder, a built-in model or a hub id; `fit` makes its head.

        Raises:
            HeadwayError: there is no such model, it cannot be read, or the task cannot be trained on it.
        """
        folder = find_folder(name)
        raw, config = read_config(folder)
        if model_of(config) not in task.models:
            is_one, needed = MODELS[model_of(config)], MODELS[task.models[0]]
            raise HeadwayError(f"{name} is {is_one}, and {task.name} needs {needed}. Name another model.")
        has_head = published_class(folder, raw, model_of(config)).endswith(task.architecture)
        checkpoint = load_checkpoint(folder, head="published" if has_head and not task.headless else None)
        stored = stored_task(checkpoint, {task.name: type(task)}) if has_head else None
        model = cls(task, stored, checkpoint, Tokenizer.load(folder), str(name))
        _ = model.limit  # refuses a --max-length that the model cannot have before any data is read
        return model

    @classmethod
    def load(cls, name: str | Path, tasks: Mapping[str, type[AnyTask]]) -> Self:
        """A model folder with its task and head: one that Headway saved, or a published checkpoint.

        Raises:
            HeadwayError: there is no such model, it cannot be read, or its head is not of a known task.
        """
        folder = find_folder(name)
        checkpoint = load_checkpoint(folder, filled=False)
        task, info = require_task(checkpoint, tasks, str(name)), read_info(folder)
        if task.headless:
            checkpoint.network.head = None  # a pooler, which is not used
        model = cls(task.reset(), task, checkpoint, Tokenizer.load(folder), str(name))
        model.task, model.info, model.trained = task, info, True
        if not wants_cpu():
            processes()  # assigns each process of a launch its device
            model.network.to(inference_device())
        return model

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

    # -- training

    def fit(self, data: Any, eval_data: Any = None, *, output: str | Path, **options: Any) -> Trained:
        """Trains on data and writes a model folder; `train`, which yields events, describes arguments and errors."""
        *_, last = self.train(data, eval_data, output=output, **options)
        assert isinstance(last, Trained)
        return last

    def train(
        self,
        data: Any,
        eval_data: Any = None,
        *,
        output: str | Path,
        columns: Mapping[str, Any] | None = None,
        eval_fraction: float = 0.1,
        config: TrainConfig | None = None,
        overwrite: bool = False,
        resume: bool = False,
        header: bool | None = None,
        settings: Mapping[str, Any] | None = None,
        stop: Callable[[], bool] | None = None,
        **options: Any,
    ) -> Iterator[Event]:
        """Trains as its events are read: Prepared, those of the training loop, Trained.

        Every run starts from the model as it was opened, so the same call gives the same result. Labels are inferred
        from the data; the head that the model came with is trained further if it has these labels.

        Args:
            data: labelled rows: a file, a Hub data set, a DataFrame, a list of dicts, ... (`data.read.read_table`).
            eval_data: the same, for evaluation. Default: a part of `data` is held out.
            output: the model folder, which exists only when training is complete.
            columns: field name or "label" -> column, where the inferred one is wrong.
            eval_fraction: the part of `data` to hold out if there is no `eval_data`; 0: none.
            config: options of training.
            overwrite: replace the model at `output`.
            resume: continue the interrupted run towards `output`.
            header: whether the first row of a table names its columns. Default: inferred from the rows.
            settings: saved as run.yaml in the model folder, so that the run can be repeated.
            stop: called after every training step; if it returns True, a checkpoint is saved and the run is
                interrupted, and `resume` continues it.
            **options: fields of TrainConfig, in place of those of `config`.

        Raises:
            KeyboardInterrupt: `stop` returned True.
            HeadwayError: the data or an option cannot be used, `output` exists, the loss is not finite, ...
        """
        run = RunOptions(replace(config or TrainConfig(), **options), new_path(output), overwrite, resume, stop)
        refuse_output(run.output, overwrite=overwrite, resume=resume)
        source = DataSource(data, eval_data, columns or {}, eval_fraction, run.config.seed, header)
        with scratch_folder(run.output) as scratch:
            prepared = self._prepare(source, scratch)
            yield prepared.event(self.task, self.base)
            result = yield from run_training(self.task, self.network, self.base, prepared, run)
            self.task, self.held_out, self.trained = result.task, result.evaluation, True
            self.info = {**name_base(self.base), **describe_run(result, prepared, run)}
            self._write(run.output, overwrite or resume, settings, run.log)
            run.remove_folder()
            yield trained_event(result, prepared, run)

    def _prepare(self, source: DataSource, scratch: Path) -> TrainingData:
        """Reads and encodes the data, and puts the head for it on the network."""
        task, stored = self._initial_task, self._stored_task
        if task.self_supervised:
            data = write_corpora(source, task, self.encoder, scratch)
            reuse = stored is not None and task.reuse_head(stored) is not None
            return replace(data, notes=[*data.notes, self._start(task, source.seed, reuse=reuse)])
        rows = read_labelled(source, task, stored)
        note = self._start(rows.task, source.seed, reuse=rows.reuses_head)
        return encode_labelled(replace(rows, task=self.task), self.encoder, [note])

    def _start(self, task: AnyTask, seed: int, *, reuse: bool) -> str:
        """Restores the model as it was opened and puts its own head or a new one on it; returns a note about it."""
        if self._weights_changed:
            head = "published" if self._stored_task and not self._stored_task.headless else None
            self._checkpoint = load_checkpoint(self._checkpoint.folder, head=head)
        self._weights_changed, self.trained, self._prepared = True, False, None
        self._network = self._checkpoint.network
        torch.manual_seed(seed)
        if reuse:
            assert self._stored_task is not None
            self.task = task.before_training(self._stored_task, self.network)
            what = f"{self.base} itself" if task.headless else f"the head of {self.base}"
            return f"{what} is trained further"
        self._network = Network(self.network.backbone, task.head(self.network.backbone))
        report = load_head(self.network, self._checkpoint.folder)
        self.task = task
        if task.headless:
            return f"there is no head: {self.base} itself is trained"
        return f"new {task.title.lower()} head ({len(report.new)} tensors) on {self.base}"

    # -- use

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

    def evaluate(
        self, data: Any, *, columns: Mapping[str, Any] | None = None, header: bool | None = None
    ) -> Evaluation:
        """The metrics of the model on labelled data (anything that `train` takes).

        Raises:
            HeadwayError: the data cannot be read, has no labels, or has a label that the model does not know.
        """
        self._need_training()
        task, chosen = self.task, columns or {}
        if task.self_supervised:
            return evaluate_text(task, self._for_inference, self.encoder, data, chosen=chosen, header=header)
        return evaluate_rows(task, self._for_inference, self.encoder, read_table(data, header=header), chosen)

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

    def save(self, output: str | Path, *, overwrite: bool = False) -> None:
        """Writes a model folder that Headway and transformers open.

        Raises:
            HeadwayError: the folder exists, the disk is full, or the model is not trained.
        """
        self._need_training()
        self._write(new_path(output), overwrite)

    def _write(
        self, output: Path, overwrite: bool, settings: Mapping[str, Any] | None = None, log: Path | None = None
    ) -> None:
        write_model(
            output,
            self.task,
            self.network,
            self.tokenizer,
            info={**name_base(self.base), **self.info},
            came_with=self._checkpoint.config,
            overwrite=overwrite,
            settings=settings,
            log=log,
        )
