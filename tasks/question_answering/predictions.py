"""Examples and predictions of question answering."""

from collections.abc import Mapping
from dataclasses import dataclass

from ..base.display import DisplayElement, Highlight, HighlightedText, ScoreBar, ScoreBars, Text
from ..base.predictions import Prediction
from ..data.examples import Example
from .answer_spans import AnswerSpan
from .answers import Answer

NO_ANSWER = "no answer"
MIN_HIGHLIGHT_SCORE = 0.01  # of alternative answers that are highlighted in the context


@dataclass(frozen=True)
class QuestionExample(Example):
    """A question about a context, and its gold answers."""

    id: str
    question: str
    context: str
    answers: tuple[Answer, ...] | None = None  # empty: the context has no answer; None: unknown
    repeated: bool = False  # whether an earlier row has the same id

    @property
    def texts(self) -> tuple[str, ...]:
        """The question and its context."""
        return self.question, self.context

    @property
    def shown_texts(self) -> dict[str, str]:
        """The texts by their names."""
        return {"question": self.question, "context": self.context}

    @property
    def gold(self) -> tuple[str, ...] | None:
        """The texts of the gold answers."""
        return None if self.answers is None else tuple(answer.text for answer in self.answers)

    @property
    def stratum(self) -> str | None:
        """Whether there is an answer."""
        return None if self.answers is None else "answer" if self.answers else NO_ANSWER

    @property
    def group(self) -> str:
        """The context: questions about it are on the same side of a split."""
        return self.context


@dataclass(frozen=True)
class AnswerPrediction(Prediction):
    """The predicted answer to a question: a span of the context, or no answer."""

    answer: str | None  # context[start:end]; None: no answer
    start: int | None  # in code points
    end: int | None
    score: float  # the probability of the answer, or of no answer
    no_answer_score: float  # the probability of no answer
    alternatives: tuple[AnswerSpan, ...]  # the most probable spans in descending order, with the answer
    unread_tokens: int = 0  # truncated tokens of question and context

    @property
    def confidence(self) -> float:
        """The probability of the answer, or of no answer."""
        return self.score

    @property
    def brief(self) -> str:
        """The answer on one line, and its probability."""
        answer = NO_ANSWER if self.answer is None else " ".join(self.answer.split())
        return f"{answer}  {self.score:.2f}"

    def display(self, texts: Mapping[str, str]) -> tuple[DisplayElement, ...]:
        """The answer, the context with highlighted answers, and the probability of each."""
        marks = tuple(
            Highlight(one.start, one.end, "", one.score, faint=bool(rank) or self.answer is None)
            for rank, one in enumerate(self.alternatives)
            if one.score >= MIN_HIGHLIGHT_SCORE or self._is_answer(one)
        )
        bars = [ScoreBar(one.text, one.score, self._is_answer(one)) for one in self.alternatives]
        bars.append(ScoreBar(NO_ANSWER, self.no_answer_score, chosen=self.answer is None))
        bars.sort(key=lambda bar: -bar.value)
        return (
            Text(NO_ANSWER if self.answer is None else self.answer),
            HighlightedText(texts.get("context", ""), marks),
            ScoreBars(tuple(bars)),
        )

    def _is_answer(self, span: AnswerSpan) -> bool:
        return (span.start, span.end) == (self.start, self.end)
