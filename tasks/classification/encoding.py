"""Token sequences of texts and pairs, and the joining of the outputs of a long text's windows.

Shapes: B sequences in a packed batch, E examples, N outputs.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..data.features import Features, group_windows
from ..data.windows import Windowing, pair_windows
from .predictions import TextExample

if TYPE_CHECKING:
    from ...core.tokenizers.tokenizer import Tokenizer

TOKENIZER_BATCH = 1000  # texts per call of the tokenizer, which returns more than the ids

Pieces = list[tuple[list[int], list[int] | None]]  # the ids of the first and the second text of each sequence


def encode_texts(
    examples: Sequence[TextExample], targets: Sequence[Any], tokenizer: "Tokenizer", windowing: Windowing
) -> list[Features]:
    """One sequence per example, or one per window if the text or pair is too long.

    Args:
        examples: texts or pairs.
        targets: the encoded label of each example, or None.
        tokenizer: of the model.
        windowing: its limit includes the special tokens.
    """
    first = token_ids(tokenizer, [example.text for example in examples])
    second = iter(token_ids(tokenizer, [example.pair for example in examples if example.pair is not None]))
    features = []
    for i, (example, a, target) in enumerate(zip(examples, first, targets, strict=True)):
        b = None if example.pair is None else next(second)
        special = tokenizer.num_special(pair=b is not None)
        length = len(a) + len(b or ()) + special
        pieces = [(a, b)] if length <= windowing.limit else divide_texts(a, b, windowing, windowing.limit - special)
        features += [Features(i, *tokenizer.join(*piece), length, target) for piece in pieces]
    return features


def divide_texts(a: list[int], b: list[int] | None, windowing: Windowing, room: int) -> Pieces:
    """Divides a text or pair with more than `room` tokens; a pair shares the room equally where both are long."""
    size_b = 0 if b is None else min(len(b), max(room // 2, room - len(a)))
    windows_a = replace(windowing, limit=room - size_b).divide(len(a))
    if b is None:
        return [(a[one.start : one.stop], None) for one in windows_a]
    windows_b = replace(windowing, limit=size_b).divide(len(b))
    return [(a[one.start : one.stop], b[two.start : two.stop]) for one, two in pair_windows(windows_a, windows_b)]


def example_targets(features: Sequence[Features]) -> dict[str, Tensor]:
    """`gold`: the encoded label of each example, (E,) or (E, L); `examples`: the example of each window, (B,)."""
    windows_by_example = group_windows(features)
    return {
        "gold": torch.tensor([windows[0].target for windows in windows_by_example]),
        "examples": _examples_of(windows_by_example),
    }


def join_windows(outputs: Tensor, features: Sequence[Features]) -> Tensor:
    """Averages the outputs of each example's windows, (B, N) -> (E, N)."""
    windows_by_example = group_windows(features)
    return average_windows(outputs, _examples_of(windows_by_example), len(windows_by_example))


def _examples_of(windows_by_example: Sequence[Sequence[Features]]) -> Tensor:
    return torch.tensor([number for number, windows in enumerate(windows_by_example) for _ in windows])


def average_windows(outputs: Tensor, examples: Tensor, num_examples: int) -> Tensor:
    """Averages the outputs of each example's windows, (B, N) -> (E, N), without waiting for their device.

    Args:
        outputs: of the windows.
        examples: the example of each window, (B,).
        num_examples: E.
    """
    if num_examples == len(outputs):
        return outputs
    totals = outputs.new_zeros(num_examples, outputs.shape[1]).index_add(0, examples, outputs)
    counts = outputs.new_zeros(num_examples).index_add(0, examples, outputs.new_ones(len(outputs)))
    return totals / counts[:, None]


def token_ids(tokenizer: "Tokenizer", texts: Sequence[str]) -> list[list[int]]:
    """The ids of each text, without special tokens."""
    batches = (texts[start : start + TOKENIZER_BATCH] for start in range(0, len(texts), TOKENIZER_BATCH))
    return [ids for batch in batches for ids in tokenizer.encode_ids(batch)]
