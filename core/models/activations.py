"""Hooks that record what a backbone computes: the hidden states and the attention weights of every layer.

B batch, T tokens, C hidden, H heads; n tokens of one sequence.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from .attention import attention_weights
from .heads import Backbone
from .layers import SelfAttention
from .packing import PackedBatch


@dataclass
class Activations:
    """What `record_activations` recorded, in the order of computation."""

    hidden_states: list[Tensor] = field(default_factory=list)  # (T, C): the input of every block, then the output
    attentions: list[tuple[Tensor, ...]] = field(default_factory=list)  # per layer: (H, n, n) for each sequence


@contextmanager
def record_activations(backbone: Backbone, *, attentions: bool = True) -> Iterator[Activations]:
    """Records the calls `backbone(batch)` until the `with` block ends; outputs and gradients are unchanged.

    The last hidden states are the backbone's output: after the final norm in GPT-2.

        with record_activations(backbone) as activations:
            backbone(batch)
        first_layer = activations.attentions[0]

    Args:
        backbone: the model, called without a cache.
        attentions: record attention weights as well; they are computed in addition to the kernel's output.
    """
    found = Activations()

    def before_block(_: Any, inputs: tuple[Any, ...]) -> None:
        x, batch = inputs[:2]
        found.hidden_states.append(x[: batch.num_tokens])

    def after_backbone(_module: Any, _inputs: Any, output: Tensor) -> None:
        found.hidden_states.append(output)

    def after_attention(attention: Any, inputs: tuple[Any, ...], _: Tensor) -> None:
        x, batch = inputs[:2]
        found.attentions.append(_weights(attention, x[: batch.num_tokens], batch))

    with ExitStack() as hooks:
        for block in backbone.blocks:
            hooks.callback(block.register_forward_pre_hook(before_block).remove)
            if attentions:
                hooks.callback(block.get_submodule("attn").register_forward_hook(after_attention).remove)
        hooks.callback(backbone.register_forward_hook(after_backbone).remove)
        yield found


def _weights(attention: SelfAttention, x: Tensor, batch: PackedBatch) -> tuple[Tensor, ...]:
    """The attention weights of every sequence, without dropout: (T, C) -> (H, n, n) each."""
    q, k, _ = attention.qkv(x).unflatten(-1, (3, attention.num_heads, -1)).unbind(-3)  # (T, H, D)
    pairs = zip(batch.split(q), batch.split(k), strict=True)
    return tuple(attention_weights(q, k, causal=attention.causal, scale=attention.scale) for q, k in pairs)
