"""A model with a head: what a published checkpoint holds, and what a task trains.

A head is a module that reads the hidden states and the batch. BERT's pretraining heads and GPT-2's language-model
head stand beside their models; here are the heads that both models carry, and the network that joins the two.

Shapes: B sequences, T tokens in all, C hidden size, N outputs.
"""

from torch import Tensor, nn

from .bert import Bert, BertConfig, BertPooler, MaskedLMHead, PretrainingHead
from .dropout import Dropout
from .gpt2 import GPT2, GPT2Config, LanguageModelHead, LastToken
from .layers import Trace, init_weights
from .packing import PackedBatch

Config = BertConfig | GPT2Config
Backbone = Bert | GPT2


class SequenceHead(nn.Module):
    """N numbers a sequence, from the `[CLS]` vector through the pooler (BERT) or the last token (GPT-2)."""

    def __init__(self, config: Config, num_outputs: int) -> None:
        super().__init__()
        bert = isinstance(config, BertConfig)
        self.pooler = BertPooler(config) if isinstance(config, BertConfig) else LastToken()
        # As published: GPT-2's sequence head has neither dropout nor a bias.
        self.dropout = Dropout(config.head_dropout if bert else 0.0)
        self.classifier = nn.Linear(config.hidden_size, num_outputs, bias=bert)
        init_weights(self.classifier, config.init_std)

    def reads(self, batch: PackedBatch) -> Tensor:
        """The one token of each sequence that the head looks at, (B,)."""
        return batch.last if isinstance(self.pooler, LastToken) else batch.first

    def forward(self, hidden: Tensor, batch: PackedBatch) -> Tensor:
        """(T, C) -> (B, N)."""
        return self.classifier(self.dropout(self.pooler(hidden, batch)))


class TokenHead(nn.Module):
    """N numbers a token."""

    def __init__(self, config: Config, num_outputs: int) -> None:
        super().__init__()
        self.dropout = Dropout(config.head_dropout)
        self.classifier = nn.Linear(config.hidden_size, num_outputs)
        init_weights(self.classifier, config.init_std)

    def forward(self, hidden: Tensor, batch: PackedBatch) -> Tensor:  # noqa: ARG002 - a head's signature
        """(T, C) -> (T, N)."""
        return self.classifier(self.dropout(hidden))


class SpanHead(nn.Module):
    """Two numbers a token: how well an answer would start, and end, there."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.classifier = nn.Linear(config.hidden_size, 2)
        init_weights(self.classifier, config.init_std)

    def forward(self, hidden: Tensor, batch: PackedBatch) -> Tensor:  # noqa: ARG002 - a head's signature
        """(T, C) -> (T, 2)."""
        return self.classifier(hidden)


class Network(nn.Module):
    """A backbone with a head on it; without a head it gives the hidden states."""

    def __init__(self, backbone: Backbone, head: nn.Module | None = None) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head

    @property
    def config(self) -> Config:
        """The backbone's configuration."""
        return self.backbone.config

    def forward(self, batch: PackedBatch, trace: Trace | None = None) -> Tensor | tuple[Tensor, ...]:
        """What the head makes of the hidden states; the hidden states (T, C) where there is no head."""
        if trace is None and isinstance(self.head, SequenceHead):
            # Of the last layer most is spared for all other tokens.
            only = self.head.reads(batch)
            return self.head(self.backbone(batch, only=only), batch.alone(only))
        hidden = self.backbone(batch, trace)
        return hidden if self.head is None else self.head(hidden, batch)


def new_backbone(config: Config) -> Backbone:
    """A backbone with freshly drawn weights."""
    return Bert(config) if isinstance(config, BertConfig) else GPT2(config)


def language_model_head(backbone: Backbone, next_sentence: bool = False) -> nn.Module:
    """The backbone's own head over the vocabulary, tied to its token embedding."""
    if isinstance(backbone, GPT2):
        return LanguageModelHead(backbone.config, backbone.token_embedding)
    if next_sentence:
        return PretrainingHead(backbone.config, backbone.token_embedding)
    return MaskedLMHead(backbone.config, backbone.token_embedding)
