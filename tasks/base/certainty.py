"""What the decision rules of a model say about a prediction, beside the prediction itself."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Certainty:
    """What decision rules say about one prediction; a field is None if the model has no such rule.

    Args:
        abstained: whether the confidence is below the one from which the model answers.
        label_set: the conformal prediction set: labels that are possible, the most probable first.
        none_of_these: whether the text is so far from all training texts that no label is for it.
        distance: of the text from the training texts, in standard deviations; by which that is decided.
    """

    abstained: bool | None = None
    label_set: tuple[str, ...] | None = None
    none_of_these: bool | None = None
    distance: float | None = None

    def to_json(self) -> dict[str, Any]:
        """The fields of the rules that the model has, as plain JSON types."""
        labels = None if self.label_set is None else list(self.label_set)
        fields = {"abstained": self.abstained, "label_set": labels, "none_of_these": self.none_of_these}
        return {name: value for name, value in fields.items() if value is not None}

    def summarize(self, brief: str) -> str:
        """A prediction in a few words with what the rules say about it."""
        unsure = f"unsure: {brief}" if self.abstained else brief
        text = f"none of these: {brief}" if self.none_of_these else unsure
        return text if self.label_set is None else f"{text}  {{{', '.join(self.label_set)}}}"

    @property
    def warning(self) -> str:
        """Why not to rely on the prediction; empty if no rule says so."""
        if self.none_of_these:
            return "None of these: the text is unlike all texts that this model was trained on."
        return "Unsure: the confidence is below the one from which this model answers." if self.abstained else ""

    @property
    def note(self) -> str:
        """The conformal set as a sentence; empty without one."""
        return "" if self.label_set is None else f"Possible labels: {', '.join(self.label_set)}"


NO_RULES = Certainty()
