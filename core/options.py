"""Options that a person sets: dataclass fields that carry their help text and their choices.

The command line, the file of a run and the browser's form are made from such fields.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_type_hints

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
