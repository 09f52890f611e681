"""What a task lets inspection look at: outputs whose words can be attributed, and labels that a probe predicts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ..data.features import Features


@dataclass(frozen=True)
class TokenizedWord:
    """One word of a sequence, as the tokenizer separates them."""

    text: str
    part: int  # 0 in the first text, 1 in the second
    start: int  # texts[part][start:end]
    end: int
    tokens: tuple[int, ...]  # positions in the sequence


@dataclass(frozen=True)
class ExplainableOutput:
    """One number that is computed from a model's outputs and that words can be attributed to."""

    name: str  # "positive", "PER: Ada Lovelace", "in London"
    unit: str  # of the number: "probability", "value"
    tokens: tuple[int, ...]  # positions of the predicted span, which cannot be left out
    measure: Callable[[Tensor, Sequence[int]], Tensor]  # outputs and the positions they belong to -> the number


@dataclass(frozen=True)
class ProbeTargets:
    """What a linear probe predicts from the vectors of one sequence."""

    num_classes: int
    classes: list[int]  # one for each vector that is probed; IGNORE_INDEX where it is unknown
    positions: list[int] | None = None  # token of each vector; None: one vector for the whole text


class InspectionHooks:
    """The hooks of a task for inspection, with their defaults."""

    @property
    def explains(self) -> bool:
        """Whether inspection shows what the task predicts, not the model alone."""
        return True

    def split_words(self, example: Any) -> list[tuple[str, int]] | None:
        """The words that `encode` gives to the tokenizer and their offsets in the text; None if it gets the texts."""
        return None

    def explainable_outputs(
        self, outputs: Tensor, features: Features, words: Sequence[TokenizedWord]
    ) -> list[ExplainableOutput]:
        """The numbers that words can be attributed to, the model's own prediction first; often empty.

        `outputs` are those of the network for one sequence, (N,) or (n, N).
        """
        return []

    def probe_targets(self, features: Features) -> ProbeTargets | None:
        """The classes in one labelled sequence that a linear probe predicts; None if the task has none."""
        return None
