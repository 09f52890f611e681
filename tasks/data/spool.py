"""Lists of any length: short ones in memory, long ones in a file from which they are read block by block.

What a run reads (rows, examples, token ids) takes a few bytes of memory per item then: the place of each block.
"""

import gc
import mmap
import pickle
import sys
from array import array
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from itertools import chain, count, islice
from pathlib import Path
from typing import Any, BinaryIO, Self, TypeVar, overload

import numpy as np

from ...core.atomic_files import disk_errors
from ...core.errors import UNPICKLABLE

T = TypeVar("T")

OBJECTS_PER_COLLECTION = 200_000

IN_MEMORY = 4096  # items of a list that stays in memory
ITEMS_PER_BLOCK = 512  # read back together: most lists are read from start to end


@contextmanager
def rare_collection() -> Iterator[None]:
    """Python's collector of reference cycles runs rarely: lists of rows and tokens have none, and are many objects."""
    before = gc.get_threshold()
    gc.set_threshold(OBJECTS_PER_COLLECTION, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


def spool(items: Iterable[T], path: Path | None) -> Sequence[T]:
    """The items as a list, or as a list in a file if there are more than IN_MEMORY.

    Args:
        items: Picklable values that are not changed afterwards. They are read once.
        path: The file, which is written if it is needed; None: the list stays in memory.

    Raises:
        HeadwayError: The disk is full.
    """
    if path is None:
        return list(items)
    rest = iter(items)
    first = list(islice(rest, IN_MEMORY + 1))
    return first if len(first) <= IN_MEMORY else FileList.write(chain(first, rest), path)


def select(items: Sequence[T], positions: Sequence[int] | np.ndarray) -> Sequence[T]:
    """The items at some positions: a list of a list, else a view."""
    if isinstance(items, list):
        return [items[i] for i in positions]
    return Selection(items, np.asarray(positions))


class MappedFile:
    """The bytes of a file, mapped into memory at the first read, except on Windows; others may open a pickled copy."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self, start: int, stop: int) -> bytes:
        """The bytes from `start` to `stop`."""
        if sys.platform == "win32":  # where a mapped file cannot be deleted at the end of a run
            with self.path.open("rb") as file:
                file.seek(start)
                return file.read(stop - start)
        return self._map[start:stop]

    @cached_property
    def _map(self) -> mmap.mmap:
        with self.path.open("rb") as file:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path}


class Blocks:
    """Blocks of bytes in a file, one after the other."""

    def __init__(self, file: MappedFile, ends: "array[int]") -> None:
        self._file, self._ends = file, ends

    @classmethod
    def write(cls, blocks: Iterable[bytes], path: Path) -> Self:
        """Writes blocks into a file, in folders that are made for it.

        Raises:
            HeadwayError: The disk is full.
        """
        ends, end = array("q"), 0
        with _new_file(path) as file:
            for block in blocks:
                with disk_errors(path):
                    file.write(block)
                end += len(block)
                ends.append(end)
        return cls(MappedFile(path), ends)

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, number: int) -> bytes:
        return self._file.read(self._ends[number - 1] if number else 0, self._ends[number])


@contextmanager
def _new_file(path: Path) -> Iterator[BinaryIO]:
    """A new file; errors of opening and of closing it, which writes the rest of its buffer, are HeadwayErrors."""
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("wb")
    try:
        yield file
    finally:
        with disk_errors(path):
            file.close()


class FileList(Sequence[T]):
    """A list whose items are in a file.

    Args:
        blocks: The pickled items; all blocks but the last have ITEMS_PER_BLOCK.
        length: Number of items.
        unpicklable: The blocks that stay in memory, by their number, because an object in them cannot be pickled.
    """

    def __init__(self, blocks: Blocks, length: int, unpicklable: dict[int, list[T]]) -> None:
        self._blocks, self._length, self._unpicklable = blocks, length, unpicklable
        self._held: tuple[int, list[T]] = (-1, [])  # the block that was read last

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[T]:
        return chain.from_iterable(map(self._read, range(len(self._blocks))))

    @classmethod
    def write(cls, items: Iterator[T], path: Path) -> Self:
        """Writes items into a file."""
        length = 0
        unpicklable: dict[int, list[T]] = {}

        def blocks() -> Iterator[bytes]:
            nonlocal length
            for number in count():
                if not (block := list(islice(items, ITEMS_PER_BLOCK))):
                    break
                length += len(block)
                try:
                    pickled = pickle.dumps(block, pickle.HIGHEST_PROTOCOL)
                except UNPICKLABLE:
                    pickled, unpicklable[number] = b"", block
                yield pickled

        written = Blocks.write(blocks(), path)
        return cls(written, length, unpicklable)

    def pick(self, positions: np.ndarray) -> Iterator[T]:
        """The items at some positions; each block is read once if they are ascending."""
        numbers, offsets = np.divmod(positions, ITEMS_PER_BLOCK)
        for part in np.split(np.arange(len(positions)), np.flatnonzero(np.diff(numbers)) + 1):
            if len(part):
                block = self._read(int(numbers[part[0]]))
                yield from (block[i] for i in offsets[part].tolist())

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> list[T]: ...
    def __getitem__(self, index: int | slice) -> T | list[T]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(self._length))]
        if index < 0:
            index += self._length
        if not 0 <= index < self._length:
            raise IndexError(index)
        number, offset = divmod(index, ITEMS_PER_BLOCK)
        held = self._held
        if held[0] != number:
            self._held = held = number, self._read(number)
        return held[1][offset]

    def _read(self, number: int) -> list[T]:
        return self._unpicklable[number] if number in self._unpicklable else pickle.loads(self._blocks[number])

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_held": (-1, [])}


class Selection(Sequence[T]):
    """The items of a list at some positions, which are read on demand."""

    def __init__(self, items: Sequence[T], positions: np.ndarray) -> None:
        self._items, self._positions = items, positions

    def __len__(self) -> int:
        return len(self._positions)

    def __iter__(self) -> Iterator[T]:
        for start in range(0, len(self), IN_MEMORY):
            positions = self._positions[start : start + IN_MEMORY]
            if isinstance(self._items, FileList):
                yield from self._items.pick(positions)
            else:
                yield from (self._items[i] for i in positions.tolist())

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> list[T]: ...
    def __getitem__(self, index: int | slice) -> T | list[T]:
        if isinstance(index, slice):
            return [self._items[i] for i in self._positions[index].tolist()]
        return self._items[int(self._positions[index])]
