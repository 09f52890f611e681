"""GPT-2, the decoder: every token looks back.

Radford et al. 2019, "Language Models are Unsupervised Multitask Learners"; numerically the published checkpoints.
Read beside bert.py: norms come before each sub-layer (pre-norm) with one more at the end, attention looks back only,
and a sequence is summed up by its last token.

Shapes: B sequences, T tokens in all, C hidden size, V vocabulary.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from torch import Tensor, nn

from ..errors import HeadwayError
from .dropout import Dropout
from .layers import (
    HF_ACTIVATIONS,
    FeedForward,
    SelfAttention,
    Trace,
    embedding,
    init_matrix,
    init_weights,
    pad_rows,
    take_selected,
)
from .packing import PackedBatch

if TYPE_CHECKING:
    from .cache import KVCache, LayerCache


@dataclass(frozen=True)
class GPT2Config:
    """Everything that changes GPT-2's arithmetic."""

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
    scale_attention: bool = True  # dot products divided by the square root of the head size
    scale_attention_by_layer: bool = False  # and by the number of the layer, counted from 1
    tie_embeddings: bool = True  # the language-model head's output matrix is the token embedding

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
        if config.get("add_cross_attention"):
            raise HeadwayError("config.json asks for add_cross_attention=true; GPT-2 here has self-attention only.")
        activation = config.get("activation_function", "gelu_new")
        if activation not in HF_ACTIVATIONS:
            raise HeadwayError(
                f"config.json asks for activation_function={activation!r}; known are {', '.join(HF_ACTIVATIONS)}."
            )
        default = cls()
        hidden_size = config.get("n_embd", default.hidden_size)
        # The published token-classification class looks for these two in turn and falls back to 0.1.
        head_dropouts = (config.get("classifier_dropout"), config.get("hidden_dropout"), default.head_dropout)
        return cls(
            vocab_size=config.get("vocab_size", default.vocab_size),
            max_positions=config.get("n_positions", default.max_positions),
            hidden_size=hidden_size,
            num_layers=config.get("n_layer", default.num_layers),
            num_heads=config.get("n_head", default.num_heads),
            intermediate_size=config.get("n_inner") or 4 * hidden_size,
            activation=HF_ACTIVATIONS[activation],
            norm_eps=config.get("layer_norm_epsilon", default.norm_eps),
            dropout=config.get("resid_pdrop", default.dropout),
            embedding_dropout=config.get("embd_pdrop", default.embedding_dropout),
            attention_dropout=config.get("attn_pdrop", default.attention_dropout),
            head_dropout=next(value for value in head_dropouts if value is not None),
            init_std=config.get("initializer_range", default.init_std),
            scale_attention=config.get("scale_attn_weights", True),
            scale_attention_by_layer=config.get("scale_attn_by_inverse_layer_idx", False),
            tie_embeddings=config.get("tie_word_embeddings", True),
        )

    def to_hf(self) -> dict[str, Any]:
        """The fields of a published config.json."""
        return {
            "model_type": "gpt2",
            "vocab_size": self.vocab_size,
            "n_positions": self.max_positions,
            "n_ctx": self.max_positions,
            "n_embd": self.hidden_size,
            "n_layer": self.num_layers,
            "n_head": self.num_heads,
            "n_inner": None if self.intermediate_size == 4 * self.hidden_size else self.intermediate_size,
            "activation_function": {"gelu_tanh": "gelu_new"}.get(self.activation, self.activation),
            "layer_norm_epsilon": self.norm_eps,
            "resid_pdrop": self.dropout,
            "embd_pdrop": self.embedding_dropout,
            "attn_pdrop": self.attention_dropout,
            "classifier_dropout": self.head_dropout,
            "initializer_range": self.init_std,
            "scale_attn_weights": self.scale_attention,
            "scale_attn_by_inverse_layer_idx": self.scale_attention_by_layer,
            "tie_word_embeddings": self.tie_embeddings,
        }

    def attention_scale(self, layer: int) -> float:
        """What the dot products of a layer (counted from 0) are multiplied by."""
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
    """One layer of the decoder: each sub-layer reads its normalised input and is added to it."""

    def __init__(self, config: GPT2Config, layer: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(config.hidden_size, eps=config.norm_eps)
        self.attn = SelfAttention(
            config.hidden_size,
            config.num_heads,
            config.attention_dropout,
            causal=True,
            scale=config.attention_scale(layer),
        )
        self.norm2 = nn.LayerNorm(config.hidden_size, eps=config.norm_eps)
        self.mlp = FeedForward(config.hidden_size, config.intermediate_size, config.activation)
        self.dropout = Dropout(config.dropout)

    def forward(
        self,
        x: Tensor,
        batch: PackedBatch,
        trace: Trace | None = None,
        cache: "LayerCache | None" = None,
        only: Tensor | None = None,
    ) -> Tensor:
        """(T, C) -> (T, C); (B, C) with `only`, the last token of each sequence."""
        attended = self.attn(self.norm1(x), batch, trace, cache, only)
        x = (x if only is None else x[only]) + self.dropout(attended)
        return x + self.dropout(self.mlp(self.norm2(x)))


class GPT2(nn.Module):
    """The decoder: token ids to one vector a token, each knowing only what stands before it."""

    def __init__(self, config: GPT2Config) -> None:
        super().__init__()
        self.config = config
        self.token_embedding = embedding(config.vocab_size, config.hidden_size)
        self.position_embedding = embedding(config.max_positions, config.hidden_size)
        self.dropout = Dropout(config.embedding_dropout)
        blocks = [GPT2Block(config, layer) for layer in range(config.num_layers)]
        self.blocks = nn.ModuleList(blocks)
        self.final_norm = nn.LayerNorm(config.hidden_size, eps=config.norm_eps)
        init_weights(self, config.init_std)
        for block in blocks:  # as published: what is added to the residual stream shrinks with depth
            for out in (block.attn.out, block.mlp.down):
                init_matrix(out.weight, std=config.init_std / (2 * config.num_layers) ** 0.5)

    def embed(self, batch: PackedBatch) -> Tensor:
        """What enters the first block, (T, C)."""
        return self.dropout(self.token_embedding(batch.input_ids) + self.position_embedding(batch.position_ids))

    def forward(
        self,
        batch: PackedBatch,
        trace: Trace | None = None,
        cache: "KVCache | None" = None,
        only: Tensor | None = None,
    ) -> Tensor:
        """The hidden states after the final norm, (T, C).

        Args:
            batch: the tokens; with a cache, what its `extend` has packed.
            trace: keeps the hidden states and, without a cache, the attention weights.
            cache: what came before the tokens.
            only: the last token of each sequence, (B,), where no other vectors are wanted; not with a trace.
        """
        x = self.embed(batch)
        if trace is None:
            x = pad_rows(x)
        for i, block in enumerate(self.blocks):
            if trace is not None:
                trace.hidden_states.append(x)
            last = block is self.blocks[-1]
            x = block(x, batch, trace, None if cache is None else cache[i], only if last else None)
        x = self.final_norm(x)[: batch.num_tokens]
        if trace is not None:
            trace.hidden_states.append(x)
        return x


class LastToken(nn.Module):
    """A sequence's summary: the vector of its last token, the only one that has seen it all."""

    def forward(self, hidden: Tensor, batch: PackedBatch) -> Tensor:
        """(T, C) -> (B, C)."""
        return hidden[batch.last]


class LanguageModelHead(nn.Module):
    """Which token comes next: the token embedding as output matrix."""

    def __init__(self, config: GPT2Config, token_embedding: nn.Embedding) -> None:
        super().__init__()
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        init_weights(self, config.init_std)
        if config.tie_embeddings:
            self.lm_head.weight = token_embedding.weight

    def forward(self, hidden: Tensor, batch: PackedBatch | None = None) -> Tensor:
        """Any tokens' vectors (N, C) -> logits (N, V); of the batch's selected tokens alone where it has some."""
        return self.lm_head(take_selected(hidden, batch))
