"""Encoder-decoders: the class EncoderDecoderModel, in which two published models are joined by cross-attention.

Its tensors are those of the encoder's base class and those of the decoder's class with a language-modeling head, each
with the name of the part before it.
"""

from ...models.bert import BertConfig, BertPooler, MaskedLMHead
from ...models.encoder_decoder import EncoderDecoderConfig
from ...models.gpt2 import GPT2Config, LanguageModelHead
from .family import Family, PublishedHead, Source, Table

MODEL_TYPE = EncoderDecoderConfig.family
TITLE = "encoder-decoder"
DEFAULT = EncoderDecoderConfig(BertConfig(), GPT2Config(cross_attention=True))


def join(encoder: Family, decoder: Family, config: EncoderDecoderConfig = DEFAULT) -> Family:
    """The family of the encoder-decoders of two families.

    Args:
        encoder: a relative of BERT.
        decoder: a family with cross-attention.
        config: of the model.
    """
    head = language_model_head(decoder)
    pooler = encoder.heads["Model"]
    backbone = {
        **_under("encoder.", encoder.backbone, "encoder."),
        **(_under("encoder_pooler.", pooler.table, "encoder.") if pooler.module is BertPooler else {}),
        "projection.{p}": Source("enc_to_dec_proj.{p}"),
        **_under("decoder.", {**decoder.backbone, **decoder.cross_attention}, f"decoder.{decoder.prefix}"),
    }
    return Family(
        model_type=MODEL_TYPE,
        title=f"{TITLE} of {encoder.title} and {decoder.title}",
        classes="EncoderDecoder",
        config=config,
        names={},
        supported={},
        prefix="",
        backbone=backbone,
        heads={"Model": PublishedHead(head.module, _under("", head.table, "decoder."))},
    )


def language_model_head(decoder: Family) -> PublishedHead:
    """A family's head that predicts the next token; of BERT's relatives that of their masked tokens."""
    return next(head for head in decoder.heads.values() if head.module in (MaskedLMHead, LanguageModelHead))


def _under(ours: str, table: Table, published: str) -> Table:
    """A table with prefixes before our names and before the published ones."""
    return {ours + name: source.under(published) for name, source in table.items()}
