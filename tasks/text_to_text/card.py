"""The model card of a text-to-text model."""

from typing import TYPE_CHECKING

from ...core.checkpoints.families.registry import architecture_of
from ...core.models.encoder_decoder import EncoderDecoderConfig
from ...core.tokenizers.tokenizer import DECODER_TOKENIZER
from ..base.card_text import CardText, code, shell_word, string

if TYPE_CHECKING:
    from ...core.models.heads import Network
    from .text_to_text import TextToText

TEXT = "A text."


def text_to_text_card(task: "TextToText", network: "Network", name: str) -> CardText:
    """The parts of the card: outputs, usage with and without Headway, limitations."""
    limit = task.limit(network.config.max_positions, "")
    white = "spaces" if task.source_limit is None else "white space"
    return CardText(
        summary="It writes an output for an input.",
        answers=f"The input is read in the template {code(task.pair_template.shown)}, without {white} before the "
        "output; the model ends its output itself.",
        shell=f'headway predict {shell_word(name)} "{TEXT}"',
        python=f'print(model.predict("{TEXT}").text)',
        transformers=_transformers(task, network, name),
        limits=(
            f"Of an input that does not fit into {limit:,} tokens beside the output, the {task.cut_side} is not read.",
            "It writes what is likely, not what is true.",
            "Outputs are less reliable for inputs that differ from the training data.",
        ),
    )


def _transformers(task: "TextToText", network: "Network", name: str) -> str:
    """Lines that print the output of a text."""
    alone = task.source_limit is None
    published = "AutoModelForCausalLM" if alone else architecture_of(network.config, network.head)
    lines = [
        f"from transformers import AutoTokenizer, {published}",
        "",
        f"tokenizer = AutoTokenizer.from_pretrained({string(name)})",
        f"model = {published}.from_pretrained({string(name)})",
        f'inputs = tokenizer({string(task.pair_template.prompt(TEXT))}, return_tensors="pt")',
    ]
    if alone:
        lines.append('output = model.generate(**inputs)[0, inputs["input_ids"].shape[1] :]')
    else:
        lines.append('output = model.generate(inputs["input_ids"], attention_mask=inputs["attention_mask"])[0]')
    if _has_two_vocabularies(network):
        lines.append(f"tokenizer = AutoTokenizer.from_pretrained({string(f'{name}/{DECODER_TOKENIZER}')})")
    return "\n".join([*lines, "print(tokenizer.decode(output, skip_special_tokens=True).strip())"])


def _has_two_vocabularies(network: "Network") -> bool:
    config = network.config
    if not isinstance(config, EncoderDecoderConfig):
        return False
    parts = config.encoder, config.decoder
    return len({(one.family, one.vocab_size) for one in parts}) == 2
