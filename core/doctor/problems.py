"""Problems of an installation, each with its solution."""

from dataclasses import asdict, dataclass
from typing import Literal


@dataclass(frozen=True)
class Problem:
    """Something that stops Headway (an error), or slows or limits it (a warning)."""

    level: Literal["error", "warning"]
    message: str  # what and where
    solution: str

    def to_json(self) -> dict[str, str]:
        """The fields."""
        return asdict(self)


def gigabytes(number: float) -> str:
    """A number of bytes: 3.2 GB."""
    return f"{number / 1e9:,.1f} GB"
