"""A learning curve: the score of several methods against the number of labelled rows."""

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from ...core.atomic_files import new_path
from ...core.errors import HeadwayError
from ...core.training.output_lock import OutputLock
from ...core.training.training_config import TrainConfig
from ..data.read_options import ReadOptions
from ..tallies import LOWER_IS_BETTER
from .advice import advise
from .curve_data import CurveData
from .methods import Methods, baseline_metrics
from .options import PROMPTING, ZERO_SHOT, CurveOptions
from .runs import FinishedRun, Run, RunStore, follow_runs, plan_runs
from .summary import LearningCurve, fit_laws, summarize

UNSUITED = (*LOWER_IS_BETTER, "matthews_correlation")  # metrics that are not from 0 to 1, where 1 is best
# Options that choose which runs there are, or how their results are shown; those of a folder may differ in them.
OF_ALL_RUNS = ("methods", "sizes", "seeds", "minutes", "metric")
# Options of the training loop that depend on the machine or do not matter here.
OF_MACHINE = ("device", "tokens_at_once", "checkpoint_activations", "save_steps", "save_minutes")

Follow = Callable[[FinishedRun, int, int], None]


def learning_curve(
    data: Any,
    test_data: Any = None,
    *,
    options: CurveOptions | None = None,
    output: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    columns: Mapping[str, Any] | None = None,
    config: TrainConfig | None = None,
    device: str = "auto",
    follow: Follow | None = None,
    stop: Callable[[], bool] | None = None,
    **more: Any,
) -> LearningCurve:
    """Measures how the score of several methods grows with the number of labelled rows.

    Args:
        data: labelled texts: anything that `read_table` reads.
        test_data: the same for the test. Default: a quarter of `data` is held out.
        options: which methods, sizes, draws, ...
        output: the folder of the results of all runs. Default: they are not kept.
        resume: continue in this folder: stored runs are not repeated.
        overwrite: delete what is in the folder.
        columns: field name, "label" or "group" -> column, where the inferred one is wrong.
        config: of training.
        device: auto, cpu, cuda, cuda:1, mps or xpu.
        follow: called with each result, its number among the planned runs, and their number.
        stop: called after every step of training; if it returns True, the run is interrupted.
        **more: fields of CurveOptions, in place of those of `options`, and of ReadOptions (header, ...).

    Raises:
        KeyboardInterrupt: `stop` returned True; the finished runs are stored.
        HeadwayError: the data, a model or an option cannot be used, or the folder is of something else.
    """
    names = CurveOptions.__dataclass_fields__
    chosen = replace(options or CurveOptions(), **{name: more.pop(name) for name in names if name in more})
    config = replace(config or TrainConfig(), device=device)
    rows = CurveData.read(data, test_data, columns or {}, ReadOptions(**more), chosen.test_rows)
    label, constant = baseline_metrics(rows)
    metric = _metric(chosen.metric, constant)
    sizes, notes = _sizes(chosen, rows)
    planned = plan_runs(chosen.methods, sizes, chosen.seeds)
    methods = Methods(rows, chosen, config, device, stop)
    with _opened(output, _plan(rows, chosen, config), resume=resume, overwrite=overwrite) as store:
        found = []
        for one in follow_runs(planned, store, partial(_measure, methods), minutes=chosen.minutes):
            found.append(one)
            if follow is not None:
                follow(one, planned.index(one.run) + 1, len(planned))
    found.sort(key=lambda one: planned.index(one.run))
    notes += _left_out(planned, found, chosen.minutes)
    points = summarize(found, metric)
    laws = fit_laws(found, metric, points)
    baseline = label, constant[metric]
    advice = advise(points, laws, baseline, metric.replace("_", " "))
    notes = (*rows.notes, *_zero_shot(chosen), *notes)
    return LearningCurve(
        metric, points, laws, baseline, len(rows.test), advice, notes, found, Path(rows.pool.source).name
    )


def _metric(chosen: str | None, known: Mapping[str, float]) -> str:
    suited = [name for name in known if name not in UNSUITED]
    if chosen is not None and chosen not in suited:
        raise HeadwayError(f"--metric {chosen}: one of {', '.join(suited)}.")
    return chosen or suited[0]


def _sizes(options: CurveOptions, rows: CurveData) -> tuple[list[int], list[str]]:
    """The sizes that can be drawn, and notes on the others.

    Raises:
        HeadwayError: no size is left.
    """
    if set(options.methods) == {ZERO_SHOT}:
        return [], []
    least, most = rows.smallest, len(rows.pool)
    sizes = [size for size in options.sizes if least <= size <= most]
    others = [f"{size:,}" for size in options.sizes if size not in sizes]
    why = f"there are {most:,} rows to draw from, and a draw has each label, so {least:,} rows or more"
    if not sizes:
        raise HeadwayError(f"--sizes {','.join(map(str, options.sizes))}: {why}. Give other sizes, or more rows.")
    return sizes, [
        f"--sizes {', '.join(others)} {'is' if len(others) == 1 else 'are'} left out: {why}"
    ] if others else []


def _zero_shot(options: CurveOptions) -> list[str]:
    """A note on how zero-shot answers."""
    if ZERO_SHOT not in options.methods:
        return []
    if options.zero_shot_model is not None:
        return [f"zero-shot answers by entailment with {options.zero_shot_model}"]
    how = "a classifier for natural language inference with --zero-shot-model would answer by entailment"
    return [f"zero-shot prompts {options.prompt_model} without demonstrations ({how})"]


def _measure(methods: Methods, run: Run, is_over: Callable[[], bool]) -> dict[str, float]:
    try:
        return methods.measure(run, is_over)
    except HeadwayError as error:
        model = "--prompt-model" if run.method in PROMPTING else "--model"
        if run.method == ZERO_SHOT and methods.options.zero_shot_model is not None:
            model = "--zero-shot-model"
        rows = f" with {run.size:,} rows" if run.size else ""
        raise HeadwayError(
            f"{run.method}{rows}: {error} Omit {run.method} from --methods, or name another {model}."
        ) from error


def _plan(rows: CurveData, options: CurveOptions, config: TrainConfig) -> dict[str, Any]:
    """What all runs of a folder have in common."""
    chosen = {name: value for name, value in asdict(options).items() if name not in OF_ALL_RUNS}
    training = {name: value for name, value in asdict(config).items() if name not in OF_MACHINE}
    return {
        "data": rows.pool.fingerprint(),
        "test_data": rows.test.fingerprint(),
        "labels": rows.task.labels,
        "problem_type": rows.task.problem_type,
        **chosen,
        "training": training,
    }


@contextmanager
def _opened(
    output: str | Path | None, plan: Mapping[str, Any], *, resume: bool, overwrite: bool
) -> Iterator[RunStore]:
    """The folder of the results, which no other process uses meanwhile; without an output a temporary one."""
    if resume and overwrite:
        raise HeadwayError("--resume continues a learning curve and --overwrite starts again: give one of them.")
    if output is None:
        with tempfile.TemporaryDirectory(prefix="headway-") as folder:
            store = RunStore(Path(folder) / "curve", plan)
            store.open(resume=False, overwrite=False)
            yield store
        return
    store = RunStore(new_path(output), plan)
    with OutputLock(store.folder):
        store.open(resume=resume, overwrite=overwrite)
        yield store


def _left_out(planned: Sequence[Run], found: Sequence[FinishedRun], minutes: float | None) -> list[str]:
    """A note on the runs for which there was no time."""
    done = {one.run for one in found}
    left: dict[str, list[Run]] = {}
    for run in planned:
        if run not in done:
            left.setdefault(run.method, []).append(run)
    if not left:
        return []
    by_method = "; ".join(
        f"{method}: {len(runs)} of {sum(run.method == method for run in planned)}" for method, runs in left.items()
    )
    count = sum(map(len, left.values()))
    return [f"{count:,} of {len(planned):,} runs are left out because of --minutes {minutes:g} ({by_method})"]
