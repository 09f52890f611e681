"""One optimizer step: forward and backward passes over its batches, then the update.

A task's loss is a sum with its count. Gradients are those of the sum, divided once by the labels of the whole step,
over accumulated batches and all processes: a step is the same however its examples are split. What must be compared
but does not fit in one forward pass is computed in two (gradient_cache.py).
"""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ..models.packing import BatchSampler, PackedBatch, TokenLengths
from .distributed import gather_rows, processes
from .gradient_cache import CachedOutputs
from .optimization import accumulate_embedding_rows, adamw, apply_gradients
from .training_config import TrainConfig
from .training_inputs import Collate, Loss, Pool, Targets, TrainingInputs, derive_seed, keep_outputs

if TYPE_CHECKING:
    from accelerate import Accelerator

# What fits the memory with a model of BERT's base size; on a CPU, small passes also fit the cache better.
DEFAULT_TOKENS_AT_ONCE = {"cpu": 2048, "cuda": 16384}


@dataclass(frozen=True)
class _Unit:
    """Examples with one loss, in one forward pass or, if they do not fit, in several.

    Args:
        indices: of the examples.
        idle: this process has no example: what it computes is not counted, and lets the other processes continue.
        counts: with in-batch negatives, the number of examples of each process.
    """

    indices: list[int]
    idle: bool = False
    counts: tuple[int, ...] = ()


class TrainingStep:
    """Computes optimizer steps.

    Args:
        network: what is trained, on its device and in training mode.
        collate: packs some examples.
        loss: sums their losses.
        lengths: number of tokens of each example.
        config: the options of the run.
        accelerator: device, precision and gradient scaler.
        pool: reduces the outputs of a forward pass to what the loss reads.
        in_batch_negatives: the loss compares the examples of a batch, over all processes.
    """

    def __init__(
        self,
        network: nn.Module,
        collate: Collate,
        loss: Loss,
        *,
        lengths: TokenLengths,
        config: TrainConfig,
        accelerator: "Accelerator",
        pool: Pool = keep_outputs,
        in_batch_negatives: bool = False,
    ) -> None:
        self.network = network
        self.collate = collate
        self.loss = loss
        self.lengths = lengths
        self.config = config
        self.accelerator = accelerator
        self.pool = pool
        self.in_batch_negatives = in_batch_negatives
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
        loss_sum, labels, tokens = torch.zeros((), device=self.device), 0, 0
        units = self._units(batches)
        for number, unit in enumerate(units, 1):
            inputs = self.collate(unit.indices, seed).to(self.device)
            loss, count = self._backward(inputs, unit, last=number == len(units))
            if not unit.idle:
                tokens += inputs.batch.num_tokens
            # With in-batch negatives every process knows the loss of all.
            if self.processes.is_main if unit.counts else not unit.idle:
                loss_sum, labels = loss_sum + loss.float(), labels + count
        totals = torch.stack([loss_sum, torch.full_like(loss_sum, labels), torch.full_like(loss_sum, tokens)])
        if self.processes.is_distributed:
            torch.distributed.all_reduce(totals)
        return totals

    def _units(self, batches: list[list[int]]) -> list[_Unit]:
        """This process's share of the batches; at least one unit."""
        rank, world_size = self.processes.rank, self.processes.world_size
        if self.in_batch_negatives:
            shares = [[batch[other::world_size] for other in range(world_size)] for batch in batches]
            return [
                _Unit(share[rank] or batch[:1], not share[rank], tuple(map(len, share)))
                for share, batch in zip(shares, batches, strict=True)
            ]
        sampler = partial(BatchSampler, batch_tokens=self.tokens_at_once)
        units = []
        for batch in batches:
            share = batch[rank::world_size]
            parts = sampler([self.lengths[i] for i in share]).in_order()
            units += [_Unit([share[i] for i in part]) for part in parts]
        return units or [_Unit(batches[0][:1], idle=True)]

    @property
    def tokens_at_once(self) -> int:
        """Maximum number of tokens per forward pass."""
        default = DEFAULT_TOKENS_AT_ONCE.get(self.device.type, DEFAULT_TOKENS_AT_ONCE["cuda"])
        return self.config.tokens_at_once or default

    def _backward(self, inputs: TrainingInputs, unit: _Unit, *, last: bool) -> tuple[Tensor, int]:
        """Adds the gradients of a unit; returns its loss and the number of its labels.

        Args:
            inputs: of the unit, on the device.
            unit: what is computed.
            last: the processes exchange their gradients.
        """
        parts = inputs.batch.parts(self.tokens_at_once)
        if len(parts) == 1:
            with nullcontext() if last else self._no_sync():
                loss, count = self._loss(self._outputs(self.wrapped, inputs.batch), inputs.targets, unit)
                self.accelerator.backward(loss)
        else:
            cached = CachedOutputs.compute(parts, partial(self._outputs, self.network))
            loss, count = self._loss(cached.joined, inputs.targets, unit)
            self.accelerator.backward(loss)
            cached.backward(partial(self._outputs, self.wrapped), self._no_sync, last=last)
        return loss.detach(), count

    def _outputs(self, network: nn.Module, batch: PackedBatch) -> Any:
        with self.accelerator.autocast():
            return self.pool(network(batch), batch)

    def _loss(self, outputs: Any, targets: Targets, unit: _Unit) -> tuple[Tensor, int]:
        with self.accelerator.autocast():
            if unit.counts:
                return self.loss(outputs, targets, partial(gather_rows, counts=unit.counts))
            loss, count = self.loss(outputs, targets)
            return loss * 0 if unit.idle else loss, count

    def _no_sync(self) -> AbstractContextManager[None]:
        return self.accelerator.no_sync(self.wrapped)

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
