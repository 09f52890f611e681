"""All families: by their model type, and their classes by name."""

from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from ...errors import HeadwayError
from ...models.bert import BertConfig, MaskedLMHead, PretrainingHead
from ...models.encoder_decoder import EncoderDecoder, EncoderDecoderConfig
from ...models.gpt2 import LanguageModelHead
from ...models.heads import Backbone, Config, SequenceHead, TokenHead, language_model_head
from ...models.transformer import TransformerConfig, TransformerHead
from .albert import ALBERT
from .bert import BERT, ERNIE
from .distilbert import DISTILBERT
from .electra import ELECTRA
from .encoder_decoder import MODEL_TYPE, TITLE, join
from .family import Family, PublishedHead
from .gpt2 import GPT2
from .marian import MARIAN
from .roberta import CAMEMBERT, ROBERTA, XLM_ROBERTA

FAMILIES: dict[str, Family] = {
    family.model_type: family
    for family in (BERT, GPT2, ROBERTA, XLM_ROBERTA, CAMEMBERT, DISTILBERT, ELECTRA, ALBERT, ERNIE, MARIAN)
}


@dataclass(frozen=True)
class Architecture:
    """A published class: a family's backbone with one of its heads."""

    family: Family
    head: PublishedHead


ARCHITECTURES: dict[str, Architecture] = {
    f"{family.classes}{suffix}": Architecture(family, head)
    for family in FAMILIES.values()
    for suffix, head in family.heads.items()
}


def family_of(config: Config) -> Family:
    """The family of a configuration; that of an encoder-decoder is made of those of its parts."""
    if isinstance(config, EncoderDecoderConfig):
        return join(FAMILIES[config.encoder.family], FAMILIES[config.decoder.family], config)
    return FAMILIES[config.family]


def family_named(model_type: str) -> Family:
    """The family of a published model type; of an encoder-decoder, whose parts are not known, with a general title."""
    return replace(join(BERT, GPT2), title=TITLE) if model_type == MODEL_TYPE else FAMILIES[model_type]


def find_architecture(published: str, family: Family) -> Architecture | None:
    """A published class by its name; None if it is not known. That of an encoder-decoder depends on its parts.

    Args:
        published: the name.
        family: the model's.
    """
    if family.model_type == MODEL_TYPE:
        return Architecture(family, family.heads["Model"]) if published == family.base_class else None
    return ARCHITECTURES.get(published)


def write_config(config: Config) -> dict[str, Any]:
    """The fields of a config.json for a configuration."""
    return family_of(config).write_config(config)


def architecture_of(config: Config, head: nn.Module | None) -> str | None:
    """The published class of a backbone with a head; None if the head has no published form."""
    family = family_of(config)
    if head is None:
        return family.base_class
    found = (suffix for suffix, published in family.heads.items() if published.module is type(head))
    suffix = next(found, None)
    return None if suffix is None else f"{family.classes}{suffix}"


def model_of(config: Config) -> str:
    """Our model: "bert" for an encoder, "gpt2" for a decoder, "encoder-decoder" for both together."""
    if isinstance(config, EncoderDecoderConfig | TransformerConfig):
        return "encoder-decoder"
    return "bert" if isinstance(config, BertConfig) else "gpt2"


def titles_of(model: str) -> str:
    """The titles of the families of one of our models: "BERT, RoBERTa, ... or ERNIE"."""
    titles = [family.title for family in FAMILIES.values() if model_of(family.config) == model]
    *others, last = [TITLE, *titles] if model == "encoder-decoder" else titles
    return f"{', '.join(others)} or {last}" if others else last


def build_head(published: str, backbone: Backbone, outputs: int) -> nn.Module | None:
    """The head of a published class with random weights; `outputs` applies to heads with a free number of outputs."""
    if isinstance(backbone, EncoderDecoder):
        return language_model_head(backbone)
    head, config = ARCHITECTURES[published].head, backbone.config
    if head.module is None:
        return None
    embedding = backbone.token_embedding
    second_argument: dict[type[nn.Module], Any] = {
        SequenceHead: outputs,
        TokenHead: outputs,
        MaskedLMHead: embedding,
        PretrainingHead: embedding,
        LanguageModelHead: embedding,
        TransformerHead: embedding,
    }
    return head.module(config, second_argument[head.module]) if head.module in second_argument else head.module(config)


def refuse_encoder_decoder(config: Config, name: object) -> None:
    """Raises a HeadwayError for a model that reads a source and a target, where one text is to be read."""
    if model_of(config) == "encoder-decoder":
        raise HeadwayError(
            f"{name} is {family_of(config).with_article}, which writes an output for an input and reads no text "
            "alone. Use it with headway predict, or name another model."
        )
