"""An encoder-decoder that starts from two published models: `bert-base-uncased+gpt2`.

Rothe et al. 2020, https://arxiv.org/abs/1907.12461. Both keep their weights, the decoder those of its
language-modeling head as well (BERT the head for masked tokens); cross-attention is new, initialized as the decoder's
other layers. Both tokenizers are kept: `Tokenizer` says where.
"""

from pathlib import Path

import torch

from ..errors import HeadwayError
from ..models.bert import Bert, BertPooler
from ..models.encoder_decoder import EncoderDecoder, EncoderDecoderConfig
from ..models.gpt2 import GPT2
from ..models.heads import Network, language_model_head
from ..tokenizers.tokenizer import Tokenizer
from .checkpoint import Checkpoint, load_backbone, load_head
from .config_file import as_decoder, config_fields
from .families.registry import family_of, titles_of
from .hub import find_folder

SEPARATOR = "+"


def parts_of(name: str | Path) -> tuple[str, str] | None:
    """The encoder and the decoder that a name like `bert-base-uncased+gpt2` joins; None for a single model.

    The name of an existing folder is that of a single model, whatever it contains.
    """
    parts = str(name).split(SEPARATOR)
    if len(parts) != 2 or not all(parts) or Path(name).exists():
        return None
    return parts[0], parts[1]


def join_models(encoder: str | Path, decoder: str | Path, *, seed: int = 0) -> tuple[Checkpoint, Tokenizer]:
    """Joins two published models to an encoder-decoder, in eval mode.

    Args:
        encoder: a BERT or a relative: a folder, a built-in name or a hub id.
        decoder: a GPT-2, or a BERT or a relative with cross-attention.
        seed: random seed of the new weights.

    Returns:
        The model with its language-modeling head, in the folder of its decoder, and the encoder's tokenizer, which
        holds the decoder's.

    Raises:
        HeadwayError: a model cannot be read, or cannot be that part.
    """
    first, second = load_backbone(encoder), load_backbone(decoder)
    reader, writer = first.network.backbone, second.network.backbone
    if not isinstance(reader, Bert):
        kind = family_of(reader.config).with_article
        raise HeadwayError(
            f"{encoder} is {kind}; an encoder is a {titles_of('bert')}. Name another model before the +."
        )
    if not isinstance(writer, Bert | GPT2) or not family_of(writer.config).cross_attention:
        kind = family_of(writer.config).with_article
        raise HeadwayError(
            f"{decoder} is {kind}, which cannot be a decoder; a GPT-2 or a BERT can. Name another model after the +."
        )
    tokenizer, of_outputs = Tokenizer.load(first.folder), Tokenizer.load(second.folder)
    tokenizer.check_fits(reader.config.vocab_size, encoder)
    of_outputs.check_fits(writer.config.vocab_size, decoder)
    if of_outputs.vocabulary != tokenizer.vocabulary:
        tokenizer.decoder = of_outputs
    torch.manual_seed(seed)
    start, end, pad = _tokens(of_outputs)
    config = EncoderDecoderConfig(
        reader.config,
        as_decoder(writer.config),
        start_id=start,
        end_id=end,
        pad_id=pad,
        encoder_pooler=family_of(reader.config).heads["Model"].module is BertPooler,
    )
    backbone = EncoderDecoder(config)
    backbone.encoder.load_state_dict(reader.state_dict())
    backbone.decoder.load_state_dict(writer.state_dict(), strict=False)  # it has cross-attention as well
    if backbone.encoder_pooler is not None:
        load_head(Network(reader, backbone.encoder_pooler), first.folder)
    head = language_model_head(writer)
    load_head(Network(writer, head), second.folder)
    network = Network(backbone, language_model_head(backbone))
    assert network.head is not None
    network.head.load_state_dict(head.state_dict())
    fields = config_fields(config, {"encoder": first.config, "decoder": second.config})
    architecture = family_of(config).base_class
    joined = Checkpoint(network.eval(), {}, architecture, None, None, fields, find_folder(decoder), ())
    return joined, tokenizer


def _tokens(of_outputs: Tokenizer) -> tuple[int | None, int | None, int | None]:
    """The tokens that start, end and fill texts: BERT's [CLS], [SEP] and [PAD]; GPT-2's end of text for all three."""
    if of_outputs.framing.before:
        return of_outputs.cls_id, of_outputs.sep_id, of_outputs.pad_id
    end = of_outputs.end_of_text_id
    return end, end, end if of_outputs.pad_id is None else of_outputs.pad_id
