"""A task's warnings about examples, collected with the places of the examples."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import repeat
from typing import Any

from ..data.examples import Example, ExampleWarning
from ..data.features import Features
from ..data.findings import Finding, describe_warning, warnings_as_findings
from ..data.places import MAX_SHOWN
from .task import Task


def add_warnings(
    places: dict[ExampleWarning, list[str]],
    task: Task[Any, Any],
    examples: Iterable[Example],
    windows_by_example: Iterable[list[Features]],
) -> None:
    """Adds to each warning the places of its examples."""
    for example, windows in zip(examples, windows_by_example, strict=True):
        for warning in task.warnings(example, windows):
            places.setdefault(warning, []).append(example.where)


def collect_warnings(
    task: Task[Any, Any], examples: Sequence[Example], windows_by_example: Sequence[list[Features]]
) -> dict[ExampleWarning, list[str]]:
    """Each warning with the places of its examples; `windows_by_example` is empty if there is no tokenizer."""
    places: dict[ExampleWarning, list[str]] = {}
    add_warnings(places, task, examples, windows_by_example or repeat([], len(examples)))
    return places


class CountedWarnings:
    """How often each warning occurs, with the places of its first examples: for any number of examples."""

    def __init__(self) -> None:
        self._counts: dict[ExampleWarning, tuple[int, int]] = {}  # occurrences, examples
        self._places: dict[ExampleWarning, list[str]] = {}

    def add(
        self, task: Task[Any, Any], examples: Sequence[Example], windows_by_example: Sequence[list[Features]]
    ) -> None:
        """Adds the warnings about examples."""
        for warning, repeated in collect_warnings(task, examples, windows_by_example).items():
            distinct, known = list(dict.fromkeys(repeated)), self._places.setdefault(warning, [])
            times, number = self._counts.get(warning, (0, 0))
            self._counts[warning] = times + len(repeated), number + len(distinct)
            known += distinct[: MAX_SHOWN - len(known)]

    def sentences(self, num_examples: int) -> list[str]:
        """One per warning."""
        return [
            describe_warning(one, (*counts, num_examples), self._places[one]) for one, counts in self._counts.items()
        ]


def warning_findings(
    task: Task[Any, Any], examples: Sequence[Example], windows_by_example: Sequence[list[Features]]
) -> list[Finding]:
    """The warnings as findings of a data report."""
    warnings: Mapping[ExampleWarning, Sequence[str]] = collect_warnings(task, examples, windows_by_example)
    return list(warnings_as_findings(warnings, len(examples)))
