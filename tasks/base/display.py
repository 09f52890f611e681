"""What a prediction looks like, whatever the task: a sentence, bars, or a text with marked parts.

A task says with these what there is to see of its answers; the browser draws each kind once and knows no task by name.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Text:
    """The answer in a few words."""

    text: str
    detail: str = ""  # what is to be known of it, in smaller letters


@dataclass(frozen=True)
class ScoreBar:
    """A name and a number from 0 to 1, as long as it is large."""

    name: str
    value: float
    chosen: bool = False  # whether it is the answer, or part of it
    threshold: float | None = None  # from which it is chosen


@dataclass(frozen=True)
class ScoreBars:
    """Numbers side by side."""

    bars: tuple[ScoreBar, ...]
    title: str = ""


@dataclass(frozen=True)
class Highlight:
    """A part of a text: text[start:end], in code points."""

    start: int
    end: int
    label: str = ""  # parts with the same one look the same
    score: float | None = None
    faint: bool = False  # not the answer, but the next best


@dataclass(frozen=True)
class HighlightedText:
    """A text with marked parts; of two that overlap the first is seen."""

    text: str
    marks: tuple[Highlight, ...]
    title: str = ""


DisplayElement = Text | ScoreBars | HighlightedText
