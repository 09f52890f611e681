"""The cache of an encoder-decoder for generation: its encoder reads the sources once."""

from collections.abc import Iterator, Sequence
from typing import Protocol

from torch import Tensor, nn

from .cache import DecoderConfig, KVCache, cache_with_sources
from .cross_attention import CrossAttention
from .packing import PackedBatch


class SourceReader(Protocol):
    """An encoder-decoder."""

    def encode(self, source: PackedBatch) -> Tensor:
        """What the decoder attends to, (S', C): S tokens of the sources and the rows that `pad_rows` appends."""
        ...

    @property
    def blocks(self) -> nn.ModuleList:
        """The decoder's blocks."""
        ...

    @property
    def token_embedding(self) -> nn.Embedding:
        """The decoder's token embedding."""
        ...


def new_source_cache(
    model: SourceReader, config: DecoderConfig, sources: Sequence[Sequence[int]], capacity: int, copies: int
) -> KVCache:
    """A cache for generation, with a row for the target of each source.

    The encoder reads the sources, and every layer of the decoder computes its keys and values of them, once.
    `fork` and `reorder` keep the source of every row, without copying it.

    Args:
        model: whose encoder reads the sources.
        config: of its decoder.
        sources: token ids of each source, at least one each.
        capacity: maximum number of tokens per target, with the one that it starts from.
        copies: targets that there is room for per source; `reorder` makes them of the first ones.
    """

    def keys_values(source: PackedBatch) -> Iterator[Tensor]:
        """The keys and values of the source in every layer of the decoder, (S', 2, H, D) each."""
        encoded = model.encode(source)
        for block in model.blocks:
            cross_attention = block.get_submodule("cross_attn")
            assert isinstance(cross_attention, CrossAttention)
            yield cross_attention.keys_values(encoded)

    weight = model.token_embedding.weight
    return cache_with_sources(config, weight, sources, encode=keys_values, capacity=capacity, copies=copies)
