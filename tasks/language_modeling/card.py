"""What the cards of language models say about themselves."""

from typing import TYPE_CHECKING

from ..base.card_text import CardText

if TYPE_CHECKING:
    from .fill_mask import FillMask

MASKED = "The parcel has not [MASK] yet."
BEGINNING = "It was late in the evening when"


def fill_mask_card(task: "FillMask", name: str) -> CardText:
    """The card's parts of a masked language model."""
    learnt = f"{100 * task.mask_probability:g} % of the tokens" + (", as whole words" if task.whole_words else "")
    return CardText(
        summary="It finds the words behind masks, and is a model to fine-tune for other tasks.",
        answers=f"The answer is the {task.top} likeliest words for every `[MASK]`, with their probabilities.",
        shell=f'headway predict {name} "{MASKED}"',
        python=f'print(model.predict("{MASKED}").masks)',
        transformers="\n".join(
            (
                "from transformers import pipeline",
                "",
                f'fill = pipeline("fill-mask", model="{name}")',
                f'print(fill("{MASKED}"))',
            )
        ),
        limits=(
            f"It has learnt to find {learnt} of its training texts, and knows nothing of what they do not speak of.",
            "What it finds likely is what was usual in these texts, prejudices included.",
        ),
    )


def text_generation_card(name: str) -> CardText:
    """The card's parts of a language model that writes."""
    return CardText(
        summary="It continues texts.",
        answers="The answer is what it writes after a text, token by token the likeliest.",
        shell=f'headway predict {name} "{BEGINNING}"',
        python=f'print(model.predict("{BEGINNING}").continuation)',
        transformers="\n".join(
            (
                "from transformers import pipeline",
                "",
                f'write = pipeline("text-generation", model="{name}")',
                f'print(write("{BEGINNING}", max_new_tokens=40))',
            )
        ),
        limits=(
            "It writes what is likely, not what is true.",
            "What it finds likely is what was usual in its training texts, prejudices included.",
        ),
    )
