"""The windows of many examples in a file, which are read by example: token ids, targets, and what a task adds."""

import pickle
from array import array
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np

from .features import Features, num_input_tokens
from .spool import Blocks


class StoredWindows(Sequence[list[Features]]):
    """The windows of examples, in a file.

    Args:
        blocks: One for each example.
        lengths: Number of input tokens of each example, (N,) int32.
    """

    def __init__(self, blocks: Blocks, lengths: np.ndarray) -> None:
        self._blocks, self.lengths = blocks, lengths

    @classmethod
    def write(cls, windows_by_example: Iterable[list[Features]], path: Path) -> "StoredWindows":
        """Writes windows into a file.

        Raises:
            HeadwayError: The disk is full.
        """
        lengths = array("i")

        def blocks() -> Iterator[bytes]:
            for windows in windows_by_example:
                lengths.append(num_input_tokens(windows))
                yield pickle.dumps([_to_record(window) for window in windows], pickle.HIGHEST_PROTOCOL)

        written = Blocks.write(blocks(), path)
        return cls(written, np.frombuffer(lengths, dtype=np.int32))

    def __len__(self) -> int:
        return len(self._blocks)

    @overload
    def __getitem__(self, index: int) -> list[Features]: ...
    @overload
    def __getitem__(self, index: slice) -> list[list[Features]]: ...
    def __getitem__(self, index: int | slice) -> list[Features] | list[list[Features]]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if index < 0:
            index += len(self)
        if not 0 <= index < len(self):
            raise IndexError(index)
        return [_from_record(index, *record) for record in pickle.loads(self._blocks[index])]


def _to_record(window: Features) -> tuple[Any, ...]:
    """A window without the number of its example, as few bytes."""
    typecode = "H" if max(window.input_ids, default=0) < 2**16 else "I"
    ids = array(typecode, window.input_ids).tobytes()
    num_first = window.segment_ids.count(0)
    in_order = window.segment_ids == [0] * num_first + [1] * (len(window.segment_ids) - num_first)
    segments = num_first if in_order else window.segment_ids
    source = array("I", window.source_ids).tobytes()
    rest = window.length, window.target, window.metadata, window.text_index, window.num_omitted, source
    return typecode, ids, segments, *rest


def _from_record(example: int, typecode: str, ids: bytes, segments: Any, *rest: Any) -> Features:
    input_ids = array(typecode, ids).tolist()
    if isinstance(segments, int):
        segments = [0] * segments + [1] * (len(input_ids) - segments)
    *others, source = rest
    return Features(example, input_ids, segments, *others, source_ids=array("I", source).tolist())
