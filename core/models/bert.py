"""BERT, the encoder: every token looks both ways.

Devlin et al. 2019, https://arxiv.org/abs/1810.04805; numerically the published checkpoints.
Read beside gpt2.py: norms come after each sub-layer (post-norm), attention looks both ways, and a sequence is
summed up by its first token, `[CLS]`.

Shapes: B sequences, T tokens in all, C hidden size, V vocabulary.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn

from ..errors import HeadwayError
from .dropout import Dropout
from .layers import (
    ACTIVATIONS,
    HF_ACTIVATIONS,
    FeedForward,
    SelfAttention,
    Trace,
    embedding,
    init_weights,
    pad_rows,
    take_selected,
)
from .packing import PackedBatch

IMPLEMENTED = {"is_decoder": False, "add_cross_attention": False, "position_embedding_type": "absolute"}


@dataclass(frozen=True)
class BertConfig:
    """Everything that changes BERT's arithmetic."""

    vocab_size: int = 30522
    max_positions: int = 512
    num_segments: int = 2
    hidden_size: int = 768
    num_layers: int = 12
    num_heads: int = 12
    intermediate_size: int = 3072
    activation: str = "gelu"
    norm_eps: float = 1e-12
    dropout: float = 0.1
    attention_dropout: float = 0.1
    head_dropout: float = 0.1
    init_std: float = 0.02
    tie_embeddings: bool = True  # the masked-language-model head's output matrix is the token embedding

    @classmethod
    def named(cls, size: str, **changes: Any) -> Self:
        """One of the published sizes (SIZES), with changes."""
        return cls(**{**SIZES[size], **changes})

    @classmethod
    def from_hf(cls, config: Mapping[str, Any]) -> Self:
        """Reads a published config.json.

        Raises:
            HeadwayError: a field asks for arithmetic that is not implemented; the message names it.
        """
        for name, only in IMPLEMENTED.items():
            if config.get(name, only) not in (only, None):
                raise HeadwayError(f"config.json asks for {name}={config[name]!r}; BERT here has {only!r} only.")
        activation = config.get("hidden_act", "gelu")
        if activation not in HF_ACTIVATIONS:
            raise HeadwayError(
                f"config.json asks for hidden_act={activation!r}; known are {', '.join(HF_ACTIVATIONS)}."
            )
        default = cls()
        dropout = config.get("hidden_dropout_prob", default.dropout)
        head_dropout = config.get("classifier_dropout")
        return cls(
            vocab_size=config.get("vocab_size", default.vocab_size),
            max_positions=config.get("max_position_embeddings", default.max_positions),
            num_segments=config.get("type_vocab_size", default.num_segments),
            hidden_size=config.get("hidden_size", default.hidden_size),
            num_layers=config.get("num_hidden_layers", default.num_layers),
            num_heads=config.get("num_attention_heads", default.num_heads),
            intermediate_size=config.get("intermediate_size", default.intermediate_size),
            activation=HF_ACTIVATIONS[activation],
            norm_eps=config.get("layer_norm_eps", default.norm_eps),
            dropout=dropout,
            attention_dropout=config.get("attention_probs_dropout_prob", default.attention_dropout),
            head_dropout=dropout if head_dropout is None else head_dropout,
            init_std=config.get("initializer_range", default.init_std),
            tie_embeddings=config.get("tie_word_embeddings", True),
        )

    def to_hf(self) -> dict[str, Any]:
        """The fields of a published config.json."""
        return {
            "model_type": "bert",
            "vocab_size": self.vocab_size,
            "max_position_embeddings": self.max_positions,
            "type_vocab_size": self.num_segments,
            "hidden_size": self.hidden_size,
            "num_hidden_layers": self.num_layers,
            "num_attention_heads": self.num_heads,
            "intermediate_size": self.intermediate_size,
            "hidden_act": {"gelu_tanh": "gelu_new"}.get(self.activation, self.activation),
            "layer_norm_eps": self.norm_eps,
            "hidden_dropout_prob": self.dropout,
            "attention_probs_dropout_prob": self.attention_dropout,
            "classifier_dropout": self.head_dropout,
            "initializer_range": self.init_std,
            "tie_word_embeddings": self.tie_embeddings,
        }


# Turc et al. 2019 (https://arxiv.org/abs/1908.08962) for the small ones, Devlin et al. 2019 for base and large.
SIZES: dict[str, dict[str, Any]] = {
    name: {"num_layers": layers, "hidden_size": size, "num_heads": size // 64, "intermediate_size": 4 * size}
    for name, layers, size in [
        ("tiny", 2, 128), ("mini", 4, 256), ("small", 4, 512), ("medium", 8, 512),
        ("base", 12, 768), ("large", 24, 1024),
    ]
}  # fmt: skip


class BertBlock(nn.Module):
    """One layer of the encoder: each sub-layer is added to its input, then the sum is normalised."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.attn = SelfAttention(config.hidden_size, config.num_heads, config.attention_dropout, causal=False)
        self.norm1 = nn.LayerNorm(config.hidden_size, eps=config.norm_eps)
        self.mlp = FeedForward(config.hidden_size, config.intermediate_size, config.activation)
        self.norm2 = nn.LayerNorm(config.hidden_size, eps=config.norm_eps)
        self.dropout = Dropout(config.dropout)

    def forward(self, x: Tensor, batch: PackedBatch, trace: Trace | None = None, only: Tensor | None = None) -> Tensor:
        """(T, C) -> (T, C); (B, C) with `only`, one token of each sequence."""
        attended = self.attn(x, batch, trace, only=only)
        x = self.norm1((x if only is None else x[only]) + self.dropout(attended))
        return self.norm2(x + self.dropout(self.mlp(x)))


class Bert(nn.Module):
    """The encoder: token ids to one vector a token."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.config = config
        self.token_embedding = embedding(config.vocab_size, config.hidden_size)
        self.position_embedding = embedding(config.max_positions, config.hidden_size)
        self.segment_embedding = embedding(config.num_segments, config.hidden_size)
        self.embedding_norm = nn.LayerNorm(config.hidden_size, eps=config.norm_eps)
        self.dropout = Dropout(config.dropout)
        self.blocks = nn.ModuleList(BertBlock(config) for _ in range(config.num_layers))
        init_weights(self, config.init_std)

    def embed(self, batch: PackedBatch) -> Tensor:
        """What enters the first block, (T, C)."""
        x = self.token_embedding(batch.input_ids) + self.position_embedding(batch.position_ids)
        return self.dropout(self.embedding_norm(x + self.segment_embedding(batch.segment_ids)))

    def forward(self, batch: PackedBatch, trace: Trace | None = None, only: Tensor | None = None) -> Tensor:
        """The last layer's hidden states, (T, C); (B, C) with `only`, one token of each sequence, and no trace."""
        x = self.embed(batch)
        if trace is None:
            x = pad_rows(x)
        else:
            trace.hidden_states.append(x)
        for block in self.blocks:
            x = block(x, batch, trace, only if block is self.blocks[-1] else None)
            if trace is not None:
                trace.hidden_states.append(x)
        return x[: batch.num_tokens]


class BertPooler(nn.Module):
    """A sequence's summary: the vector of its first token, `[CLS]`, through a linear layer and tanh."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        init_weights(self, config.init_std)

    def forward(self, hidden: Tensor, batch: PackedBatch) -> Tensor:
        """(T, C) -> (B, C)."""
        return torch.tanh(self.dense(hidden[batch.first]))


class MaskedLMHead(nn.Module):
    """Which word stands behind a mask: a transform, then the token embedding as output matrix."""

    def __init__(self, config: BertConfig, token_embedding: nn.Embedding) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.activation = ACTIVATIONS[config.activation]
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.norm_eps)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size)
        init_weights(self, config.init_std)
        if config.tie_embeddings:
            self.lm_head.weight = token_embedding.weight

    def forward(self, hidden: Tensor, batch: PackedBatch | None = None) -> Tensor:
        """Any tokens' vectors (N, C) -> logits (N, V); of the batch's selected tokens alone where it has some."""
        hidden = take_selected(hidden, batch)
        return self.lm_head(self.norm(self.activation(self.dense(hidden))))


class PretrainingHead(nn.Module):
    """BERT's two pretraining heads: masked words, and whether the second segment followed the first."""

    def __init__(self, config: BertConfig, token_embedding: nn.Embedding) -> None:
        super().__init__()
        self.masked_lm = MaskedLMHead(config, token_embedding)
        self.pooler = BertPooler(config)
        self.next_sentence = nn.Linear(config.hidden_size, 2)
        init_weights(self.next_sentence, config.init_std)

    def forward(self, hidden: Tensor, batch: PackedBatch) -> tuple[Tensor, Tensor]:
        """(T, C) -> masked-word logits (T, V) and next-sentence logits (B, 2); 0 means that it followed."""
        return self.masked_lm(hidden, batch), self.next_sentence(self.pooler(hidden, batch))
