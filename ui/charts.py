"""Charts as SVG that takes its colours from the page: the same picture in light mode, dark mode and print."""

import io
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from html import escape
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.atomic_files import atomic_file
from .html_page import PAGES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ..tasks.base.report_parts import Chart, Series

SIZE = (4.8, 3.1)  # inches: text stays readable on a screen of 390 pixels
MAX_NAME = 28  # characters of a series in the legend
MARGIN = 1.3  # factor between the last tick of a logarithmic axis and its end
DODGE = 1.05  # factor between the points of neighbouring series on a logarithmic axis
LEVELS: tuple[Any, ...] = ((0, (6, 2)), (0, (1, 2)))  # dashes of horizontal lines
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
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
}
INKED = ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color")
DPI = 200  # of a PNG


def draw_chart(chart: "Chart") -> str:
    """A chart as an SVG element without ids or styles that reach beyond it."""
    return _as_element(_draw_svg(chart), chart.title)


def save_chart(chart: "Chart", path: Path, *, dark: bool = False) -> None:
    """Writes a chart as a file, which is replaced.

    Args:
        chart: to draw.
        path: .svg, whose colours follow the light or dark mode of the program that shows it, or .png.
        dark: whether a .png is light on dark ground.

    Raises:
        HeadwayError: the file cannot be written.
    """
    with atomic_file(path, overwrite=True) as new:
        if path.suffix.lower() == ".png":
            new.write_bytes(_draw_png(chart, _page_colors(dark=dark)))
        else:
            style = f"<style>{_color_rules()}svg {{ background: var(--ground); color: var(--ink); }}</style>"
            opening, end, content = draw_chart(chart).partition(">")
            opening = opening.replace("<svg", '<svg xmlns="http://www.w3.org/2000/svg"', 1)
            opening += ' xmlns:xlink="http://www.w3.org/1999/xlink"'
            new.write_text(f"{opening}{end}{style}{content}", encoding="utf-8")


def _draw_svg(chart: "Chart") -> str:
    file = io.StringIO()
    with _style(INK, GRID, SERIES, chart.title):
        _figure(chart).savefig(file, format="svg", transparent=True, metadata={"Date": None})
    return file.getvalue()


def _draw_png(chart: "Chart", colors: Mapping[str, str]) -> bytes:
    file, series = io.BytesIO(), tuple(colors[f"series-{i}"] for i in range(1, len(SERIES) + 1))
    with _style(colors["ink"], colors["line"], series, chart.title):
        _figure(chart).savefig(file, format="png", dpi=DPI, facecolor=colors["ground"])
    return file.getvalue()


@contextmanager
def _style(ink: str, grid: str, series: Sequence[str], title: str) -> Iterator[None]:
    import matplotlib as mpl
    from cycler import cycler

    own: dict[Any, Any] = {
        "grid.color": grid,
        "axes.facecolor": "none",
        "svg.hashsalt": title,
        **dict.fromkeys(INKED, ink),
    }
    with mpl.rc_context({**STYLE, **own, "axes.prop_cycle": cycler(color=series)}), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the browser has the letters that the font of the layout lacks
        yield


def _color_rules() -> str:
    """The rules for colours at the beginning of the style of reports: in light mode, then in dark mode."""
    return (PAGES / "report.css").read_text(encoding="utf-8").partition("* {")[0]


def _page_colors(*, dark: bool) -> dict[str, str]:
    """The colours of reports by name."""
    light, _, rest = _color_rules().partition("@media")
    return dict(re.findall(r"--([\w-]+): (#\w+);", rest if dark else light))


def _figure(chart: "Chart") -> "Figure":
    from matplotlib.figure import Figure

    figure = Figure(figsize=SIZE, layout="constrained")
    axes = figure.add_subplot()
    handles = [_draw(axes, chart, i, one) for i, one in enumerate(chart.series)]
    if chart.diagonal and chart.series:
        values = [value for one in chart.series for value in (*one.x, *one.y)]
        ends = (0, 1) if min(values) >= 0 and max(values) <= 1 else (min(values), max(values))
        axes.plot(ends, ends, color=_ink(), linewidth=0.9, linestyle="--", alpha=0.5)
    handles += [_draw_level(axes, i, y) for i, (_, y) in enumerate(chart.levels)]
    if chart.log:
        _make_logarithmic(axes, chart)
    elif handles and not any(axes.dataLim.intervaly):
        axes.set_ylim(0, 1)  # around 0 alone, half of the axis would be negative
    axes.set_xlabel(chart.axes[0])
    axes.set_ylabel(chart.axes[1])
    if len(handles) > 1:
        names = [_name(name) for name in (*(one.name for one in chart.series), *(name for name, _ in chart.levels))]
        figure.legend(handles, names, loc="outside upper left", ncols=2, frameon=False)
    return figure


def _draw(axes: "Axes", chart: "Chart", number: int, one: "Series") -> Any:
    """Draws a series; returns what represents it in the legend."""
    color = f"C{number}"
    if chart.kind == "points":
        return axes.scatter(one.x, one.y, s=9, color=color, alpha=0.5, linewidths=0)
    if chart.kind == "bars":
        places = sorted({value for other in chart.series for value in other.x})
        gap = min((b - a for a, b in pairwise(places)), default=1.0)
        width = 0.85 * gap / len(chart.series)
        shift = (number - (len(chart.series) - 1) / 2) * width
        return axes.bar([value + shift for value in one.x], one.y, width, color=color)
    if one.bounds:
        return _draw_means(axes, chart, number, one)
    marker = "o" if len(one.x) <= 30 else None
    (line,) = axes.plot(one.x, one.y, color=color, linewidth=1.8, marker=marker, markersize=4)
    return line


def _draw_means(axes: "Axes", chart: "Chart", number: int, one: "Series") -> Any:
    """Draws points with their intervals beside those of other series, and the fitted line or one through them."""
    shift = DODGE ** (number - (len(chart.series) - 1) / 2) if chart.log else 1.0
    x, (low, high) = [value * shift for value in one.x], one.bounds
    below = [y - bound for y, bound in zip(one.y, low, strict=True)]
    above = [bound - y for y, bound in zip(one.y, high, strict=True)]
    color, style = f"C{number}", "none" if one.expected else "-"
    if one.expected:
        axes.plot(*one.expected, color=color, linewidth=1.2, linestyle="--")
    return axes.errorbar(
        x, one.y, [below, above], color=color, linestyle=style, marker="o", markersize=4.5, elinewidth=1.2
    )


def _ink() -> str:
    import matplotlib as mpl

    return mpl.rcParams["text.color"]


def _draw_level(axes: "Axes", number: int, y: float) -> Any:
    """Draws a horizontal line; returns what represents it in the legend."""
    return axes.axhline(y, color=_ink(), linewidth=1, alpha=0.6, linestyle=LEVELS[number % len(LEVELS)])


def _make_logarithmic(axes: "Axes", chart: "Chart") -> None:
    ends = [one.expected[0][-1] for one in chart.series if one.expected]
    ticks = sorted({round(value) for value in (*ends, *(x for one in chart.series for x in one.x))})
    axes.set_xscale("log", base=2)
    axes.set_xticks(ticks, [f"{value:,}" for value in ticks])
    if ticks:  # else the chart has nothing but levels
        axes.set_xlim(ticks[0] / MARGIN, ticks[-1] * MARGIN)
    axes.minorticks_off()


def _name(name: str) -> str:
    """A name for a legend, which leaves names out that begin with an underscore."""
    name = "".join(letter if letter.isprintable() else " " for letter in name)
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
