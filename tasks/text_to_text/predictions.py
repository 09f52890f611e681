"""Examples and predictions of text to text."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Self

from ..base.display import DisplayElement, Text
from ..base.predictions import Prediction
from ..data.examples import Example

if TYPE_CHECKING:
    from ...core.generation.generation_config import GenerationConfig
    from ...core.tokenizers.tokenizer import Tokenizer


@dataclass(frozen=True)
class PairExample(Example):
    """An input and its outputs: several if there are several references; none if it is not annotated."""

    text: str
    outputs: tuple[str, ...] = ()

    gold_name: ClassVar[str] = "output"
    labels_may_differ: ClassVar[bool] = True

    @property
    def texts(self) -> tuple[str, ...]:
        """The input."""
        return (self.text,)

    @property
    def gold(self) -> tuple[str, ...] | None:
        """The outputs."""
        return self.outputs or None

    def without_outputs(self) -> Self:
        """As it is predicted."""
        return replace(self, outputs=())


@dataclass(frozen=True)
class PromptSource:
    """How a prompt was encoded, and how its output is generated: the metadata of its features."""

    tokenizer: "Tokenizer"
    generation: "GenerationConfig"


@dataclass(frozen=True)
class GeneratedText(Prediction):
    """The text that a model generates for an input."""

    text: str
    stopped: bool  # whether the model ended the text itself; otherwise it reached the maximum length

    def display(self, texts: Mapping[str, str]) -> tuple[DisplayElement, ...]:  # noqa: ARG002
        """The text."""
        return (
            Text(self.text, "" if self.stopped else "The maximum length was reached: the text may be unfinished."),
        )


@dataclass(frozen=True)
class OutputLoss(Prediction):
    """How well a model predicts the outputs of a labelled example and, if it was generated, its own output."""

    loss: float  # the sum over the tokens of all outputs and their ends, in nats
    num_targets: int
    num_correct: int  # targets that are the most likely token
    generated: GeneratedText | None = None
