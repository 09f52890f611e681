"""Charts as SVG that takes its colours from the page: the same picture in light mode, dark mode and print."""

import io
import re
import warnings
from html import escape
from itertools import pairwise
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from ..tasks.base.report_parts import Chart, Series

SIZE = (4.8, 3.1)  # inches: text stays readable on a screen of 390 pixels
MAX_NAME = 28  # characters of a series in the legend
INK, GRID = "#0a0b0c", "#0d0e0f"  # replaced by the colours of the page
# Replaced by the page's --series-1 to --series-8, which differ on light and on dark ground.
SERIES = tuple(f"#a0b0{number:02d}" for number in range(1, 9))
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text
    "text.parse_math": False,  # a label may contain dollar signs
    "font.size": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), INK),
}


def draw_chart(chart: "Chart") -> str:
    """A chart as an SVG element without ids or styles that reach beyond it."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    file = io.StringIO()
    with mpl.rc_context({**STYLE, "svg.hashsalt": chart.title}), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the browser has the letters that the font of the layout lacks
        figure = Figure(figsize=SIZE, layout="constrained")
        axes = figure.add_subplot()
        handles = [_draw(axes, chart, i, one) for i, one in enumerate(chart.series)]
        if chart.diagonal and chart.series:
            values = [value for one in chart.series for value in (*one.x, *one.y)]
            ends = (0, 1) if min(values) >= 0 and max(values) <= 1 else (min(values), max(values))
            axes.plot(ends, ends, color=INK, linewidth=0.9, linestyle="--", alpha=0.5)
        axes.set_xlabel(chart.axes[0])
        axes.set_ylabel(chart.axes[1])
        if len(handles) > 1:
            figure.legend(
                handles, [_name(one) for one in chart.series], loc="outside upper left", ncols=2, frameon=False
            )
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    return _as_element(file.getvalue(), chart.title)


def _draw(axes: "Axes", chart: "Chart", number: int, one: "Series") -> Any:
    """Draws a series; returns what represents it in the legend."""
    color = SERIES[number % len(SERIES)]
    if chart.kind == "points":
        return axes.scatter(one.x, one.y, s=9, color=color, alpha=0.5, linewidths=0)
    if chart.kind == "bars":
        places = sorted({value for other in chart.series for value in other.x})
        gap = min((b - a for a, b in pairwise(places)), default=1.0)
        width = 0.85 * gap / len(chart.series)
        shift = (number - (len(chart.series) - 1) / 2) * width
        return axes.bar([value + shift for value in one.x], one.y, width, color=color)
    marker = "o" if len(one.x) <= 30 else None
    (line,) = axes.plot(one.x, one.y, color=color, linewidth=1.8, marker=marker, markersize=4)
    return line


def _name(one: "Series") -> str:
    """The name of a series for a legend, which leaves names out that begin with an underscore."""
    name = "".join(letter if letter.isprintable() else " " for letter in one.name)
    name = name if len(name) <= MAX_NAME else f"{name[: MAX_NAME - 1]}…"
    return f"\u200b{name}" if name.startswith("_") else name


def _as_element(svg: str, title: str) -> str:
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<style.*?</style>|<metadata>.*?</metadata>|<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = re.sub(r' (width|height)="[\d.]+pt"', "", svg, count=2)
    svg = re.sub(r' xmlns(:xlink)?="[^"]+"', "", svg)
    svg = re.sub(
        r' id="(figure|axes|patch|text|line2d|matplotlib\.axis|xtick|ytick|legend|PathCollection)[\w.]*"', "", svg
    )
    for i, color in enumerate(SERIES, start=1):
        svg = svg.replace(color, f"var(--series-{i})")
    svg = svg.replace(INK, "currentColor").replace(GRID, "var(--line)")
    return svg.replace("<svg", f'<svg class="chart" role="img" aria-label="{escape(title)}"', 1)
