"""A cheaper way to train, measured on the same held-out rows before training: proposed if it turns out better."""

from dataclasses import dataclass

MARGIN = 0.01  # a smaller difference is no reason to train again


@dataclass(frozen=True)
class Rival:
    """What another option would have given.

    Args:
        option: on the command line: "--frozen".
        what: it trains: "logistic regression on frozen features".
        metric: by which both are compared.
        score: of the cheaper way, on the held-out rows.
        seconds: that measuring it took.
    """

    option: str
    what: str
    metric: str
    score: float
    seconds: float

    @property
    def note(self) -> str:
        """What was measured, before training."""
        took = f"after {self.seconds:,.0f} seconds" if self.seconds >= 1 else "after less than a second"
        return f"{self.what} has {self.metric} {self.score:.3f} on the held-out rows {took} ({self.option} trains it)"

    def proposal(self, score: float) -> str | None:
        """The proposal after training with the usual way, which has this score on the same rows."""
        if self.score < score + MARGIN:
            return None
        gain = f"{self.metric} {self.score:.3f} instead of {score:.3f} on the same held-out rows"
        return f"Train with {self.option}: {self.what} has {gain}. Or train for more steps (--epochs)."
