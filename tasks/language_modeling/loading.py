"""A GPT-2 that tells which token comes next, out of any folder that holds a GPT-2."""

from pathlib import Path

from ...core.checkpoints.checkpoint import load_backbone, load_checkpoint, load_head
from ...core.checkpoints.config_file import published_class, read_config
from ...core.checkpoints.hub import find_folder
from ...core.checkpoints.weight_names import model_of
from ...core.errors import HeadwayError
from ...core.inference.inference import load_for_inference, prepare_for_inference
from ...core.models.gpt2 import GPT2Config, LanguageModelHead
from ...core.models.heads import Network, language_model_head
from ...core.tokenizers.tokenizer import Tokenizer
from ...core.training.distributed import inference_device
from ..base.model_folder import read_info
from ..base.precision import AUTO, choose_precision


def load_language_model(name: str | Path, precision: str = AUTO) -> tuple[Network, Tokenizer]:
    """GPT-2 with its language-model head, in eval mode and on the accelerator if there is one, and its tokenizer.

    The head is part of every GPT-2 whose output matrix is its token embedding, whatever it was published with.

    Args:
        name: a folder, a built-in name or a hub id.
        precision: one of `precision.CHOICES`.

    Raises:
        HeadwayError: there is no such model, it is no GPT-2, it cannot be read, or it has no output matrix; or there
            is no such precision.
    """
    folder = find_folder(name)
    raw, config = read_config(folder)
    if not isinstance(config, GPT2Config):
        raise HeadwayError(
            f"{name} is a BERT, which fills gaps and cannot tell what comes next; this needs a GPT-2. "
            "Give the folder of one, or a name on the Hub such as gpt2."
        )
    device = inference_device()
    precision = choose_precision(precision, read_info(folder), device.type)
    if published_class(folder, raw, model_of(config)) == "GPT2LMHeadModel":
        network = load_for_inference(load_checkpoint(folder, filled=False), precision, device)
    else:
        backbone = load_backbone(folder).network.backbone
        network = Network(backbone, language_model_head(backbone)).eval()
        if load_head(network, folder).new:
            raise HeadwayError(
                f"{name} has no language-model head, and its token embedding does not stand in for one "
                "(tie_word_embeddings is false in config.json). Choose another model."
            )
        network = prepare_for_inference(network.to(device), precision)
    assert isinstance(network.head, LanguageModelHead)
    tokenizer = Tokenizer.load(folder)
    if tokenizer.vocab_size > config.vocab_size:
        raise HeadwayError(
            f"{name}: the tokenizer has {tokenizer.vocab_size} tokens and the model {config.vocab_size}: they do not "
            "belong together. Copy the model folder again from where it came."
        )
    return network, tokenizer
