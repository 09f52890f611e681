"""Cross-attention: the tokens of a decoder attend to those that an encoder has read.

Vaswani et al. 2017, https://arxiv.org/abs/1706.03762. Sequence i of a batch, the target, attends to all of sequence i
of `batch.source`; both are packed.

B batch, T tokens of the target, S tokens of the source, C hidden, H heads, D head size (C / H). T' and S' are T and S
plus the rows that `pad_rows` (layers.py) appends.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .attention import fused_attention, has_flash_attention
from .cache import LayerCache
from .linear import Linear
from .packing import PackedBatch
from .training_attention import attend_across_in_training


class CrossAttention(nn.Module):
    """Multi-head attention of target tokens over the encoder's hidden states.

    Args:
        hidden_size: C, also of the encoder's hidden states.
        num_heads: H, a divisor of C.
        dropout: probability that an attention weight is dropped in training.
        scale: factor of the dot products. Default: 1 / sqrt(D).
    """

    def __init__(self, hidden_size: int, num_heads: int, dropout: float, *, scale: float | None = None) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.dropout = dropout
        self.scale = (hidden_size // num_heads) ** -0.5 if scale is None else scale
        self.q = Linear(hidden_size, hidden_size)
        self.kv = Linear(hidden_size, 2 * hidden_size)
        self.out = Linear(hidden_size, hidden_size)

    def forward(
        self, x: Tensor, encoded: Tensor | None, batch: PackedBatch, cache: LayerCache | None = None
    ) -> Tensor:
        """(T', C) -> (T', C).

        Args:
            x: the target tokens' vectors, (T', C).
            encoded: the encoder's hidden states, (S', C); not needed with a cache, which holds their keys and values.
            batch: the target, whose `source` the encoder has read.
            cache: a layer of a cache that has a source.
        """
        q = self.q(x).unflatten(-1, (self.num_heads, -1))  # (T', H, D)
        if cache is not None:
            out = cache.attend_source(q, self.scale)
        else:
            assert encoded is not None
            dropout = self.dropout if self.training else 0.0
            out = attend_across(q, self.keys_values(encoded), batch, dropout=dropout, scale=self.scale)  # (T', H, D)
        return self.out(out.flatten(-2))  # (T', C)

    def keys_values(self, encoded: Tensor) -> Tensor:
        """The keys and values of the encoder's hidden states, (S', C) -> (S', 2, H, D)."""
        return self.kv(encoded).unflatten(-1, (2, self.num_heads, -1))


def attend_across(q: Tensor, kv: Tensor, batch: PackedBatch, *, dropout: float, scale: float) -> Tensor:
    """Scaled dot-product attention of every sequence over its source, (T', H, D) -> (T', H, D).

    | device | when                        | kernel                    | why                                        |
    |--------|-----------------------------|---------------------------|--------------------------------------------|
    | CPU    | training                    | attend_across_in_training | torch's kernel has no dropout, and a call  |
    |        |                             |                           | for a short pair takes longer than its     |
    |        |                             |                           | arithmetic                                 |
    | CPU    | otherwise                   | _across_by_pairs          | nothing is padded, and the scores of a     |
    |        |                             |                           | pair stay in the processor's cache: 1/2 to |
    |        |                             |                           | 4/5 of the time of _across_by_groups       |
    | CUDA   | where `has_flash_attention` | _across_packed            | one call for all pairs without padding     |
    | any    | otherwise                   | _across_by_groups         | few calls, because launching a kernel      |
    |        |                             |                           | takes time                                 |

    Args:
        q: queries of the target, (T', H, D).
        kv: keys and values of the source, (S', 2, H, D).
        batch: the target, with its source.
        dropout: probability that an attention weight is dropped.
        scale: factor of the dot products.
    """
    if q.device.type == "cpu":
        training = torch.is_grad_enabled() and (q.requires_grad or kv.requires_grad)
        kernel = attend_across_in_training if training else _across_by_pairs
    else:
        kernel = _across_packed if has_flash_attention(q, dropout) else _across_by_groups
    return kernel(q, kv, batch, dropout=dropout, scale=scale)


def _across_by_pairs(q: Tensor, kv: Tensor, batch: PackedBatch, *, dropout: float, scale: float) -> Tensor:
    """One call of torch's fused kernel for each pair."""
    assert batch.source is not None
    *queries, rest = q.split([*batch.lengths, len(q) - batch.num_tokens])
    sources = kv[: batch.source.num_tokens].split(batch.source.lengths)
    outputs = []
    for one, source in zip(queries, sources, strict=True):
        k, v = source.transpose(0, 2).unbind(1)  # (H, s, D)
        out = F.scaled_dot_product_attention(one.transpose(0, 1), k, v, dropout_p=dropout, scale=scale)
        outputs.append(out.transpose(0, 1))
    return torch.cat([*outputs, torch.zeros_like(rest)])


def _across_packed(q: Tensor, kv: Tensor, batch: PackedBatch, *, dropout: float, scale: float) -> Tensor:
    """One call of flash attention for all pairs, with the offsets of the target and of the source."""
    assert batch.source is not None
    k, v = kv.unbind(1)
    offsets, longest = (batch.cu_seqlens, batch.source.cu_seqlens), (max(batch.lengths), max(batch.source.lengths))
    return torch.ops.aten._flash_attention_forward(q, k, v, *offsets, *longest, dropout, False, False, scale=scale)[0]


def _across_by_groups(q: Tensor, kv: Tensor, batch: PackedBatch, *, dropout: float, scale: float) -> Tensor:
    """One call of torch's fused kernel for each group of pairs with similar lengths, padded to rectangles."""
    layout, outputs = batch.cross_layout, []
    q, kv = F.pad(q, (0, 0, 0, 0, 0, 1)), F.pad(kv, (0, 0, 0, 0, 0, 0, 0, 1))  # a row of zeros that stands for padding
    for group in layout.groups:
        rows = q.index_select(0, group.targets).unflatten(0, (group.count, -1)).transpose(1, 2)  # (R, H, n, D)
        k, v = kv.index_select(0, group.sources).unflatten(0, (group.count, -1)).transpose(1, 3).unbind(2)
        out = fused_attention(rows, k, v, group.mask, dropout=dropout, scale=scale)
        outputs.append(out.transpose(1, 2).flatten(0, 1))  # (R n, H, D)
    together = outputs[0] if len(outputs) == 1 else torch.cat(outputs)
    return together.index_select(0, layout.places)
