"""The events of a training run, from which progress bars, live curves and the log are made."""

import math
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Event:
    """Something that happened in a run."""

    def to_json(self) -> dict[str, Any]:
        """The event as plain JSON types, with its name under `event`; a number that is not finite becomes null."""
        return {"event": type(self).__name__.lower(), **{f.name: _plain(getattr(self, f.name)) for f in fields(self)}}


@dataclass(frozen=True)
class Started(Event):
    """The run starts or resumes."""

    total_steps: int
    warmup_steps: int
    learning_rate: float  # at its peak
    examples: int
    parameters: int  # trained ones
    device: str
    precision: str  # fp32, bf16 or fp16
    processes: int
    seed: int
    resumed_from: int | None  # step of the checkpoint; None: a new run
    notes: tuple[str, ...] = ()  # on what differs from the interrupted run


@dataclass(frozen=True)
class Step(Event):
    """One optimizer step, over all processes."""

    step: int  # from 1
    epoch: float  # passes over the data so far
    loss: float  # mean over the labels of the step
    learning_rate: float
    grad_norm: float  # before clipping; not finite if fp16's scaler skipped the step
    tokens: int  # of this step, without padding
    tokens_per_second: float  # average since the start of the run, training time only
    seconds_left: float  # training time only

    def to_log(self) -> dict[str, Any]:
        """The event without timings, so that a resumed run writes the same log."""
        timings = ("tokens_per_second", "seconds_left")
        return {name: value for name, value in self.to_json().items() if name not in timings}


@dataclass(frozen=True)
class Note(Event):
    """Something happened that the user should know."""

    step: int
    note: str  # a sentence


@dataclass(frozen=True)
class Evaluated(Event):
    """The network was evaluated."""

    step: int
    epoch: float
    metrics: dict[str, float]  # the first one selects the best weights
    best: bool  # no earlier evaluation is better


@dataclass(frozen=True)
class Saved(Event):
    """A checkpoint was written."""

    step: int
    path: Path


@dataclass(frozen=True)
class Finished(Event):
    """The run is over."""

    steps: int
    seconds: float  # training time, without evaluations and checkpoints
    tokens_per_second: float  # without padding, training time only
    train_loss: float  # mean over all labels of the run
    metrics: dict[str, float]  # of the weights that the network now holds; empty without evaluation
    best_step: int | None  # whose weights were restored; None if the last weights are kept
    stopped_early: bool


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    return str(value) if isinstance(value, Path) else value
