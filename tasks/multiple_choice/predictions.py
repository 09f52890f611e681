"""Examples and predictions of multiple choice."""

from collections.abc import Mapping
from dataclasses import dataclass

from ..base.display import DisplayElement, ScoreBar, ScoreBars, Text
from ..base.predictions import Prediction
from ..data.examples import Example
from .choices import join_choices, parse_choices


@dataclass(frozen=True)
class ChoiceExample(Example):
    """A context, choices, and the index of the right one."""

    context: str
    choices: tuple[str, ...]
    question: str | None = None
    answer: int | None = None

    @property
    def texts(self) -> tuple[str, ...]:
        """The context, the choices as one text, and the question if there is one."""
        return (self.context, join_choices(self.choices), *(() if self.question is None else (self.question,)))

    @property
    def shown_texts(self) -> dict[str, str]:
        """The texts by their names."""
        question = {} if self.question is None else {"question": self.question}
        return {"context": self.context, **question, "choices": " | ".join(self.choices)}

    @property
    def gold(self) -> int | None:
        """The index of the right choice."""
        return self.answer

    @property
    def shown_gold(self) -> str:
        """The right choice."""
        return "" if self.answer is None else self.choices[self.answer]

    @property
    def group(self) -> str | None:
        """The context of several questions: they are on the same side of a split."""
        return None if self.question is None else self.context


@dataclass(frozen=True)
class ChoicePrediction(Prediction):
    """The predicted choice."""

    label: str  # its text
    index: int  # from 0
    score: float  # its probability
    scores: tuple[float, ...]  # the probability of every choice, in their order; they sum to 1

    @property
    def confidence(self) -> float:
        """The probability of the choice."""
        return self.score

    @property
    def brief(self) -> str:
        """The choice on one line, and its probability."""
        return f"{' '.join(self.label.split())}  {self.score:.2f}"

    def display(self, texts: Mapping[str, str]) -> tuple[DisplayElement, ...]:
        """The choice, and the probability of each in descending order."""
        named = zip(parse_choices(texts["choices"]), self.scores, strict=True)
        bars = [ScoreBar(name, score, chosen=i == self.index) for i, (name, score) in enumerate(named)]
        return Text(self.label), ScoreBars(tuple(sorted(bars, key=lambda bar: -bar.value)))
