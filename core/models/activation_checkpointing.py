"""Activation checkpointing: a block's activations are computed again in the backward pass instead of being kept.

Chen et al. 2016, https://arxiv.org/abs/1604.06174. Memory holds the input of each block and the activations of one
block; the forward pass is computed twice. Random states are restored, so that the gradients are the same.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint, noop_context_fn


def run_block(block: nn.Module, x: Tensor, *inputs: Any, checkpointed: bool) -> Tensor:
    """Calls a block with its inputs.

    Args:
        block: maps (T', C) to (T', C).
        x: the hidden states, (T', C).
        inputs: what else it reads.
        checkpointed: keep only `x` for the backward pass.
    """
    if not (checkpointed and torch.is_grad_enabled()):
        return block(x, *inputs)
    contexts = _replay_mps if x.device.type == "mps" else noop_context_fn
    return checkpoint(block, x, *inputs, use_reentrant=False, context_fn=contexts)


def _replay_mps() -> tuple[AbstractContextManager[Any], AbstractContextManager[Any]]:
    """Contexts of the forward pass and its repetition; torch restores the random states of other devices itself."""
    state = torch.mps.get_rng_state()

    @contextmanager
    def replay() -> Iterator[None]:
        now = torch.mps.get_rng_state()
        torch.mps.set_rng_state(state)
        try:
            yield
        finally:
            torch.mps.set_rng_state(now)

    return nullcontext(), replay()
