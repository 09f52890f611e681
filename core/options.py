"""Options: dataclass fields that carry a help text, their choices, and when they can be set.

The command line, the YAML file of a run, the browser form and the HTTP schema are generated from these fields.
"""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, wraps
from operator import attrgetter
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from .errors import HeadwayError

T = TypeVar("T")

# When an option can be set: before training, on a trained model (the weights stay valid), or in both cases.
When = Literal["before", "after", "always"]


@dataclass(frozen=True)
class Option:
    """A dataclass field that users can set."""

    name: str
    type: Any
    default: Any
    help: str
    choices: tuple[str, ...]
    file: str | None  # the option's name on the command line if it takes a text file with one value per line
    when: When = "before"
    alias: str | None = None  # a short name, which works wherever `name` does

    @property
    def public_name(self) -> str:
        """The name on the command line and in a YAML file."""
        return self.file or self.alias or self.name

    @property
    def optional(self) -> bool:
        """Whether None is a valid value."""
        return type(None) in get_args(self.type)


def option(
    default: Any,
    help: str,
    choices: Sequence[str] = (),
    *,
    file: str | None = None,
    when: When = "before",
    alias: str | None = None,
) -> Any:
    """A dataclass field that users can set; the arguments are the fields of `Option`."""
    metadata = {"help": help, "choices": tuple(choices), "file": file, "when": when, "alias": alias}
    return dataclasses.field(default=default, metadata=metadata)


def option_of(kind: type, name: str, *, when: When = "before") -> Any:
    """A dataclass field that is an option of another dataclass as well: with its default, help text and choices."""
    other = next(field for field in dataclasses.fields(kind) if field.name == name)
    return dataclasses.field(default=other.default, metadata={**other.metadata, "when": when})


def options_of(kind: type, when: When = "before") -> list[Option]:
    """The options of a dataclass that can be set before or after training, in the order of its fields."""
    return [found for found in _all_options(kind) if found.when in (when, "always")]


@cache
def _all_options(kind: type) -> tuple[Option, ...]:
    types = get_type_hints(kind)
    return tuple(
        Option(field.name, types[field.name], field.default, **field.metadata)
        for field in dataclasses.fields(kind)
        if field.metadata
    )


def with_aliases(kind: type[T]) -> type[T]:
    """Class decorator: lets an options dataclass take and show its options under their aliases, too."""
    names = {found.alias: found.name for found in _all_options(kind) if found.alias is not None}
    init = kind.__init__

    @wraps(init)
    def init_with_aliases(self: T, *args: Any, **values: Any) -> None:
        for alias in names.keys() & values.keys():
            values[names[alias]] = values.pop(alias)
        init(self, *args, **values)

    kind.__init__ = init_with_aliases
    for alias, name in names.items():
        setattr(kind, alias, property(attrgetter(name)))
    return kind


def is_of_type(value: Any, kind: Any) -> bool:
    """Whether a value has the annotated type of a field: a plain type, a tuple of one, or a choice of types."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is tuple:
        return isinstance(value, tuple) and all(is_of_type(one, arguments[0]) for one in value)
    if arguments:
        return any(is_of_type(value, one) for one in arguments)
    if kind in (int, float):
        return isinstance(value, int | kind) and not isinstance(value, bool) and not math.isnan(value)
    return isinstance(value, kind)


def check_choices(owner: object) -> None:
    """Checks every option that has choices.

    Args:
        owner: an instance of a dataclass whose fields were made by `option`.

    Raises:
        HeadwayError: a value is not one of the option's choices.
    """
    for found in _all_options(type(owner)):
        if found.choices:
            valid = getattr(owner, found.name) in found.choices
            check_option(owner, found.name, valid, f"one of {', '.join(found.choices)}", optional=found.optional)


def check_option(owner: object, name: str, valid: bool, allowed: str, optional: bool = False) -> None:
    """Raises HeadwayError unless an option's value is valid, or is None and the option is optional."""
    value = getattr(owner, name)
    if not valid and not (optional and value is None):
        raise HeadwayError(f"{name}={value!r} is invalid; it must be {allowed}{' or none' * optional}.")


def is_number(value: Any) -> bool:
    """Whether a value is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def is_integer(value: Any, minimum: int) -> bool:
    """Whether a value is an integer and at least `minimum`."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= minimum
