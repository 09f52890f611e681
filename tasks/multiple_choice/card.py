"""The model card of a multiple-choice model."""

from typing import TYPE_CHECKING

from ..base.card_text import CardText, shell_word, string

if TYPE_CHECKING:
    from ...core.models.heads import Network
    from .multiple_choice import MultipleChoice

CONTEXT = "She opened the umbrella."
QUESTION = "Why?"
CHOICES = ("It rained.", "She was hungry.")


def multiple_choice_card(task: "MultipleChoice", network: "Network", name: str) -> CardText:
    """The parts of the card: outputs, usage with and without Headway, limitations."""
    asked = f'"{QUESTION}"' if task.asks else ""
    limit = task.limit(network.config.max_positions, "")
    long = "is cut" if task.long_texts == "cut" else "is read in overlapping windows, whose outputs are averaged"
    return CardText(
        summary="It chooses one of several texts for a context.",
        answers="The output is the most probable choice, its index from 0, and the probability of every choice. The "
        "number of choices is free.",
        shell=f'headway predict {shell_word(name)} "{CONTEXT}" --choices "{" | ".join(CHOICES)}"'
        + (f" --question {asked}" if asked else ""),
        python=f'print(model.predict(("{CONTEXT}", {list(CHOICES)!r}{f", {asked}" if asked else ""})))',
        transformers=_transformers(name, asked=bool(asked)),
        limits=(
            f"A context that does not fit into {limit:,} tokens with a choice {long}.",
            "It always chooses one of the texts, also where none fits. The probabilities compare the given choices "
            "only.",
            "Predictions are less reliable for texts that differ from the training data.",
        ),
    )


def _transformers(name: str, *, asked: bool) -> str:
    second = f'[f"{QUESTION} {{choice}}" for choice in choices]' if asked else "choices"
    return "\n".join(
        (
            "from transformers import AutoModelForMultipleChoice, AutoTokenizer",
            "",
            f"tokenizer = AutoTokenizer.from_pretrained({string(name)})",
            f"model = AutoModelForMultipleChoice.from_pretrained({string(name)})",
            f"choices = {list(CHOICES)!r}",
            f'inputs = tokenizer(["{CONTEXT}"] * len(choices), {second}, padding=True, return_tensors="pt")',
            "logits = model(**{name: value[None] for name, value in inputs.items()}).logits",
            "print(choices[logits.argmax()])",
        )
    )
