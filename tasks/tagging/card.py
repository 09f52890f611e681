"""The model card of a token-classification model."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ...core.models.gpt2 import GPT2Config
from ..base.card_text import CardText, code, label_list, shell_word, string
from .label_inference import DIVISION

if TYPE_CHECKING:
    from ...core.models.heads import Network
    from .tagging import TokenClassification

TEXT = "Ada Lovelace lived in London."


def tagging_card(task: "TokenClassification", network: "Network", name: str) -> CardText:
    """The parts of the card: entity types, usage with and without Headway, limitations."""
    return CardText(
        summary=f"It gives each word of a text one of {len(task.labels)} tags."
        if task.tags_every_word
        else f"It finds entities of {len(task.types)} types in a text.",
        answers="The types:\n\n"
        + label_list(code(kind) for kind in task.types)
        + f"\n\nIts labels are tags of words in the scheme {task.scheme}.",
        shell=f'headway predict {shell_word(name)} "{TEXT}"',
        python=f'print(model.predict("{TEXT}").entities)',
        transformers="\n".join(
            [
                "from transformers import pipeline",
                "",
                f'pipe = pipeline("token-classification", model={string(name)}, aggregation_strategy="first")',
                f'result = pipe("{TEXT}")',
                "print(result)",
            ]
        ),
        limits=tuple(_limits(task, network)),
    )


def _limits(task: "TokenClassification", network: "Network") -> Iterator[str]:
    limit = task.limit(network.config.max_positions, "")
    if task.long_texts == "cut":
        yield f"A text of more than {limit:,} tokens is truncated."
    else:
        yield (
            f"A text of more than {limit:,} tokens is read in overlapping windows; each word is tagged in the window "
            "with the most context. Plain transformers cannot read it without truncation."
        )
    yield (
        f"Raw text is divided {DIVISION[task.segmenter.units]}, as in the training data. Plain transformers divides "
        "it differently, so its entities may have other boundaries."
    )
    if isinstance(network.config, GPT2Config):
        yield "GPT-2 reads from left to right: the text after a word does not influence its tag."
    yield "It does not find nested entities: a word has one tag."
    yield (
        "It works best on texts like its training data; on other kinds of text or languages it may be confidently "
        "wrong."
    )
