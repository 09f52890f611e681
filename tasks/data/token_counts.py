"""What a data check counts while examples are encoded: windows are not read again for it."""

from array import array
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Self

from .features import Features, num_truncated_tokens, total_length


@dataclass
class TokenCounts:
    """The tokens of examples.

    Args:
        limit: Maximum number of tokens per sequence.
        unknown_id: Id of the unknown token; None if the vocabulary has none.
        cut_note: The option by which texts are truncated.
        lengths: Tokens of all texts of each example, before they were divided or truncated.
        divided: Position of each example with a text that is too long for a sequence -> number of its windows.
        truncated: Position of each truncated example -> number of its tokens after the only window. Tokens that were
            omitted before a text was divided are not counted: the task reports them (`Task.warnings`).
        num_tokens, num_unknown: Of all windows.
    """

    limit: int
    unknown_id: int | None
    cut_note: str = "--long-texts cut"
    lengths: "array[int]" = field(default_factory=lambda: array("i"))
    divided: dict[int, int] = field(default_factory=dict)
    truncated: dict[int, int] = field(default_factory=dict)
    num_tokens: int = 0
    num_unknown: int = 0

    @classmethod
    def of(
        cls,
        windows_by_example: Iterable[list[Features]],
        limit: int,
        unknown_id: int | None,
        cut_note: str = "--long-texts cut",
    ) -> Self:
        """The counts of all examples."""
        counts = cls(limit, unknown_id, cut_note)
        counts.add(windows_by_example)
        return counts

    def add(self, windows_by_example: Iterable[list[Features]]) -> None:
        """Adds the next examples."""
        for windows in windows_by_example:
            position = len(self.lengths)
            self.lengths.append(total_length(windows))
            for window in windows:
                self.num_tokens += len(window.input_ids)
                if self.unknown_id is not None:
                    self.num_unknown += window.input_ids.count(self.unknown_id)
            if len(windows) > len({window.text_index for window in windows}):
                self.divided[position] = len(windows)
            omitted = {window.text_index: window.num_omitted for window in windows}
            if lost := num_truncated_tokens(windows) - sum(omitted.values()):
                self.truncated[position] = lost
