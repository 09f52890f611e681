"""Outputs of a tagging model for attribution: the probability of each predicted entity and of each word's tag."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..base.explanation import ExplainableOutput, TokenizedWord
from .encoding import WindowWords
from .predictions import EntitiesPrediction

Measure = Callable[[Tensor, Sequence[int]], Tensor]


def explainable_tags(
    prediction: EntitiesPrediction, window: WindowWords, tags: Sequence[str], words: Sequence[TokenizedWord]
) -> list[ExplainableOutput]:
    """Every predicted entity, then the tag of every word.

    Args:
        prediction: for the window.
        window: the words and their positions.
        tags: of the model's outputs.
        words: of the sequence, with their tokens.
    """
    example = window.example
    position = dict(zip(window.words, window.positions, strict=True))

    def output(name: str, numbers: Sequence[int]) -> ExplainableOutput:
        columns = [
            (position[word], [i for i, tag in enumerate(tags) if tag == prediction.tags[word]]) for word in numbers
        ]
        spans = [(example.starts[word], example.starts[word] + len(example.words[word])) for word in numbers]
        inside = [one for one in words if any(start <= one.start < end for start, end in spans)]
        tokens = tuple(token for one in inside for token in one.tokens)
        return ExplainableOutput(name, "probability", tokens, _mean_probability(columns))

    found = []
    for entity in prediction.entities:
        inside = [word for word in position if entity.start <= example.starts[word] < entity.end]
        if inside:
            found.append(output(f"{entity.label}: {entity.text}", inside))
    return found + [output(f"{prediction.tags[word]}: {example.words[word]}", [word]) for word in position]


def _mean_probability(columns: Sequence[tuple[int, list[int]]]) -> Measure:
    """The mean probability of some tags: (position of a word's first token, indices of its tag) for each word."""

    def measure(outputs: Tensor, kept: Sequence[int]) -> Tensor:
        found = [outputs[kept.index(token)].softmax(-1)[indices].sum() for token, indices in columns]
        return torch.stack(found).mean()

    return measure
