"""Pooling: from one vector per token to one vector per text.

Pooling modes are those of Reimers & Gurevych 2019 (https://arxiv.org/abs/1908.10084), the choice of layers that of
Devlin et al. 2019 (https://arxiv.org/abs/1810.04805, section 5.3).

Shapes: B sequences, T tokens of a packed batch, n tokens of the longest sequence of a padded batch, C hidden size, D
size of a pooled vector.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...core.errors import HeadwayError
from ...core.models.gpt2 import GPT2
from ...core.models.heads import Backbone
from ...core.models.packing import PackedBatch

MODES = ("mean", "cls", "last", "max")
RARE_MODES = ("mean_sqrt", "weighted_mean")  # of some published models
ALIASES = {"first": "cls"}
COMBINED = ("sum", "concat")


@dataclass(frozen=True)
class Pooling:
    """How the vectors of the tokens become the vector of a text.

    Args:
        modes: mean, cls (the first token), last, max, mean_sqrt or weighted_mean; the vectors of several are
            concatenated.
        layers: which hidden states are read: 0 is the input of the first block, the number of blocks is the output;
            negative numbers count from the end. None: the output.
        combine: how several layers are combined: their sum, or concatenated.
        normalize: whether vectors have length 1.

    Raises:
        HeadwayError: a mode or `combine` is unknown.
    """

    modes: tuple[str, ...] = ("mean",)
    layers: tuple[int, ...] | None = None
    combine: str = "sum"
    normalize: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "modes", tuple(ALIASES.get(mode, mode) for mode in self.modes))
        for mode in self.modes:
            if mode not in (*MODES, *RARE_MODES):
                raise HeadwayError(f"--pooling {mode}: one of {', '.join(MODES)}.")
        if self.combine not in COMBINED:
            raise HeadwayError(f"--combine {self.combine}: one of {', '.join(COMBINED)}.")

    def size(self, hidden_size: int) -> int:
        """The size of a pooled vector, D."""
        layers = len(self.layers) if self.layers and self.combine == "concat" else 1
        return hidden_size * layers * len(self.modes)

    def hidden(self, backbone: Backbone, batch: PackedBatch) -> Tensor:
        """The hidden states of the chosen layers, (T, C), or (T, k C) if k layers are concatenated.

        Blocks above the highest chosen layer are not computed.

        Raises:
            HeadwayError: the model does not have a chosen layer.
        """
        if self.layers is None:
            return backbone(batch)
        last = len(backbone.blocks)
        wanted = [layer + last + 1 if layer < 0 else layer for layer in self.layers]
        if not all(0 <= layer <= last for layer in wanted):
            raise HeadwayError(f"--layer: this model has the layers 0 (its embeddings) to {last}. Choose one of them.")
        states: dict[int, Tensor] = {}
        x = backbone.embed(batch)
        for layer in range(max(wanted) + 1):
            if layer:
                x = backbone.blocks[layer - 1](x, batch)
            if layer in wanted:
                states[layer] = backbone.final_norm(x) if layer == last and isinstance(backbone, GPT2) else x
        chosen = [states[layer] for layer in wanted]
        return torch.cat(chosen, dim=-1) if self.combine == "concat" else sum(chosen[1:], start=chosen[0])

    def pool(self, hidden: Tensor, batch: PackedBatch) -> Tensor:
        """One fp32 vector per sequence, (T, C) -> (B, D), before `finish`."""
        return torch.cat([_pool(hidden, batch, mode) for mode in self.modes], dim=-1)

    def finish(self, vectors: Tensor) -> Tensor:
        """Normalizes vectors (B, D) to length 1 if the pooling asks for it."""
        return F.normalize(vectors, dim=-1) if self.normalize else vectors


def parse_modes(modes: str) -> tuple[str, ...]:
    """Splits pooling modes that are joined by commas."""
    return tuple(mode.strip() for mode in modes.split(","))


class PaddedPooling(nn.Module):
    """`Pooling.pool` and `finish` for batches that are padded on the right, as exported graphs read them."""

    def __init__(self, pooling: Pooling) -> None:
        super().__init__()
        self.pooling = pooling

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """(B, n, C) and a mask (B, n), 1 for tokens and 0 for padding -> (B, D)."""
        return self.pooling.finish(
            torch.cat([_pool_padded(hidden, mask, mode) for mode in self.pooling.modes], dim=-1)
        )


def _pool(hidden: Tensor, batch: PackedBatch, mode: str) -> Tensor:
    """(T, C) -> (B, C)."""
    if mode == "cls":
        return hidden[batch.first].float()
    if mode == "last":
        return hidden[batch.last].float()
    lengths = batch.cu_seqlens.diff()
    rows = torch.repeat_interleave(torch.arange(len(batch), device=hidden.device), lengths, output_size=len(hidden))
    hidden = hidden.float()
    empty = hidden.new_zeros(len(batch), hidden.shape[-1])
    if mode == "max":
        return empty.scatter_reduce(0, rows[:, None].expand_as(hidden), hidden, "amax", include_self=False)
    divisor = lengths.to(hidden.dtype)
    if mode == "weighted_mean":  # the weight of a token is its position, counted from 1
        weights = (batch.position_ids + 1).to(hidden.dtype)
        hidden, divisor = hidden * weights[:, None], divisor * (divisor + 1) / 2
    elif mode == "mean_sqrt":
        divisor = divisor.sqrt()
    return empty.index_add(0, rows, hidden) / divisor[:, None]


def _pool_padded(hidden: Tensor, mask: Tensor, mode: str) -> Tensor:
    """(B, n, C) -> (B, C)."""
    if mode == "cls":
        return hidden[:, 0]
    if mode == "last":
        last = mask.sum(1) - 1
        return hidden.gather(1, last[:, None, None].expand(-1, 1, hidden.shape[-1]))[:, 0]
    if mode == "max":
        return (hidden + (1 - mask[..., None].to(hidden.dtype)) * torch.finfo(hidden.dtype).min).amax(1)
    weights = mask[..., None].to(hidden.dtype)
    if mode == "weighted_mean":
        weights = weights * torch.arange(1, hidden.shape[1] + 1, dtype=hidden.dtype)[:, None]
    divisor = weights.sum(1)
    return (hidden * weights).sum(1) / (divisor.sqrt() if mode == "mean_sqrt" else divisor)
