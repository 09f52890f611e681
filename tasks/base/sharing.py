"""Models that share their weights in memory: with other options, or with another task for the same head."""

from collections.abc import Mapping
from typing import Any, TypeVar

from .predictor import AnyTask, Predictor
from .prepared import PreparedNetwork

ModelT = TypeVar("ModelT", bound=Predictor)


def with_options(model: ModelT, options: Mapping[str, Any]) -> ModelT:
    """A model with other values of options that may be changed on a trained model.

    Raises:
        HeadwayError: as `Predictor.set_options`.
    """
    other = object.__new__(type(model))
    other.__dict__.update(model.__dict__)
    other.set_options(**options)
    return other


def with_task(model: ModelT, task: AnyTask) -> ModelT:
    """A model with another task that reads the outputs of the same head; nothing is known of its training."""
    other = object.__new__(type(model))
    other.__dict__.update(model.__dict__)
    other.task = other._initial_task = task.for_model(model.config)
    other._stored_task = other.training_rows = other.distance = other.held_out = None
    other.info, other.left_out, other.out_of_fold, other._prepared = {}, (), (), PreparedNetwork()
    return other
