"""Features: one tokenized sequence per window of an example, and packed batches of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from ...core.models.packing import PackedBatch

IGNORE_INDEX = -100  # a target that the loss and the metrics skip, as PyTorch's ignore_index


@dataclass(frozen=True, eq=False)
class Features:
    """One sequence for the model, made from (a window of) one example."""

    example: int  # position of the example it was made from, from 0
    input_ids: list[int]
    segment_ids: list[int]  # same length; all zero where there is one segment
    length: int  # tokens of the whole example with its special ones, before it was windowed or cut
    target: Any = None  # what the task's loss compares with; None in prediction
    metadata: Any = None  # what `decode` needs to map outputs back to the text
    text_index: int = 0  # which of the texts of the example, for tasks that encode each text separately


def group_windows(features: Sequence[Features]) -> list[list[Features]]:
    """The features example by example: the windows of a long text are neighbours."""
    return [list(windows) for _, windows in groupby(features, key=lambda one: one.example)]


def total_length(windows: Sequence[Features]) -> int:
    """The tokens of all texts of an example, before they were windowed or cut."""
    return sum({one.text_index: one.length for one in windows}.values())


def num_truncated_tokens(windows: Sequence[Features]) -> int:
    """How many tokens of an example are in none of its windows, because the person wants long texts cut."""
    return windows[0].length - len(windows[0].input_ids) if len(windows) == 1 else 0


INFERENCE_BATCH_TOKENS = 8192  # in one forward pass: enough to keep every core busy, few enough for any memory


def pack(features: Sequence[Features]) -> PackedBatch:
    """The sequences laid end to end."""
    return PackedBatch.pack([one.input_ids for one in features], [one.segment_ids for one in features])


def num_input_tokens(windows: Sequence[Features]) -> int:
    """The tokens that the network sees of an example."""
    return sum(len(one.input_ids) for one in windows)
