"""Features: the sequence of tokens of one window of an example."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, NamedTuple

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
        num_omitted: Tokens of the text that were omitted before it was divided: the end of a very long question.
        source_ids: Token ids that the encoder of an encoder-decoder reads.
    """

    example: int
    input_ids: list[int]
    segment_ids: list[int]
    length: int
    target: Any = None
    metadata: Any = None
    text_index: int = 0
    num_omitted: int = 0
    source_ids: list[int] = field(default_factory=list)

    @property
    def num_read(self) -> int:
        """Number of all tokens that the model reads."""
        return len(self.input_ids) + len(self.source_ids)


class TextLength(NamedTuple):
    """Number of tokens of all texts of an input with their special tokens, and how many of them were not read."""

    num_tokens: int
    num_unread: int

    @property
    def truncated(self) -> bool:
        """Whether tokens were not read."""
        return self.num_unread > 0

    @property
    def num_read(self) -> int:
        """Number of tokens that were read; those in two overlapping windows are counted once."""
        return self.num_tokens - self.num_unread

    def to_json(self) -> dict[str, Any]:
        """As it is written beside a prediction or a vector."""
        return {"num_tokens": self.num_tokens, "truncated": self.truncated}


def text_length(windows: Sequence[Features]) -> TextLength:
    """The length of an example, from all of its windows."""
    if len(windows) == 1:
        return TextLength(windows[0].length, windows[0].length - windows[0].num_read)
    by_text: dict[int, list[Features]] = {}
    for window in windows:
        by_text.setdefault(window.text_index, []).append(window)
    unread = (
        part[0].length - part[0].num_read if len(part) == 1 else part[0].num_omitted for part in by_text.values()
    )
    return TextLength(sum(part[0].length for part in by_text.values()), sum(unread))


def group_windows(features: Sequence[Features]) -> list[list[Features]]:
    """The windows of each example. The windows of an example are consecutive in `features`."""
    return [list(windows) for _, windows in groupby(features, key=lambda window: window.example)]


def total_length(windows: Sequence[Features]) -> int:
    """Number of tokens of all texts of an example, before they were divided or truncated."""
    return text_length(windows).num_tokens


def num_truncated_tokens(windows: Sequence[Features]) -> int:
    """Number of tokens of an example that are in none of its windows."""
    return text_length(windows).num_unread


def num_input_tokens(windows: Sequence[Features]) -> int:
    """Number of tokens of all windows of an example."""
    return sum(window.num_read for window in windows)


def pack(features: Sequence[Features]) -> PackedBatch:
    """The sequences as one packed batch, with the sources if they have some."""
    source = PackedBatch.pack([one.source_ids for one in features]) if features[0].source_ids else None
    segments = [one.segment_ids for one in features]
    return PackedBatch.pack([one.input_ids for one in features], segments, source)
