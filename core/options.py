"""Options that a person sets: dataclass fields that carry their help text and their choices.

The command line, the file of a run and the browser's form are made from such fields.
"""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_type_hints

from .errors import HeadwayError

# When an option can be set: before training, on a trained model (it changes nothing that was learnt), or always.
When = Literal["before", "after", "always"]


@dataclass(frozen=True)
class Option:
    """A field that a person sets."""

    name: str
    type: Any
    default: Any
    help: str
    choices: tuple[str, ...]
    file: str | None  # the option's own name where it is a text file that holds the values, a line each
    when: When = "before"


def option(
    default: Any, help: str, choices: Sequence[str] = (), file: str | None = None, when: When = "before"
) -> Any:
    """A dataclass field that a person sets; see `Option`."""
    metadata = {"help": help, "choices": tuple(choices), "file": file, "when": when}
    return dataclasses.field(default=default, metadata=metadata)


def options_of(kind: type, when: When = "before") -> list[Option]:
    """The options among the fields of a dataclass that can be set before or after training, in their order."""
    types = get_type_hints(kind)
    return [
        Option(field.name, types[field.name], field.default, **field.metadata)
        for field in dataclasses.fields(kind)
        if field.metadata and field.metadata["when"] in (when, "always")
    ]


def need(owner: object, name: str, fine: bool, allowed: str, optional: bool = False) -> None:
    """Raises HeadwayError unless an option's value is fine, or is None where that is possible."""
    value = getattr(owner, name)
    if not fine and not (optional and value is None):
        raise HeadwayError(f"{name}={value!r} is not possible; it must be {allowed}{' or none' * optional}.")


def is_number(value: Any) -> bool:
    """Whether a value is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def is_whole(value: Any, least: int) -> bool:
    """Whether a value is a whole number, `least` or more."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= least
