"""Limits on what is read, so that a damaged or hostile file gives a message instead of filling the memory.

They are far above the data that people train on. Files are streamed, so their size as such has no limit.
"""

import io
from collections.abc import Iterator

from ....core.errors import HeadwayError

MEBIBYTE = 1 << 20
MAX_LINE_BYTES = 64 * MEBIBYTE
MAX_CELL_CHARACTERS = 16 * MEBIBYTE
MAX_COLUMNS = 16_384  # as in Excel
# Text compresses to a tenth to a third. A file that expands much more is refused from this size on.
MAX_EXPANSION = 100
MIN_EXPANDED_BYTES = 256 * MEBIBYTE


def check_expansion(source: object, compressed: int, expanded: int) -> None:
    """Checks the size of decompressed data.

    Args:
        source: Name of the file, for messages.
        compressed: Number of bytes of the file.
        expanded: Number of bytes that were decompressed so far.

    Raises:
        HeadwayError: It is far larger than the compressed text of any natural data.
    """
    if expanded > max(MIN_EXPANDED_BYTES, MAX_EXPANSION * compressed):
        raise HeadwayError(
            f"{source}: {compressed:,} compressed bytes expand to more than {expanded // MEBIBYTE:,} MiB, over "
            f"{MAX_EXPANSION} times as much. Decompress the file first if this is what you want to read."
        )


def check_columns(where: str, number: int) -> None:
    """Raises HeadwayError if a table has too many columns."""
    if number > MAX_COLUMNS:
        raise HeadwayError(
            f"{where}: {number:,} columns; at most {MAX_COLUMNS:,} are read. Check the separator (--delimiter), or "
            "delete the columns that are not needed."
        )


class LimitedReader(io.RawIOBase):
    """Decompressed bytes that raise HeadwayError once there are too many for the size of the file.

    Args:
        source: Name of the file, for messages.
        compressed: Number of bytes of the file.
        file: The decompressed file.
    """

    def __init__(self, source: object, compressed: int, file: io.BufferedIOBase) -> None:
        self.source, self.compressed, self.file = source, compressed, file
        self.expanded = 0

    def readable(self) -> bool:
        """It can be read."""
        return True

    def readinto(self, buffer: "memoryview | bytearray") -> int:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Reads bytes and counts them."""
        number = self.file.readinto(buffer)
        self.expanded += number
        check_expansion(self.source, self.compressed, self.expanded)
        return number


def check_line(source: object, number: int, length: int) -> None:
    """Raises HeadwayError if a line is too long to be held in memory."""
    if length > MAX_LINE_BYTES:
        raise HeadwayError(
            f"{source}, line {number}: the line has more than {MAX_LINE_BYTES // MEBIBYTE} MiB. "
            "Divide it into several lines."
        )


def limited_lines(source: object, file: io.BufferedIOBase) -> Iterator[bytes]:
    """The lines of a file, of which none is too long."""
    number = 0
    while line := file.readline(MAX_LINE_BYTES + 1):
        number += 1
        check_line(source, number, len(line))
        yield line
