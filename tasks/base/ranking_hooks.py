"""What a task lets rank texts by: how well the second of two texts fits the first."""

from collections.abc import Mapping
from typing import Any


class RankingHooks:
    """The hooks of a task for ranking texts, with their defaults."""

    @property
    def ranks(self) -> bool:
        """Whether its prediction for two texts tells how well the second fits the first (`relevance`)."""
        return False

    def relevance(self, answer: Mapping[str, Any], *, raw: bool = False) -> float:
        """How well the second text fits the first, larger for better.

        Args:
            answer: the prediction for both as plain JSON types.
            raw: without the sigmoid of the model, if it has one.
        """
        raise NotImplementedError
