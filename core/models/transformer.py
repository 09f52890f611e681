"""The Transformer, an encoder and a decoder: where BERT and GPT-2 come from.

Vaswani et al. 2017, "Attention Is All You Need", https://arxiv.org/abs/1706.03762; numerically equal to the published
checkpoints of Marian (Junczys-Dowmunt et al. 2018, https://arxiv.org/abs/1804.00344). Compare bert.py, which is the
encoder with learned positions, and gpt2.py, which is the decoder without its attention to the source, with norms
before each sub-layer. Source, target and output have one embedding.

B batch, T tokens of all targets, S tokens of all sources, C hidden, V vocabulary, P positions. T' and S' are T and S
plus the rows that `pad_rows` (layers.py) appends.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from .activation_checkpointing import run_block
from .cache import KVCache, LayerCache
from .cross_attention import CrossAttention
from .dropout import Dropout
from .layers import FeedForward, SelfAttention, init_matrix, new_embedding, pad_rows
from .packing import PackedBatch
from .source_cache import new_source_cache
from .vocabulary_loss import TokenLosses, over_vocabulary


@dataclass(frozen=True)
class TransformerConfig:
    """Everything that changes the arithmetic of the Transformer."""

    tie_embeddings: ClassVar[bool] = True  # source, target and output have one embedding
    family: str = "marian"  # the published model type
    vocab_size: int = 37000
    max_positions: int = 1024
    hidden_size: int = 512
    num_encoder_layers: int = 6
    num_layers: int = 6  # of the decoder
    num_encoder_heads: int = 8
    num_heads: int = 8  # of the decoder
    encoder_intermediate_size: int = 2048
    intermediate_size: int = 2048  # of the decoder
    activation: str = "relu"
    norm_eps: float = 1e-5
    dropout: float = 0.1
    attention_dropout: float = 0.0
    scale_embedding: bool = True  # multiply token embeddings by the square root of the hidden size
    start_id: int = 0  # the token that every target begins with
    end_id: int = 1  # the token that ends every source and target
    pad_id: int = 0  # what transformers fills short sequences with; here nothing is padded

    @classmethod
    def named(cls, size: str, **changes: Any) -> Self:
        """One of the published sizes (SIZES), with changes."""
        return cls(**{**SIZES[size], **changes})

    @property
    def init_std(self) -> float:
        """The standard deviation of a new embedding, which the scale makes 1."""
        return self.hidden_size**-0.5

    @property
    def head_dropout(self) -> float:
        """The dropout of a head on the decoder."""
        return self.dropout


# Table 3 of the paper for base and big, its row of 4 layers for small, and two smaller ones after BERT's.
SIZES: dict[str, dict[str, Any]] = {
    name: {
        "num_encoder_layers": layers, "num_layers": layers, "hidden_size": size,
        "num_encoder_heads": size // 64, "num_heads": size // 64,
        "encoder_intermediate_size": 4 * size, "intermediate_size": 4 * size, "dropout": dropout,
    }
    for name, layers, size, dropout in [
        ("tiny", 2, 128, 0.1), ("mini", 4, 256, 0.1), ("small", 4, 512, 0.1),
        ("base", 6, 512, 0.1), ("big", 6, 1024, 0.3),
    ]
}  # fmt: skip


def sinusoids(positions: int, size: int) -> Tensor:
    """The positional encodings (section 3.5), (P, C) on the CPU: first all sines, then all cosines.

    The paper alternates sines and cosines; like tensor2tensor and Marian, this orders them otherwise, which makes no
    difference to a model that is trained with it.
    """
    frequencies = 10000 ** (-torch.arange(0, size, 2, dtype=torch.float64, device="cpu") / size)
    angles = torch.arange(positions, dtype=torch.float64, device="cpu")[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()[:, : size // 2]], dim=1).float()


class EncoderBlock(nn.Module):
    """A layer of the encoder: each sub-layer's output is added to its input, then the sum is normalized."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        size = config.hidden_size
        self.attn = SelfAttention(size, config.num_encoder_heads, config.attention_dropout, causal=False)
        self.norm1 = nn.LayerNorm(size, eps=config.norm_eps)
        self.mlp = FeedForward(size, config.encoder_intermediate_size, config.activation)
        self.norm2 = nn.LayerNorm(size, eps=config.norm_eps)
        self.dropout = Dropout(config.dropout)

    def forward(self, x: Tensor, batch: PackedBatch) -> Tensor:
        """(S', C) -> (S', C)."""
        x = self.norm1(x + self.dropout(self.attn(x, batch)))
        return self.norm2(x + self.dropout(self.mlp(x)))


class DecoderBlock(nn.Module):
    """A layer of the decoder: as the encoder's, with attention to the source between its two sub-layers."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        size = config.hidden_size
        self.attn = SelfAttention(size, config.num_heads, config.attention_dropout, causal=True)
        self.norm1 = nn.LayerNorm(size, eps=config.norm_eps)
        self.cross_attn = CrossAttention(size, config.num_heads, config.attention_dropout)
        self.cross_norm = nn.LayerNorm(size, eps=config.norm_eps)
        self.mlp = FeedForward(size, config.intermediate_size, config.activation)
        self.norm2 = nn.LayerNorm(size, eps=config.norm_eps)
        self.dropout = Dropout(config.dropout)

    def forward(
        self, x: Tensor, batch: PackedBatch, cache: LayerCache | None = None, encoded: Tensor | None = None
    ) -> Tensor:
        """(T', C) -> (T', C)."""
        x = self.norm1(x + self.dropout(self.attn(x, batch, cache)))
        x = self.cross_norm(x + self.dropout(self.cross_attn(x, encoded, batch, cache)))
        return self.norm2(x + self.dropout(self.mlp(x)))


class Transformer(nn.Module):
    """The encoder and the decoder: one vector per token of the target, of that token, earlier ones and the source."""

    positions: Tensor  # (P, C)

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        self.token_embedding = new_embedding(config.vocab_size, config.hidden_size)
        self.embedding_scale = config.hidden_size**0.5 if config.scale_embedding else 1.0
        self.register_buffer("positions", sinusoids(config.max_positions, config.hidden_size), persistent=False)
        self.dropout = Dropout(config.dropout)
        self.encoder_blocks = nn.ModuleList(EncoderBlock(config) for _ in range(config.num_encoder_layers))
        self.blocks = nn.ModuleList(DecoderBlock(config) for _ in range(config.num_layers))
        self.checkpoint_activations = False
        init_transformer(self, config)

    def forward(self, batch: PackedBatch, cache: KVCache | None = None) -> Tensor:
        """The decoder's hidden states for the tokens of the target, (T, C).

        Args:
            batch: the target, with its source; with a cache, the result of its `extend`, without a source.
            cache: from `new_cache`; it holds the keys and values of the tokens before the batch and of the sources,
                and takes those of the batch.
        """
        encoded = None
        if cache is None:
            assert batch.source is not None, "the batch of an encoder-decoder has a source"
            encoded = self.encode(batch.source)
        x = pad_rows(self.embed(batch))
        for layer, block in enumerate(self.blocks):
            layer_cache = None if cache is None else cache.layer(layer)
            x = run_block(block, x, batch, layer_cache, encoded, checkpointed=self.checkpoint_activations)
        return x[: batch.num_tokens]

    def forward_at(self, batch: PackedBatch, rows: Tensor) -> Tensor:
        """`forward` at one token per target, `rows` (B,): (B, C)."""
        return self(batch)[rows]

    def encode(self, source: PackedBatch) -> Tensor:
        """The encoder's hidden states of the source, (S', C)."""
        x = pad_rows(self.embed(source))
        for block in self.encoder_blocks:
            x = run_block(block, x, source, checkpointed=self.checkpoint_activations)
        return x

    def embed(self, batch: PackedBatch) -> Tensor:
        """The input of the first block, (T, C)."""
        x = self.token_embedding(batch.input_ids) * self.embedding_scale
        return self.dropout(x + self.positions[batch.position_ids].to(x.dtype))

    def new_cache(self, sources: Sequence[Sequence[int]], capacity: int, copies: int = 1) -> KVCache:
        """A cache for generation, with a row for the target of each source: `new_source_cache`."""
        return new_source_cache(self, self.config, sources, capacity, copies)

    @property
    def cache_bytes_per_token(self) -> int:
        """The size of a token's keys and values in all layers of the decoder, of the target or of the source."""
        return KVCache.bytes_per_token(self.config, self.token_embedding.weight)


class TransformerHead(nn.Module):
    """Predicts the next token of the target: the token embedding as output matrix, and Marian's bias."""

    def __init__(self, config: TransformerConfig, token_embedding: nn.Embedding) -> None:
        super().__init__()
        self.vocab_size = config.vocab_size
        self.label_smoothing = 0.0  # set by a task
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size)
        init_transformer(self, config)
        if config.tie_embeddings:
            self.lm_head.weight = token_embedding.weight

    def forward(self, hidden: Tensor, batch: PackedBatch | None = None) -> Tensor | TokenLosses:
        """Logits of any vectors, (N, C) -> (N, V); with a batch, of its selected tokens only, (T, C) -> (S, V).

        With a batch that has targets, their losses.
        """
        if batch is not None and batch.selected is not None:
            hidden = hidden[batch.selected]
        return over_vocabulary(hidden, self.lm_head, self.vocab_size, batch, self.label_smoothing)


def init_transformer(module: nn.Module, config: TransformerConfig) -> None:
    """The initialization of tensor2tensor, with which norms after sub-layers can be trained: Glorot's, biases 0."""
    for name, part in module.named_modules():
        if isinstance(part, nn.Embedding):
            init_matrix(part.weight, config.init_std)
        elif isinstance(part, nn.Linear) and not part.weight.is_meta:
            # Queries, keys and values are one matrix each, although they are computed by one product.
            for matrix in part.weight.chunk({"qkv": 3, "kv": 2}.get(name.rpartition(".")[2], 1)):
                nn.init.xavier_uniform_(matrix)
            nn.init.zeros_(part.bias)
