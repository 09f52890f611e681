"""Outputs of a question-answering model for attribution: the probability of each predicted answer."""

from collections.abc import Callable, Sequence

from torch import Tensor

from ..base.explanation import ExplainableOutput
from .answer_spans import ContextWindow
from .predictions import NO_ANSWER, AnswerPrediction

Measure = Callable[[Tensor, Sequence[int]], Tensor]


def explainable_answers(
    prediction: AnswerPrediction, window: ContextWindow, *, knows_none: bool
) -> list[ExplainableOutput]:
    """The answer, its alternatives and "no answer": the probability that it starts and ends at its tokens.

    Args:
        prediction: for the window.
        window: of the context.
        knows_none: whether the model was trained with "no answer".
    """
    found = []
    for span in prediction.alternatives:
        positions = tuple(map(window.position, window.passage.tokens_of(span.start, span.end)))
        if positions:
            measure = _span_probability(positions[0], positions[-1])
            found.append(ExplainableOutput(span.text, "probability", positions, measure))
    if knows_none:
        position = window.no_answer
        none = ExplainableOutput(NO_ANSWER, "probability", (position,), _span_probability(position, position))
        found.insert(0 if prediction.answer is None else len(found), none)
    return found


def _span_probability(first: int, last: int) -> Measure:
    def measure(outputs: Tensor, kept: Sequence[int]) -> Tensor:
        starts, ends = outputs.softmax(0).unbind(-1)
        return starts[kept.index(first)] * ends[kept.index(last)]

    return measure
