"""The text of a language model's card."""

from ..base.card_text import CardText, shell_word, string

MASKED = "The parcel has not [MASK] yet."
PROMPT = "It was late in the evening when"


def fill_mask_card(name: str, top: int, mask_probability: float, whole_words: bool) -> CardText:
    """The card of a masked language model.

    Args:
        name: of the model.
        top: candidates per mask.
        mask_probability: the share of the tokens that were masked in training.
        whole_words: whether whole words were masked.
    """
    masked = f"{100 * mask_probability:g} % of the tokens" + (", as whole words" if whole_words else "")
    return CardText(
        summary="It predicts masked words, and can be fine-tuned for other tasks.",
        answers=f"A prediction is the {top} most likely words for each `[MASK]`, with their probabilities.",
        shell=f'headway predict {shell_word(name)} "{MASKED}"',
        python=f'print(model.predict("{MASKED}").masks)',
        transformers="\n".join(
            (
                "from transformers import pipeline",
                "",
                f'fill = pipeline("fill-mask", model={string(name)})',
                f'print(fill("{MASKED}"))',
            )
        ),
        limits=(
            f"It was trained to predict {masked} of its training texts, and knows nothing beyond these texts.",
            "Its predictions reflect what is frequent in these texts, including their biases.",
        ),
    )


def text_generation_card(name: str) -> CardText:
    """The card of a causal language model."""
    return CardText(
        summary="It continues texts.",
        answers="A prediction is the continuation of a text: the most likely token at each step.",
        shell=f'headway predict {shell_word(name)} "{PROMPT}"',
        python=f'print(model.predict("{PROMPT}").continuation)',
        transformers="\n".join(
            (
                "from transformers import pipeline",
                "",
                f'write = pipeline("text-generation", model={string(name)})',
                f'print(write("{PROMPT}", max_new_tokens=40))',
            )
        ),
        limits=(
            "It writes what is likely, not what is true.",
            "Its texts reflect what is frequent in its training texts, including their biases.",
        ),
    )
