"""A training run in the terminal: progress, evaluations, the learning curve, the results."""

import math
import time
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.padding import Padding
from rich.progress import BarColumn, Progress, TextColumn
from rich.text import Text

from ..core.training.training_events import Evaluated, Event, Note, Saved, Started, Step
from ..tasks.base.label_table import FILE
from ..tasks.base.repeats import repeat_rows
from ..tasks.base.results import Prepared, RepeatFinished, RepeatStarted, Trained
from .terminal import BAR_WIDTH, INDENT, duration, metrics_line, section, show_evaluation, show_report, table

STEPS_IN_MEAN = 20  # of the loss beside the progress bar
PROGRESS_LINES = 10  # per run, if stdout is not a terminal
EVALUATION_LINES = 20  # per run, in addition to those with a new best score
SECONDS_BETWEEN_REFRESHES = 0.1
MIN_MILLIONS = 100_000  # parameters; smaller models are not counted in millions
CURVE_WIDTH = 48  # columns
BLOCKS = "▁▂▃▄▅▆▇█"


class TrainingView:
    """Shows the events of a training run: `with TrainingView(console) as view: view.follow(events)`."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.losses: list[float] = []  # one per step
        self.evaluations: list[Evaluated] = []
        self._best_shown: float | None = None
        self.step: int | None = None
        self.saved_step: int | None = None
        self.notes: tuple[str, ...] = ()  # on the data
        self.finished_runs = 0  # of several (folds or seeds)
        self._repeated = False  # whether the data was shown for an earlier run
        self._total = 0
        self._refreshed = 0.0
        self._progress = Progress(
            TextColumn(" "),
            BarColumn(BAR_WIDTH, style="dim", complete_style="cyan"),
            TextColumn("{task.completed:,.0f} of {task.total:,.0f}"),
            TextColumn("{task.fields[status]}", style="dim"),
            console=console,
            auto_refresh=False,
            transient=True,
            disable=not console.is_terminal,
        )
        self._bar = self._progress.add_task("", total=None, status="")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Removes the progress bar from the screen."""
        self._progress.stop()

    def follow(self, events: Iterable[Event]) -> Trained:
        """Shows all events of a run and returns the last one."""
        event = None
        for event in events:
            self.show(event)
        assert isinstance(event, Trained)
        return event

    def show(self, event: Event) -> None:
        """Shows one event, if there is something to show about it."""
        match event:
            case RepeatStarted():
                self._start_run(event)
            case RepeatFinished():
                self._finish_run(event)
            case Prepared() if not self._repeated:
                self.notes = event.notes
                section(self.console, "Data", *event.notes)
                show_report(self.console, event.report)
            case Started():
                self._show_started(event)
            case Step():
                self._show_step(event)
            case Evaluated():
                self._show_evaluated(event)
            case Note():
                self.console.print(Padding(event.note, INDENT, expand=False))
            case Saved():
                self.saved_step = event.step
            case Trained():
                self._show_trained(event)

    def _start_run(self, event: RepeatStarted) -> None:
        kind = event.kind.removesuffix("s")
        is_last = event.number > event.count
        section(self.console, "All rows" if is_last else f"{kind.capitalize()} {event.number} of {event.count}")
        self._repeated = event.number > 1
        self.losses, self.evaluations, self._best_shown = [], [], None
        self.step = self.saved_step = None

    def _finish_run(self, event: RepeatFinished) -> None:
        self._progress.stop()
        self.finished_runs += 1
        before = ("   finished before", "dim") if event.before else ""
        first_two = dict(list(event.metrics.items())[:2])
        self.console.print(Text.assemble("  ", metrics_line(first_two), f"   {event.steps:,} steps", before))

    def _show_started(self, event: Started) -> None:
        self._total, self.step, self.saved_step = event.total_steps, event.resumed_from or 0, event.resumed_from
        processes = f", {event.processes} processes" if event.processes > 1 else ""
        millions = event.parameters >= MIN_MILLIONS
        size = f"{event.parameters / 1e6:,.1f} million" if millions else f"{event.parameters:,}"
        rate = f" at a peak rate of {event.learning_rate:g}" if event.learning_rate else ""
        run = (
            f"{event.total_steps:,} steps{rate}, {size} parameters, "
            f"on {event.device} in {event.precision}{processes}, seed {event.seed}"
        )
        resumed = [] if event.resumed_from is None else [f"resumed after step {event.resumed_from:,}"]
        section(self.console, "Training", run, *resumed, *event.notes)
        self._progress.update(self._bar, total=event.total_steps, completed=self.step)
        self._progress.start()

    def _show_step(self, event: Step) -> None:
        self.step = event.step
        self.losses.append(event.loss)
        recent = self.losses[-STEPS_IN_MEAN:]
        status = (
            f"loss {sum(recent) / len(recent):.4f}   {event.tokens_per_second:,.0f} tokens/s   "
            f"{duration(event.seconds_left)} left"
        )
        if not self._progress.disable:
            now = time.monotonic()
            due = now - self._refreshed > SECONDS_BETWEEN_REFRESHES
            self._refreshed = now if due else self._refreshed
            self._progress.update(self._bar, completed=event.step, status=status, refresh=due)
        elif event.step % math.ceil(self._total / PROGRESS_LINES) == 0:
            self.console.print(f"  step {event.step:,} of {self._total:,}   {status}")

    def _show_evaluated(self, event: Evaluated) -> None:
        self.evaluations.append(event)
        every = math.ceil(self._total / self.evaluations[0].step / EVALUATION_LINES)
        score = next(iter(event.metrics.values()))
        improved = event.best and score != self._best_shown  # a tie is best, too: later weights are kept
        if not improved and len(self.evaluations) % every:
            return
        self._best_shown = score if event.best else self._best_shown
        first_two = list(event.metrics)[:2]
        shown = {name: value for name, value in event.metrics.items() if name in (*first_two, "loss")}
        best = ("   best so far", "green") if event.best else ""
        self.console.print(Text.assemble("  ", (f"epoch {event.epoch:5.2f}   ", ""), metrics_line(shown), best))

    def _show_trained(self, event: Trained) -> None:
        self.close()
        self._show_curve()
        if event.metrics:
            in_file = "" if event.output is None else f"All are in {event.output / FILE}."
            title = f"Evaluation on {event.scored_on}"
            show_evaluation(
                self.console,
                event.metrics,
                event.per_label,
                title,
                event.nothing_learnt,
                intervals=event.intervals,
                all_labels=in_file,
                comparison=event.comparison,
            )
            self._show_repeats(event)
            for note in event.notes:
                self.console.print(Padding(note, INDENT, expand=False))
        if event.proposal:
            section(self.console, "Proposal", event.proposal)
        best = f", best weights from step {event.best_step:,}" if event.best_step not in (None, event.steps) else ""
        early = ", stopped early" * event.stopped_early
        model = (
            f"{event.output} ({event.steps:,} steps{best}{early}; trained for {duration(event.seconds)} at "
            f"{event.tokens_per_second:,.0f} tokens/s)"
        )
        section(self.console, "Model", model)

    def _show_repeats(self, event: Trained) -> None:
        for name, found in (("Folds", event.folds), ("Seeds", event.seeds)):
            if found is not None:
                section(self.console, name, table(repeat_rows(found)))
                if "kept" in found:
                    self.console.print(f"  The model of seed {found['kept']} is kept, which has the median score.")

    def _show_curve(self) -> None:
        curves = {"loss": _bin_means(self.losses)}
        if self.evaluations:
            name = next(iter(self.evaluations[0].metrics))
            curves[name] = [evaluation.metrics[name] for evaluation in self.evaluations]
        width = max((len(points) for points in curves.values()), default=0)
        rows = [
            {"": name, "first": points[0], " ": sparkline(points, width), "last": points[-1]}
            for name, points in curves.items()
            if len(points) > 1
        ]
        if rows:
            section(self.console, "Learning curve", table(rows))


def _bin_means(values: Sequence[float]) -> list[float]:
    """The means of at most CURVE_WIDTH consecutive bins of equal size."""
    size = math.ceil(len(values) / CURVE_WIDTH)
    bins = [values[start : start + size] for start in range(0, len(values), size)] if values else []
    return [sum(one) / len(one) for one in bins]


def sparkline(points: Sequence[float], width: int) -> str:
    """Points as block characters of eight heights, from the minimum to the maximum, stretched to `width` columns."""
    low, high = min(points), max(points)
    stretched = [points[column * len(points) // width] for column in range(width)]
    return "".join(BLOCKS[round((point - low) / ((high - low) or 1) * (len(BLOCKS) - 1))] for point in stretched)
