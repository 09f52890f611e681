"""The weights with the best score: kept during a run, restored at its end."""

import math
from pathlib import Path

from torch import Tensor, nn

from .distributed import processes
from .training_state import Metrics, best_path, copy_tensors, load_weights, save_best, weights_of


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
        elif processes().is_main:
            save_best(self.run_folder, self.network, step)

    def restore(self, step: int) -> None:
        """Overwrites the network with the weights that were kept at `step`, the last time."""
        if self.run_folder is None:
            copy_tensors(self._in_memory, weights_of(self.network))
        else:
            load_weights(self.network, best_path(self.run_folder, step))


def is_better(metrics: Metrics, best: Metrics | None, *, higher_is_better: bool) -> bool:
    """Whether the first metric is better than that of the best evaluation so far; any number is better than NaN."""
    if best is None:
        return True
    new, old = next(iter(metrics.values())), next(iter(best.values()))
    if math.isnan(new) or math.isnan(old):
        return not math.isnan(new)
    return new > old if higher_is_better else new < old
