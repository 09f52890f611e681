"""One optimizer step: forward and backward passes over its batches, then the update.

A task's loss is a sum with its count. Gradients are those of the sum, divided once by the labels of the whole step,
over accumulated batches and all processes: a step is the same however its examples are split.
"""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ..models.packing import BatchSampler
from .distributed import processes
from .optimization import accumulate_embedding_rows, adamw, apply_gradients
from .training_config import TrainConfig
from .training_inputs import Collate, Loss, derive_seed

if TYPE_CHECKING:
    import numpy as np
    from accelerate import Accelerator

# What fits the memory with a model of BERT's base size; on a CPU, small passes also fit the cache better.
DEFAULT_TOKENS_AT_ONCE = {"cpu": 4096, "cuda": 16384}


class TrainingStep:
    """Computes optimizer steps.

    Args:
        network: what is trained, on its device and in training mode.
        collate: packs some examples.
        loss: sums their losses.
        lengths: number of tokens of each example.
        config: the options of the run.
        accelerator: device, precision and gradient scaler.
    """

    def __init__(
        self,
        network: nn.Module,
        collate: Collate,
        loss: Loss,
        *,
        lengths: "Sequence[int] | np.ndarray",
        config: TrainConfig,
        accelerator: "Accelerator",
    ) -> None:
        self.network = network
        self.collate = collate
        self.loss = loss
        self.lengths = lengths
        self.config = config
        self.accelerator = accelerator
        self.device = accelerator.device
        self.processes = processes()
        # DistributedDataParallel averages dense gradients, and a GPU clears memory fast.
        self.accumulate_rows = self.device.type == "cpu" and not self.processes.is_distributed
        accumulate_embedding_rows(network, self.accumulate_rows)
        self.optimizer = adamw(network, config)
        self.wrapped = network
        if self.processes.is_distributed:
            self.wrapped = DistributedDataParallel(network, gradient_as_bucket_view=True)

    @property
    def num_parameters(self) -> int:
        """Number of trained parameters."""
        return sum(parameter.numel() for group in self.optimizer.param_groups for parameter in group["params"])

    def run(self, batches: list[list[int]], *, step: int, learning_rate: float) -> Tensor:
        """Makes one step.

        Args:
            batches: the indices of the examples of each accumulated batch, over all processes.
            step: the number of steps before it.
            learning_rate: of this step.

        Returns:
            (4,) on the device: summed loss, labels and tokens over all processes, and the norm of the gradient.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        totals = self._accumulate(batches, derive_seed(self.config.seed, step))
        norm = apply_gradients(
            self.optimizer,
            totals,
            scaler=self.accelerator.scaler,
            world_size=self.processes.world_size,
            max_norm=self.config.max_grad_norm,
            keep_gradients=self.accumulate_rows,
        )
        return torch.cat([totals, norm[None]])

    def _accumulate(self, batches: list[list[int]], seed: int) -> Tensor:
        """Accumulates the gradients of a step; returns summed loss, labels and tokens over all processes, (3,)."""
        rank, world_size = self.processes.rank, self.processes.world_size
        loss_sum, labels, tokens = torch.zeros((), device=self.device), 0, 0
        parts = [part for batch in batches for part in self._split(batch[rank::world_size])]
        # A process without examples computes one with weight zero so that the other processes' all-reduce completes.
        idle = not parts
        for number, part in enumerate(parts or [batches[0][:1]], 1):
            with nullcontext() if number >= len(parts) else self.accelerator.no_sync(self.wrapped):
                inputs = self.collate(part, seed).to(self.device)
                with self.accelerator.autocast():
                    loss, count = self.loss(self.wrapped(inputs.batch), inputs.targets)
                self.accelerator.backward(loss * 0 if idle else loss)
            if not idle:
                loss_sum, labels = loss_sum + loss.detach().float(), labels + count
                tokens += inputs.batch.num_tokens
        totals = torch.stack([loss_sum, torch.full_like(loss_sum, labels), torch.full_like(loss_sum, tokens)])
        if self.processes.is_distributed:
            torch.distributed.all_reduce(totals)
        return totals

    def _split(self, indices: list[int]) -> list[list[int]]:
        """Splits a process's share of a batch into forward passes of at most `tokens_at_once` tokens."""
        default = DEFAULT_TOKENS_AT_ONCE.get(self.device.type, DEFAULT_TOKENS_AT_ONCE["cuda"])
        sampler = BatchSampler([self.lengths[i] for i in indices], batch_tokens=self.config.tokens_at_once or default)
        return [[indices[i] for i in part] for part in sampler.in_order()]

    def close(self) -> None:
        """Removes the gradients and the wrapper."""
        accumulate_embedding_rows(self.network, False)
        self.network.zero_grad()
        self.wrapped = self.network


@dataclass(frozen=True)
class StepResult:
    """What a step computed."""

    step: int
    epoch: float
    learning_rate: float
    loss_sum: float
    labels: int
    tokens: int
    grad_norm: float

    @property
    def loss(self) -> float:
        """Mean over the labels."""
        return self.loss_sum / max(1, self.labels)


class PendingSteps:
    """Steps whose results are still on the device: reading them makes the host wait."""

    def __init__(self) -> None:
        self._steps: list[tuple[int, float, float, Tensor]] = []

    def __len__(self) -> int:
        return len(self._steps)

    def add(self, step: int, epoch: float, learning_rate: float, results: Tensor) -> None:
        """Adds a step with what `TrainingStep.run` returned."""
        self._steps.append((step, epoch, learning_rate, results))

    def read(self) -> list[StepResult]:
        """The results of the steps added since the last call."""
        steps, self._steps = self._steps, []
        rows = torch.stack([results for *_, results in steps]).tolist()
        return [
            StepResult(step, epoch, rate, loss_sum, int(labels), int(tokens), norm)
            for (step, epoch, rate, _), (loss_sum, labels, tokens, norm) in zip(steps, rows, strict=True)
        ]
