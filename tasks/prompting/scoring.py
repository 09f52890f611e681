"""The ways to score labels with a language model, and which other options go with each.

direct
    The likelihood of the label after the text (Brown et al. 2020).
channel
    The likelihood of the text after the label (Min et al. 2022, https://arxiv.org/abs/2108.04106).
knn
    The labels of the examples after which the model expects the most similar next token (Xu et al. 2023,
    https://arxiv.org/abs/2303.13824).
pmi
    The likelihood of the label after the text, divided by its likelihood after a short text of the same kind, the
    domain premise (Holtzman et al. 2021, https://arxiv.org/abs/2104.08315).
"""

from typing import TYPE_CHECKING

from ...core.errors import HeadwayError
from ..data.labels import MULTI_LABEL
from .calibration import BATCH, CONTEXTUAL, NONE
from .demonstrations import NEAREST
from .neighbours import MAX_COMPARED, NEIGHBOURS
from .templates import Template

if TYPE_CHECKING:
    from .prompt import Prompt

DIRECT, CHANNEL, KNN, PMI = "direct", "channel", "knn", "pmi"
SCORINGS = (DIRECT, CHANNEL, KNN, PMI)
CALIBRATIONS = {DIRECT: (CONTEXTUAL, BATCH, NONE), CHANNEL: (NONE, BATCH), KNN: (NONE,), PMI: (NONE,)}  # default first
WHY_NOT = {
    CHANNEL: "a text without content has no likelihood to compare with that of the text",
    KNN: "the examples and the text are read in the same way, so a preference of the model for a label cancels out",
    PMI: "it already divides by the likelihood of the label without the text",
}


def calibration_of(prompt: "Prompt") -> str:
    """The calibration of a prompt: that of the user, else the default of its scoring."""
    return prompt.calibration or CALIBRATIONS[prompt.scoring][0]


def check_scoring(prompt: "Prompt") -> None:
    """Raises HeadwayError if an option does not go with the scoring of a prompt."""
    scoring = prompt.scoring
    given = f"--scoring {scoring}"
    if prompt.writes and scoring != DIRECT:
        raise HeadwayError(f"{given} chooses among labels, but here the answer is generated. Omit --scoring.")
    if calibration_of(prompt) not in CALIBRATIONS[scoring]:
        allowed = " or ".join(CALIBRATIONS[scoring])
        raise HeadwayError(
            f"{given} does not go with --calibration {prompt.calibration}: {WHY_NOT[scoring]}. "
            f"Choose --calibration {allowed}, or omit it."
        )
    if prompt.normalize and scoring in (CHANNEL, KNN):
        raise HeadwayError(f"{given} does not score the tokens of the label. Omit --normalize.")
    if scoring == KNN and prompt.choice == NEAREST:
        raise HeadwayError(
            f"{given} needs the same demonstrations for all texts: choose another --choice than nearest."
        )
    if scoring == KNN and prompt.problem_type == MULTI_LABEL:
        raise HeadwayError(f"{given} chooses one label per text. Choose another --scoring for several labels.")
    if prompt.neighbours is not None and scoring != KNN:
        raise HeadwayError("--neighbours is for --scoring knn. Add it, or omit --neighbours.")
    if prompt.domain is not None and scoring != PMI:
        raise HeadwayError("--domain is for --scoring pmi. Add it, or omit --domain.")


def check_masked(prompt: "Prompt", base: str, kind: str) -> None:
    """Raises HeadwayError if a masked language model cannot answer a prompt.

    Args:
        prompt: the options.
        base: the name of the model.
        kind: its family with an article, for messages.
    """
    if prompt.writes:
        raise HeadwayError(
            f"{base} is {kind}, which fills masks and generates no answers. Give "
            "labels to choose from (--labels) and a template with {label}, or name a GPT-2."
        )
    if prompt.scoring != DIRECT:
        raise HeadwayError(
            f"--scoring {prompt.scoring} needs a GPT-2, which continues texts, but {base} is {kind}, which fills "
            "masks. Omit --scoring."
        )


def scoring_notes(prompt: "Prompt", template: Template, problem_type: str | None, num_examples: int) -> list[str]:
    """What the scoring of a prompt takes from its template and its examples.

    Raises:
        HeadwayError: there are too few examples, or they have several labels each.
    """
    if prompt.scoring == CHANNEL:
        shown = template.text.replace("\n", "\\n")
        hint = "--template with {label} before {text} names another one"
        return [f"labels come before texts: {shown} ({hint})"]
    if prompt.scoring == PMI:
        where = f"after {prompt.domain or template.domain!r}" if prompt.domain or template.domain else "without a text"
        return [f"the likelihood of each label is divided by that {where} (--domain names another text)"]
    if prompt.scoring == KNN:
        if problem_type == MULTI_LABEL:
            raise HeadwayError("--scoring knn chooses one label per text, and the examples have several. Omit it.")
        others = num_examples - prompt.shots
        if others <= 0:
            raise HeadwayError(
                f"--scoring knn compares the texts with examples that the prompt does not show, but {num_examples} "
                f"examples are given and up to {prompt.shots} are shown. Give more --examples, or show fewer: --shots "
                f"{num_examples // 2}."
            )
        votes, compared = min(prompt.neighbours or NEIGHBOURS, others), min(others, MAX_COMPARED)
        balanced = f" (of {others:,}, balanced over the labels)" if others > compared else ""
        return [f"{votes} of {compared:,} other examples{balanced} vote on each text (--neighbours)"]
    return []
