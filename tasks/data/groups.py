"""Groups of rows that belong on the same side of a train/test split: rows with the same texts, and those of one group.

Texts are the same if they differ only in upper and lower case or in white space: most tokenizers read these alike, so
a model that was trained on one of them knows the label of the other.
"""

from collections.abc import Hashable, Sequence

from .examples import Example
from .labels import is_missing
from .rows import Table


def text_key(example: Example) -> tuple[str, ...]:
    """The texts of an example in a form that is equal for the same texts."""
    return tuple(" ".join(text.split()).casefold() for text in example.texts)


def example_groups(
    examples: Sequence[Example], table: Table | None = None, column: str | None = None
) -> list[Hashable]:
    """The group of each example: the value in a column of its row, else its document, else its texts."""
    return [
        _group(example, None if table is None else table.rows[example.row].get(column or "")) for example in examples
    ]


def _group(example: Example, value: object) -> Hashable:
    if not is_missing(value):
        return "column", str(value)
    return ("texts", text_key(example)) if example.group is None else ("document", example.group)


def without_known_texts(held_out: Sequence[int], kept: Sequence[int], examples: Sequence[Example]) -> list[int]:
    """The held-out positions without those whose texts are among the kept ones, for example in another group."""
    known = {text_key(examples[i]) for i in kept}
    return [i for i in held_out if text_key(examples[i]) not in known]
