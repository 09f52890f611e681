"""The places of rows in their source, which are mostly consecutive numbers."""

from array import array
from collections.abc import Iterator, Sequence


class Places:
    """Places that are added one after the other; consecutive ones take no memory, others eight bytes each."""

    def __init__(self) -> None:
        self._start = self._length = 0
        self._listed: array[int] | None = None  # all places, from the first one that does not follow the one before

    def append(self, place: int) -> None:
        """Adds a place."""
        if not self._length:
            self._start = place
        elif self._listed is None and place != self._start + self._length:
            self._listed = array("q", self.compact())
        if self._listed is not None:
            self._listed.append(place)
        self._length += 1

    def __iter__(self) -> Iterator[int]:
        return iter(self.compact())

    def compact(self) -> Sequence[int]:
        """The places as a range or an array."""
        return range(self._start, self._start + self._length) if self._listed is None else self._listed
