"""An encoder and a decoder joined by cross-attention: text to text.

Rothe et al. 2020, "Leveraging Pre-trained Checkpoints for Sequence Generation Tasks",
https://arxiv.org/abs/1907.12461; numerically equal to transformers' EncoderDecoderModel. The encoder is a BERT, the
decoder a GPT-2 or a causal BERT, whose blocks also attend to the encoder's hidden states (cross_attention.py).

B batch, T tokens of the target, S tokens of the source, C hidden size of the decoder. S' is S plus the rows that
`pad_rows` (layers.py) appends.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from .bert import Bert, BertConfig, BertPooler
from .cache import KVCache
from .gpt2 import GPT2, GPT2Config
from .layers import init_weights, pad_rows
from .packing import PackedBatch
from .source_cache import new_source_cache


@dataclass(frozen=True)
class EncoderDecoderConfig:
    """The configurations of both parts, and the tokens between which the decoder writes.

    Raises:
        ValueError: the decoder does not have cross-attention, or attends to later tokens.
    """

    encoder: BertConfig
    decoder: GPT2Config | BertConfig
    start_id: int | None = None  # of the decoder's vocabulary: the token that every target begins with
    end_id: int | None = None  # the token that ends a target; None: no token does
    pad_id: int | None = None  # what transformers fills short targets with; here nothing is padded
    encoder_pooler: bool = False  # the encoder has a pooler, which is not used: the published files have its weights
    family: str = "encoder-decoder"  # the published model type

    def __post_init__(self) -> None:
        causal = isinstance(self.decoder, GPT2Config) or self.decoder.causal
        if not self.decoder.cross_attention or not causal:
            raise ValueError("the decoder of an encoder-decoder has cross-attention and is causal")

    @property
    def hidden_size(self) -> int:
        """C: of the decoder, whose hidden states the head reads."""
        return self.decoder.hidden_size

    @property
    def vocab_size(self) -> int:
        """The size of the decoder's vocabulary."""
        return self.decoder.vocab_size

    @property
    def max_positions(self) -> int:
        """The maximum number of tokens of a target; `encoder.max_positions` is that of a source."""
        return self.decoder.max_positions

    @property
    def num_layers(self) -> int:
        """The number of the decoder's layers."""
        return self.decoder.num_layers

    @property
    def num_encoder_layers(self) -> int:
        """The number of the encoder's layers."""
        return self.encoder.num_layers

    @property
    def num_heads(self) -> int:
        """The number of the decoder's attention heads."""
        return self.decoder.num_heads

    @property
    def head_dropout(self) -> float:
        """The dropout of a head on the decoder."""
        return self.decoder.head_dropout

    @property
    def init_std(self) -> float:
        """The standard deviation of the decoder's new matrices."""
        return self.decoder.init_std

    @property
    def tie_embeddings(self) -> bool:
        """Whether the output matrix of the language-modeling head is the decoder's token embedding."""
        return self.decoder.tie_embeddings


class EncoderDecoder(nn.Module):
    """The two parts: the tokens of a target to one vector each, which depends on the source and on earlier tokens."""

    def __init__(self, config: EncoderDecoderConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Bert(config.encoder)
        self.encoder_pooler = BertPooler(config.encoder).requires_grad_(False) if config.encoder_pooler else None
        sizes = config.encoder.hidden_size, config.decoder.hidden_size
        self.projection = nn.Linear(*sizes) if sizes[0] != sizes[1] else None
        self.decoder = GPT2(config.decoder) if isinstance(config.decoder, GPT2Config) else Bert(config.decoder)
        if self.projection is not None:
            init_weights(self.projection, config.encoder.init_std)

    def forward(self, batch: PackedBatch, cache: KVCache | None = None) -> Tensor:
        """The decoder's hidden states for the tokens of the target, (T, C).

        Args:
            batch: the target, with its source; with a cache, the result of its `extend`, without a source.
            cache: from `new_cache`; it holds the keys and values of the sources and of the tokens before the batch,
                and takes those of the batch.
        """
        if cache is not None:
            return self.decoder(batch, cache)
        assert batch.source is not None, "the batch of an encoder-decoder has a source"
        return self.decoder(batch, encoded=self.encode(batch.source))

    def forward_at(self, batch: PackedBatch, rows: Tensor) -> Tensor:
        """`forward` at one token per target, `rows` (B,): (B, C)."""
        return self(batch)[rows]

    def encode(self, source: PackedBatch) -> Tensor:
        """What the decoder attends to: the encoder's hidden states in the decoder's width, (S', C)."""
        hidden = self.encoder(source)
        return pad_rows(hidden if self.projection is None else self.projection(hidden))

    def new_cache(self, sources: Sequence[Sequence[int]], capacity: int, copies: int = 1) -> KVCache:
        """A cache for generation, with a row for the target of each source: `new_source_cache`."""
        return new_source_cache(self, self.config.decoder, sources, capacity, copies)

    @property
    def cache_bytes_per_token(self) -> int:
        """The size of a token's keys and values in all layers of the decoder, of the target or of the source."""
        return KVCache.bytes_per_token(self.config.decoder, self.token_embedding.weight)

    def embed(self, batch: PackedBatch) -> Tensor:
        """The input of the decoder's first block, (T, C)."""
        return self.decoder.embed(batch)

    @property
    def blocks(self) -> nn.ModuleList:
        """The decoder's blocks."""
        return self.decoder.blocks

    @property
    def token_embedding(self) -> nn.Embedding:
        """The decoder's token embedding."""
        return self.decoder.token_embedding
