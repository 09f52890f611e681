"""Progress of `fit` in terminals and notebooks: what was inferred, a progress bar, and the result.

It is printed on stderr by tqdm, whose bar needs nothing but a carriage return.
"""

import sys
from collections.abc import Iterable, Mapping
from typing import Any

from tqdm import tqdm

from ...core.training.distributed import processes
from ...core.training.training_events import Evaluated, Event, Started, Step
from ...core.visible import visible
from .results import Prepared, Trained


def follow(events: Iterable[Event], progress: bool | None) -> Trained:
    """Reads the events of a run to the end and returns the last one.

    Args:
        events: of a training run.
        progress: whether to show it. None: only in a terminal or a notebook.
    """
    shown = (is_interactive() if progress is None else progress) and processes().is_main
    event = None
    bar: tqdm[Any]
    with tqdm(disable=not shown, unit=" steps", leave=False, dynamic_ncols=True) as bar:
        for event in events:
            if shown:
                _show(bar, event)
    assert isinstance(event, Trained)
    return event


def is_interactive() -> bool:
    """Whether stderr is shown to a person: in a terminal, or in a notebook."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return sys.stderr.isatty() or hasattr(shell, "kernel")


def _show(bar: "tqdm[Any]", event: Event) -> None:
    match event:
        case Prepared():
            for note in event.notes:
                _print(note)
            for finding in event.report.findings:
                _print(f"{finding.level}: {finding.message}")
        case Started():
            bar.reset(event.total_steps)
            bar.update(event.resumed_from or 0)
        case Step():
            bar.set_postfix_str(f"loss {event.loss:.4f}", refresh=False)
            bar.update()
        case Evaluated():
            _print(f"epoch {event.epoch:.2f}: {_metrics(event.metrics)}{', best so far' * event.best}")
        case Trained() if event.metrics:
            _print(f"{event.eval_examples:,} held-out rows: {_metrics(event.metrics)}")
        case _:
            pass


def _print(line: str) -> None:
    tqdm.write(visible(line), file=sys.stderr)


def _metrics(metrics: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.4f}" for name, value in metrics.items())
