"""Commands that tests run in their own process: the types of the fixture `headway`."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Ran:
    """The result of a command."""

    code: int
    out: str
    err: str


Headway = Callable[..., Ran]
