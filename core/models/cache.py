"""The key-value cache of a decoder: the keys and values of every layer, kept for the tokens to come.

It stands beside the models because attention reads and fills it.

A cache has rows, one per text that is being continued, each with room for `capacity` tokens, allocated once. Rows can
share a prefix: `fork` makes a cache whose rows continue the rows of another one, which is neither copied nor computed
again. Attention over a prefix is one matrix product for the queries of all rows that share it, combined with the
attention over the rows' own tokens by their log-sum-exps (as the blocks of Dao et al. 2022,
https://arxiv.org/abs/2205.14135).

    cache = model.new_cache(rows=2, capacity=64)
    hidden = model(cache.extend([[5, 6, 7], [8]]), cache)           # two prompts
    hidden = model(cache.extend([[9], [10]]), cache)                # one more token each
    labels = cache.fork([3, 3], capacity=4)                         # three continuations of each

The cache of an encoder-decoder also has a source: the keys and values of cross-attention, computed once for each text
that the encoder has read, and shared by all rows that are generated from it.

L layers, T new tokens of all rows, H heads, D head size. T' is T plus the rows that `pad_rows` (layers.py) appends.
"""

from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate, groupby
from typing import Protocol, Self

import torch
from torch import Tensor
from torch.nn import functional as F

from .cache_attention import AttentionPlan, plan_attention
from .packing import PackedBatch
from .transfers import is_asynchronous, send


class LayerCache:
    """One layer of a cache."""

    def __init__(self, cache: "KVCache", layer: int) -> None:
        self.cache = cache
        self.keys_values = cache.keys_values[layer]  # (2, rows, H, capacity, D)
        self.prefix = None if cache.prefix is None else cache.prefix.layer(layer)
        self.source = None if cache.source is None else cache.source.keys_values[layer]

    def attend(self, qkv: Tensor, scale: float) -> Tensor:
        """Stores the keys and values of the new tokens, and attends to all tokens of each row and its prefix.

        Args:
            qkv: (T', 3, H, D); rows after the new tokens have the output zero.
            scale: factor of the dot products.

        Returns:
            (T', H, D)
        """
        own = self.cache.levels[0]
        new = qkv[: own.tokens].to(self.keys_values.dtype)
        own.store(self.keys_values, new[:, 1:])
        out = self._attend(new, scale).to(qkv.dtype)
        return F.pad(out, (0, 0, 0, 0, 0, len(qkv) - own.tokens)) if len(qkv) > own.tokens else out

    def store(self, keys_values: Tensor) -> None:
        """Stores keys and values of the new tokens, (T', 2, H, D), which no query reads yet."""
        own = self.cache.levels[0]
        own.store(self.keys_values, keys_values[: own.tokens].to(self.keys_values.dtype))

    def attend_source(self, q: Tensor, scale: float) -> Tensor:
        """Attends to the source of each row.

        Args:
            q: queries of the new tokens, (T', H, D); rows after them have the output zero.
            scale: factor of the dot products.

        Returns:
            (T', H, D)
        """
        plan, keys_values = self.cache.source_plan, self.source
        assert plan is not None
        assert keys_values is not None
        out = plan.attend(q[: plan.tokens, None].to(keys_values.dtype), keys_values, scale).to(q.dtype)
        return F.pad(out, (0, 0, 0, 0, 0, len(q) - plan.tokens)) if len(q) > plan.tokens else out

    def _attend(self, qkv: Tensor, scale: float) -> Tensor:
        """(T, 3, H, D) -> (T, H, D)."""
        if self.prefix is None:
            return self.cache.levels[0].attend(qkv, self.keys_values, scale)
        level: LayerCache | None = self
        outputs, sums = [], []
        for plan in self.cache.levels:
            assert level is not None
            out, log_sum_exp = plan.attend_with_sums(qkv[:, 0], level.keys_values, scale)
            outputs.append(out)
            sums.append(log_sum_exp)
            level = level.prefix
        # The part of each level in one softmax over the keys of all levels.
        shares = torch.stack(sums).softmax(dim=0).unsqueeze(-1)  # (levels, T, H, 1)
        return (torch.stack(outputs) * shares).sum(dim=0).to(qkv.dtype)


class DecoderConfig(Protocol):
    """The sizes of a decoder."""

    @property
    def num_layers(self) -> int:
        """L."""
        ...

    @property
    def num_heads(self) -> int:
        """H."""
        ...

    @property
    def hidden_size(self) -> int:
        """C."""
        ...


def cache_with_sources(
    config: DecoderConfig,
    weight: Tensor,
    sources: Sequence[Sequence[int]],
    *,
    encode: Callable[[PackedBatch], Iterable[Tensor]],
    capacity: int,
    copies: int,
) -> "KVCache":
    """A cache for the decoder of an encoder-decoder, with a row for each source.

    Args:
        config: the decoder's.
        weight: one of its weights.
        sources: token ids of each source, at least one each.
        encode: computes the keys and values of the sources' tokens in every layer, (S', 2, H, D) each.
        capacity: maximum number of tokens per row.
        copies: rows that there is room for per source: `reorder` can continue each source that many times.
    """
    read = KVCache.of(config, weight, rows=len(sources), capacity=max(map(len, sources)))
    for layer, keys_values in enumerate(encode(read.extend(sources))):
        read.layer(layer).store(keys_values)
    cache = KVCache.of(config, weight, rows=len(sources) * copies, capacity=capacity)
    cache.source, cache._source_rows = read, [row for row in range(len(sources)) for _ in range(copies)]
    cache.reorder(range(0, len(cache), copies))  # the copies of a source are stored beside each other
    return cache


def cache_dtype(weight: Tensor) -> torch.dtype:
    """The dtype of the cache of a model with such weights: on the CPU fp32 whatever the weights are.

    torch's attention there takes five times as long in bf16 for one query per row.
    """
    return torch.float32 if weight.device.type == "cpu" else weight.dtype


class KVCache:
    """The keys and values of every layer for some rows of tokens; `GPT2.new_cache` makes one that fits a model.

    Args:
        num_layers: L.
        num_heads: H.
        head_size: D.
        rows: maximum number of rows.
        capacity: maximum number of tokens per row, without its prefix.
        dtype: dtype of keys and values.
        device: device of keys and values.
        prefix: the cache that the rows continue; `fork` makes such caches.
        parents: the row of the prefix that each row continues.
        source: the keys and values of cross-attention, of all sources.
        source_rows: the row of the source that each row attends to. Default: row i to row i.
    """

    def __init__(
        self,
        num_layers: int,
        num_heads: int,
        head_size: int,
        *,
        rows: int,
        capacity: int,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        prefix: "KVCache | None" = None,
        parents: Sequence[int] = (),
        source: "KVCache | None" = None,
        source_rows: Sequence[int] = (),
    ) -> None:
        # Keys and values of a layer are one tensor: new ones are stored by one copy.
        shape = num_layers, 2, rows, num_heads, capacity, head_size
        self._masked = is_asynchronous(torch.device(device))  # the keys that a row does not have: they must be numbers
        new = torch.zeros if self._masked else torch.empty
        self.keys_values = new(shape, dtype=dtype, device=device)
        self.keys, self.values = self.keys_values.unbind(1)  # (L, rows, H, capacity, D)
        self.capacity = capacity
        self.lengths = [0] * rows  # tokens of each row, without its prefix
        self.prefix = prefix
        self._parents = list(parents) or [0] * rows
        self.source = source
        self._source_rows = list(source_rows or range(rows))
        self.source_plan: AttentionPlan | None = None  # the calls of cross-attention, as `levels`
        self._slots = list(range(rows))  # where each row is in the tensors: dropping a row moves nothing
        # The calls of attention for the tokens of the last `extend`, the same in every layer: first over the rows' own
        # tokens, then over their prefix, then over the prefix of that.
        self.levels: list[AttentionPlan] = []

    @classmethod
    def of(cls, config: DecoderConfig, weight: Tensor, *, rows: int, capacity: int) -> Self:
        """An empty cache for a decoder.

        Args:
            config: the decoder's.
            weight: one of its weights, whose device the cache has.
            rows: as above.
            capacity: as above.
        """
        sizes = config.num_layers, config.num_heads, config.hidden_size // config.num_heads
        return cls(*sizes, rows=rows, capacity=capacity, dtype=cache_dtype(weight), device=weight.device)

    @staticmethod
    def bytes_per_token(config: DecoderConfig, weight: Tensor) -> int:
        """The size of a token's keys and values in all layers, in the cache of a decoder with such a weight."""
        return 2 * config.num_layers * config.hidden_size * cache_dtype(weight).itemsize

    def __len__(self) -> int:
        return len(self.lengths)

    def layer(self, layer: int) -> LayerCache:
        """A layer of the cache."""
        return LayerCache(self, layer)  # not stored: the two would keep each other's memory alive

    @property
    def total_lengths(self) -> list[int]:
        """Tokens of each row and its prefix: the position of its next token."""
        if self.prefix is None:
            return list(self.lengths)
        before = self.prefix.total_lengths
        return [before[parent] + length for parent, length in zip(self._parents, self.lengths, strict=True)]

    def extend(self, sequences: Sequence[Sequence[int]]) -> PackedBatch:
        """Reserves places for new tokens of every row and packs them; the forward pass on the batch fills them.

        Args:
            sequences: the new tokens of each row, at least one each.

        Raises:
            ValueError: the number of sequences is not that of the rows, one is empty, or it exceeds the capacity.
        """
        counts = tuple(len(ids) for ids in sequences)
        if len(counts) != len(self) or 0 in counts:
            raise ValueError(f"{len(self)} rows need as many sequences, none of them empty")
        positions = [first + i for first, count in zip(self.total_lengths, counts, strict=True) for i in range(count)]
        lengths = [length + count for length, count in zip(self.lengths, counts, strict=True)]
        if max(lengths) > self.capacity:
            raise ValueError(f"a row of {max(lengths)} tokens exceeds the capacity of {self.capacity}")
        self.lengths = lengths
        ids = [token for sequence in sequences for token in sequence]
        input_ids, position_ids, offsets = send(self.keys.device, ids, positions, [0, *accumulate(counts)])
        batch = PackedBatch(
            input_ids=input_ids,
            position_ids=position_ids,
            segment_ids=torch.zeros_like(input_ids),
            cu_seqlens=offsets.to(torch.int32),
            lengths=counts,
        )
        self.levels = self._plan_attention(counts, batch)
        if self.source is not None:
            self.source_plan = self.source.plan_rows(self._source_rows, counts)
        return batch

    def fork(self, counts: Sequence[int], *, capacity: int) -> "KVCache":
        """A cache whose rows continue the rows of this one: `counts[i]` empty rows for row i, in this order.

        This cache is shared, not copied: it must not change while its forks are in use.

        Args:
            counts: new rows per row; 0 is possible.
            capacity: maximum number of tokens per new row.

        Raises:
            ValueError: the number of counts is not that of the rows, or a row is empty.
        """
        if len(counts) != len(self) or 0 in self.lengths:
            raise ValueError("a fork needs one count per row, and no row may be empty")
        num_layers, _, num_heads, _, head_size = self.keys.shape
        return KVCache(
            num_layers,
            num_heads,
            head_size,
            rows=sum(counts),
            capacity=capacity,
            dtype=self.keys.dtype,
            device=self.keys.device,
            prefix=self,
            parents=[row for row, count in enumerate(counts) for _ in range(count)],
            source=self.source,
            source_rows=[row for row, count in zip(self._source_rows, counts, strict=True) for _ in range(count)],
        )

    def reorder(self, rows: Sequence[int]) -> None:
        """Row i becomes what row `rows[i]` was: drops, reorders and duplicates rows.

        Only the second and further copies of a row are copied, without its prefix; dropping rows moves nothing, except
        where attention masks keys and most of them would belong to no row.

        Raises:
            ValueError: there are more rows than were allocated.
        """
        if len(rows) > self.keys.shape[1]:
            raise ValueError(f"{len(rows)} rows do not fit into a cache of {self.keys.shape[1]}")
        free = sorted(set(range(self.keys.shape[1])) - {self._slots[row] for row in rows}, reverse=True)
        slots: list[int] = []
        copies: list[tuple[int, int]] = []
        parents = [self._slots[row] for row in rows]
        for slot in parents:
            if slot in slots:
                copies.append((slot, slot := free.pop()))
            slots.append(slot)
        self._parents = [self._parents[row] for row in rows]
        self._source_rows = [self._source_rows[row] for row in rows]
        self.lengths = [self.lengths[row] for row in rows]
        self._slots = slots
        if self._masked and rows and max(slots) - min(slots) >= 2 * len(slots):  # attention would read mostly gaps
            copies = [(slot, place) for place, slot in enumerate(parents)]
            self._slots = list(range(len(rows)))
        if copies:
            sources, targets = send(self.keys.device, *zip(*copies, strict=True))
            longest = max(self.lengths)
            self.keys_values[:, :, targets, :, :longest] = self.keys_values[:, :, sources, :, :longest]

    def clear(self, row: int) -> None:
        """Drops a row's own tokens, so that it can be filled again."""
        self.lengths[row] = 0

    def _plan_attention(self, counts: Sequence[int], batch: PackedBatch) -> list[AttentionPlan]:
        """The calls of attention for new tokens of every row, one level after the other."""
        work = list(zip(counts, self._slots, self.lengths, strict=True))
        own = plan_attention(work, self.keys, causal=True, batch=batch if self.prefix is None else None)
        levels, cache, rows = [own], self, list(range(len(self)))
        while cache.prefix is not None:
            rows, cache = [cache._parents[row] for row in rows], cache.prefix
            levels.append(cache.plan_rows(rows, counts))
        return levels

    def plan_rows(self, rows: Sequence[int], counts: Sequence[int]) -> AttentionPlan:
        """The calls of attention for queries that come after all tokens of this cache.

        Args:
            rows: the row that each group of queries attends to; those of neighbouring groups are computed together.
            counts: the number of queries of each group.
        """
        families = groupby(zip(rows, counts, strict=True), key=lambda member: member[0])
        folded = [(row, sum(count for _, count in members)) for row, members in families]
        work = [(queries, self._slots[row], self.lengths[row]) for row, queries in folded]
        return plan_attention(work, self.keys, causal=False)
