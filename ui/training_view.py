"""A training run in the terminal: progress, the loss curve, the results."""

import math
import time
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.text import Text

from ..core.training.training_events import Evaluated, Event, Saved, Started, Step
from ..tasks.base.results import Prepared, Trained
from .terminal import BAR, FEWEST_MILLIONS, duration, figures, section, show_evaluation, show_report, table

STEPS_IN_MEAN = 20  # of the loss that is shown


LINES_OF_PROGRESS = 10  # of a run, where there is no terminal to draw a bar in


SECONDS_BETWEEN_REFRESHES = 0.1


CURVE = 48


BARS = "▁▂▃▄▅▆▇█"


class TrainingView:
    """Shows a run of training as its events come: `with TrainingView(console) as view: view.show(event)`."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.losses: list[float] = []  # of every step
        self.evaluations: list[Evaluated] = []
        self.step: int | None = None
        self.saved_step: int | None = None
        self._total = 0
        self._refreshed = 0.0
        self._bar = Progress(
            TextColumn(" "),
            BarColumn(BAR, style="dim", complete_style="cyan"),
            TextColumn("{task.completed:,.0f} of {task.total:,.0f}"),
            TextColumn("{task.fields[told]}", style="dim"),
            console=console,
            auto_refresh=False,
            transient=True,
            disable=not console.is_terminal,
        )
        self._drawn = self._bar.add_task("", total=None, told="")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Takes the progress bar off the screen."""
        self._bar.stop()

    def follow(self, events: "Iterable[Event]") -> "Trained":
        """Shows a run to its end."""
        from ..tasks.base.results import Trained

        event = None
        for event in events:
            self.show(event)
        assert isinstance(event, Trained)
        return event

    def show(self, event: "Event") -> None:
        """Shows one event, if there is something to show about it."""
        if shown := getattr(self, f"_show_{type(event).__name__.lower()}", None):
            shown(event)

    def _show_prepared(self, event: "Prepared") -> None:
        section(self.console, "Data", *event.notes)
        show_report(self.console, event.report)

    def _show_started(self, event: "Started") -> None:
        self._total, self.step, self.saved_step = event.total_steps, event.resumed_from or 0, event.resumed_from
        several = f", {event.processes} processes" if event.processes > 1 else ""
        many = event.parameters >= FEWEST_MILLIONS
        size = f"{event.parameters / 1e6:,.1f} million" if many else f"{event.parameters:,}"
        told = (
            f"{event.total_steps:,} steps, {size} parameters, on {event.device} in {event.precision}{several}, "
            f"seed {event.seed}"
        )
        resumed = [] if event.resumed_from is None else [f"goes on after step {event.resumed_from:,}"]
        section(self.console, "Training", told, *resumed)
        self._bar.update(self._drawn, total=event.total_steps, completed=self.step)
        self._bar.start()

    def _show_step(self, event: "Step") -> None:
        self.step = event.step
        self.losses.append(event.loss)
        recent = self.losses[-STEPS_IN_MEAN:]
        told = (
            f"loss {sum(recent) / len(recent):.4f}   {event.tokens_per_second:,.0f} tokens/s   "
            f"{duration(event.seconds_left)} left"
        )
        if not self._bar.disable:
            now = time.monotonic()
            due = now - self._refreshed > SECONDS_BETWEEN_REFRESHES
            self._refreshed = now if due else self._refreshed
            self._bar.update(self._drawn, completed=event.step, told=told, refresh=due)
        elif event.step % math.ceil(self._total / LINES_OF_PROGRESS) == 0:
            self.console.print(f"  step {event.step:,} of {self._total:,}   {told}")

    def _show_evaluated(self, event: "Evaluated") -> None:
        self.evaluations.append(event)
        first = dict(list(event.metrics.items())[:2])
        best = ("   best so far", "green") if event.best else ""
        self.console.print(Text.assemble("  ", (f"epoch {event.epoch:5.2f}   ", ""), figures(first), best))

    def _show_saved(self, event: "Saved") -> None:
        self.saved_step = event.step

    def _show_trained(self, event: "Trained") -> None:
        self.close()
        self._show_curve()
        if event.metrics:
            show_evaluation(self.console, event.metrics, event.per_label, event.eval_examples, "held-out examples")
        best = f", best of step {event.best_step:,}" if event.best_step not in (None, event.steps) else ""
        early = ", stopped early" * event.stopped_early
        told = (
            f"{event.output} ({event.steps:,} steps{best}{early}; {duration(event.seconds)} of training, "
            f"{event.tokens_per_second:,.0f} tokens/s)"
        )
        section(self.console, "Model", told)

    def _show_curve(self) -> None:
        curves = {"loss": _means(self.losses)}
        if self.evaluations:
            name = next(iter(self.evaluations[0].metrics))
            curves[name] = [evaluation.metrics[name] for evaluation in self.evaluations]
        width = max((len(points) for points in curves.values()), default=0)
        drawn = [
            {"": name, "first": points[0], " ": curve(points, width), "last": points[-1]}
            for name, points in curves.items()
            if len(points) > 1
        ]
        if drawn:
            section(self.console, "Learning curve", table(drawn))


def _means(values: Sequence[float]) -> list[float]:
    """Values in order, as the means of at most CURVE parts of equal size."""
    size = math.ceil(len(values) / CURVE)
    parts = [values[start : start + size] for start in range(0, len(values), size)] if values else []
    return [sum(part) / len(part) for part in parts]


def curve(points: Sequence[float], width: int) -> str:
    """A line of bars of eight heights, from the lowest point to the highest; few points are drawn as wide as many."""
    low, high = min(points), max(points)
    drawn = [points[position * len(points) // width] for position in range(width)]
    return "".join(BARS[round((point - low) / ((high - low) or 1) * (len(BARS) - 1))] for point in drawn)
