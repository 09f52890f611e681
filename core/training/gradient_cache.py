"""Gradients of a loss over more sequences than one forward pass can hold: two passes over parts of the batch.

Gao et al. 2021, https://arxiv.org/abs/2101.06983: a first pass computes the outputs of all parts and keeps nothing
else; the loss of the joined outputs gives their gradient; a second pass computes each part again, with the same random
numbers, and goes backward from its part of that gradient. The sum is the gradient of one pass over the whole batch.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from ..models.packing import PackedBatch
from .random_states import random_states, set_random_states

Forward = Callable[[PackedBatch], Tensor]


@dataclass(frozen=True, eq=False)
class CachedOutputs:
    """The outputs of a batch that is computed in parts.

    Args:
        parts: of the batch.
        joined: the outputs of all parts, without the computation that they come from.
        states: the random states before each part.
        rows: number of rows of the outputs of each part.
    """

    parts: Sequence[PackedBatch]
    joined: Tensor
    states: Sequence[dict[str, Tensor]]
    rows: Sequence[int]

    @classmethod
    def compute(cls, parts: Sequence[PackedBatch], forward: Forward) -> Self:
        """The first pass."""
        states, outputs = [], []
        for part in parts:
            states.append(random_states(part.input_ids.device))
            # Not under no_grad: attention on the CPU would choose another kernel, which draws other random numbers.
            outputs.append(forward(part).detach())
        rows = [len(one) for one in outputs]
        return cls(parts, torch.cat(outputs).requires_grad_(), states, rows)

    def backward(self, forward: Forward, no_sync: Callable[[], AbstractContextManager[None]], *, last: bool) -> None:
        """The second pass, once `joined` has a gradient.

        Args:
            forward: as in `compute`, with what DistributedDataParallel adds.
            no_sync: a context in which the processes do not exchange gradients.
            last: exchange them after the last part.
        """
        assert self.joined.grad is not None
        gradients = self.joined.grad.split(self.rows)
        for number, (part, state, gradient) in enumerate(zip(self.parts, self.states, gradients, strict=True), 1):
            with nullcontext() if last and number == len(self.parts) else no_sync():
                set_random_states(part.input_ids.device, state)
                forward(part).backward(gradient)
