"""A model with a head: the content of a published checkpoint, and what a task trains.

A head maps the hidden states and the batch to outputs. BERT's pretraining heads and GPT-2's language-modeling head are
defined with their models; the heads that both models can have are defined here, and the network that joins the two.

B batch, T tokens, C hidden, N outputs.
"""

from dataclasses import replace

from torch import Tensor, nn

from .bert import Bert, BertConfig, BertPooler, MaskedLMHead, PretrainingHead
from .dropout import Dropout
from .encoder_decoder import EncoderDecoder, EncoderDecoderConfig
from .gpt2 import GPT2, GPT2Config, LanguageModelHead, LastToken
from .layers import init_weights
from .packing import PackedBatch
from .transformer import Transformer, TransformerConfig, TransformerHead

SingleConfig = BertConfig | GPT2Config | TransformerConfig  # of a model that is not joined from two
Config = SingleConfig | EncoderDecoderConfig
Backbone = Bert | GPT2 | EncoderDecoder | Transformer
Generator = GPT2 | EncoderDecoder | Transformer  # a backbone that writes texts, with its language-modeling head


class SequenceHead(nn.Module):
    """N numbers per sequence, from `[CLS]` through the pooler (BERT) or from the last token (GPT-2)."""

    def __init__(self, config: Config, num_outputs: int) -> None:
        super().__init__()
        bert = isinstance(config, BertConfig)
        self.first_dropout = Dropout(config.head_dropout if bert and config.pooler_dropout else 0.0)
        self.pooler = BertPooler(config) if isinstance(config, BertConfig) else LastToken()
        # As published: GPT-2's sequence head has neither dropout nor a bias.
        self.dropout = Dropout(config.head_dropout if bert else 0.0)
        self.classifier = nn.Linear(config.hidden_size, num_outputs, bias=bert)
        init_weights(self.classifier, config.init_std)

    def forward(self, hidden: Tensor, batch: PackedBatch) -> Tensor:
        """(T, C) -> (B, N)."""
        return self.forward_at(hidden[self.rows(batch)])

    def forward_at(self, vectors: Tensor) -> Tensor:
        """(B, C) -> (B, N): `forward`, given the vectors of the tokens that it reads."""
        return self.classifier(self.dropout(self.pooler.forward_at(self.first_dropout(vectors))))

    def rows(self, batch: PackedBatch) -> Tensor:
        """The token of each sequence that is read, (B,)."""
        return self.pooler.rows(batch)


class ChoiceHead(SequenceHead):
    """One number per sequence, a choice in its context: how well the choice fits. For BERT and its relatives."""

    def __init__(self, config: BertConfig) -> None:
        dropout = config.head_dropout if config.choice_dropout is None else config.choice_dropout
        super().__init__(replace(config, head_dropout=dropout, pooler_dropout=False), 1)


class NextSentenceHead(SequenceHead):
    """Two numbers per sequence of two texts; class 0 means that the second follows the first. Without dropout."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__(replace(config, head_dropout=0.0), 2)


class TokenHead(nn.Module):
    """N numbers per token."""

    def __init__(self, config: Config, num_outputs: int) -> None:
        super().__init__()
        own = config.token_dropout if isinstance(config, BertConfig) else None
        self.dropout = Dropout(config.head_dropout if own is None else own)
        self.classifier = nn.Linear(config.hidden_size, num_outputs)
        init_weights(self.classifier, config.init_std)

    def forward(self, hidden: Tensor, batch: PackedBatch) -> Tensor:  # noqa: ARG002 - every head takes the batch
        """(T, C) -> (T, N)."""
        return self.classifier(self.dropout(hidden))


class SpanHead(nn.Module):
    """Two numbers per token: the scores of an answer that starts there, and of one that ends there."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.dropout = Dropout(config.span_dropout if isinstance(config, BertConfig) else 0.0)
        self.classifier = nn.Linear(config.hidden_size, 2)
        init_weights(self.classifier, config.init_std)

    def forward(self, hidden: Tensor, batch: PackedBatch) -> Tensor:  # noqa: ARG002 - every head takes the batch
        """(T, C) -> (T, 2)."""
        return self.classifier(self.dropout(hidden))


class Network(nn.Module):
    """A backbone and its head, or a backbone alone."""

    def __init__(self, backbone: Backbone, head: nn.Module | None = None) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head

    @property
    def config(self) -> Config:
        """The backbone's configuration."""
        return self.backbone.config

    def forward(self, batch: PackedBatch) -> Tensor | tuple[Tensor, ...]:
        """The head's outputs; the hidden states (T, C) if there is no head."""
        if isinstance(self.head, SequenceHead):  # it reads one token per sequence: the last block skips the others
            return self.head.forward_at(self.backbone.forward_at(batch, self.head.rows(batch)))
        hidden = self.backbone(batch)
        return hidden if self.head is None else self.head(hidden, batch)


def reads_segments(config: Config) -> bool:
    """Whether the model has more than one segment, so that segment ids make a difference."""
    return isinstance(config, BertConfig) and config.num_segments > 1


def new_backbone(config: Config) -> Backbone:
    """A backbone with random weights."""
    if isinstance(config, EncoderDecoderConfig):
        return EncoderDecoder(config)
    if isinstance(config, TransformerConfig):
        return Transformer(config)
    return Bert(config) if isinstance(config, BertConfig) else GPT2(config)


def set_activation_checkpointing(network: nn.Module, enabled: bool) -> None:
    """Whether training computes the activations of each block again instead of keeping them."""
    for module in network.modules():
        if isinstance(module, Bert | GPT2 | Transformer):
            module.checkpoint_activations = enabled


def language_model_head(backbone: Backbone, next_sentence: bool = False) -> nn.Module:
    """A language-modeling head for the backbone, tied to its token embedding.

    Args:
        backbone: BERT gets a head for masked tokens, GPT-2 one for the next token, an encoder-decoder that of its
            decoder.
        next_sentence: add BERT's next-sentence head.
    """
    if isinstance(backbone, EncoderDecoder):
        return language_model_head(backbone.decoder)
    if isinstance(backbone, Transformer):
        return TransformerHead(backbone.config, backbone.token_embedding)
    if isinstance(backbone, GPT2):
        return LanguageModelHead(backbone.config, backbone.token_embedding)
    if next_sentence:
        return PretrainingHead(backbone.config, backbone.token_embedding)
    return MaskedLMHead(backbone.config, backbone.token_embedding)


def smooth_labels(head: nn.Module | None, share: float) -> None:
    """Sets the share of a language-modeling head's targets that training spreads over the vocabulary."""
    assert isinstance(head, LanguageModelHead | MaskedLMHead | TransformerHead)
    head.label_smoothing = share
