"""Packed batches: the tokens of several sequences concatenated into one vector, without padding.

Everything except attention works on one vector of tokens: no arithmetic is spent on padding, a head finds the first or
last token of a sequence by its offset, and a batch gives the same outputs as each of its sequences alone.

B batch (sequences), T tokens of all sequences, S selected tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate, groupby
from typing import Self

import torch
from torch import Tensor

from .attention_layout import Layout, make_layout


@dataclass(frozen=True, eq=False)
class PackedBatch:
    """B sequences of tokens, concatenated."""

    input_ids: Tensor  # (T,) int64
    position_ids: Tensor  # (T,) int64, from 0 inside each sequence
    segment_ids: Tensor  # (T,) int64, 0 or 1 in a pair of texts
    cu_seqlens: Tensor  # (B + 1,) int32, cumulative lengths: sequence i is tokens cu_seqlens[i] to cu_seqlens[i + 1]
    lengths: tuple[int, ...]  # tokens per sequence; as Python integers, so that reading them never waits for a device
    selected: Tensor | None = None  # (S,) int64, the tokens that a language-modeling head computes; None: all

    @classmethod
    def pack(cls, sequences: Sequence[Sequence[int]], segments: Sequence[Sequence[int]] | None = None) -> Self:
        """Concatenates sequences of token ids.

        Args:
            sequences: the token ids of each sequence, at least one token each.
            segments: the segment ids of each sequence, of the same lengths. Default: all zero.

        Raises:
            ValueError: there is no sequence, one is empty, or a sequence and its segments differ in length.
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
        """The same batch with some tokens selected, given by their positions inside each sequence.

        A language-modeling head then skips all other tokens: it is the most expensive part of a small model.
        """
        starts = accumulate(self.lengths, initial=0)
        chosen = [start + i for start, inside in zip(starts, positions, strict=False) for i in inside]
        return replace(self, selected=torch.tensor(chosen, dtype=torch.int64, device=self.input_ids.device))

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def num_tokens(self) -> int:
        """T, the tokens of all sequences."""
        return self.input_ids.shape[0]

    @property
    def first(self) -> Tensor:
        """The index of each sequence's first token, (B,): BERT's `[CLS]`."""
        return self.cu_seqlens[:-1]

    @property
    def last(self) -> Tensor:
        """The index of each sequence's last token, (B,): the only one that has seen all of it in GPT-2."""
        return self.cu_seqlens[1:] - 1

    def split(self, x: Tensor) -> tuple[Tensor, ...]:
        """Splits a tensor over all tokens (T, ...) into one tensor per sequence."""
        return x.split(self.lengths)

    @cached_property
    def runs(self) -> tuple[tuple[int, int, int], ...]:
        """Runs of neighbouring sequences of equal length: (first token, number of sequences, tokens per sequence)."""
        runs, start = [], 0
        for length, members in groupby(self.lengths):
            count = len(list(members))
            runs.append((start, count, length))
            start += count * length
        return tuple(runs)

    def training_layout(self, rows: int, heads: int, causal: bool) -> Layout:
        """How training on the CPU arranges the batch for attention (`make_layout`); all layers share one layout."""
        key = rows, heads, causal
        if key not in self._training_layouts:
            self._training_layouts[key] = make_layout(self.lengths, self.cu_seqlens, rows, heads, causal)
        return self._training_layouts[key]

    @cached_property
    def _training_layouts(self) -> dict[tuple[int, int, bool], Layout]:
        return {}


@dataclass(frozen=True)
class BatchSampler:
    """Divides examples into batches, epoch by epoch: a pure function of the lengths, the seed and the epoch.

    A resumed run computes the same batches again and skips those before the step it was saved at.

    Args:
        lengths: tokens of each example.
        batch_size: examples per batch; exclusive with `batch_tokens`.
        batch_tokens: maximum number of tokens per batch; a longer example forms a batch alone.
        seed: seed of the shuffling.
        max_examples: maximum number of examples per batch.
    """

    lengths: Sequence[int]
    batch_size: int | None = None
    batch_tokens: int | None = None
    seed: int = 0
    max_examples: int = 1024

    def __post_init__(self) -> None:
        if (self.batch_size is None) == (self.batch_tokens is None):
            raise ValueError("give either batch_size or batch_tokens")
        if (self.batch_size or self.batch_tokens or 0) < 1:
            raise ValueError("a batch holds at least one example or token")

    def epoch(self, epoch: int) -> list[list[int]]:
        """The batches of an epoch, each a list of example indices; every example is in exactly one batch."""
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
        return self._fill(torch.randperm(len(self.lengths), generator=generator).tolist())

    def by_length(self) -> list[list[int]]:
        """Batches for prediction, longest first: a batch that does not fit in memory fails at once."""
        return self._fill(sorted(range(len(self.lengths)), key=lambda i: -self.lengths[i]))

    def in_order(self) -> list[list[int]]:
        """Batches of neighbouring examples, for examples that are sorted already."""
        return self._fill(range(len(self.lengths)), sort=False)

    def _fill(self, order: Sequence[int], sort: bool = True) -> list[list[int]]:
        max_examples = self.batch_size or self.max_examples
        batches: list[list[int]] = []
        tokens = 0
        for index in order:
            tokens += self.lengths[index]
            full = not batches or len(batches[-1]) == max_examples
            if full or (self.batch_tokens is not None and tokens > self.batch_tokens):
                batches.append([])
                tokens = self.lengths[index]
            batches[-1].append(index)
        for batch in batches if sort else ():  # equal lengths become neighbours: attention computes them together
            batch.sort(key=lambda i: -self.lengths[i])
        return batches
