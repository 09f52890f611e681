"""One optimizer step: forward and backward passes over its batches, then the update.

A task's loss is a sum with its count. Gradients are those of the sum, divided once by the labels of the whole step,
over accumulated batches and all processes: a step is the same however its examples are split. What must be compared
but does not fit in one forward pass is computed in two (gradient_cache.py). A step that does not fit in the memory is
repeated in smaller passes.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ..errors import HeadwayError
from ..models.heads import Network
from ..models.packing import BatchSampler, PackedBatch, TokenLengths
from .distributed import gather_rows, processes
from .gradient_cache import CachedOutputs
from .memory import UNKNOWN_MEMORY, TrainingMemory
from .optimization import accumulate_embedding_rows, adamw, apply_gradients
from .out_of_memory import free_unused_memory, is_out_of_memory
from .prefetch import Prefetcher
from .random_states import random_states, set_random_states
from .training_config import TrainConfig
from .training_inputs import Collate, Loss, Pool, Targets, TrainingInputs, derive_seed, keep_outputs

if TYPE_CHECKING:
    from accelerate import Accelerator


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
        self.tokens_at_once = config.tokens_at_once or self._tokens_that_fit()
        self._computed_lengths: tuple[int, ...] = ()  # of the examples of the last forward pass
        self._upcoming: list[tuple[list[int], int]] = []  # the next inputs: indices and seed
        self._exchanging = False  # whether this step has begun to communicate with the other processes
        self.inputs = Prefetcher(self._make_inputs, self.device)
        self.wrapped = network
        if self.processes.is_distributed:
            self.wrapped = DistributedDataParallel(network, gradient_as_bucket_view=True)

    @property
    def num_parameters(self) -> int:
        """Number of trained parameters."""
        return sum(parameter.numel() for group in self.optimizer.param_groups for parameter in group["params"])

    def run(
        self, batches: list[list[int]], *, step: int, learning_rate: float, upcoming: Sequence[list[int]] = ()
    ) -> Tensor:
        """Makes one step.

        Args:
            batches: the indices of the examples of each accumulated batch, over all processes.
            upcoming: the batches of the next step, whose first inputs are made during this one.
            step: the number of steps before it.
            learning_rate: of this step.

        Returns:
            (4,) on the device: summed loss, labels and tokens (sources included) over all processes, and the norm of
                the gradient.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        totals = None
        while totals is None:
            totals = self._try_to_accumulate(batches, upcoming, step)
        norm = apply_gradients(
            self.optimizer,
            totals,
            scaler=self.accelerator.scaler,
            world_size=self.processes.world_size,
            max_norm=self.config.max_grad_norm,
            keep_gradients=self.accumulate_rows,
        )
        self.inputs.wait()  # so that what happens between two steps, such as an evaluation, happens alone
        return torch.cat([totals, norm[None]])

    def _try_to_accumulate(self, batches: list[list[int]], upcoming: Sequence[list[int]], step: int) -> Tensor | None:
        """As `_accumulate`; None if the memory was full, for another try with smaller passes.

        Raises:
            RuntimeError: a single sequence does not fit in the memory.
            HeadwayError: the step cannot be repeated because the other processes have continued.
        """
        states, self._exchanging = random_states(self.device), False
        try:
            return self._accumulate(batches, upcoming, step)
        except RuntimeError as error:
            tokens = sum(self._computed_lengths)
            if not is_out_of_memory(error) or len(self._computed_lengths) < 2:
                raise
            if self._exchanging:
                raise HeadwayError(
                    f"The GPU's memory is full ({str(error).splitlines()[0]}) while the processes exchange gradients, "
                    f"so that the step cannot be repeated. Use --tokens-at-once {tokens // 2}."
                ) from error
            self.tokens_at_once = tokens // 2
        # Only here: the error holds the tensors of the failed pass.
        self.optimizer.zero_grad(set_to_none=not self.accumulate_rows)
        free_unused_memory(self.device)
        set_random_states(self.device, states)
        return None

    def _accumulate(self, batches: list[list[int]], upcoming: Sequence[list[int]], step: int) -> Tensor:
        """Accumulates the gradients of a step; returns summed loss, labels and tokens over all processes, (3,)."""
        loss_sum, labels, tokens = torch.zeros((), device=self.device), 0, 0
        units = self._units(batches)
        plan = [(unit.indices, derive_seed(self.config.seed, step)) for unit in units]
        if upcoming:
            plan.append((self._units(upcoming)[0].indices, derive_seed(self.config.seed, step + 1)))
        for number, unit in enumerate(units, 1):
            inputs = self.inputs.take(*plan[number - 1])
            self._upcoming = plan[number : number + 1]
            loss, count = self._backward(inputs, unit, last=number == len(units))
            if not unit.idle:
                tokens += sum(inputs.batch.lengths_with_source)
            # With in-batch negatives every process knows the loss of all.
            if self.processes.is_main if unit.counts else not unit.idle:
                loss_sum, labels = loss_sum + loss.float(), labels + count
        totals = torch.stack([loss_sum, torch.full_like(loss_sum, labels), torch.full_like(loss_sum, tokens)])
        if self.processes.is_distributed:
            torch.distributed.all_reduce(totals)
        return totals

    def _make_inputs(self, indices: list[int], seed: int) -> TrainingInputs:
        return self.collate(indices, seed).to(self.device)

    def _prefetch(self) -> None:
        """Begins to make the next inputs; called before a backward pass."""
        for indices, seed in self._upcoming:
            self.inputs.begin(indices, seed)

    def _units(self, batches: Sequence[list[int]]) -> list[_Unit]:
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

    def _tokens_that_fit(self) -> int:
        """The number of tokens that a forward pass can hold, from the memory that is free when the run starts."""
        if not isinstance(self.network, Network):
            return UNKNOWN_MEMORY
        memory = TrainingMemory(
            self.network.config,
            trained=self.num_parameters,
            length=int(np.max(self.lengths)),
            half=self.accelerator.mixed_precision != "no",
            checkpointed=self.config.checkpoint_activations,
        )
        return memory.tokens_at_once(self.device)

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
                self._exchanging |= last and self.processes.is_distributed
                self._prefetch()
                self.accelerator.backward(loss)
        else:
            # The windows of a long text have the greatest length: attention needs as much memory as everything else,
            # and small parts are hardly slower.
            parts = inputs.batch.parts(max(1, self.tokens_at_once // 4))
            cached = CachedOutputs.compute(parts, partial(self._outputs, self.network))
            loss, count = self._loss(cached.joined, inputs.targets, unit)
            self.accelerator.backward(loss)
            self._exchanging |= last and self.processes.is_distributed
            self._prefetch()
            cached.backward(partial(self._outputs, self.wrapped), self._no_sync, last=last)
        return loss.detach(), count

    def _outputs(self, network: nn.Module, batch: PackedBatch) -> Any:
        self._computed_lengths = batch.lengths_with_source
        with self.accelerator.autocast():
            return self.pool(network(batch), batch)

    def _loss(self, outputs: Any, targets: Targets, unit: _Unit) -> tuple[Tensor, int]:
        with self.accelerator.autocast():
            if unit.counts:
                self._exchanging |= self.processes.is_distributed
                return self.loss(outputs, targets, partial(gather_rows, counts=unit.counts))
            loss, count = self.loss(outputs, targets)
            return loss * 0 if unit.idle else loss, count

    def _no_sync(self) -> AbstractContextManager[None]:
        return self.accelerator.no_sync(self.wrapped)

    def close(self) -> None:
        """Ends the thread that makes inputs, and removes the gradients and the wrapper."""
        self.inputs.close()
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
