"""Loads a GPT-2 or a BERT with its language-model head, also from a folder of another class that has one."""

from pathlib import Path

from ...core.checkpoints.checkpoint import load_backbone, load_checkpoint, load_head
from ...core.checkpoints.config_file import published_class, read_config
from ...core.checkpoints.families.registry import family_of, refuse_encoder_decoder, titles_of
from ...core.checkpoints.hub import find_folder
from ...core.errors import HeadwayError
from ...core.inference.inference import load_for_inference, prepare_for_inference
from ...core.models.bert import BertConfig
from ...core.models.gpt2 import GPT2Config, LanguageModelHead
from ...core.models.heads import Config, Network, language_model_head
from ...core.models.mean_block import averages
from ...core.tokenizers.tokenizer import Tokenizer
from ...core.training.distributed import inference_device
from ..base.model_folder import read_info
from ..base.precision import AUTO, choose_precision


def load_language_model(name: str | Path, precision: str = AUTO, device: str = AUTO) -> tuple[Network, Tokenizer]:
    """A GPT-2 with its language-model head, in eval mode, and its tokenizer.

    A GPT-2 whose output matrix is tied to its token embedding has this head, whatever head it was published with.

    Args:
        name: a folder, a built-in name or a Hub id.
        precision: one of `precision.PRECISION_CHOICES`.
        device: auto (the accelerator if there is one), cpu, cuda, cuda:1, ...

    Raises:
        HeadwayError: the model or the device does not exist, the model cannot be read, is not a GPT-2 or has no
            output matrix, or the precision is unknown.
    """
    folder = find_folder(name)
    raw, config = read_config(folder)
    refuse_encoder_decoder(config, name)
    if not isinstance(config, GPT2Config):
        raise HeadwayError(
            f"{name} is {family_of(config).with_article}, which fills masks and does not predict the next token; "
            f"this needs a {titles_of('gpt2')}. "
            "Name the folder of one, or a Hub id such as gpt2."
        )
    chosen = inference_device(device)
    precision = choose_precision(precision, read_info(folder), chosen)
    if published_class(folder, raw, family_of(config)) == "GPT2LMHeadModel":
        network = load_for_inference(load_checkpoint(folder, filled=False), precision, chosen)
    else:
        network, new = _with_head(folder)
        if new:
            raise HeadwayError(
                f"{name} has no language-model head, and its token embedding cannot replace it "
                "(tie_word_embeddings is false in config.json). Choose another model."
            )
        network = prepare_for_inference(network.to(chosen), precision)
    assert isinstance(network.head, LanguageModelHead)
    tokenizer = Tokenizer.load(folder)
    tokenizer.check_fits(config.vocab_size, name)
    return network, tokenizer


def load_any_language_model(name: str | Path, precision: str = AUTO, device: str = AUTO) -> tuple[Network, Tokenizer]:
    """A GPT-2 as `load_language_model`, or a BERT or relative with its head for masked tokens.

    Raises:
        HeadwayError: as `load_language_model`, or the encoder has no such head or no mask token.
    """
    folder = find_folder(name)
    config = read_config(folder)[1]
    if not isinstance(config, BertConfig):
        return load_language_model(name, precision, device)
    chosen = inference_device(device)
    network, new = _with_head(folder)
    if new or averages(network.backbone):
        raise HeadwayError(no_masked_head(name, config))
    tokenizer = Tokenizer.load(folder)
    tokenizer.check_fits(config.vocab_size, name)
    tokenizer.require_mask_id()
    precision = choose_precision(precision, read_info(folder), chosen)
    return prepare_for_inference(network.to(chosen), precision), tokenizer


def no_masked_head(name: object, config: Config) -> str:
    """What a user reads whose encoder has no head for masked tokens."""
    return (
        f"{name} is {family_of(config).with_article} without a head for masked tokens, which scores the words of "
        "labels. Name a masked language model, such as bert-base-uncased or mini-bert, or a GPT-2."
    )


def _with_head(folder: Path) -> tuple[Network, tuple[str, ...]]:
    """The backbone of a folder with a language-model head, and the parameters of it that the folder does not have."""
    backbone = load_backbone(folder).network.backbone
    network = Network(backbone, language_model_head(backbone)).eval()
    return network, load_head(network, folder).new
