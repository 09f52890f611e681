"""Several runs for one score: cross-validation (`folds`), or the same training with several seeds (`seeds`).

Each run is an ordinary one, towards OUTPUT.folds/K or OUTPUT.seeds/K: it can be interrupted and resumed, and is not
repeated if it is finished. At the end `folds` trains a model on all rows, and `seeds` keeps the run with the median
score.
"""

import json
import shutil
import statistics
from collections.abc import Generator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...core.atomic_files import atomic_file, disk_errors, remove_folder
from ...core.errors import HeadwayError
from ...core.training.distributed import on_main
from ...core.training.output_lock import OutputLock
from ...core.training.training_config import TrainConfig
from ...core.training.training_events import Event
from ..tallies import LOWER_IS_BETTER
from .data_source import EVAL_FRACTION, DataSource
from .fold import FILE, Fold, OutOfFold, out_of_fold
from .metric_intervals import metric_intervals
from .model_folder import copy_model, read_info, refuse_replacing
from .results import Evaluation, RepeatFinished, RepeatStarted, Trained
from .score_notes import OUT_OF_FOLD, describe_scored, score_notes
from .training_data import LabelledData, TrainingData
from .training_run import RunOptions, RunResult, has_checkpoint, refuse_output

if TYPE_CHECKING:
    from .model import TaskModel
    from .task import Task

FOLDS, SEEDS = "folds", "seeds"
MOST = 100
MOST_COLUMNS = 5  # of a table in a terminal
PLAN = "plan.json"
# Options that may differ between the runs: they depend on the machine.
OF_MACHINE = ("device", "precision", "tokens_at_once", "checkpoint_activations", "save_steps", "save_minutes")


@dataclass(frozen=True)
class Repeats:
    """Which runs there are.

    Args:
        kind: FOLDS or SEEDS.
        count: of the runs.
    """

    kind: str
    count: int

    @classmethod
    def of(cls, folds: int | None, seeds: int | None) -> "Repeats | None":
        """What the user asks for; None: a single run.

        Raises:
            HeadwayError: both are given, or a number is not possible.
        """
        if folds is not None and seeds is not None:
            raise HeadwayError("--folds and --seeds are two different series of runs: give one of them.")
        for kind, count in ((FOLDS, folds), (SEEDS, seeds)):
            if count is not None:
                if not 2 <= count <= MOST:
                    raise HeadwayError(f"--{kind} {count}: an integer from 2 to {MOST}.")
                return cls(kind, count)
        return None

    def check(self, task: "Task[Any, Any]", source: DataSource) -> None:
        """Raises HeadwayError if such runs make no sense for the task or the data."""
        if self.kind == FOLDS:
            if task.self_supervised or task.scores_loss or task.headless:
                raise HeadwayError(
                    f"--folds predicts the label of each row by a model that was not trained on it, and {task.name} "
                    "has no such labels. Remove --folds."
                )
            if source.evaluation is not None or source.test is not None or source.test_fraction:
                raise HeadwayError(
                    "--folds evaluates on each training row once: remove --eval-data, --test-data and "
                    "--test-fraction, or --folds."
                )
            if source.eval_fraction != EVAL_FRACTION:
                raise HeadwayError(
                    "--folds holds out each row once, so --eval-fraction has no meaning beside it: remove one of them."
                )
        elif not task.uses_training_loop:
            raise HeadwayError(
                "--seeds compares runs of the training loop, which --frozen and --few-shot do without. Use --folds."
            )
        elif source.evaluation is None and not source.eval_fraction:
            raise HeadwayError("--seeds compares runs on held-out rows: remove --eval-fraction 0 or give --eval-data.")

    def run_of(self, number: int, source: DataSource, run: RunOptions, folder: Path) -> tuple[DataSource, RunOptions]:
        """The data and the options of a run.

        Args:
            number: from 1.
            source: of all runs.
            run: options of all runs.
            folder: of all runs.
        """
        config = run.config
        if self.kind == FOLDS:
            source = replace(source, fold=Fold(number, self.count))
        else:
            config = replace(config, seed=config.seed + number - 1)
        return source, replace(run, config=config, output=folder / str(number), overwrite=False, resume=True)


@dataclass(frozen=True)
class Summary:
    """What several finished runs have found.

    Args:
        repeats: the runs.
        infos: headway.json of each.
    """

    repeats: Repeats
    infos: Sequence[Mapping[str, Any]]

    @cached_property
    def mean(self) -> dict[str, float]:
        """The mean of each metric."""
        return {name: statistics.fmean(values) for name, values in self._metrics.items()}

    @cached_property
    def spread(self) -> dict[str, float]:
        """The standard deviation of each metric between the runs."""
        return {name: statistics.stdev(values) for name, values in self._metrics.items() if len(values) > 1}

    @property
    def _metrics(self) -> dict[str, list[float]]:
        names = dict.fromkeys(name for info in self.infos for name in info["metrics"])
        return {name: [info["metrics"][name] for info in self.infos if name in info["metrics"]] for name in names}

    def median(self, metric: str | None, *, higher_is_better: bool) -> int:
        """The number of the run with the median score, from 1; of an even number, the better of the middle two."""
        name = metric or next(iter(self.mean))
        higher = higher_is_better if metric is None else metric not in LOWER_IS_BETTER
        order = sorted(range(len(self.infos)), key=lambda one: self.infos[one]["metrics"][name], reverse=higher)
        return order[(len(order) - 1) // 2] + 1

    def steps(self) -> tuple[int | None, str]:
        """For how many steps to train on all rows (None: as configured), and why."""
        best = [info["best_step"] for info in self.infos if info["best_step"] is not None]
        if len(best) < len(self.infos):
            return None, "the configured length of training"
        median, last = statistics.median_high(best), min(info["steps"] for info in self.infos)
        listed = ", ".join(f"{step:,}" for step in best)
        if median >= last:
            return None, f"the configured length of training, since most folds were best at their end (steps {listed})"
        return median, f"{median:,} steps, the median of the best steps of the folds ({listed})"

    def to_json(self, **facts: Any) -> dict[str, Any]:
        """The metrics of all runs, with further facts."""
        shown = ("metrics", "intervals", "steps", "best_step", "seconds")
        runs = [
            {name: info[name] for name in shown}
            | {"seed": info["training"]["seed"], "eval_examples": info["data"]["eval"]["examples"]}
            for info in self.infos
        ]
        return {"count": len(runs), "mean": self.mean, "spread": self.spread, **facts, "runs": runs}


@dataclass
class FinishedFolds:
    """The folds as the evaluation of the model that is trained on all rows."""

    summary: Summary
    rows: dict[int, OutOfFold]  # by position
    steps: str  # how long the model is trained, in words
    lines: list[str] = field(default_factory=list)  # of the model folder's file, in the order of the rows

    def check(self, data: TrainingData) -> None:
        """Raises HeadwayError if the folds were trained on other data."""
        if any(info["data"]["train"]["fingerprint"] != data.train.facts["fingerprint"] for info in self.summary.infos):
            raise HeadwayError("The data was changed after some folds were trained. Use --overwrite to start again.")

    def complete(self, result: RunResult, data: TrainingData) -> RunResult:
        """A run on all rows with the calibration and the evaluation of the folds."""
        assert isinstance(data.train, LabelledData)
        task = result.task.averaged([type(result.task).from_json(info["options"]) for info in self.summary.infos])
        examples = [one for one in data.train.examples if one.row in self.rows]
        found = [self.rows[one.row] for one in examples]
        self.lines = [one.to_line() for one in found]
        predictions = [one.prediction for one in found]
        evaluation = Evaluation(
            task.score(predictions, examples),
            task.per_label(predictions, examples),
            examples,
            predictions,
            (self.note(len(examples), len(data.train.examples)), *score_notes(OUT_OF_FOLD, "", *self.best_step)),
            next((info["nothing_learnt"] for info in self.summary.infos if info.get("nothing_learnt")), None),
            intervals=metric_intervals(task, predictions, examples, data.train.table, data.train.columns),
        )
        return replace(result, task=task, evaluation=evaluation, metrics_from=OUT_OF_FOLD)

    @property
    def best_step(self) -> tuple[int | None, int]:
        """The best step of a fold, if one was chosen on the rows that it holds out, and the steps of this fold."""
        return next(
            ((info["best_step"], info["steps"]) for info in self.summary.infos if info["best_step"]), (None, 0)
        )

    def note(self, predicted: int, rows: int) -> str:
        """What the metrics are measured on."""
        rest = (
            f" ({rows - predicted:,} rows whose label no other row has are only trained on)"
            if predicted < rows
            else ""
        )
        return (
            f"each of {predicted:,} rows is predicted by the model of a fold that was not trained on it{rest}; "
            f"the model itself is trained on all {rows:,} rows, for {self.steps}"
        )

    def facts(self, data: TrainingData) -> dict[str, Any]:
        """What headway.json says in addition."""
        facts = {"train": data.train.facts, "eval": {**data.train.facts, "examples": len(self.rows)}}
        return {"data": facts, FOLDS: self.summary.to_json(trained_for=self.steps)}


def repeat_rows(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A table of what `Summary.to_json` returned: a row for each metric, with the values of a few runs."""
    rows = []
    for name, mean in found["mean"].items():
        values = [run["metrics"].get(name, mean) for run in found["runs"]]
        each = {str(number): value for number, value in enumerate(values, 1)} if len(values) <= MOST_COLUMNS else {}
        spread = {"± std": found["spread"].get(name, 0.0), "lowest": min(values), "highest": max(values)}
        rows.append({"metric": name, "mean": mean, **spread, **each})
    return rows


def train_repeatedly(
    model: "TaskModel",
    repeats: Repeats,
    source: DataSource,
    run: RunOptions,
    settings: Mapping[str, Any] | None,
    *,
    write: bool,
) -> Generator[Event, None, None]:
    """Trains all runs and then the model to keep, as the events of these runs; `Trained` is the last one only.

    Args:
        model: as it was opened.
        repeats: which runs.
        source: of all of them.
        run: options of all of them, with the final output.
        settings: for run.yaml of the model.
        write: whether the model folder is written.

    Raises:
        HeadwayError: as for a single run, or the folder of the runs has those of other data or options.
    """
    repeats.check(model.task, source)
    folder = run.output.with_name(f"{run.output.name}.{repeats.kind}")
    lock, model.output_lock = model.output_lock or OutputLock(run.output), None
    with lock:
        on_main(lambda: refuse_output_of(run, folder))  # before the main process makes the folder
        plan = _plan(model, repeats, source, run.config)
        on_main(lambda: _prepare(folder, plan, run))
        if isinstance(source.train, Generator):
            source = replace(source, train=list(source.train))  # it is read once for each run
        infos = []
        for number in range(1, repeats.count + 1):
            infos.append((yield from _one_run(model, repeats, number, (source, run, folder))))
        summary = Summary(repeats, infos)
        model.output_lock = lock
        if repeats.kind == FOLDS:
            yield from _train_on_all(model, summary, source, run, settings, write=write)
        else:
            yield _keep_median(model, summary, run, settings, write=write)
        on_main(lambda: _remove(folder, repeats.count))


def fold_lines(fold: Fold, data: TrainingData, result: RunResult) -> list[str]:
    """The predictions of a fold's run for its held-out rows, as lines of JSON."""
    assert isinstance(data.evaluation, LabelledData)
    assert result.evaluation is not None
    found = out_of_fold(fold, data.evaluation.table, result.evaluation.examples, result.evaluation.predictions)
    return [one.to_line() for one in found]


def refuse_output_of(run: RunOptions, folder: Path) -> None:
    """As `refuse_output`, where the interrupted run may be one of several in a folder."""
    if folder.exists() and not run.resume and not run.overwrite:
        raise HeadwayError(
            f"{folder} holds runs that were interrupted. Use --resume to continue, or --overwrite to start again."
        )
    if folder.exists() and run.resume and not run.overwrite:
        refuse_replacing(run.output, overwrite=True)
    else:
        refuse_output(run.output, overwrite=run.overwrite, resume=run.resume)


def _one_run(
    model: "TaskModel", repeats: Repeats, number: int, given: tuple[DataSource, RunOptions, Path]
) -> Generator[Event, None, dict[str, Any]]:
    """One of the runs, unless it is finished; returns its headway.json."""
    source, options = repeats.run_of(number, *given)
    yield RepeatStarted(repeats.kind, number, repeats.count)
    info = on_main(lambda: read_info(options.output)) if on_main(options.output.exists) else {}
    is_finished = bool(info)
    if not is_finished:
        for event in model.run(source, options):
            if not isinstance(event, Trained):
                yield event
        info = on_main(lambda: read_info(options.output))
    yield RepeatFinished(
        repeats.kind, number, repeats.count, info["metrics"], info["steps"], info["seconds"], is_finished
    )
    return info


def _train_on_all(
    model: "TaskModel",
    summary: Summary,
    source: DataSource,
    run: RunOptions,
    settings: Mapping[str, Any] | None,
    *,
    write: bool,
) -> Generator[Event, None, None]:
    """Trains a model on all rows, whose evaluation is that of the folds."""
    folder = run.output.with_name(f"{run.output.name}.{FOLDS}")
    count = summary.repeats.count
    lines = on_main(lambda: [line for number in range(1, count + 1) for line in _lines(folder / str(number))])
    found = map(OutOfFold.of_line, lines)
    steps, why = summary.steps() if model.task.uses_training_loop else (None, "its classifier to converge")
    finished = FinishedFolds(summary, {one.row: one for one in found}, why)
    config = replace(run.config, patience=None, metric=None, eval_steps=None, max_steps=steps or run.config.max_steps)
    yield RepeatStarted(FOLDS, count + 1, count)
    interrupted = on_main(lambda: has_checkpoint(run.output))
    overwrite = (run.overwrite or run.resume) and not interrupted
    run = replace(run, config=config, overwrite=overwrite, resume=interrupted)
    source = replace(source, fold=Fold(0, count))
    yield from model.run(source, run, settings=settings, write=write, folds=finished)


def _keep_median(
    model: "TaskModel", summary: Summary, run: RunOptions, settings: Mapping[str, Any] | None, *, write: bool
) -> Trained:
    """Keeps the run with the median score, in the model and as its folder."""
    number = summary.median(run.config.metric, higher_is_better=model.task.higher_is_better)
    kept = run.output.with_name(f"{run.output.name}.{SEEDS}") / str(number)
    facts = {SEEDS: summary.to_json(kept=summary.infos[number - 1]["training"]["seed"])}
    model.take(kept, facts)
    if write:
        copy_model(kept, run.output, model.task, model.network, info=model.info, settings=settings,
                   overwrite=run.overwrite or run.resume)  # fmt: skip
    return _trained_of(model.info, run.output if write else None, model.task.calibrated)


def _trained_of(info: Mapping[str, Any], output: Path | None, calibrated: str) -> Trained:
    """The last event of the run that is described by this headway.json."""
    data = info["data"]
    sizes = {side: (data.get(side) or {}).get("examples", 0) for side in ("train", "eval", "test")}
    return Trained(
        output=output,
        metrics=info["metrics"],
        intervals={name: tuple(bounds) for name, bounds in info["intervals"].items()},
        per_label=info["per_label"],
        examples=sizes["train"],
        eval_examples=sizes["eval"],
        test_examples=sizes["test"],
        metrics_from=info["metrics_from"],
        scored_on=describe_scored(info["metrics_from"], sizes["test"] or sizes["eval"]),
        steps=info["steps"],
        seconds=info["seconds"],
        tokens_per_second=0.0,
        best_step=info["best_step"],
        stopped_early=False,
        nothing_learnt=info.get("nothing_learnt"),
        notes=tuple(score_notes(info["metrics_from"], calibrated, info["best_step"], info["steps"])),
        comparison=info.get("comparison") or (),
        seeds=info[SEEDS],
    )


def _plan(model: "TaskModel", repeats: Repeats, source: DataSource, config: TrainConfig) -> dict[str, Any]:
    """What all runs of a folder have in common."""
    options = {name: value for name, value in asdict(config).items() if name not in OF_MACHINE}
    columns = {name: value for name, value in source.columns.items() if value}
    return json.loads(
        json.dumps(
            {
                "kind": repeats.kind,
                "count": repeats.count,
                "base": model.base,
                "task": model.task.name,
                "options": model.task.to_json(),
                "training": options,
                "columns": columns,
                "eval_fraction": source.eval_fraction,
                "test_fraction": source.test_fraction,
            },
            default=str,
        )
    )


def _prepare(folder: Path, plan: Mapping[str, Any], run: RunOptions) -> None:
    """Makes the folder of the runs; an existing one must be of the same runs, or is replaced."""
    with disk_errors(folder):
        if run.overwrite:
            remove_folder(folder)
            remove_folder(run.folder)
        path = folder / PLAN
        if path.exists():
            before = json.loads(path.read_text(encoding="utf-8"))
            different = [name for name, value in plan.items() if before.get(name) != value]
            if different:
                raise HeadwayError(
                    f"{folder} holds runs with other options ({', '.join(different)}). Give the same options to "
                    "resume them, or use --overwrite to start again."
                )
            return
        if run.resume and has_checkpoint(run.output):
            raise HeadwayError(
                f"{run.output}: an interrupted single run cannot be continued with --{plan['kind']}. Omit it, or "
                "start again with --overwrite."
            )
        folder.mkdir(parents=True, exist_ok=True)
        with atomic_file(path, overwrite=True) as new:
            new.write_text(json.dumps(plan, indent=2), encoding="utf-8")


def _lines(folder: Path) -> list[str]:
    return (folder / FILE).read_text(encoding="utf-8").splitlines()


def _remove(folder: Path, count: int) -> None:
    """Deletes the models of the runs; files of trackers stay."""
    with disk_errors(folder):
        for number in range(1, count + 1):
            shutil.rmtree(folder / str(number), ignore_errors=True)
        (folder / PLAN).unlink(missing_ok=True)
        with suppress(OSError):
            folder.rmdir()
