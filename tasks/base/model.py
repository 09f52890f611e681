"""A task on a model: the object that people hold. Fit, predict, evaluate, save and load, once for every task."""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from ...core.atomic_files import new_path
from ...core.checkpoints.checkpoint import Checkpoint, fill, load_checkpoint, load_head
from ...core.checkpoints.config_file import published_class, read_config
from ...core.checkpoints.hub import find_folder
from ...core.checkpoints.weight_names import model_of
from ...core.errors import HeadwayError
from ...core.inference.inference import prepare_for_inference
from ...core.models.heads import Config, Network
from ...core.tokenizers.tokenizer import Tokenizer
from ...core.training.distributed import barrier, inference_device, processes, wants_cpu
from ...core.training.training import fit
from ...core.training.training_config import TrainConfig
from ...core.training.training_events import Event, Finished, Started
from ...core.training.training_state import newest_checkpoint
from ..data.columns import ColumnMapping
from ..data.corpus import open_documents
from ..data.examples import Example, ExampleWarning
from ..data.features import Features, group_windows, num_truncated_tokens
from ..data.findings import about_warnings
from ..data.read import read_table
from ..data.report import DataReport, check_corpus, check_examples
from ..data.rows import RowStream, Table
from .check import collect_warnings
from .inference import lengths_of, predictions_for
from .model_folder import name_base, read_info, refuse_replacing, stored_task, write_model
from .precision import AUTO, choose_precision, worth_measuring
from .predictions import Prediction
from .results import Evaluation, Prepared, Trained
from .task import Task
from .training_data import CorpusData, LabelledData, read_labelled, write_corpora, write_corpus

EXAMPLES_AT_ONCE = 4096  # in prediction: enough to be sorted by length, few enough for any memory


class TaskModel:
    """A task plugged onto a backbone.

    Make one with `TextClassification().on("bert-base-uncased")`, or with `headway.tasks.load` from a folder.

    Args:
        asked: the task as the person wants it, before anything is learnt from data.
        found: the task whose head the model was opened with; None where it has none of this kind.
        checkpoint: the model.
        tokenizer: of the model.
        name: under which it was opened.
    """

    def __init__(
        self, asked: Task, found: Task | None, checkpoint: Checkpoint, tokenizer: Tokenizer, name: str
    ) -> None:
        self.task = asked
        self.tokenizer = tokenizer
        self.base = name
        self.info: dict[str, Any] = {}  # what headway.json says besides the task
        self.trained = False  # whether the network has a trained head for the task
        self.held_out: Evaluation | None = None  # after training: the kept weights on the evaluation data
        self.precision = AUTO  # of predictions: one of precision.CHOICES
        self._packed: tuple[Any, Network] | None = None
        self._asked = asked
        self._found = found
        self._checkpoint = checkpoint
        self._changed = False  # whether training has touched the checkpoint's weights
        self._network = checkpoint.network

    @classmethod
    def plug(cls, task: Task, name: str | Path) -> Self:
        """The task on the backbone of a model folder, a built-in model or a hub id; its head is made by `fit`.

        Raises:
            HeadwayError: there is no such model, or it cannot be read.
        """
        folder = find_folder(name)
        raw, config = read_config(folder)
        if model_of(config) not in task.models:
            kinds = {"bert": "a BERT", "gpt2": "a GPT-2"}
            is_one, needed = kinds[model_of(config)], kinds[task.models[0]]
            raise HeadwayError(f"{name} is {is_one}, and {task.name} needs {needed}. Name another model.")
        has_head = published_class(folder, raw, model_of(config)).endswith(task.architecture)
        checkpoint = load_checkpoint(folder, head="published" if has_head and not task.headless else None)
        found = stored_task(checkpoint, {task.name: type(task)}) if has_head else None
        model = cls(task, found, checkpoint, Tokenizer.load(folder), str(name))
        _ = model.limit  # a --max-length that the model cannot have is refused before any data is read
        return model

    @classmethod
    def load(cls, name: str | Path, tasks: Mapping[str, type[Task]]) -> Self:
        """A model folder with its task and head: one that Headway saved, or a published checkpoint.

        Raises:
            HeadwayError: there is no such model, it cannot be read, or it has no head of a known task.
        """
        folder = find_folder(name)
        checkpoint = load_checkpoint(folder, filled=False)
        task, info = stored_task(checkpoint, tasks), read_info(folder)
        if task is None and info:
            raise HeadwayError(
                f"{name} is a model for {info.get('task')}, which this version does not know. Update Headway."
            )
        if task is None:
            raise HeadwayError(
                f"{name} is a {checkpoint.architecture}: it has no head that answers anything yet. Train one on it "
                f"(headway train TASK --model {name} --data FILE --output FOLDER), or make vectors with it "
                "(headway embed)."
            )
        if task.headless:
            checkpoint.network.head = None  # a pooler, which takes no part
        model = cls(task.reset(), task, checkpoint, Tokenizer.load(folder), str(name))
        model.task, model.info, model.trained = task, info, True
        if not wants_cpu():
            processes()  # gives each process of a launch a device of its own
            model.network.to(inference_device())
        return model

    @property
    def network(self) -> Network:
        """What is trained and looked into, with plain fp32 weights, which are read when it is first asked for.

        Predictions on the CPU never ask for it: they have packed weights of their own.
        """
        if self._unread:
            fill(self._network, self._checkpoint.weights)
        return self._network

    @network.setter
    def network(self, network: Network) -> None:
        self._network = network

    @property
    def _unread(self) -> bool:
        return next(self._network.parameters()).is_meta

    @property
    def config(self) -> Config:
        """The backbone's configuration."""
        return self._network.config

    @property
    def limit(self) -> int:
        """The longest sequence in tokens, special tokens included."""
        return self.task.limit(self.config.max_positions, self.base)

    def set_options(self, **options: Any) -> None:
        """Gives other values to options of the task that change nothing that was learnt, such as how it decodes.

        Raises:
            HeadwayError: the task has no such option, or the value is not possible.
        """
        self.task, self._asked = self.task.with_options(options), self._asked.with_options(options)

    # -- training

    def fit(self, data: Any, eval_data: Any = None, *, output: str | Path, **options: Any) -> Trained:
        """Trains on labelled data and leaves a model folder; `train` takes the same arguments and tells as it goes.

        Raises:
            HeadwayError: as `train`.
        """
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
        """Trains step by step, as the events are drawn: Prepared, those of the training loop, Trained.

        Every training starts from the model as it was opened, so the same call gives the same result. Labels are
        learnt from the data; the head that the model came with is trained further if it knows these labels.

        Args:
            data: labelled rows: a file, a Hub data set, a DataFrame, a list of dicts, ... (`data.read_table`).
            eval_data: the same, held out; if left out, a part of `data` is.
            output: the model folder, which is there when all is done and not before.
            columns: which column holds what, where the guess is to be overruled: `{"text": ..., "label": ...}`.
            eval_fraction: the part of `data` that is held out where there is no `eval_data`; 0 for none.
            config: the options of training.
            overwrite: replace the model that is at `output`.
            resume: go on with the run towards `output` that was interrupted.
            header: whether a table's first row names its columns; told from the rows if left out.
            settings: saved as run.yaml beside the model, so that the run can be repeated.
            stop: asked after every step of the training loop; when it says yes a checkpoint is saved and the run is
                interrupted, to be gone on with by `resume`.
            **options: fields of TrainConfig, which win over `config`.

        Raises:
            KeyboardInterrupt: `stop` said yes.
            HeadwayError: the data or an option cannot be used, `output` exists, the loss is not finite, ...
        """
        config = replace(config or TrainConfig(), **options)
        output = new_path(output)
        refuse_used(output, overwrite=overwrite, resume=resume)
        options_of_data: dict[str, Any] = {
            "data": data,
            "eval_data": eval_data,
            "chosen": columns or {},
            "fraction": eval_fraction,
            "header": header,
        }
        with self._scratch(output) as scratch:
            if self._asked.self_supervised:
                prepared = self._prepare_texts(scratch, config.seed, **options_of_data)
            else:
                prepared = self._prepare(config.seed, **options_of_data)
            yield from self._train(*prepared, config, output, overwrite, resume, settings, stop)

    def _train(
        self,
        train: "LabelledData | CorpusData",
        held_out: "LabelledData | CorpusData | None",
        notes: list[str],
        report: DataReport,
        config: TrainConfig,
        output: Path,
        overwrite: bool,
        resume: bool,
        settings: Mapping[str, Any] | None,
        stop: Callable[[], bool] | None,
    ) -> Iterator[Event]:
        run_folder = _run_folder(output)
        eval_examples = held_out.examples if held_out else []
        yield Prepared(self.task.name, self.base, tuple(notes), report, len(train.examples), len(eval_examples))

        if processes().is_main and run_folder.exists() and not resume:
            shutil.rmtree(run_folder)
        try:
            started, finished = yield from self._run(train, held_out, config, run_folder, resume, stop)
        finally:
            if processes().is_main and newest_checkpoint(run_folder) is None:
                shutil.rmtree(run_folder, ignore_errors=True)  # stopped with nothing to go on from
        self.task = self.task.after_training(self.network)
        metrics: dict[str, float] = {}
        per_label: list[dict[str, Any]] = []
        by_precision: dict[str, float] = {}
        self.held_out = None
        if held_out:
            self.task, predictions = _tune(self.task, self.network, held_out)
            metrics = self.task.score(predictions, eval_examples)
            per_label = self.task.per_label(predictions, eval_examples)
            if worth_measuring(len(eval_examples), started.device):
                rounded = predictions_for(
                    self.task, prepare_for_inference(self.network, "bf16"), held_out.windows_by_example
                )
                first, figure = next(iter(metrics.items()))
                by_precision = {"fp32": figure, "bf16": self.task.score(rounded, eval_examples)[first]}
            self.held_out = Evaluation(metrics, per_label, eval_examples, predictions, ())
        self.trained = True
        log = run_folder / "log.jsonl"
        used = asdict(config) if log.exists() else {"seed": config.seed}  # a task that solves keeps no log
        self.info = {
            **name_base(self.base),
            "metrics": metrics,
            "per_label": per_label,
            "score_by_precision": by_precision,
            "data": {"train": train.facts, "eval": held_out.facts if held_out else None},
            "training": {**used, "precision": started.precision, "device": started.device},
            "steps": finished.steps,
            "best_step": finished.best_step,
            "seconds": finished.seconds,
        }
        self._write(output, overwrite or resume, settings, log if log.exists() else None)
        if processes().is_main:
            shutil.rmtree(run_folder, ignore_errors=True)
        yield Trained(
            output=output,
            metrics=metrics,
            per_label=per_label,
            examples=len(train.examples),
            eval_examples=len(eval_examples),
            steps=finished.steps,
            seconds=finished.seconds,
            tokens_per_second=finished.tokens_per_second,
            best_step=finished.best_step,
            stopped_early=finished.stopped_early,
        )

    def _prepare(self, seed: int, **options: Any) -> tuple[LabelledData, LabelledData | None, list[str], DataReport]:
        """Reads and checks both sides of the data, learns the labels, plugs the head on and makes tokens."""
        rows = read_labelled(self._asked, self._found, seed=seed, **options)
        notes = [*rows.notes, self._begin(rows.task, seed, goes_on=rows.adopted)]
        train = LabelledData(rows.table, rows.examples, self._encode(rows.examples))
        evaluated = rows.held_out and LabelledData(*rows.held_out, self._encode(rows.held_out[1]))
        more = [
            finding
            for data in (train, evaluated)
            if data
            for finding in about_warnings(
                collect_warnings(self.task, data.examples, data.windows_by_example), len(data.examples)
            )
        ]
        eval_examples = evaluated.examples if evaluated else []
        report = check_examples(
            train.examples, eval_examples, train.windows_by_example, self.limit, self.tokenizer.unk_id, more
        )
        return train, evaluated, notes, report

    def _prepare_texts(
        self, scratch: Path, seed: int, **options: Any
    ) -> tuple[CorpusData, CorpusData | None, list[str], DataReport]:
        """Turns texts without labels into tokens, which are kept in files, and readies the head."""
        train, held_out, notes = write_corpora(self._asked, self.tokenizer, self.limit, scratch, seed=seed, **options)
        notes.append(self._begin(self._asked, seed, goes_on=bool(self._found and self._asked.reuse_head(self._found))))
        return train, held_out, notes, check_corpus(train.windows_by_example, held_out and held_out.windows_by_example)

    @contextmanager
    def _scratch(self, output: Path) -> Iterator[Path]:
        """A folder beside the output for what is too large for the memory; it goes when the block ends."""
        folder = output.with_name(f".{output.name}.tokens-{processes().rank}")
        shutil.rmtree(folder, ignore_errors=True)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _begin(self, task: Task, seed: int, *, goes_on: bool) -> str:
        """Puts the model as it was opened in place, with its own head or a new one; says which."""
        if self._changed:
            head = "published" if self._found and not self._found.headless else None
            self._checkpoint = load_checkpoint(self._checkpoint.folder, head=head)
        self._changed, self.trained, self._packed = True, False, None
        self.network = self._checkpoint.network
        torch.manual_seed(seed)
        if goes_on:
            assert self._found is not None
            self.task = task.before_training(self._found, self.network)
            what = f"{self.base} itself" if task.headless else f"the head that {self.base} has"
            return f"{what} is trained further"
        self.network = Network(self.network.backbone, task.head(self.network.backbone))
        report = load_head(self.network, self._checkpoint.folder)
        self.task = task
        if task.headless:
            return f"there is no head: {self.base} itself is trained"
        return f"new {task.title.lower()} head ({len(report.new)} tensors) on {self.base}"

    def _encode(self, examples: Sequence[Example]) -> list[list[Features]]:
        windows_by_example = group_windows(self.task.encode(examples, self.tokenizer, self.limit))
        vocab_size = self.config.vocab_size
        most = max((max(one.input_ids) for windows in windows_by_example for one in windows), default=0)
        if most >= vocab_size:
            raise HeadwayError(
                f"{self.base}: the tokenizer has a token number {most}, but the model has {vocab_size} tokens only: "
                "they do not belong together. Copy the model folder again from where it came."
            )
        return windows_by_example

    def _run(
        self,
        train: LabelledData | CorpusData,
        held_out: LabelledData | CorpusData | None,
        config: TrainConfig,
        run_folder: Path,
        resume: bool,
        stop: Callable[[], bool] | None,
    ) -> Generator[Event, None, tuple[Started, Finished]]:
        """The training loop over the prepared data."""
        task = self.task
        windows_by_example = task.training_windows(train.windows_by_example)
        if config.tokens_at_once is None:
            config = replace(config, tokens_at_once=task.tokens_at_once(self.network.config))

        def loss(network: nn.Module, indices: list[int], device: torch.device) -> tuple[Tensor, int, int]:
            chosen = task.corrupt([features for i in indices for features in windows_by_example[i]])
            batch = task.pack(chosen).to(device)
            total, count = task.loss(network(batch), chosen)
            return total, count, batch.num_tokens

        def evaluate(network: nn.Module) -> dict[str, float]:
            assert held_out is not None
            _, predictions = _tune(task, network, held_out)
            return task.score(predictions, held_out.examples)

        events = task.fit_head(self.network, windows_by_example, config) or fit(
            self.network,
            config.sampler(lengths_of(windows_by_example)),
            loss,
            config,
            run_folder=run_folder,
            resume=resume,
            evaluate=evaluate if held_out else None,
            higher_is_better=task.higher_is_better,
            data_fingerprint=_identify(task, self.base, train, held_out),
            stop=stop,
            tracker_folder=run_folder.with_suffix(".trackers"),  # which stays when the run folder goes
            in_batch_negatives=task.in_batch_negatives,
        )
        seen = []
        for event in events:
            if isinstance(event, Started | Finished):
                seen.append(event)
            yield event
        started, finished = seen
        assert isinstance(started, Started)
        assert isinstance(finished, Finished)
        return started, finished

    # -- use

    def predict(self, inputs: Any) -> Any:
        """Predictions for texts as they are.

        Args:
            inputs: one text (one prediction comes back), or a list of texts; a tuple or a dict where the task reads
                several, in the order or under the names of `task.fields`.

        Raises:
            HeadwayError: an input does not have the texts that the task reads.
        """
        if hasattr(inputs, "columns"):
            raise HeadwayError(
                "predict() takes texts, not a table. Give a column of it as a list, or use predict_rows()."
            )
        alone = isinstance(inputs, str | tuple | Mapping)
        rows = [self._input_row(i, one) for i, one in enumerate([inputs] if alone else inputs)]
        names = tuple(field.name for field in self.task.fields)
        table = Table("the texts given", "rows", names, True, rows, list(range(1, len(rows) + 1)))
        examples = self.task.examples(table, ColumnMapping({name: name for name in names}, None, ()), labelled=False)
        predictions, *_ = self._predict(examples)
        return predictions[0] if alone else predictions

    def _input_row(self, position: int, given: Any) -> dict[str, Any]:
        fields = self.task.fields
        names = [field.name for field in fields]
        required = {field.name for field in fields if field.required}
        of_words = {field.name for field in fields if field.words}
        alone = isinstance(given, str) or (isinstance(given, list) and of_words == set(names))
        row = {names[0]: given} if alone else given
        if isinstance(row, list | tuple):
            row = dict(zip(names, row, strict=False)) if len(row) <= len(names) else None
        fits = isinstance(row, Mapping) and all(_is_text(text, name in of_words) for name, text in row.items())
        if not isinstance(row, Mapping) or not fits or not required <= row.keys() <= set(names):
            reads = "one text" if len(names) == 1 else f"a tuple or a dict of {' and '.join(names)}"
            lists = ", or a list of its words" if of_words else ""
            raise HeadwayError(f"input {position + 1}: the model reads {reads} (strings){lists}. Correct the input.")
        return dict(row)

    @property
    def _for_inference(self) -> Network:
        """The network with its weights packed; packed anew in another precision, and when weights have changed."""
        parameters = list(self._network.parameters())
        device = torch.device("cpu") if self._unread else parameters[0].device
        precision = choose_precision(self.precision, self.info, device.type)
        state = (precision, *(parameter._version for parameter in parameters))
        if self._packed is None or self._packed[0] != state:
            self._packed = None  # before the next one takes memory
            weights = self._checkpoint.weights if self._unread else None
            self._packed = state, prepare_for_inference(self._network.eval(), precision, weights)
        return self._packed[1]

    def _predict(self, examples: Sequence[Example]) -> tuple[list[Any], int, dict[ExampleWarning, list[str]]]:
        """A prediction for each example, in bounded memory; how many of them were cut, and the task's remarks."""
        self._need_training()
        predictions: list[Any] = []
        cut = 0
        remarks: dict[ExampleWarning, list[str]] = {}
        for start in range(0, len(examples), EXAMPLES_AT_ONCE):
            part = examples[start : start + EXAMPLES_AT_ONCE]
            windows_by_example = self._encode(part)
            predictions += predictions_for(self.task, self._for_inference, windows_by_example)
            cut += sum(num_truncated_tokens(windows) > 0 for windows in windows_by_example)
            for remark, places in collect_warnings(self.task, part, windows_by_example).items():
                remarks.setdefault(remark, []).extend(places)
        return predictions, cut, remarks

    def _need_training(self) -> None:
        if not self.trained:
            raise HeadwayError(
                f"{self.base} has no trained head for {self.task.name} here. Train it with fit(), or open a trained "
                "model with headway.tasks.load()."
            )

    def predict_rows(
        self, stream: RowStream, chosen: Mapping[str, Any] | None = None, *, at_once: int = EXAMPLES_AT_ONCE
    ) -> Iterator[tuple[dict[str, Any], Prediction]]:
        """Predictions for a file as it is read, in its order and in bounded memory: (row, prediction).

        Args:
            stream: the rows.
            chosen: which column holds what, where the guess is to be overruled.
            at_once: rows that are computed before the first of them is given.
        """
        columns = self.task.columns(stream, chosen or {}, need_label=False)
        rows = iter(stream)
        while part := list(islice(rows, at_once)):
            places, values = [place for place, _ in part], [row for _, row in part]
            table = Table(stream.source, stream.kind, stream.columns, stream.header, values, places)
            predictions, *_ = self._predict(self.task.examples(table, columns, labelled=False))
            yield from zip(values, predictions, strict=True)

    def evaluate(
        self, data: Any, *, columns: Mapping[str, Any] | None = None, header: bool | None = None
    ) -> Evaluation:
        """How the model does on labelled data (anything that `train` takes).

        Raises:
            HeadwayError: the data cannot be read, has no labels, or has a label that the model does not know.
        """
        self._need_training()
        if self.task.self_supervised:
            return self._evaluate_texts(data, columns or {}, header)
        table = read_table(data, header=header)
        settled = self.task.columns(table, columns or {}, need_label=True)
        examples = self.task.examples(table, settled)
        predictions, cut, remarks = self._predict(examples)
        notes = (
            *settled.notes,
            *([f"{cut} of {len(examples)} texts are cut at {self.limit} tokens"] if cut else []),
            *(finding.message for finding in about_warnings(remarks, len(examples))),
        )
        return Evaluation(
            self.task.score(predictions, examples),
            self.task.per_label(predictions, examples),
            examples,
            predictions,
            notes,
        )

    def _evaluate_texts(self, data: Any, chosen: Mapping[str, Any], header: bool | None) -> Evaluation:
        with tempfile.TemporaryDirectory(prefix="headway-") as folder:
            task: Any = self._asked
            texts = open_documents(data, chosen, task, header=header)
            path, pieces = Path(folder) / "tokens", texts.read()
            held_out = write_corpus(task, self.tokenizer, self.limit, path, texts, pieces, held_out=True)
            if not len(held_out.windows_by_example):
                raise HeadwayError(f"{texts.source}: there is no text in it to measure. Give one with words.")
            predictions = predictions_for(self.task, self._for_inference, held_out.windows_by_example)
        corpus = held_out.windows_by_example
        counts = f"{texts.source}: {corpus.num_documents:,} documents, {corpus.num_tokens:,} tokens"
        metrics = self.task.score(predictions, held_out.examples)
        return Evaluation(metrics, [], held_out.examples, predictions, (*texts.notes, counts))

    def save(self, output: str | Path, *, overwrite: bool = False) -> None:
        """Writes a model folder that Headway and transformers open.

        Raises:
            HeadwayError: the folder exists, the disk is full, or there is nothing trained to save.
        """
        self._need_training()
        self._write(new_path(output), overwrite)

    def _write(
        self, output: Path, overwrite: bool, settings: Mapping[str, Any] | None = None, log: Path | None = None
    ) -> None:
        """The main process writes, the others wait for it."""
        if processes().is_main:
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
        barrier()


def _tune(task: Task, network: nn.Module, data: LabelledData | CorpusData) -> tuple[Task, list[Any]]:
    """The task as it is tuned to held-out data, and its predictions there."""
    return task.calibrate(predictions_for(task, network, data.windows_by_example), data.examples)


def _is_text(given: Any, as_words: bool) -> bool:
    """Whether something stands for a text: a string, nothing, or its words where that is possible."""
    if as_words and isinstance(given, list):
        return all(isinstance(word, str) for word in given)
    return isinstance(given, str | None)


def _run_folder(output: Path) -> Path:
    """Where a run keeps what it needs until the model folder is whole."""
    return output.with_name(f"{output.name}.running")


def refuse_used(output: Path, *, overwrite: bool, resume: bool) -> None:
    """Nothing is overwritten, and no interrupted run is lost, without a word from the person.

    Raises:
        HeadwayError: a model or an interrupted run is there.
    """
    run_folder = _run_folder(output)
    interrupted = newest_checkpoint(run_folder) is not None
    if resume and overwrite:
        raise HeadwayError("--resume goes on with a run and --overwrite starts anew: say one of them.")
    if resume and output.exists() and not interrupted:
        raise HeadwayError(f"{output} is finished; there is nothing to resume. Use --overwrite to train it again.")
    if interrupted and not resume and not overwrite:
        raise HeadwayError(
            f"{run_folder} holds an interrupted run. Say --resume to go on with it, or --overwrite to start anew."
        )
    refuse_replacing(output, overwrite or resume)


def _identify(
    task: Task, base: str, train: LabelledData | CorpusData, held_out: LabelledData | CorpusData | None
) -> str:
    """What a run that goes on must have in common with the one that was interrupted, in a few letters."""
    facts = [task.to_json(), base, train.facts, held_out and held_out.facts]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
