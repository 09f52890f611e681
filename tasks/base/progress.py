"""Progress of `fit` and `evaluate` in terminals and notebooks: what was inferred, a progress bar, and the result.

It is printed on stderr by tqdm, whose bar needs nothing but a carriage return.
"""

import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from tqdm import tqdm

from ...core.training.distributed import processes
from ...core.training.training_events import Evaluated, Event, Note, Started, Step
from ...core.visible import visible
from .results import Prepared, RepeatFinished, Trained


def follow(events: Iterable[Event], progress: bool | None) -> Trained:
    """Reads the events of a run to the end and returns the last one.

    Args:
        events: of a training run.
        progress: whether to show it. None: only in a terminal or a notebook. Where it is not shown, a model that
            seems to have learnt nothing gives a UserWarning.
    """
    shown = (is_interactive() if progress is None else progress) and processes().is_main
    bar: tqdm[Any] | None = None
    event = None
    try:
        for event in events:
            if shown and isinstance(event, Started):
                total, done = event.total_steps, event.resumed_from or 0
                show_lines(event.notes)
                bar = tqdm(total=total, initial=done, unit="step", leave=False, dynamic_ncols=True)
            elif shown:
                _show(event, bar)
    finally:
        if bar is not None:
            bar.close()
    assert isinstance(event, Trained)
    if event.nothing_learnt and not shown and processes().is_main:
        warnings.warn(event.nothing_learnt, stacklevel=3)  # of the caller of `fit`
    return event


@contextmanager
def count(total: int, unit: str, progress: bool | None) -> Iterator[Callable[[int], object]]:
    """A progress bar of an evaluation; yields a function that advances it.

    Args:
        total: what is counted.
        unit: of it.
        progress: whether to show it. None: only in a terminal or a notebook.
    """
    shown = (is_interactive() if progress is None else progress) and processes().is_main
    with tqdm(total=total, unit=unit, leave=False, dynamic_ncols=True, disable=not shown) as bar:
        yield lambda done: bar.update(min(done, total - bar.n))


def is_interactive() -> bool:
    """Whether stderr is shown to a person: in a terminal, or in a notebook."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return sys.stderr.isatty() or hasattr(shell, "kernel")


def show_lines(lines: Iterable[str]) -> None:
    """Prints lines on stderr, above a progress bar if there is one."""
    for line in lines:
        tqdm.write(visible(line), file=sys.stderr)


def _show(event: Event, bar: "tqdm[Any] | None") -> None:
    match event:
        case Prepared():
            show_lines([*event.notes, *(f"{one.level}: {one.message}" for one in event.report.findings)])
        case Step() if bar is not None:
            bar.set_postfix_str(f"loss {event.loss:.4f}", refresh=False)
            bar.update()
        case Note():
            show_lines([event.note])
        case Evaluated():
            show_lines([f"epoch {event.epoch:.2f}: {_metrics(event.metrics)}{', best so far' * event.best}"])
        case RepeatFinished():
            show_lines([f"{event.kind.removesuffix('s')} {event.number} of {event.count}: {_metrics(event.metrics)}"])
        case Trained():
            result = f"{event.scored_on}: {_metrics(event.metrics)}" if event.metrics else None
            show_lines(filter(None, [result, event.nothing_learnt, *event.notes, event.proposal]))
        case _:
            pass


def _metrics(metrics: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.4f}" for name, value in metrics.items())
