"""Packed batches: sequences of different lengths laid end to end, with no padding anywhere.

Everything but attention works on one vector of tokens, so no arithmetic is spent on padding, a head finds a
sequence's first or last token by an offset, and a batch gives the answers that its sequences give alone.

Shapes: B sequences, T tokens in all (the sum of their lengths).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate, groupby
from typing import Self

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class PackedBatch:
    """The tokens of B sequences laid end to end, and where each sequence begins."""

    input_ids: Tensor  # (T,) int64
    position_ids: Tensor  # (T,) int64, from 0 inside each sequence
    segment_ids: Tensor  # (T,) int64, 0 or 1 in a pair of texts
    cu_seqlens: Tensor  # (B + 1,) int32, cumulative lengths: sequence i is tokens cu_seqlens[i] to cu_seqlens[i + 1]
    lengths: tuple[int, ...]  # the same as plain numbers, so that nobody waits for the device to read them
    selected: Tensor | None = None  # (S,) int64, the tokens that a head over the vocabulary looks at; None: all

    @classmethod
    def pack(cls, sequences: Sequence[Sequence[int]], segments: Sequence[Sequence[int]] | None = None) -> Self:
        """Lays sequences of token ids end to end.

        Args:
            sequences: the token ids of each sequence, at least one token each.
            segments: their segment ids, of the same lengths; all zero if left out.

        Raises:
            ValueError: there is no sequence, one is empty, or the segments do not fit.
        """
        lengths = tuple(len(ids) for ids in sequences)
        if not lengths or min(lengths) == 0:
            raise ValueError("a packed batch needs at least one sequence, and no sequence may be empty")
        if segments is not None and tuple(len(ids) for ids in segments) != lengths:
            raise ValueError("segments must have the lengths of their sequences")
        flat = [token for ids in sequences for token in ids]
        input_ids = torch.tensor(flat)
        return cls(
            input_ids=input_ids,
            position_ids=torch.cat([torch.arange(length) for length in lengths]),
            segment_ids=torch.zeros_like(input_ids)
            if segments is None
            else torch.tensor([segment for ids in segments for segment in ids]),
            cu_seqlens=torch.tensor([0, *accumulate(lengths)], dtype=torch.int32),
            lengths=lengths,
        )

    def to(self, device: torch.device | str) -> Self:
        """The same batch on another device."""
        return replace(
            self,
            input_ids=self.input_ids.to(device, non_blocking=True),
            position_ids=self.position_ids.to(device, non_blocking=True),
            segment_ids=self.segment_ids.to(device, non_blocking=True),
            cu_seqlens=self.cu_seqlens.to(device, non_blocking=True),
            selected=None if self.selected is None else self.selected.to(device, non_blocking=True),
        )

    def select(self, positions: Sequence[Sequence[int]]) -> Self:
        """The same batch with some tokens of each sequence selected, counted from 0 inside the sequence.

        A head over the vocabulary is the dearest part of a small model: it is spared for all other tokens.
        """
        starts = accumulate(self.lengths, initial=0)
        chosen = [start + i for start, inside in zip(starts, positions, strict=False) for i in inside]
        return replace(self, selected=torch.tensor(chosen, dtype=torch.int64, device=self.input_ids.device))

    def alone(self, rows: Tensor) -> Self:
        """One token of each sequence, (B,), as sequences of their own: what a head then finds first and last."""
        ones = torch.arange(len(self) + 1, dtype=torch.int32, device=rows.device)
        return replace(
            self,
            input_ids=self.input_ids[rows],
            position_ids=self.position_ids[rows],
            segment_ids=self.segment_ids[rows],
            cu_seqlens=ones,
            lengths=(1,) * len(self),
        )

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def num_tokens(self) -> int:
        """T, the tokens of all sequences together."""
        return self.input_ids.shape[0]

    @property
    def first(self) -> Tensor:
        """Where each sequence's first token stands, (B,): BERT's `[CLS]`."""
        return self.cu_seqlens[:-1]

    @property
    def last(self) -> Tensor:
        """Where each sequence's last token stands, (B,): what GPT-2 knows of the whole sequence."""
        return self.cu_seqlens[1:] - 1

    def split(self, x: Tensor) -> tuple[Tensor, ...]:
        """Cuts a tensor over all tokens (T, ...) into one tensor for each sequence."""
        return x.split(self.lengths)

    @cached_property
    def runs(self) -> tuple[tuple[int, int, int], ...]:
        """Neighbours of equal length, as (first token, number of sequences, their length): attention's unit."""
        runs, start = [], 0
        for length, members in groupby(self.lengths):
            count = len(list(members))
            runs.append((start, count, length))
            start += count * length
        return tuple(runs)


@dataclass(frozen=True)
class BatchSampler:
    """Which examples go into which batch, epoch by epoch: a pure function of the lengths, the seed and the epoch.

    A run that is resumed in the middle of an epoch asks for the same plan and skips the batches it has seen.

    Args:
        lengths: tokens of each example.
        batch_size: examples a batch; exclusive with `batch_tokens`.
        batch_tokens: tokens a batch at most; an example longer than that is a batch of its own.
        seed: of the shuffling.
        max_examples: the most examples a batch, whatever the tokens.
    """

    lengths: Sequence[int]
    batch_size: int | None = None
    batch_tokens: int | None = None
    seed: int = 0
    max_examples: int = 1024

    def __post_init__(self) -> None:
        if (self.batch_size is None) == (self.batch_tokens is None):
            raise ValueError("give a batch_size or batch_tokens, and not both")
        if (self.batch_size or self.batch_tokens or 0) < 1:
            raise ValueError("a batch needs room for something")

    def epoch(self, epoch: int) -> list[list[int]]:
        """The batches of one epoch, in order; every example is in exactly one of them."""
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
        return self._fill(torch.randperm(len(self.lengths), generator=generator).tolist())

    def by_length(self) -> list[list[int]]:
        """Batches for prediction: longest first, so that a batch that does not fit in memory fails at once."""
        return self._fill(sorted(range(len(self.lengths)), key=lambda i: -self.lengths[i]))

    def in_order(self) -> list[list[int]]:
        """Batches of neighbours, for what is sorted already."""
        return self._fill(range(len(self.lengths)), sort=False)

    def _fill(self, order: Sequence[int], sort: bool = True) -> list[list[int]]:
        most = self.batch_size or self.max_examples
        batches: list[list[int]] = []
        tokens = 0
        for index in order:
            tokens += self.lengths[index]
            full = not batches or len(batches[-1]) == most
            if full or (self.batch_tokens is not None and tokens > self.batch_tokens):
                batches.append([])
                tokens = self.lengths[index]
            batches[-1].append(index)
        for batch in batches if sort else ():  # equal lengths become neighbours, which attention takes in one go
            batch.sort(key=lambda i: -self.lengths[i])
        return batches
