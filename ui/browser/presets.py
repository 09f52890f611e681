"""Presets of the tab Train: values of training and task options under those that the user sets in the form."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ...core.options import options_of
from ...tasks import TASKS


@dataclass(frozen=True)
class Preset:
    """Values of options, by name."""

    description: str
    training: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)  # of the task


BALANCED = "Balanced"
PRESETS: dict[str, Preset] = {
    "Quick": Preset("At most 100 steps, for a first impression.", {"effort": "quick"}),
    BALANCED: Preset("The defaults: learning rate and number of steps suit the model and the data."),
    "Thorough": Preset(
        "Three times as long as Balanced. The weights with the best score are kept.", {"effort": "thorough"}
    ),
    "Frozen features": Preset(
        "Only a classifier is trained, on the features of the unchanged model: seconds instead of minutes.",
        options={"frozen": True},
    ),
    "Few labels": Preset(
        "For 8 to 64 rows per label: texts with the same label are made similar, then a classifier is fitted.",
        options={"few_shot": True},
    ),
}


def presets_for(task: str) -> list[str]:
    """The presets whose options the task has."""
    known = {option.name for option in options_of(TASKS[task])}
    return [name for name, preset in PRESETS.items() if preset.options.keys() <= known]


def preset_of(name: str | None, task: str) -> Preset:
    """The chosen preset; the balanced one if the task does not have it."""
    return PRESETS[name if name in presets_for(task) else BALANCED]
