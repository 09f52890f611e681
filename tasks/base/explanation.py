"""What a task lets inspection look at: outputs whose words can be attributed, and labels that a probe predicts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor


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
