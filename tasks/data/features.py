"""Features: the sequence of tokens of one window of an example."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from ...core.models.packing import PackedBatch

IGNORE_INDEX = -100  # target that the loss and the metrics skip: the default ignore_index of PyTorch
INFERENCE_BATCH_TOKENS = 8192  # tokens per forward pass: enough to use every core, little memory


@dataclass(frozen=True, eq=False)
class Features:
    """One sequence for the model.

    Args:
        example: Position of the example, from 0.
        input_ids: Token ids.
        segment_ids: Segment of each token.
        length: Tokens of the whole text with its special tokens, before it was divided or truncated.
        target: What the loss compares with; None for prediction.
        metadata: What `decode` needs to map outputs back to the text.
        text_index: Which text of the example this is, for tasks that encode each text separately.
    """

    example: int
    input_ids: list[int]
    segment_ids: list[int]
    length: int
    target: Any = None
    metadata: Any = None
    text_index: int = 0


def group_windows(features: Sequence[Features]) -> list[list[Features]]:
    """The windows of each example. The windows of an example are consecutive in `features`."""
    return [list(windows) for _, windows in groupby(features, key=lambda window: window.example)]


def total_length(windows: Sequence[Features]) -> int:
    """Number of tokens of all texts of an example, before they were divided or truncated."""
    return sum({window.text_index: window.length for window in windows}.values())


def num_truncated_tokens(windows: Sequence[Features]) -> int:
    """Number of tokens of an example that are in none of its windows."""
    return windows[0].length - len(windows[0].input_ids) if len(windows) == 1 else 0


def num_input_tokens(windows: Sequence[Features]) -> int:
    """Number of tokens of all windows of an example."""
    return sum(len(window.input_ids) for window in windows)


def pack(features: Sequence[Features]) -> PackedBatch:
    """The sequences as one packed batch."""
    return PackedBatch.pack([one.input_ids for one in features], [one.segment_ids for one in features])
