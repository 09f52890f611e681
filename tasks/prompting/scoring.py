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

if TYPE_CHECKING:
    from .prompt import Prompt
    from .prompt_runner import PromptRunner

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


def scoring_notes(prompt: "Prompt", runner: "PromptRunner", problem_type: str | None) -> list[str]:
    """What the scoring of a prompt takes from its template and its examples, a sentence each.

    Raises:
        HeadwayError: there are too few examples, or they have several labels each.
    """
    if prompt.scoring == CHANNEL:
        shown = runner.template.text.replace("\n", "\\n")
        return [f"labels come before texts: {shown} (--template with {{label}} before {{text}} names another one)"]
    if prompt.scoring == PMI:
        domain = prompt.domain or runner.template.domain
        where = f"after {domain!r}" if domain else "without a text"
        return [f"the likelihood of each label is divided by that {where} (--domain names another text)"]
    return _knn_notes(prompt, runner, problem_type) if prompt.scoring == KNN else []


def _knn_notes(prompt: "Prompt", runner: "PromptRunner", problem_type: str | None) -> list[str]:
    if problem_type == MULTI_LABEL:
        raise HeadwayError("--scoring knn chooses one label per text, and the examples have several. Omit it.")
    given = len(runner.examples)
    if given <= prompt.shots:
        raise HeadwayError(
            f"--scoring knn compares the texts with examples that the prompt does not show, but {given} examples are "
            f"given and up to {prompt.shots} are shown. Give more --examples, or show fewer: --shots {given // 2}."
        )
    compared = [runner.examples[i] for i in runner.others(prompt.seed)]
    hidden = given - prompt.shots
    of_all = f" (of {hidden:,}, balanced over the labels)" if hidden > len(compared) else ""
    notes = [f"{min(runner.neighbours, len(compared))} of {len(compared):,} other examples{of_all} vote on each text "
             "(--neighbours)"]  # fmt: skip
    if missing := runner.words.keys() - {label for example in compared for label in example.labels}:
        never = ", ".join(label for label in runner.words if label in missing)
        notes.append(f"none of the other examples has these labels, which are therefore never predicted: {never}")
    return notes
