"""A training run: the training loop over prepared data, then calibration and evaluation on the held-out parts."""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from ...core.atomic_files import disk_errors, new_path, remove_folder
from ...core.errors import HeadwayError
from ...core.inference.inference import prepare_for_inference
from ...core.models.heads import Network
from ...core.training.defaults import with_rate_from_scratch, with_suited_values, with_usual_values
from ...core.training.distributed import barrier, processes
from ...core.training.node import node_leader, once_per_node
from ...core.training.training import fit
from ...core.training.training_config import TrainConfig
from ...core.training.training_events import Event, Finished, Started, Step
from ...core.training.training_inputs import TrainingInputs
from ...core.training.training_state import newest_checkpoint
from ..tallies import LOWER_IS_BETTER
from .baseline import HowTrained, explain_no_learning
from .held_out_score import HeldOutScore, score_evaluation, score_test
from .held_out_texts import held_out_texts
from .inference import Encoder, predict_examples, sequence_lengths
from .metric_intervals import metric_intervals
from .model_folder import refuse_replacing
from .precision import worth_comparing
from .results import Evaluation, Trained
from .score_notes import ADVICE, TEST, describe_scored, score_notes
from .task import Task
from .training_data import CorpusData, LabelledData, TrainingData

T = TypeVar("T")

USED_WITHOUT_LOOP = ("seed", "device", "precision")  # by a task that fits its head in another way


@dataclass(frozen=True)
class RunOptions:
    """How a run trains, and where it writes.

    Args:
        config: options of the training loop.
        output: the model folder, which exists only when the run is complete.
        overwrite: replace the model at `output`.
        resume: continue the interrupted run towards `output`.
        stop: called after every step; if it returns True, the run is interrupted.
        chosen: the options that were not given and follow the model and the data, as run.yaml names them.
    """

    config: TrainConfig
    output: Path
    overwrite: bool = False
    resume: bool = False
    stop: Callable[[], bool] | None = None
    chosen: Mapping[str, Any] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """Where the run keeps its log and checkpoints until the model folder is complete."""
        return _run_folder(self.output)

    @property
    def log(self) -> Path | None:
        """The log of the run; None if it has no log because the task fits its head in another way."""
        path = self.folder / "log.jsonl"
        return path if path.exists() else None

    def complete(
        self, task: Task[Any, Any], network: Network, data: TrainingData, *, from_scratch: bool = False
    ) -> tuple["RunOptions", TrainingData]:
        """Chooses the options that suit the model and the data where none are given; a note says which and why."""
        if not task.uses_training_loop:
            note = _describe_unused(self.config)
            return self, replace(data, notes=[*data.notes, note]) if note else data
        if task.self_supervised or task.headless:
            lengths = sequence_lengths(data.train.windows_by_example)
            size = network.config.hidden_size
            config, note = with_rate_from_scratch(self.config, size) if from_scratch else (self.config, "")
            config = with_usual_values(config, lengths)
        else:
            lengths = sequence_lengths(task.training_windows(data.train.windows_by_example))
            config, note = with_suited_values(self.config, network.config.hidden_size, lengths, len(task.label_names))
        chosen = {} if self.config.learning_rate else {"learning-rate": config.learning_rate}
        if not self.config.epochs and not config.max_steps:
            chosen["epochs"] = config.epochs
        run = replace(self, config=config, chosen=chosen)
        return run, replace(data, notes=[*data.notes, note]) if note else data

    def remove_folder(self) -> None:
        """Deletes the run's folder."""
        if processes().is_main:
            with disk_errors(self.folder):
                remove_folder(self.folder)


@dataclass(frozen=True)
class Scratch:
    """A folder that the processes of one machine share, and the rank of the one that writes it."""

    folder: Path
    leader: int

    def once(self, compute: Callable[[], T], name: str) -> T:
        """The result of a function that one process of the machine calls (`once_per_node`), in all of them."""
        return once_per_node(compute, self.folder / name, self.leader)


@dataclass(frozen=True)
class RunResult:
    """A finished run."""

    task: Task[Any, Any]  # with its thresholds and similar
    evaluation: Evaluation | None  # of the kept weights, on the test data if there is any, else on the evaluation data
    started: Started
    finished: Finished
    score_by_precision: dict[str, float]  # the first metric in fp32 and bf16, if both were measured
    metrics_from: str | None = None  # as in HeldOutScore

    @property
    def held_out(self) -> Evaluation | None:
        """The evaluation, which can be read after the files of the run are deleted."""
        return self.evaluation and self.evaluation.in_memory()


def refuse_output(output: Path, *, overwrite: bool, resume: bool) -> None:
    """Checks that a run may write to `output`.

    Raises:
        HeadwayError: a model or an interrupted run is there, and the user did not say what to do with it.
    """
    folder = _run_folder(output)
    interrupted = has_checkpoint(output)
    if resume and overwrite:
        raise HeadwayError("--resume continues a run and --overwrite starts again: give one of them.")
    if resume and output.exists() and not interrupted:
        raise HeadwayError(f"{output} is finished; there is nothing to resume. Use --overwrite to train it again.")
    if interrupted and not resume and not overwrite:
        raise HeadwayError(
            f"{folder} holds an interrupted run. Use --resume to continue it, or --overwrite to start again."
        )
    refuse_replacing(output, overwrite or resume)


def has_checkpoint(output: Path) -> bool:
    """Whether there is an interrupted run towards `output`."""
    return newest_checkpoint(_run_folder(output)) is not None


@contextmanager
def run_output(output: str | Path | None) -> Iterator[Path]:
    """The path that a run works towards; without an output a temporary one, deleted when the block ends.

    Raises:
        HeadwayError: the path cannot be used, or several processes have no output, which they must share.
    """
    if output is not None:
        yield new_path(output)
        return
    if processes().is_distributed:
        raise HeadwayError("Several processes train one model: name its folder with output=.")
    with tempfile.TemporaryDirectory(prefix="headway-") as folder:
        yield Path(folder) / "model"


@contextmanager
def scratch_folder(output: Path) -> Iterator["Scratch"]:
    """A folder beside the output for data that may exceed the memory; it is deleted when the block ends.

    The processes of one machine share it: one of them reads the data and the others map its files.
    """
    leader = node_leader()
    scratch = Scratch(output.with_name(f".{output.name}.data-{leader}"), leader)
    is_mine = leader == processes().rank
    try:
        if is_mine:
            shutil.rmtree(scratch.folder, ignore_errors=True)  # of a run that was killed
        yield scratch
        barrier()  # the others may still read it
    finally:
        if is_mine:
            shutil.rmtree(scratch.folder, ignore_errors=True)


@contextmanager
def initial_folder(output: Path) -> Iterator[Path]:
    """The folder beside the output for the untrained model of a run from scratch; it stays if a checkpoint does."""
    folder = output.with_name(f"{output.name}.begun")

    def clean() -> None:
        needed = newest_checkpoint(_run_folder(output)) or (folder / "headway.json").exists()  # a trained model
        if processes().is_main and not needed:
            with disk_errors(folder):
                remove_folder(folder)

    clean()
    try:
        yield folder
    finally:
        clean()


def run_training(
    task: Task[Any, Any], network: Network, encoder: Encoder, data: TrainingData, options: RunOptions
) -> Generator[Event, None, RunResult]:
    """Trains a network in place, as the events of the training loop, and evaluates it.

    Args:
        task: with its labels.
        network: the backbone with the task's head.
        encoder: of the model that training starts from.
        data: for training, evaluation and the test.
        options: of the run.

    Raises:
        KeyboardInterrupt: `options.stop` returned True.
        HeadwayError: an option does not fit the data or the machine, or the loss is not finite, ...
    """
    if not options.resume:
        options.remove_folder()
    try:
        started, finished = yield from _run_loop(task, network, encoder.model, data, options)
    finally:
        if newest_checkpoint(options.folder) is None:
            options.remove_folder()  # interrupted with nothing to resume from
    if not data.scored:
        return RunResult(task.after_training(network), None, started, finished, {})
    chosen = data.evaluation and score_evaluation(task, network, data.evaluation)
    score = score_test(chosen.task if chosen else task, network, data.test) if data.test else chosen
    assert score is not None
    task = score.task.after_training(network)
    evaluation = _evaluation(network, encoder, data, replace(score, task=task), (started, finished))
    scores: dict[str, float] = {}
    if chosen and data.evaluation and worth_comparing(len(data.evaluation.examples), torch.device(started.device)):
        examples, windows_by_example = data.evaluation.examples, data.evaluation.windows_by_example
        predictions = predict_examples(task, prepare_for_inference(network, "bf16"), windows_by_example)
        first, value = next(iter(task.score(chosen.fitted, examples).items()))
        scores = {"fp32": value, "bf16": task.score(predictions, examples)[first]}
    return RunResult(task, evaluation, started, finished, scores, score.metrics_from)


def _evaluation(
    network: Network, encoder: Encoder, data: TrainingData, score: HeldOutScore, run: tuple[Started, Finished]
) -> Evaluation:
    """The reported evaluation of the kept weights."""
    side, (started, finished) = data.scored, run
    assert side is not None
    task, predictions, examples = score.task, score.predictions, side.examples
    how = HowTrained(
        len(data.train.examples),
        len(task.label_names),
        finished.steps,
        started.learning_rate or None,
        network.config.hidden_size,
    )
    notes = tuple(score_notes(score.metrics_from, score.calibrated, finished.best_step, finished.steps))
    chosen_here = score.metrics_from != TEST and finished.best_step is not None
    table, columns = (side.table, side.columns) if isinstance(side, LabelledData) else (None, None)
    evaluation = Evaluation(
        score.metrics,
        task.per_label(predictions, examples),
        examples,
        predictions,
        (*notes, ADVICE) if chosen_here else notes,
        intervals=metric_intervals(task, predictions, examples, table, columns),
    )
    evaluation = task.finish_evaluation(evaluation, network, encoder, data.train.examples)
    baseline = evaluation.baseline or task.baseline(predictions, examples)
    return replace(evaluation, nothing_learnt=explain_no_learning(baseline, how))


def trained_event(result: RunResult, data: TrainingData, output: Path | None) -> Trained:
    """The last event of a run towards `output`."""
    evaluation, finished = result.evaluation, result.finished
    num_scored = len(evaluation.examples) if evaluation else 0  # of a cross-validation, the rows of all folds
    num_tested = len(data.test.examples) if data.test else 0
    return Trained(
        output=output,
        metrics=evaluation.metrics if evaluation else {},
        intervals=evaluation.bounds if evaluation else {},
        per_label=evaluation.per_label if evaluation else [],
        examples=len(data.train.examples),
        eval_examples=len(data.evaluation.examples) if data.evaluation else num_scored - num_tested,
        test_examples=num_tested,
        metrics_from=result.metrics_from,
        scored_on=describe_scored(result.metrics_from, num_scored) if evaluation else "",
        steps=finished.steps,
        seconds=finished.seconds,
        tokens_per_second=finished.tokens_per_second,
        best_step=finished.best_step,
        stopped_early=finished.stopped_early,
        nothing_learnt=evaluation and evaluation.nothing_learnt,
        notes=evaluation.notes if evaluation else (),
        proposal=data.rival and evaluation and data.rival.proposal(evaluation.metrics[data.rival.metric]),
        comparison=evaluation.comparison if evaluation else (),
    )


def describe_run(result: RunResult, data: TrainingData, options: RunOptions) -> dict[str, Any]:
    """What headway.json says about a run."""
    evaluation, finished = result.evaluation, result.finished
    used = asdict(options.config) if options.log else {"seed": options.config.seed}
    return {
        "metrics": evaluation.metrics if evaluation else {},
        "metrics_from": result.metrics_from,
        "intervals": evaluation.bounds if evaluation else {},
        "per_label": evaluation.per_label if evaluation else [],
        "comparison": list(evaluation.comparison) if evaluation else [],
        "nothing_learnt": evaluation and evaluation.nothing_learnt,
        "examples": held_out_texts(result.task, evaluation) if evaluation else [],
        "score_by_precision": result.score_by_precision,
        "columns": data.columns,
        "data": {
            "train": data.train.facts,
            "eval": data.evaluation and data.evaluation.facts,
            "test": data.test and data.test.facts,
        },
        "training": {**used, "precision": result.started.precision, "device": result.started.device},
        "steps": finished.steps,
        "best_step": finished.best_step,
        "seconds": finished.seconds,
    }


def _run_loop(
    task: Task[Any, Any], network: Network, base: str, data: TrainingData, options: RunOptions
) -> Generator[Event, None, tuple[Started, Finished]]:
    windows = task.training_windows(data.train.windows_by_example)
    config, held_out = options.config, data.evaluation
    if config.metric is not None and held_out:
        _check_metric(config.metric, task, network, held_out)

    def collate(indices: list[int], seed: int) -> TrainingInputs:
        features = task.corrupt([one for i in indices for one in windows[i]], seed)
        return TrainingInputs(task.pack(features), task.targets(features))

    def evaluate(network: nn.Module) -> dict[str, float]:
        assert held_out is not None
        metrics = score_evaluation(task, network, held_out).metrics
        return metrics if config.metric is None else {config.metric: metrics[config.metric], **metrics}

    events = task.fit_head(network, windows, config) or fit(
        network,
        config.sampler(sequence_lengths(windows)),
        collate,
        task.loss,
        config,
        run_folder=options.folder,
        resume=options.resume,
        evaluate=evaluate if held_out else None,
        higher_is_better=task.higher_is_better if config.metric is None else config.metric not in LOWER_IS_BETTER,
        data_fingerprint=_fingerprint(task, base, data),
        stop=options.stop,
        tracker_folder=options.folder.with_suffix(".trackers"),  # which stays when the run's folder is deleted
        pool=task.pool,
        in_batch_negatives=task.in_batch_negatives,
    )
    started = finished = None
    for event in events:
        if isinstance(event, Started):
            started = event
        elif isinstance(event, Finished):
            finished = event
        yield event
        if not task.uses_training_loop and isinstance(event, Step) and options.stop and options.stop():
            raise KeyboardInterrupt
    assert started is not None
    assert finished is not None
    return started, finished


def _check_metric(metric: str, task: Task[Any, Any], network: nn.Module, data: LabelledData | CorpusData) -> None:
    """Evaluates one example, so that a name that is no metric is refused before training."""
    network.eval()
    predictions = predict_examples(task, network, data.windows_by_example[:1])
    names = dict.fromkeys([*task.score(predictions, data.examples[:1]), "loss"])
    if metric not in names:
        raise HeadwayError(f"--metric {metric}: the metrics of {task.name} are {', '.join(names)}.")


def _describe_unused(config: TrainConfig) -> str:
    """A note on options of the training loop that were changed although there is no loop; empty if none was."""
    names = [one.name for one in fields(config) if one.name not in USED_WITHOUT_LOOP]
    changed = [name for name in names if getattr(config, name) != getattr(TrainConfig(), name)]
    listed = ", ".join(f"--{name.replace('_', '-')}" for name in changed)
    has = "has" if len(changed) == 1 else "have"
    return f"{listed} {has} no effect: the head is fitted without optimizer steps" if changed else ""


def _run_folder(output: Path) -> Path:
    return output.with_name(f"{output.name}.running")


def _fingerprint(task: Task[Any, Any], base: str, data: TrainingData) -> str:
    """Identifies what a resumed run must have in common with the interrupted one."""
    facts = [task.to_json(), base, data.train.facts, data.evaluation and data.evaluation.facts]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
