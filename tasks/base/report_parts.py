"""The parts of an evaluation report that tasks add: tables and charts as data, which any program can draw."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ..intervals import Interval


@dataclass(frozen=True)
class Series:
    """A line, bars or points of a chart.

    Args:
        name: in the legend.
        x, y: of the points.
        bounds: the lower and the upper bound of y at each point, NaN for a point without; empty: no bounds are drawn.
        expected: x and y of a fitted line, which is dashed; empty: no line.
    """

    name: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    bounds: tuple[tuple[float, ...], ...] = ()
    expected: tuple[tuple[float, ...], ...] = ()


@dataclass(frozen=True)
class Chart:
    """Series over common axes.

    Args:
        title: what is shown.
        axes: the names of the horizontal and the vertical axis.
        series: in the order of the legend.
        kind: how they are drawn.
        diagonal: whether the line y = x is drawn for comparison.
        levels: horizontal lines for comparison: the name and the y of each.
        log: whether the horizontal axis is logarithmic, with the x of the series as its ticks.
        note: how the chart is read, a sentence.
    """

    title: str
    axes: tuple[str, str]
    series: tuple[Series, ...]
    kind: Literal["line", "bars", "points"] = "line"
    diagonal: bool = False
    levels: tuple[tuple[str, float], ...] = ()
    log: bool = False
    note: str = ""

    def to_json(self) -> dict[str, Any]:
        """The numbers of every series."""
        series = [{"name": one.name, "x": list(one.x), "y": list(one.y)} for one in self.series]
        return {"title": self.title, "axes": list(self.axes), "series": series, "note": self.note}


@dataclass(frozen=True)
class ReportTable:
    """Rows with the same columns.

    Args:
        title: what is shown.
        rows: cells by column: texts, numbers, intervals or None.
        note: how the table is read, a sentence.
    """

    title: str
    rows: Sequence[Mapping[str, Any]]
    note: str = ""

    def to_json(self) -> dict[str, Any]:
        """The rows."""
        return {"title": self.title, "rows": rows_as_json(self.rows), "note": self.note}


ReportPart = Chart | ReportTable


class ReportCollector(ABC):
    """Collects what a task shows of its evaluation, part by part; memory does not grow with the number of examples."""

    @abstractmethod
    def add(self, predictions: Sequence[Any], examples: Sequence[Any]) -> None:
        """Adds examples with their predictions."""

    @abstractmethod
    def parts(self) -> list[ReportPart]:
        """Tables and charts of all examples."""


def rows_as_json(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows of a table with intervals as objects."""
    return [
        {name: cell.to_json() if isinstance(cell, Interval) else cell for name, cell in row.items()} for row in rows
    ]
