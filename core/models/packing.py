"""Packed batches: the tokens of several sequences concatenated into one vector, without padding.

Everything except attention works on one vector of tokens: no arithmetic is spent on padding, a head finds the first or
last token of a sequence by its offset, and a batch gives the same outputs as each of its sequences alone.

B batch (sequences), T tokens of all sequences, S selected tokens.
"""

from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from itertools import accumulate, groupby
from typing import Self, overload

import numpy as np
import torch
from torch import Tensor

from .attention_layout import Layout, Sequences, make_layout
from .cross_layout import CrossLayout, make_cross_layout
from .padded_layout import PaddedLayout, make_padded_layout
from .transfers import to_device

TokenLengths = Sequence[int] | np.ndarray  # tokens of each example


@dataclass(frozen=True, eq=False)
class PackedBatch:
    """B sequences of tokens, concatenated."""

    input_ids: Tensor  # (T,) int64
    position_ids: Tensor  # (T,) int64, from 0 inside each sequence
    segment_ids: Tensor  # (T,) int64, 0 or 1 in a pair of texts
    cu_seqlens: Tensor  # (B + 1,) int32, cumulative lengths: sequence i is tokens cu_seqlens[i] to cu_seqlens[i + 1]
    lengths: tuple[int, ...]  # tokens per sequence; as Python integers, so that reading them never waits for a device
    selected: Tensor | None = None  # (S,) int64, the tokens that a language-modeling head computes; None: all
    selected_counts: tuple[int, ...] = ()  # selected tokens per sequence
    target_ids: Tensor | None = None  # (S,) int64, what such a head is scored on; None: it returns logits
    source: "PackedBatch | None" = None  # B sequences for the encoder of an encoder-decoder, one for each of the batch

    @classmethod
    def pack(
        cls,
        sequences: Sequence[Sequence[int]],
        segments: Sequence[Sequence[int]] | None = None,
        source: "PackedBatch | None" = None,
    ) -> Self:
        """Concatenates sequences of token ids.

        Args:
            sequences: the token ids of each sequence, at least one token each.
            segments: the segment ids of each sequence, of the same lengths. Default: all zero.
            source: the sequences that an encoder reads, one for each of `sequences`, which a decoder reads.

        Raises:
            ValueError: there is no sequence, one is empty, a sequence and its segments differ in length, or there are
                more or fewer sequences of the source.
        """
        lengths = tuple(len(ids) for ids in sequences)
        if not lengths or min(lengths) == 0:
            raise ValueError("a packed batch needs at least one sequence, and no sequence may be empty")
        if segments is not None and tuple(len(ids) for ids in segments) != lengths:
            raise ValueError("segments must have the lengths of their sequences")
        if source is not None and len(source) != len(lengths):
            raise ValueError(f"{len(lengths)} sequences need as many of the source, not {len(source)}")
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
            source=source,
        )

    def to(self, device: torch.device | str) -> Self:
        """The same batch on another device."""
        values = ((field.name, getattr(self, field.name)) for field in fields(self))
        moved = {name: to_device(x, device) for name, x in values if isinstance(x, Tensor)}
        return replace(self, **moved, source=None if self.source is None else self.source.to(device))

    def select(self, positions: Sequence[Sequence[int]]) -> Self:
        """The same batch with some tokens selected, given by their positions inside each sequence.

        A language-modeling head then skips all other tokens: it is the most expensive part of a small model.
        """
        starts = accumulate(self.lengths, initial=0)
        chosen = [start + i for start, inside in zip(starts, positions, strict=False) for i in inside]
        selected = torch.tensor(chosen, dtype=torch.int64, device=self.input_ids.device)
        return replace(self, selected=selected, selected_counts=tuple(map(len, positions)))

    def parts(self, max_tokens: int) -> list[Self]:
        """The batch as consecutive batches of at most `max_tokens` tokens, those of the source included.

        A longer sequence forms one alone.
        """
        sampler = BatchSampler(self.lengths_with_source, batch_tokens=max_tokens)
        parts = sampler.in_order()
        return [self] if len(parts) == 1 else [self._part(part[0], part[-1] + 1) for part in parts]

    def _part(self, first: int, last: int) -> Self:
        """Some neighbouring sequences, without reading anything from the device."""
        start, stop = sum(self.lengths[:first]), sum(self.lengths[:last])
        part = replace(
            self,
            input_ids=self.input_ids[start:stop],
            position_ids=self.position_ids[start:stop],
            segment_ids=self.segment_ids[start:stop],
            cu_seqlens=self.cu_seqlens[first : last + 1] - start,
            lengths=self.lengths[first:last],
            source=None if self.source is None else self.source._part(first, last),
        )
        if self.selected is not None:
            counts = self.selected_counts[first:last]
            begin, end = sum(self.selected_counts[:first]), sum(self.selected_counts[:last])
            part = replace(part, selected=self.selected[begin:end] - start, selected_counts=counts)
            start, stop = begin, end
        return part if self.target_ids is None else replace(part, target_ids=self.target_ids[start:stop])

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def num_tokens(self) -> int:
        """T, the tokens of all sequences."""
        return self.input_ids.shape[0]

    @property
    def lengths_with_source(self) -> tuple[int, ...]:
        """The tokens of each sequence and of its source, which together are what a model computes of an example."""
        if self.source is None:
            return self.lengths
        return tuple(target + source for target, source in zip(self.lengths, self.source.lengths, strict=True))

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
        key = rows, None, heads, causal
        if key not in self._training_layouts:
            self._training_layouts[key] = make_layout(self._sequences(rows), None, heads, causal=causal)
        return self._training_layouts[key]

    def cross_training_layout(self, rows: int, source_rows: int, heads: int) -> Layout:
        """The same for cross-attention."""
        assert self.source is not None
        key = rows, source_rows, heads, False
        if key not in self._training_layouts:
            sources = self.source._sequences(source_rows)
            self._training_layouts[key] = make_layout(self._sequences(rows), sources, heads)
        return self._training_layouts[key]

    def _sequences(self, rows: int) -> Sequences:
        return Sequences(self.lengths, self.cu_seqlens, rows)

    @cached_property
    def padded_layout(self) -> PaddedLayout:
        """The sequences in padded rectangles, for devices without a kernel for packed ones; all layers share it."""
        with torch.inference_mode(False):  # the first one to ask may be an evaluation, the next one training
            return make_padded_layout(self.lengths, self.input_ids.device)

    @cached_property
    def cross_layout(self) -> CrossLayout:
        """The pairs of target and source in padded rectangles, for cross-attention; all layers share it."""
        assert self.source is not None
        with torch.inference_mode(False):
            return make_cross_layout(self.lengths, self.source.lengths, self.input_ids.device)

    @cached_property
    def _training_layouts(self) -> dict[tuple[int, int | None, int, bool], Layout]:
        return {}


@dataclass(frozen=True)
class BatchSampler:
    """Divides examples into batches, epoch by epoch: a pure function of the lengths, the seed and the epoch.

    A resumed run computes the same batches again and skips those before the step it was saved at. The batches of an
    epoch are not enumerated: they are made when they are read (`Batches`).

    Args:
        lengths: tokens of each example, a list or an array of signed integers.
        batch_size: examples per batch; exclusive with `batch_tokens`.
        batch_tokens: maximum number of tokens per batch; a longer example forms a batch alone.
        seed: seed of the shuffling.
        max_examples: maximum number of examples per batch.
    """

    lengths: TokenLengths
    batch_size: int | None = None
    batch_tokens: int | None = None
    seed: int = 0
    max_examples: int = 1024

    def __post_init__(self) -> None:
        if (self.batch_size is None) == (self.batch_tokens is None):
            raise ValueError("give either batch_size or batch_tokens")
        if (self.batch_size or self.batch_tokens or 0) < 1:
            raise ValueError("a batch holds at least one example or token")

    def epoch(self, epoch: int) -> "Batches":
        """The batches of an epoch; every example is in exactly one batch."""
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
        return Batches(self, lambda: torch.randperm(len(self.lengths), generator=generator).numpy())

    def by_length(self) -> "Batches":
        """Batches for prediction, longest first: a batch that does not fit in memory fails at once."""
        return Batches(self, lambda: np.argsort(-self.sizes, kind="stable"))

    def in_order(self) -> "Batches":
        """Batches of neighbouring examples, for examples that are sorted already."""
        return Batches(self, lambda: np.arange(len(self.lengths)), sort=False)

    @cached_property
    def sizes(self) -> np.ndarray:
        """The lengths as an array."""
        return self.lengths if isinstance(self.lengths, np.ndarray) else np.array(self.lengths, dtype=np.int64)


class Batches(Sequence[list[int]]):
    """The batches of one pass over all examples, each a list of example indices.

    A batch is made when it is read: the pass is kept as one permutation, and its number of batches is known without it
    if all batches have the same number of examples.

    Args:
        sampler: says how large a batch is.
        order: computes the order of the examples.
        sort: whether the longest example of a batch comes first.
    """

    def __init__(self, sampler: BatchSampler, order: Callable[[], np.ndarray], *, sort: bool = True) -> None:
        self.sampler, self.sort = sampler, sort
        self._compute_order = order

    def __len__(self) -> int:
        return len(self._starts)

    @overload
    def __getitem__(self, index: int) -> list[int]: ...
    @overload
    def __getitem__(self, index: slice) -> list[list[int]]: ...
    def __getitem__(self, index: int | slice) -> list[int] | list[list[int]]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        start = self._starts[index]
        index += len(self) * (index < 0)
        batch = self._order[start : self._starts[index + 1] if index + 1 < len(self) else None]
        if self.sort:  # equal lengths become neighbours: attention computes them together
            batch = batch[np.argsort(-self.sampler.sizes[batch], kind="stable")]
        return batch.tolist()

    @cached_property
    def _order(self) -> np.ndarray:
        small = len(self.sampler.lengths) < 2**31
        return self._compute_order().astype(np.int32 if small else np.int64)

    @cached_property
    def _starts(self) -> Sequence[int]:
        """The position of the first example of each batch."""
        count, max_examples = len(self.sampler.lengths), self.sampler.batch_size or self.sampler.max_examples
        if self.sampler.batch_tokens is None:
            return range(0, count, max_examples)
        ends = np.cumsum(self.sampler.sizes[self._order])  # tokens up to and with each example
        starts = array("q")
        start = tokens = 0
        while start < count:
            starts.append(start)
            fitting = int(np.searchsorted(ends, tokens + self.sampler.batch_tokens, side="right"))
            start = min(max(fitting, start + 1), start + max_examples)
            tokens = int(ends[start - 1])
        return starts
