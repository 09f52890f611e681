"""The model card of a text-to-text model."""

from typing import TYPE_CHECKING

from ..base.card_text import CardText, code, shell_word, string

if TYPE_CHECKING:
    from ...core.models.heads import Network
    from .text_to_text import TextToText

TEXT = "A text."


def text_to_text_card(task: "TextToText", network: "Network", name: str) -> CardText:
    """The parts of the card: outputs, usage with and without Headway, limitations."""
    limit = task.limit(network.config.max_positions, "")
    return CardText(
        summary="It writes an output for an input.",
        answers=f"The input is read in the template {code(task.template)}, without spaces before the output; the "
        "model ends its output itself.",
        shell=f'headway predict {shell_word(name)} "{TEXT}"',
        python=f'print(model.predict("{TEXT}").text)',
        transformers="\n".join(
            (
                "from transformers import AutoModelForCausalLM, AutoTokenizer",
                "",
                f"tokenizer = AutoTokenizer.from_pretrained({string(name)})",
                f"model = AutoModelForCausalLM.from_pretrained({string(name)})",
                f'inputs = tokenizer({string(task.pair_template.prompt(TEXT))}, return_tensors="pt")',
                'output = model.generate(**inputs)[0, inputs["input_ids"].shape[1] :]',
                "print(tokenizer.decode(output, skip_special_tokens=True).strip())",
            )
        ),
        limits=(
            f"Of an input that does not fit into {limit:,} tokens beside the output, the {task.cut_side} is not read.",
            "It writes what is likely, not what is true.",
            "Outputs are less reliable for inputs that differ from the training data.",
        ),
    )
