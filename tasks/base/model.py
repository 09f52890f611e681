"""A task on a model: what users train, predict with, evaluate, save and load; the same for every task."""

import inspect
from collections.abc import Callable, Generator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Self

import torch

from ...core.atomic_files import new_path
from ...core.checkpoints.checkpoint import load_checkpoint, load_head
from ...core.checkpoints.config_file import published_class, read_config
from ...core.checkpoints.families.registry import family_of, model_of, titles_of
from ...core.checkpoints.hub import find_folder
from ...core.checkpoints.joining import find_model
from ...core.errors import HeadwayError
from ...core.models.heads import Network, SequenceHead
from ...core.models.mean_block import averages
from ...core.training.distributed import inference_device, processes
from ...core.training.failures import failing_together
from ...core.training.output_lock import OutputLock
from ...core.training.training_config import TrainConfig
from ...core.training.training_events import Event
from ..data.read_options import take_read_options
from ..data.spool import rare_collection
from .arguments import check_train_arguments, explains_arguments, names_arguments
from .data_source import EVAL_FRACTION, DataSource
from .inference import load_tokenizer
from .inputs import assign_positional, name_rows
from .left_out import write_left_out
from .model_folder import name_base, read_info, require_task, stored_task, write_model
from .precision import AUTO
from .predictor import AnyTask, Predictor
from .prepared import PreparedNetwork
from .progress import follow
from .repeats import FinishedFolds, Repeats, fold_lines, train_repeatedly
from .results import Trained
from .training_data import TrainingData, encode_labelled, read_labelled, write_corpora
from .training_rows import TrainingRows
from .training_run import (
    RunOptions,
    Scratch,
    describe_run,
    refuse_output,
    run_output,
    run_training,
    scratch_folder,
    trained_event,
)


class TaskModel(Predictor):
    """A task on a backbone.

    Make one with `TextClassification().on("bert-base-uncased")`, or load one with `headway.tasks.load`.
    """

    output_lock: OutputLock | None = None  # of the next run, if the caller of `train` holds it already

    @classmethod
    def plug(cls, task: AnyTask, name: str | Path) -> Self:
        """The task on the backbone of a model folder, a built-in model or a hub id; `fit` makes its head.

        Raises:
            HeadwayError: there is no such model, it cannot be read, or the task cannot be trained on it.
        """
        folder = find_model(name)
        raw, config = read_config(folder)
        if model_of(config) not in task.models:
            raise HeadwayError(
                f"{name} is {family_of(config).with_article}, and {task.name} needs a "
                f"{' or '.join(map(titles_of, task.models))}. "
                "Name another model."
            )
        has_head = published_class(folder, raw, family_of(config)).endswith(task.architecture)
        checkpoint = load_checkpoint(folder, head="published" if has_head and not task.headless else None)
        stored = stored_task(checkpoint, {task.name: type(task)}) if has_head else None
        model = cls(task.for_folder(folder), stored, checkpoint, load_tokenizer(folder, config, name), str(name))
        _ = model.limit  # refuses a --max-length that the model cannot have before any data is read
        return model

    @classmethod
    def load(cls, name: str | Path, tasks: Mapping[str, type[AnyTask]], device: str = AUTO) -> Self:
        """A model folder with its task and head: one that Headway saved, or a published checkpoint.

        Args:
            name: the folder, or a hub id.
            tasks: the known tasks by name.
            device: auto (the accelerator if there is one), cpu, cuda, cuda:1, ...

        Raises:
            HeadwayError: there is no such model or device, it cannot be read, or its head is not of a known task.
        """
        chosen = inference_device(device)
        folder = find_folder(name)
        checkpoint = load_checkpoint(folder, filled=False)
        task, info = require_task(checkpoint, tasks, str(name)), read_info(folder)
        if task.headless:
            checkpoint.network.head = None  # a pooler, which is not used
        tokenizer = load_tokenizer(folder, checkpoint.network.config, name)
        model = cls(task.reset(), task, checkpoint, tokenizer, str(name))
        model.task, model.info, model.trained, model.device = task, info, True, device
        model.training_rows = TrainingRows.read(folder, info)
        model.distance = model.rules.read_distance(folder, model.config.hidden_size)
        if chosen.type != "cpu":
            processes()  # assigns each process of a launch its device
            model.network.to(chosen)
        return model

    # -- training

    def fit(
        self,
        data: Any,
        *more: Any,
        labels: Any = None,
        eval_data: Any = None,
        test_data: Any = None,
        output: str | Path | None = None,
        columns: Mapping[str, Any] | None = None,
        config: TrainConfig | None = None,
        overwrite: bool = False,
        progress: bool | None = None,
        **options: Any,
    ) -> Trained:
        """Trains on data: `fit("train.csv")`, `fit(frame)`, `fit(texts, labels)`.

        Args:
            data: rows with labels: a file, a Hub data set, a DataFrame, a list or generator of dicts or tuples, ...
            *more: labels, evaluation data or both: `fit(X, y)`, `fit(train, test)`, `fit(X, y, (X_test, y_test))`.
            labels: one per text, if they are not in `data`.
            eval_data: as `data`, or (texts, labels). Default: a part of `data` is held out.
            test_data: the same, for the reported metrics, as of `train`.
            output: the model folder. Default: none is written; `save` does it.
            columns: field name or "label" -> column, where the inferred one is wrong.
            config: options of training.
            overwrite: replace the model at `output`.
            progress: whether to show progress on stderr. Default: in terminals and notebooks. Without it, a model that
                seems to have learnt nothing gives a UserWarning.
            **options: fields of TrainConfig, in place of those of `config`; fields of ReadOptions (header, ...); and
                further arguments of `train`.

        Raises:
            ArgumentError: there is no such argument, or one is given twice.
            HeadwayError: as `train`.
        """
        check_train_arguments(options, self.task, [*inspect.signature(self.train).parameters, "progress"])
        with names_arguments(self.task):
            events = self.train(
                data,
                **assign_positional(self.task, data, more, {"labels": labels, "eval_data": eval_data}),
                test_data=test_data,
                output=output,
                columns=columns,
                config=config,
                overwrite=overwrite,
                **options,
            )
            return follow(events, progress)

    def train(
        self,
        data: Any,
        eval_data: Any = None,
        *,
        labels: Any = None,
        test_data: Any = None,
        output: str | Path | None = None,
        columns: Mapping[str, Any] | None = None,
        eval_fraction: float = EVAL_FRACTION,
        test_fraction: float | None = None,
        config: TrainConfig | None = None,
        overwrite: bool = False,
        resume: bool = False,
        settings: Mapping[str, Any] | None = None,
        stop: Callable[[], bool] | None = None,
        folds: int | None = None,
        seeds: int | None = None,
        **options: Any,
    ) -> Generator[Event, None, None]:
        """Trains as its events are read: Prepared, those of the training loop, Trained.

        Every run starts from the model as it was opened, so the same call gives the same result. Labels are inferred
        from the data; the head that the model came with is trained further if it has these labels.

        Args:
            data: labelled rows: a file, a Hub data set, a DataFrame, dicts, tuples that end with the label, ...
            eval_data: the same, to choose the best step, a temperature and thresholds. Default: a part of `data`.
            labels: one per text, if they are not in `data`.
            test_data: the same, for the metrics, which then come from rows that chose nothing.
            output: the model folder, which exists only when training is complete. Default: no folder is written.
            columns: field name or "label" -> column, where the inferred one is wrong.
            eval_fraction: the part of `data` to hold out if there is no `eval_data`; 0: none.
            test_fraction: the same if there is no `test_data`. Default: 0.1 of 2,000 or more labelled rows.
            config: options of training.
            overwrite: replace the model at `output`.
            resume: continue the interrupted run towards `output`.
            settings: saved as run.yaml in the model folder, so that the run can be repeated.
            stop: called after every step; if it returns True, a checkpoint is saved and the run interrupted.
            folds: number of folds of a cross-validation: the metrics are those of rows that a fold's model was not
                trained on, and the model itself is trained on all rows.
            seeds: number of runs with different seeds; the one with the median score is kept.
            **options: fields of TrainConfig, in place of those of `config`, and of ReadOptions (header, ...).

        Raises:
            KeyboardInterrupt: `stop` returned True.
            ArgumentError: there is no such option.
            HeadwayError: the data or an option cannot be used, `output` exists or is being trained, ...
        """
        check_train_arguments(options, self.task, inspect.signature(self.train).parameters)
        reading, options = take_read_options(options)
        config = replace(config or TrainConfig(), **options)
        data = name_rows(self.task, data, labels, labelled=True)
        eval_data, test_data = (name_rows(self.task, one, labelled=True) for one in (eval_data, test_data))
        parts = eval_fraction, config.seed, reading, test_data, test_fraction
        source = DataSource(data, eval_data, columns or {}, *parts)
        repeats, write = Repeats.of(folds, seeds), output is not None
        with failing_together(), run_output(output) as path:
            start = self.run if repeats is None else partial(train_repeatedly, self, repeats)
            yield from start(source, RunOptions(config, path, overwrite, resume, stop), settings=settings, write=write)

    def run(
        self,
        source: DataSource,
        run: RunOptions,
        *,
        settings: Mapping[str, Any] | None = None,
        write: bool = True,
        folds: FinishedFolds | None = None,
    ) -> Generator[Event, None, None]:
        """A single run of `train`, as its events.

        Args:
            source: of the data.
            run: options.
            settings: for run.yaml.
            write: whether the model folder is written.
            folds: of a cross-validation, whose evaluation is the model's.
        """
        path = run.output
        with self.output_lock or OutputLock(path), scratch_folder(path) as scratch:
            refuse_output(path, overwrite=run.overwrite, resume=run.resume)
            run, prepared = self._prepare(source, scratch, run)
            if folds is not None:
                folds.check(prepared)
            yield prepared.event(self.task, self.base)
            result = yield from run_training(self.task, self.network, self.encoder, prepared, run)
            facts: dict[str, Any] = {}
            self.out_of_fold = ()
            if folds is not None:
                result, facts = folds.complete(result, prepared), folds.facts(prepared)
                self.out_of_fold = folds.lines
            elif source.fold is not None:
                self.out_of_fold = fold_lines(source.fold, prepared, result)
            self.task, self.held_out, self.trained = result.task, result.held_out, True
            self.info = {**name_base(self.base), **describe_run(result, prepared, run), **facts}
            if write:
                self._write(path, run.overwrite or run.resume, settings and {**settings, **run.chosen}, run.log)
            run.remove_folder()
            event = trained_event(result, prepared, path if write else None)
            yield replace(event, folds=facts.get("folds"))

    def take(self, folder: Path, facts: Mapping[str, Any]) -> None:
        """Makes this model the one in the folder of a run, with further facts for headway.json."""
        other = type(self).load(folder, {self.task.name: type(self.task)}, self.device)
        self.task, self.info, self.trained = other.task, {**other.info, **facts}, True
        self.training_rows, self._network, self._prepared = other.training_rows, other.network, PreparedNetwork()
        self._weights_changed, self.held_out, self.distance = True, None, None

    def _prepare(self, source: DataSource, scratch: Scratch, run: RunOptions) -> tuple[RunOptions, TrainingData]:
        """Reads the data, puts the head for it on the network, and completes the options of the run."""
        with rare_collection():
            data = self._read(source, scratch, run.config.seed)
        from_scratch = name_base(self.base)["base_from"] == "scratch"
        run, data = run.complete(self.task, self.network, data, from_scratch=from_scratch)
        rival = None if source.fold else self.task.measure_rival(self.network, data, run.config)
        return run, replace(data, rival=rival, notes=[*data.notes, rival.note]) if rival else data

    def _read(self, source: DataSource, scratch: Scratch, seed: int) -> TrainingData:
        """Reads and encodes the data, once on each machine, and puts the head for it on the network."""
        task, stored = self._initial_task, self._stored_task
        self.training_rows = None
        if task.self_supervised:
            data = scratch.once(lambda: write_corpora(source, task, self.encoder, scratch.folder), "corpora")
            reuse = stored is not None and task.reuse_head(stored) is not None
            return replace(data, notes=[*data.notes, self._start(task, seed, reuse=reuse)])
        rows = scratch.once(lambda: read_labelled(source, task, stored, scratch.folder), "rows")
        note = self._start(rows.task, seed, reuse=rows.reuses_head)

        def encode() -> tuple[TrainingData, TrainingRows]:
            data = encode_labelled(replace(rows, task=self.task), self.encoder, [note], scratch.folder)
            return data, TrainingRows.of(data.train.examples, data.train.facts["fingerprint"])

        data, self.training_rows = scratch.once(encode, "encoded")
        self.left_out = data.left_out
        write_left_out(source.reading.left_out, data.left_out)
        return data

    def _start(self, task: AnyTask, seed: int, *, reuse: bool) -> str:
        """Restores the model as it was opened and puts its own head or a new one on it; returns a note about it."""
        if self._weights_changed:
            head = "published" if self._stored_task and not self._stored_task.headless else None
            self._checkpoint = load_checkpoint(self._checkpoint.folder, head=head)
        self._weights_changed, self.trained, self.distance, self._prepared = True, False, None, PreparedNetwork()
        self._network = self._checkpoint.network
        torch.manual_seed(seed)
        if reuse:
            assert self._stored_task is not None
            self.task = task.before_training(self._stored_task, self.network)
            what = f"{self.base} itself" if task.headless else f"the head of {self.base}"
            return f"{what} is trained further"
        self._network = Network(self.network.backbone, task.head(self.network.backbone))
        _refuse_averages(self.network, self.base, task.name)
        report = load_head(self.network, self._checkpoint.folder)
        self.task = task.with_new_head(report.new, self.tokenizer, self.base).before_training(None, self.network)
        if task.headless:
            return f"there is no head: {self.base} itself is trained"
        if not report.new:
            return f"the head of {self.base} is trained further"
        return f"new {task.title.lower()} head ({len(report.new)} tensors) on {self.base}"

    # -- saving

    @explains_arguments
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
            left_out=self.left_out,
            training_rows=self.training_rows,
            out_of_fold=self.out_of_fold,
            distance=self.distance if self.rules.none_of_these else None,
        )


def _refuse_averages(network: Network, name: str, task: str) -> None:
    if averages(network.backbone) and not isinstance(network.head, SequenceHead | None):
        raise HeadwayError(
            f"{name} is a classifier whose last layer averages the vectors of the tokens, which {task} reads one by "
            "one. Name the model that it was trained from."
        )
