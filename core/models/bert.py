"""BERT, the encoder: every token attends to its whole sequence.

Devlin et al. 2019, https://arxiv.org/abs/1810.04805; numerically equal to the published checkpoints.
Compare gpt2.py: here norms follow each sub-layer (post-norm), attention is bidirectional, and the first token,
`[CLS]`, represents the sequence.

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
from .layers import ACTIVATIONS, FeedForward, SelfAttention, init_weights, new_embedding, pad_rows
from .packing import PackedBatch
from .vocabulary_loss import TokenLosses, over_vocabulary


@dataclass(frozen=True)
class BertConfig:
    """Everything that changes the arithmetic of BERT and its relatives."""

    family: str = "bert"  # the published model type
    vocab_size: int = 30522
    max_positions: int = 512
    position_offset: int = 0  # the row of the position embedding for the first token
    num_segments: int = 2  # 0: no embedding of segments
    num_task_types: int = 0  # 0: no embedding of the task; of several, the first one is added to every token
    embedding_size: int | None = None  # of the embeddings, if a linear layer follows them; None: hidden_size
    hidden_size: int = 768
    num_layers: int = 12
    num_heads: int = 12
    intermediate_size: int = 3072
    activation: str = "gelu"
    norm_eps: float = 1e-12
    dropout: float = 0.1
    attention_dropout: float = 0.1
    head_dropout: float = 0.1
    token_dropout: float | None = None  # of a head on every token; None: head_dropout
    span_dropout: float = 0.0  # of a head for answers
    choice_dropout: float | None = None  # of a head for multiple choice; None: head_dropout
    pooler_activation: str = "tanh"
    pooler_dropout: bool = False  # whether a classifier has the head's dropout before the pooler as well
    lm_activation: str | None = None  # of the masked-language-modeling head; None: activation
    init_std: float = 0.02
    share_layers: bool = False  # all blocks have the parameters of the first one
    tie_embeddings: bool = True  # the output matrix of the masked-language-modeling head is the token embedding
    causal: bool = False  # a token attends to itself and earlier tokens only: BERT as a decoder
    cross_attention: bool = False  # also attends to the source of the batch: the decoder of an encoder-decoder

    @classmethod
    def named(cls, size: str, **changes: Any) -> Self:
        """One of the published sizes (SIZES), with changes."""
        return cls(**{**SIZES[size], **changes})


# Turc et al. 2019 (https://arxiv.org/abs/1908.08962) for the small ones, Devlin et al. 2019 for base and large.
SIZES: dict[str, dict[str, Any]] = {
    name: {"num_layers": layers, "hidden_size": size, "num_heads": size // 64, "intermediate_size": 4 * size}
    for name, layers, size in [
        ("tiny", 2, 128), ("mini", 4, 256), ("small", 4, 512), ("medium", 8, 512),
        ("base", 12, 768), ("large", 24, 1024),
    ]
}  # fmt: skip


class BertBlock(nn.Module):
    """A layer of the encoder: each sub-layer's output is added to its input, then the sum is normalized."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        size = config.hidden_size
        self.attn = SelfAttention(size, config.num_heads, config.attention_dropout, causal=config.causal)
        self.norm1 = nn.LayerNorm(size, eps=config.norm_eps)
        self.cross_attn = self.cross_norm = None
        if config.cross_attention:
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
        if self.cross_attn is not None and self.cross_norm is not None:
            x = self.cross_norm(x + self.dropout(self.cross_attn(x, encoded, batch, cache)))
        return self.norm2(x + self.dropout(self.mlp(x)))

    def forward_at(self, x: Tensor, batch: PackedBatch, rows: Tensor) -> Tensor:
        """(T', C) -> (B, C): `forward` at one token per sequence."""
        x = self.norm1(x[rows] + self.dropout(self.attn.forward_at(x, batch, rows)))
        return self.norm2(x + self.dropout(self.mlp(x)))


class Bert(nn.Module):
    """The encoder: token ids to one vector per token."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.config = config
        size = config.embedding_size or config.hidden_size
        self.token_embedding = new_embedding(config.vocab_size, size)
        self.position_embedding = new_embedding(config.max_positions + config.position_offset, size)
        self.segment_embedding = new_embedding(config.num_segments, size) if config.num_segments else None
        self.task_embedding = new_embedding(config.num_task_types, size) if config.num_task_types else None
        self.embedding_norm = nn.LayerNorm(size, eps=config.norm_eps)
        self.dropout = Dropout(config.dropout)
        self.embedding_projection = nn.Linear(size, config.hidden_size) if config.embedding_size else None
        self.blocks = nn.ModuleList(BertBlock(config) for _ in range(config.num_layers))
        self.checkpoint_activations = False
        init_weights(self, config.init_std)
        if config.share_layers:
            self._share_layers()

    def _share_layers(self) -> None:
        first, *others = self.blocks
        for block in others:
            for name, parameter in first.named_parameters():
                path, _, last = name.rpartition(".")
                setattr(block.get_submodule(path), last, parameter)

    def forward(self, batch: PackedBatch, cache: KVCache | None = None, encoded: Tensor | None = None) -> Tensor:
        """The hidden states after the last block, (T, C).

        Args:
            batch: the tokens; with a cache, the result of its `extend`.
            cache: of a decoder; holds the keys and values of earlier tokens, and takes those of the batch.
            encoded: of a decoder; the encoder's hidden states of `batch.source`, (S', C). Not needed with a cache.
        """
        return self._run(self.blocks, batch, cache, encoded)[: batch.num_tokens]

    def forward_at(self, batch: PackedBatch, rows: Tensor) -> Tensor:
        """`forward` at one token per sequence, `rows` (B,): (B, C). The last block skips all other tokens."""
        *blocks, last = self.blocks
        assert isinstance(last, BertBlock)
        return last.forward_at(self._run(blocks, batch), batch, rows)

    def embed(self, batch: PackedBatch) -> Tensor:
        """The input of the first block, (T, C)."""
        return self.embed_ids(batch.input_ids, batch.position_ids, batch.segment_ids)

    def embed_ids(self, input_ids: Tensor, position_ids: Tensor, segment_ids: Tensor) -> Tensor:
        """`embed` for ids of any shape, with one vector for each, (..., C)."""
        x = self.token_embedding(input_ids) + self.position_embedding(position_ids + self.config.position_offset)
        if self.segment_embedding is not None:  # of a single segment, whatever the tokenizer says
            x = x + self.segment_embedding(segment_ids if self.config.num_segments > 1 else segment_ids * 0)
        if self.task_embedding is not None:
            x = x + self.task_embedding.weight[0]
        x = self.dropout(self.embedding_norm(x))
        return x if self.embedding_projection is None else self.embedding_projection(x)

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


class BertPooler(nn.Module):
    """A sequence's vector: that of its first token, `[CLS]`, through a linear layer and tanh (or as configured)."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.activation = ACTIVATIONS[config.pooler_activation]
        init_weights(self, config.init_std)

    def forward(self, hidden: Tensor, batch: PackedBatch) -> Tensor:
        """(T, C) -> (B, C)."""
        return self.forward_at(hidden[self.rows(batch)])

    def forward_at(self, first: Tensor) -> Tensor:
        """(B, C) -> (B, C): `forward`, given the vectors of the first tokens only."""
        return self.activation(self.dense(first))

    def rows(self, batch: PackedBatch) -> Tensor:
        """The token of each sequence that is read, (B,)."""
        return batch.first


class MaskedLMHead(nn.Module):
    """Predicts masked tokens: a transform, then the token embedding as output matrix."""

    def __init__(self, config: BertConfig, token_embedding: nn.Embedding) -> None:
        super().__init__()
        size = config.embedding_size or config.hidden_size
        self.dense = nn.Linear(config.hidden_size, size)
        self.activation = ACTIVATIONS[config.lm_activation or config.activation]
        self.norm = nn.LayerNorm(size, eps=config.norm_eps)
        self.vocab_size = config.vocab_size
        self.label_smoothing = 0.0  # set by a task
        self.lm_head = nn.Linear(size, config.vocab_size)
        init_weights(self, config.init_std)
        if config.tie_embeddings:
            self.lm_head.weight = token_embedding.weight

    def forward(self, hidden: Tensor, batch: PackedBatch | None = None) -> Tensor | TokenLosses:
        """Logits of any vectors, (N, C) -> (N, V); with a batch, of its selected tokens only, (T, C) -> (S, V).

        With a batch that has targets, their losses.
        """
        if batch is not None and batch.selected is not None:
            hidden = hidden[batch.selected]
        x = self.norm(self.activation(self.dense(hidden)))
        return over_vocabulary(x, self.lm_head, self.vocab_size, batch, self.label_smoothing)


class PretrainingHead(nn.Module):
    """BERT's two pretraining heads: masked tokens, and whether the second segment follows the first."""

    def __init__(self, config: BertConfig, token_embedding: nn.Embedding) -> None:
        super().__init__()
        self.masked_lm = MaskedLMHead(config, token_embedding)
        self.pooler = BertPooler(config)
        self.next_sentence = nn.Linear(config.hidden_size, 2)
        init_weights(self.next_sentence, config.init_std)

    def forward(self, hidden: Tensor, batch: PackedBatch) -> tuple[Tensor | TokenLosses, Tensor]:
        """(T, C) -> the output of `masked_lm`, and next-sentence logits (B, 2); class 0 means that it follows."""
        return self.masked_lm(hidden, batch), self.next_sentence(self.pooler(hidden, batch))
