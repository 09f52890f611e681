"""The weights with the best score: kept during a run, restored at its end."""

import math
from pathlib import Path

from torch import Tensor, nn

from .checkpoint_record import Metrics
from .distributed import on_main
from .training_state import best_path, copy_tensors, load_weights, save_best, weights_of


class BestWeights:
    """Keeps the weights of the best evaluation in the run's folder or, without a folder, in memory."""

    def __init__(self, network: nn.Module, run_folder: Path | None) -> None:
        self.network = network
        self.run_folder = run_folder
        self._in_memory: dict[str, Tensor] = {}

    def keep(self, step: int) -> None:
        """Keeps the current weights."""
        if self.run_folder is None:
            self._in_memory = {name: t.detach().cpu().clone() for name, t in weights_of(self.network).items()}
        else:
            folder = self.run_folder
            on_main(lambda: save_best(folder, self.network, step))

    def restore(self, step: int) -> None:
        """Overwrites the network with the weights that were kept at `step`, the last time."""
        if self.run_folder is None:
            copy_tensors(self._in_memory, weights_of(self.network))
        else:
            load_weights(self.network, best_path(self.run_folder, step))


def compare(metrics: Metrics, best: Metrics | None, *, higher_is_better: bool) -> int:
    """1 if an evaluation is better than the best one so far, 0 if they are equal, -1 if it is worse.

    The first metric decides, then the loss, `metrics["loss"]`, if there is one: a score on few examples is often the
    same, and of two models with the same score the one with the lower loss has the better probabilities.
    """
    if best is None:
        return 1
    first, sign = next(iter(metrics)), 1 if higher_is_better else -1
    order = _order(sign * metrics[first], sign * best[first])
    return order or _order(-metrics.get("loss", math.nan), -best.get("loss", math.nan))


def _order(new: float, old: float) -> int:
    """1, 0 or -1 if a number is higher than, equal to or lower than another; NaN is lower than all numbers."""
    if math.isnan(new) or math.isnan(old):
        return math.isnan(old) - math.isnan(new)
    return (new > old) - (new < old)
