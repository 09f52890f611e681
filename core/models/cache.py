"""What a decoder has computed of the texts so far: the keys and values of every layer, kept for the tokens to come.

A cache has rows, one for each text that is being continued, and room for so many tokens a row, allocated once. Rows
may stand on a shared prefix: the cache that holds it is forked, and what the forks have in common is neither copied
nor computed again. Attention over a prefix is one matrix product with all its rows' queries folded together, joined
with attention over the rows' own tokens by their log-sum-exps (as between the blocks of Dao et al. 2022,
https://arxiv.org/abs/2205.14135).

    cache = KVCache.of(model, rows=2, room=64)
    hidden = model(cache.extend([[5, 6, 7], [8]]), cache=cache)     # two prompts
    hidden = model(cache.extend([[9], [10]]), cache=cache)          # one more token each
    labels = cache.fork([3, 3], room=4)                             # three continuations of each

Shapes: L layers, H heads, D head size, T new tokens in all.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby
from typing import TYPE_CHECKING, Self

import torch
from torch import Tensor
from torch.nn import functional as F

from .packing import PackedBatch

if TYPE_CHECKING:
    from .gpt2 import GPT2


@dataclass(frozen=True)
class _Piece:
    """Neighbouring rows with equally many queries and keys: one call of attention."""

    tokens: slice  # of the batch
    slots: slice  # of the cache
    keys: int  # each slot's first so many
    causal: bool
    mask: Tensor | None  # (queries, keys), 0 or -inf, where some of a row's tokens were there before the batch

    def by_row(self, x: Tensor) -> Tensor:
        """What the piece has of all tokens', (T, H, D) -> (rows, H, queries, D), a view."""
        return x[self.tokens].unflatten(0, (self.slots.stop - self.slots.start, -1)).transpose(1, 2)


class LayerCache:
    """One layer's part of a cache."""

    def __init__(self, cache: "KVCache", layer: int) -> None:
        self.cache = cache
        self.kept = cache.kept[layer]  # (2, rows, H, room, D)
        self.keys, self.values = self.kept.unbind()
        self.prefix = None if cache.prefix is None else cache.prefix[layer]

    def attend(self, qkv: Tensor, scale: float) -> Tensor:
        """Keeps the new tokens' keys and values, attends to all that their rows hold, (T, 3, H, D) -> (T, H, D)."""
        levels, q, new = self.cache.levels, qkv[:, 0], qkv[:, 1:]
        for piece in levels[0]:
            by_row = new[piece.tokens].unflatten(0, (piece.slots.stop - piece.slots.start, -1))  # (rows, n, 2, H, D)
            first = piece.keys - by_row.shape[1]
            self.kept[:, piece.slots, :, first : piece.keys] = by_row.permute(2, 0, 3, 1, 4)
        if self.prefix is None:
            return _attend(q, self, levels[0], scale)
        level: LayerCache | None = self
        outputs, sums = [], []
        for pieces in levels:
            assert level is not None
            out, log_sum_exp = _attend_with_sums(q, level, pieces, scale)
            outputs.append(out)
            sums.append(log_sum_exp)
            level = level.prefix
        shares = torch.stack(sums).softmax(dim=0).unsqueeze(-1)  # what each level would get of one softmax over all
        return (torch.stack(outputs) * shares).sum(dim=0).to(q.dtype)


class KVCache:
    """The keys and values of some rows of tokens in every layer.

    Args:
        num_layers: L.
        num_heads: H.
        head_size: D.
        rows: texts at most.
        room: tokens a row at most, its prefix not counted.
        dtype: of keys and values.
        device: where they are kept.
        prefix: what the rows stand on; `fork` makes such caches.
        parents: the row of the prefix that each row stands on.
    """

    def __init__(
        self,
        num_layers: int,
        num_heads: int,
        head_size: int,
        *,
        rows: int,
        room: int,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        prefix: "KVCache | None" = None,
        parents: Sequence[int] = (),
    ) -> None:
        # A layer's keys and values lie together, so that new ones are copied there at once.
        self.kept = torch.empty((num_layers, 2, rows, num_heads, room, head_size), dtype=dtype, device=device)
        self.keys, self.values = self.kept.unbind(1)  # (L, rows, H, room, D)
        self.room = room
        self.lengths = [0] * rows  # tokens of each row, its prefix not counted
        self.prefix = prefix
        self._parents = list(parents) or [0] * rows
        self._slots = list(range(rows))  # where in the tensors each row lies: dropping a row moves nothing
        # What the tokens of the last `extend` look at, in every layer: the rows' own, then their prefix, its prefix...
        self.levels: list[list[_Piece]] = []

    @classmethod
    def of(cls, model: "GPT2", *, rows: int, room: int) -> Self:
        """An empty cache for a model."""
        config = model.config
        return cls(
            config.num_layers,
            config.num_heads,
            config.hidden_size // config.num_heads,
            rows=rows,
            room=room,
            dtype=cache_dtype(model),
            device=model.token_embedding.weight.device,
        )

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, layer: int) -> LayerCache:
        return LayerCache(self, layer)  # made anew: kept here, the two would hold each other's memory

    @property
    def total_lengths(self) -> list[int]:
        """Tokens of each row with its prefix: the position of its next token."""
        if self.prefix is None:
            return list(self.lengths)
        before = self.prefix.total_lengths
        return [before[parent] + length for parent, length in zip(self._parents, self.lengths, strict=True)]

    def extend(self, sequences: Sequence[Sequence[int]]) -> PackedBatch:
        """Makes room for new tokens of every row and packs them; the model's forward pass on the batch fills it.

        Args:
            sequences: the new tokens of each row, at least one each.

        Raises:
            ValueError: there is not one sequence a row, one is empty, or it does not fit into the room.
        """
        counts = tuple(len(ids) for ids in sequences)
        if len(counts) != len(self) or 0 in counts:
            raise ValueError(f"{len(self)} rows need as many sequences, none of them empty")
        held, starts = self.lengths, self.total_lengths
        lengths = [length + count for length, count in zip(held, counts, strict=True)]
        if max(lengths) > self.room:
            raise ValueError(f"a row of {max(lengths)} tokens does not fit into a room for {self.room}")
        self.lengths = lengths
        ids = [token for sequence in sequences for token in sequence]
        positions = [first + i for first, count in zip(starts, counts, strict=True) for i in range(count)]
        # One tensor: one copy to the device.
        input_ids, position_ids = torch.tensor([ids, positions], device=self.keys.device).unbind()
        self.levels = self._levels(counts)
        return PackedBatch(
            input_ids=input_ids,
            position_ids=position_ids,
            segment_ids=torch.zeros_like(input_ids),
            cu_seqlens=torch.tensor([0, *accumulate(counts)], dtype=torch.int32, device=self.keys.device),
            lengths=counts,
        )

    def fork(self, counts: Sequence[int], *, room: int) -> "KVCache":
        """A cache whose rows stand on this one's: `counts[i]` empty rows that continue row i, in this order.

        This cache is shared, not copied, and has to stay as it is for as long as its forks are used.

        Args:
            counts: rows on top of each row; 0 is possible.
            room: tokens of each new row at most.

        Raises:
            ValueError: there is not one count a row, or a row is empty.
        """
        if len(counts) != len(self) or 0 in self.lengths:
            raise ValueError("a fork needs one count a row, and no row may be empty")
        num_layers, _, num_heads, _, head_size = self.keys.shape
        return KVCache(
            num_layers,
            num_heads,
            head_size,
            rows=sum(counts),
            room=room,
            dtype=self.keys.dtype,
            device=self.keys.device,
            prefix=self,
            parents=[row for row, count in enumerate(counts) for _ in range(count)],
        )

    def keep(self, rows: Sequence[int]) -> None:
        """Row i goes on as what row `rows[i]` was: rows are dropped, put in another order, or doubled.

        Only a row's second and further copies are copied, and not their prefix; dropping rows moves nothing.

        Raises:
            ValueError: more rows than were allocated.
        """
        if len(rows) > self.keys.shape[1]:
            raise ValueError(f"{len(rows)} rows do not fit into a cache of {self.keys.shape[1]}")
        free = sorted(set(range(self.keys.shape[1])) - {self._slots[row] for row in rows}, reverse=True)
        slots: list[int] = []
        copies: list[tuple[int, int]] = []
        for row in rows:
            slot = self._slots[row]
            if slot in slots:
                copies.append((slot, slot := free.pop()))
            slots.append(slot)
        self._parents = [self._parents[row] for row in rows]
        self.lengths = [self.lengths[row] for row in rows]
        self._slots = slots
        if copies:
            sources, targets = (list(ends) for ends in zip(*copies, strict=True))
            longest = max(self.lengths)
            self.kept[:, :, targets, :, :longest] = self.kept[:, :, sources, :, :longest]

    def clear(self, row: int) -> None:
        """Forgets a row's own tokens, so that it can be filled anew."""
        self.lengths[row] = 0

    def _levels(self, counts: Sequence[int]) -> list[list[_Piece]]:
        """The pieces of attention for so many new tokens a row, one level after the other."""
        own = _pieces(zip(counts, self._slots, self.lengths, strict=True), self.keys, causal=True)
        levels, cache, rows = [own], self, list(range(len(self)))
        while cache.prefix is not None:
            rows, cache = [cache._parents[row] for row in rows], cache.prefix
            families = groupby(zip(rows, counts, strict=True), key=lambda member: member[0])
            folded = [(row, sum(count for _, count in members)) for row, members in families]
            work = [(queries, cache._slots[row], cache.lengths[row]) for row, queries in folded]
            levels.append(_pieces(work, cache.keys, causal=False))
        return levels


def cache_dtype(model: "GPT2") -> torch.dtype:
    """What the cache of a model is kept in.

    On the CPU that is fp32 whatever the weights are in: for a single query a row, torch's attention in bf16 takes
    five times as long.
    """
    weight = model.token_embedding.weight
    return torch.float32 if weight.device.type == "cpu" else weight.dtype


def _pieces(work: Iterable[tuple[int, int, int]], kept: Tensor, *, causal: bool) -> list[_Piece]:
    """Calls of attention from each row's number of queries, slot and number of keys; `kept` has the mask's dtype."""
    pieces, start = [], 0
    # In a run of neighbours slot numbers rise with the rows, so that their difference stays the same.
    runs = groupby(enumerate(work), key=lambda item: (item[1][0], item[1][2], item[1][1] - item[0]))
    for (queries, keys, _), members in runs:
        slots = [slot for _, (_, slot, _) in members]
        end = start + queries * len(slots)
        mask = None
        if causal and 1 < queries < keys:
            mask = kept.new_full((queries, keys), -torch.inf).triu(keys - queries + 1)
        whole = causal and 1 < queries == keys
        pieces.append(_Piece(slice(start, end), slice(slots[0], slots[-1] + 1), keys, whole, mask))
        start = end
    return pieces


def _meet(q: Tensor, cache: LayerCache, piece: _Piece) -> tuple[Tensor, Tensor, Tensor]:
    """A piece's queries (rows, H, queries, D), keys and values (rows, H, keys, D); all of them views."""
    return piece.by_row(q), cache.keys[piece.slots, :, : piece.keys], cache.values[piece.slots, :, : piece.keys]


def _attend(q: Tensor, cache: LayerCache, pieces: list[_Piece], scale: float) -> Tensor:
    outputs = []
    for piece in pieces:
        queries, keys, values = _meet(q, cache, piece)
        out = F.scaled_dot_product_attention(
            queries, keys, values, attn_mask=piece.mask, is_causal=piece.causal, scale=scale
        )
        outputs.append(out.transpose(1, 2).flatten(0, 1))
    return outputs[0] if len(outputs) == 1 else torch.cat(outputs)


def _attend_with_sums(q: Tensor, cache: LayerCache, pieces: list[_Piece], scale: float) -> tuple[Tensor, Tensor]:
    """Attention, and the logarithm of each query's sum of exponentials, (T, H, D) and (T, H)."""
    outputs, sums = [], []
    for piece in pieces:
        queries, keys, values = _meet(q, cache, piece)
        if q.device.type == "cpu":  # the kernel behind scaled_dot_product_attention, which keeps the sums to itself
            out, log_sum_exp = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
                queries, keys, values, 0.0, piece.causal, attn_mask=piece.mask, scale=scale
            )
        else:
            out, log_sum_exp = _plain_attention(queries, keys, values, piece, scale)
        outputs.append(out.transpose(1, 2).flatten(0, 1))
        sums.append(log_sum_exp.transpose(1, 2).flatten(0, 1))
    return torch.cat(outputs), torch.cat(sums)


def _plain_attention(q: Tensor, k: Tensor, v: Tensor, piece: _Piece, scale: float) -> tuple[Tensor, Tensor]:
    scores = (q @ k.transpose(-1, -2)).float() * scale
    if piece.causal:
        scores = scores + scores.new_full(scores.shape[-2:], -torch.inf).triu(1)
    elif piece.mask is not None:
        scores = scores + piece.mask
    return scores.softmax(dim=-1).to(v.dtype) @ v, scores.logsumexp(dim=-1)
