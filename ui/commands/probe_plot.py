"""Score against layer as an SVG that needs nothing else: the mean over the seeds, and the band from worst to best."""

import math
from collections.abc import Callable
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ...tasks.inspection import ProbeResult

WIDTH, HEIGHT = 640, 400
LEFT, RIGHT, TOP, BOTTOM = 56, 176, 44, 48
STYLE = """
text { font: 13px system-ui, sans-serif; fill: #1b1f27; }
.quiet { fill: #5b6472; }
.ground { fill: #ffffff; }
.grid { stroke: #d9dde4; }
.band { fill: #245cd6; opacity: .18; }
.mean { stroke: #245cd6; stroke-width: 2.5; fill: none; }
.dot { fill: #245cd6; }
.mix { stroke: #d66012; stroke-width: 2; }
.commonest { stroke: #5b6472; stroke-width: 1.5; stroke-dasharray: 4 4; }
@media (prefers-color-scheme: dark) {
  text { fill: #e7eaf0; }
  .quiet { fill: #9aa4b4; }
  .ground { fill: #14171c; }
  .grid { stroke: #333b47; }
  .band, .dot { fill: #6ca0ff; }
  .mean { stroke: #6ca0ff; }
  .mix { stroke: #ff9248; }
}
"""


def draw_probe(found: "ProbeResult", model: str) -> str:
    """The plot of a probe of a model."""
    every = [score for one in (*found.layers, found.mix, found.commonest) for score in one.scores]
    lowest = min(9, math.floor(10 * min(every)))  # in tenths
    highest = max(lowest + 1, math.ceil(10 * max(every)))
    low, high = lowest / 10, highest / 10
    last = len(found.layers) - 1

    def x(layer: float) -> float:
        return round(LEFT + layer / last * (WIDTH - LEFT - RIGHT), 1)

    def y(score: float) -> float:
        return round(HEIGHT - BOTTOM - (score - low) / (high - low) * (HEIGHT - TOP - BOTTOM), 1)

    def path(scores: list[float], layers: list[int]) -> str:
        return " ".join(f"{x(layer)},{y(score)}" for layer, score in zip(layers, scores, strict=True))

    order = list(range(last + 1))
    best, worst = ([pick(one.scores) for one in found.layers] for pick in (max, min))
    band = path(best, order) + " " + path(worst[::-1], order[::-1])
    ticks = [tenth / 10 for tenth in range(lowest, highest + 1)]
    seeds = len(found.mix.scores)
    parts = [
        f'<rect class="ground" width="{WIDTH}" height="{HEIGHT}"/>',
        f'<text x="{LEFT}" y="24">{escape(f"{found.metric} of a linear probe on each layer of {model}")}</text>',
        *(_line("grid", x(0), y(tick), x(last), y(tick)) for tick in ticks),
        *(_text(LEFT - 8, y(tick) + 4, f"{tick:.1f}", "end") for tick in ticks),
        *(
            _text(x(layer), HEIGHT - BOTTOM + 20, str(layer or "emb."), "middle")
            for layer in order
            if last <= 13 or layer % 2 == 0
        ),
        _text((x(0) + x(last)) / 2, HEIGHT - 8, f"layer (band: worst to best of {seeds} seeds)", "middle"),
        f'<polygon class="band" points="{band}"/>',
        f'<polyline class="mean" points="{path([one.mean for one in found.layers], order)}"/>',
        *(f'<circle class="dot" cx="{x(i)}" cy="{y(one.mean)}" r="3.5"/>' for i, one in enumerate(found.layers)),
        *_level("mix", found.mix.mean, "mix of all layers", x, y, last),
        *_level("commonest", found.commonest.mean, "commonest label", x, y, last),
    ]
    body = "\n".join(parts)
    size = f'viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size}>\n<style>{STYLE}</style>\n{body}\n</svg>\n'


def _level(
    kind: str, score: float, label: str, x: Callable[[float], float], y: Callable[[float], float], last: int
) -> list[str]:
    """A line across the plot at a score, with what it is at its end."""
    line = _line(kind, x(0), y(score), x(last), y(score))
    return [line, _text(x(last) + 8, y(score) + 4, f"{label} {score:.3f}", "start")]


def _line(kind: str, x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line class="{kind}" x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}"/>'


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text class="quiet" x="{x}" y="{y}" text-anchor="{anchor}">{escape(text)}</text>'
