"""What the card of a token-classification model says about itself."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ...core.models.gpt2 import GPT2Config
from ..base.card_text import CardText, bullets

if TYPE_CHECKING:
    from ...core.models.heads import Network
    from .tagging import TokenClassification

TEXT = "Ada Lovelace lived in London."
WORDS = {
    "words": "at spaces and signs",
    "spaces": "at spaces",
    "characters": "into single characters",
}


def card_text(task: "TokenClassification", network: "Network", name: str) -> CardText:
    """The card's parts: the types of entities, how to ask for them with Headway and without, and what to mind."""
    return CardText(
        summary=f"It finds entities of {len(task.types)} types in a text.",
        answers="The types:\n\n"
        + bullets(f"`{kind}`" for kind in task.types)
        + f"\n\nIts labels are tags of words, written as {task.scheme}.",
        shell=f'headway predict {name} "{TEXT}"',
        python=f'print(model.predict("{TEXT}").entities)',
        transformers="\n".join(
            [
                "from transformers import pipeline",
                "",
                f'pipe = pipeline("token-classification", model="{name}", aggregation_strategy="first")',
                f'result = pipe("{TEXT}")',
                "print(result)",
            ]
        ),
        limits=tuple(_limits(task, network)),
    )


def _limits(task: "TokenClassification", network: "Network") -> Iterator[str]:
    limit = task.limit(network.config.max_positions, "")
    if task.long_texts == "cut":
        yield f"A text of more than {limit:,} tokens is cut: only its beginning is read."
    else:
        yield (
            f"A text of more than {limit:,} tokens is read in overlapping windows, each word in the one that shows "
            "most of what is around it. Plain transformers cannot read it: cut it there."
        )
    yield (
        f"Raw text is cut into words {WORDS[task.splitter.units]}, as the training data was. Plain transformers cuts "
        "it in its own way, so its entities may end elsewhere."
    )
    if isinstance(network.config, GPT2Config):
        yield "GPT-2 reads from left to right: what follows a word has no say about it."
    yield "Entities that lie inside of others are not found: a word has one tag."
    yield "It knows texts like those it was trained on; of other kinds or languages it may be wrong and sure."
