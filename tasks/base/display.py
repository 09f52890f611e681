"""How a prediction is displayed, whatever its task: a text, bars of scores, or a text with highlights.

A task describes its predictions with these elements, and the browser app draws each kind of element.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Text:
    """The prediction in a few words."""

    text: str
    detail: str = ""  # in smaller letters


@dataclass(frozen=True)
class ScoreBar:
    """A name, and a score from 0 to 1 as the length of a bar."""

    name: str
    value: float
    chosen: bool = False  # whether it is (part of) the prediction
    threshold: float | None = None  # from which it is chosen


@dataclass(frozen=True)
class ScoreBars:
    """Several scores."""

    bars: tuple[ScoreBar, ...]
    title: str = ""


@dataclass(frozen=True)
class Highlight:
    """A part of a text: text[start:end], in code points."""

    start: int
    end: int
    label: str = ""  # parts with the same label have the same color
    score: float | None = None
    faint: bool = False  # an alternative instead of the prediction


@dataclass(frozen=True)
class HighlightedText:
    """A text with highlights; of two that overlap the first is drawn."""

    text: str
    marks: tuple[Highlight, ...]
    title: str = ""


DisplayElement = Text | ScoreBars | HighlightedText
