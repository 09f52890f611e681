"""Token sequences of choices in their contexts, and the loss over the choices of an example.

Each sequence is a pair: the context, and a choice after the question. A pair that is too long is divided into windows,
whose outputs are averaged.

Shapes: B sequences (windows) in a packed batch, K choices of E examples.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..classification.encoding import average_windows, encode_texts
from ..classification.predictions import TextExample
from ..data.features import Features
from ..data.windows import Windowing
from .predictions import ChoiceExample

if TYPE_CHECKING:
    from ...core.tokenizers.tokenizer import Tokenizer


def encode_choices(examples: Sequence[ChoiceExample], tokenizer: "Tokenizer", windowing: Windowing) -> list[Features]:
    """The windows of every choice of each example, in the order of the choices."""
    owners = [(i, index) for i, example in enumerate(examples) for index in range(len(example.choices))]
    pairs = [_pair(examples[i], index) for i, index in owners]
    targets = [examples[i].answer for i, _ in owners]
    return [
        replace(one, example=i, text_index=index, metadata=examples[i].choices)
        for one in encode_texts(pairs, targets, tokenizer, windowing)
        for i, index in [owners[one.example]]
    ]


def _pair(example: ChoiceExample, index: int) -> TextExample:
    choice = example.choices[index]
    second = choice if example.question is None else f"{example.question} {choice}"
    return TextExample(example.row, example.where, example.context, second)


def choice_targets(features: Sequence[Features]) -> dict[str, Tensor]:
    """`windows`: the choice of each window, (B,); `examples`: the example of each choice, (K,); `gold`: (E,)."""
    windows, examples, gold = [], [], []
    for number, (_, of_example) in enumerate(groupby(features, key=lambda one: one.example)):
        first = len(examples)
        for index, of_choice in groupby(of_example, key=lambda one: one.text_index):
            part = list(of_choice)
            if index == 0 and part[0].target is not None:
                gold.append(first + part[0].target)
            windows += [len(examples)] * len(part)
            examples.append(number)
    return {name: torch.tensor(one) for name, one in (("windows", windows), ("examples", examples), ("gold", gold))}


def log_probabilities(outputs: Tensor, targets: Mapping[str, Any]) -> Tensor:
    """The logarithm of each choice's probability among those of its example, (B, 1) -> (K,).

    Nothing is read from the device: the number of choices is the length of a tensor, and every example may have
    another one.
    """
    examples = targets["examples"]
    logits = average_windows(outputs, targets["windows"], len(examples)).squeeze(-1)  # (K,)
    largest = logits.detach().new_full(examples.shape, -torch.inf)  # at least as many as there are examples
    largest = largest.scatter_reduce(0, examples, logits.detach(), "amax")
    shifted = logits - largest[examples]
    totals = torch.zeros_like(logits).index_add(0, examples, shifted.exp())
    return shifted - totals[examples].log()
