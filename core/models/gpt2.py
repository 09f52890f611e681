"""GPT-2, the decoder: every token attends to itself and earlier tokens.

Radford et al. 2019, "Language Models are Unsupervised Multitask Learners"; numerically equal to the published
checkpoints. Compare bert.py: here norms precede each sub-layer (pre-norm) with one more at the end, attention is
causal, and the last token represents the sequence.

B batch, T tokens, C hidden, V vocabulary. T' is T plus the rows that `pad_rows` (layers.py) appends.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Self

from torch import Tensor, nn

from .activation_checkpointing import run_block
from .cache import KVCache, LayerCache
from .cross_attention import CrossAttention
from .dropout import Dropout
from .layers import FeedForward, SelfAttention, init_matrix, init_weights, new_embedding, pad_rows
from .packing import PackedBatch
from .vocabulary_loss import TokenLosses, over_vocabulary


@dataclass(frozen=True)
class GPT2Config:
    """Everything that changes GPT-2's arithmetic."""

    family: str = "gpt2"  # the published model type
    vocab_size: int = 50257
    max_positions: int = 1024
    hidden_size: int = 768
    num_layers: int = 12
    num_heads: int = 12
    intermediate_size: int = 3072
    activation: str = "gelu_tanh"
    norm_eps: float = 1e-5
    dropout: float = 0.1
    embedding_dropout: float = 0.1
    attention_dropout: float = 0.1
    head_dropout: float = 0.1
    init_std: float = 0.02
    scale_attention: bool = True  # divide the dot products by the square root of the head size
    scale_attention_by_layer: bool = False  # and by the number of the layer, counted from 1
    tie_embeddings: bool = True  # the output matrix of the language-modeling head is the token embedding
    cross_attention: bool = False  # also attends to the source of the batch: the decoder of an encoder-decoder

    @classmethod
    def named(cls, size: str, **changes: Any) -> Self:
        """One of the published sizes (SIZES), with changes."""
        return cls(**{**SIZES[size], **changes})

    def attention_scale(self, layer: int) -> float:
        """Factor of the dot products of a layer, counted from 0."""
        scale = (self.hidden_size // self.num_heads) ** -0.5 if self.scale_attention else 1.0
        return scale / (layer + 1) if self.scale_attention_by_layer else scale


# The four published sizes, 124 million to 1.5 billion parameters, and two small ones after BERT's.
SIZES: dict[str, dict[str, Any]] = {
    name: {"num_layers": layers, "hidden_size": size, "num_heads": size // 64, "intermediate_size": 4 * size}
    for name, layers, size in [
        ("tiny", 2, 128), ("mini", 4, 256),
        ("124M", 12, 768), ("355M", 24, 1024), ("774M", 36, 1280), ("1558M", 48, 1600),
    ]
}  # fmt: skip


class GPT2Block(nn.Module):
    """A layer of the decoder: each sub-layer reads its normalized input, and its output is added to the input."""

    def __init__(self, config: GPT2Config, layer: int) -> None:
        super().__init__()
        size, scale = config.hidden_size, config.attention_scale(layer)
        self.norm1 = nn.LayerNorm(size, eps=config.norm_eps)
        self.attn = SelfAttention(size, config.num_heads, config.attention_dropout, causal=True, scale=scale)
        self.cross_norm = self.cross_attn = None
        if config.cross_attention:
            self.cross_norm = nn.LayerNorm(size, eps=config.norm_eps)
            self.cross_attn = CrossAttention(size, config.num_heads, config.attention_dropout, scale=scale)
        self.norm2 = nn.LayerNorm(size, eps=config.norm_eps)
        self.mlp = FeedForward(size, config.intermediate_size, config.activation)
        self.dropout = Dropout(config.dropout)

    def forward(
        self, x: Tensor, batch: PackedBatch, cache: LayerCache | None = None, encoded: Tensor | None = None
    ) -> Tensor:
        """(T', C) -> (T', C)."""
        x = x + self.dropout(self.attn(self.norm1(x), batch, cache))
        if self.cross_attn is not None and self.cross_norm is not None:
            x = x + self.dropout(self.cross_attn(self.cross_norm(x), encoded, batch, cache))
        return x + self.dropout(self.mlp(self.norm2(x)))

    def forward_at(self, x: Tensor, batch: PackedBatch, rows: Tensor) -> Tensor:
        """(T', C) -> (B, C): `forward` at the last token of each sequence."""
        x = x[rows] + self.dropout(self.attn.forward_at(self.norm1(x), batch, rows))
        return x + self.dropout(self.mlp(self.norm2(x)))


class GPT2(nn.Module):
    """The decoder: token ids to one vector per token, which depends on that token and earlier ones only."""

    def __init__(self, config: GPT2Config) -> None:
        super().__init__()
        self.config = config
        self.token_embedding = new_embedding(config.vocab_size, config.hidden_size)
        self.position_embedding = new_embedding(config.max_positions, config.hidden_size)
        self.dropout = Dropout(config.embedding_dropout)
        blocks = [GPT2Block(config, layer) for layer in range(config.num_layers)]
        self.blocks = nn.ModuleList(blocks)
        self.checkpoint_activations = False
        self.final_norm = nn.LayerNorm(config.hidden_size, eps=config.norm_eps)
        init_weights(self, config.init_std)
        for block in blocks:  # as published: what is added to the residual stream shrinks with the depth
            cross = [] if block.cross_attn is None else [block.cross_attn.out]
            for out in (block.attn.out, block.mlp.down, *cross):
                init_matrix(out.weight, std=config.init_std / (2 * config.num_layers) ** 0.5)

    def forward(self, batch: PackedBatch, cache: KVCache | None = None, encoded: Tensor | None = None) -> Tensor:
        """The hidden states after the final norm, (T, C).

        Args:
            batch: the tokens; with a cache, the result of its `extend`.
            cache: holds the keys and values of the tokens before the batch, and takes those of the batch.
            encoded: the encoder's hidden states of `batch.source`, (S', C); not needed with a cache.
        """
        return self.final_norm(self._run(self.blocks, batch, cache, encoded))[: batch.num_tokens]

    def forward_at(self, batch: PackedBatch, rows: Tensor) -> Tensor:
        """`forward` at the last token of each sequence, `rows` (B,): (B, C). The last block skips all other tokens."""
        *blocks, last = self.blocks
        assert isinstance(last, GPT2Block)
        return self.final_norm(last.forward_at(self._run(blocks, batch), batch, rows))

    def embed(self, batch: PackedBatch) -> Tensor:
        """The input of the first block, (T, C)."""
        return self.dropout(self.token_embedding(batch.input_ids) + self.position_embedding(batch.position_ids))

    def new_cache(self, rows: int, capacity: int) -> KVCache:
        """An empty key-value cache for this model: `rows` texts of up to `capacity` tokens."""
        return KVCache.of(self.config, self.token_embedding.weight, rows=rows, capacity=capacity)

    @property
    def cache_bytes_per_token(self) -> int:
        """The size of a token's keys and values in all layers."""
        return KVCache.bytes_per_token(self.config, self.token_embedding.weight)

    def _run(
        self,
        blocks: Iterable[nn.Module],
        batch: PackedBatch,
        cache: KVCache | None = None,
        encoded: Tensor | None = None,
    ) -> Tensor:
        """The hidden states after some blocks, (T', C)."""
        x = pad_rows(self.embed(batch))
        for layer, block in enumerate(blocks):
            layer_cache = None if cache is None else cache.layer(layer)
            x = run_block(block, x, batch, layer_cache, encoded, checkpointed=self.checkpoint_activations)
        return x


class LastToken(nn.Module):
    """A sequence's vector: that of its last token, the only one that has seen the whole sequence."""

    def forward(self, hidden: Tensor, batch: PackedBatch) -> Tensor:
        """(T, C) -> (B, C)."""
        return hidden[self.rows(batch)]

    def forward_at(self, last: Tensor) -> Tensor:
        """(B, C) -> (B, C): `forward`, given the vectors of the last tokens only."""
        return last

    def rows(self, batch: PackedBatch) -> Tensor:
        """The token of each sequence that is read, (B,)."""
        return batch.last


class LanguageModelHead(nn.Module):
    """Predicts the next token: the token embedding as output matrix."""

    def __init__(self, config: GPT2Config, token_embedding: nn.Embedding) -> None:
        super().__init__()
        self.vocab_size = config.vocab_size
        self.label_smoothing = 0.0  # set by a task
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        init_weights(self, config.init_std)
        if config.tie_embeddings:
            self.lm_head.weight = token_embedding.weight

    def forward(self, hidden: Tensor, batch: PackedBatch | None = None) -> Tensor | TokenLosses:
        """Logits of any vectors, (N, C) -> (N, V); with a batch, of its selected tokens only, (T, C) -> (S, V).

        With a batch that has targets, their losses.
        """
        if batch is not None and batch.selected is not None:
            hidden = hidden[batch.selected]
        return over_vocabulary(hidden, self.lm_head, self.vocab_size, batch, self.label_smoothing)
