"""What the browser app shows as HTML: the views of predictions, choices to click on, tables, notes.

Every text that comes from a person, a file or a model passes through `html.escape` here and stands in an element or a
quoted attribute, so that it is shown and never run. The looks are in pages/app.css.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from itertools import groupby
from typing import Any

from ...tasks.base.display import DisplayElement, Highlight, HighlightedText, ScoreBar, ScoreBars, Text
from ..terminal import figure

COLOURS = 8  # of marks, in app.css
MOST_BARS = 12  # at first sight; the others are folded away
LONG_NAME = 40  # signs; longer ones stand above their bars
MOST_SIGNS = 300  # of a cell
# In an HTML component's js_on_load: a click on a choice is an event that carries its number.
PICK = """
element.addEventListener('click', (event) => {
  const choice = event.target.closest('button[data-choice]');
  if (choice) trigger('click', {choice: Number(choice.dataset.choice)});
});
"""


def note(message: str) -> str:
    """Something that a person should read: what went wrong and what to do."""
    return f'<div class="hw-note" role="alert">{escape(message)}</div>' if message else ""


def hint(message: str) -> str:
    """What stands in a place that is still empty."""
    return f'<div class="hw-hint">{escape(message)}</div>'


def quiet(message: str) -> str:
    """A line in smaller letters."""
    return f'<div class="hw-quiet" dir="auto">{escape(message)}</div>' if message else ""


def draw_views(views: Iterable[DisplayElement]) -> str:
    """A prediction."""
    parts = []
    for titled, group in groupby(views, key=lambda view: isinstance(view, ScoreBars) and bool(view.title)):
        drawn = "".join(_draw(one) for one in group)
        parts.append(f'<div class="hw-beside">{drawn}</div>' if titled else drawn)
    return f'<div class="hw-views">{"".join(parts)}</div>'


def _draw(view: DisplayElement) -> str:
    match view:
        case Text():
            return f'<div class="hw-said" dir="auto">{escape(view.text)}</div>{quiet(view.detail)}'
        case ScoreBars():
            return draw_bars(view)
        case HighlightedText():
            return draw_marked(view)


def draw_bars(view: ScoreBars) -> str:
    """Names with their numbers as bars; where there are many, the first of them."""
    title = f"<h4>{escape(view.title)}</h4>" if view.title else ""
    first, rest = view.bars[:MOST_BARS], view.bars[MOST_BARS:]
    more = ""
    if rest:
        more = f"<details><summary>{len(rest):,} more</summary>{_rows(rest)}</details>"
    wide = " hw-wide" if max((len(one.name) for one in view.bars), default=0) > LONG_NAME else ""
    return f'<div class="hw-bars{wide}">{title}{_rows(first)}{more}</div>'


def _rows(bars: Sequence[ScoreBar]) -> str:
    return "".join(_bar(one) for one in bars)


def _bar(bar: ScoreBar) -> str:
    chosen = " hw-chosen" if bar.chosen else ""
    limit = ""
    if bar.threshold is not None:
        place = _percent(bar.threshold)
        limit = f'<b class="hw-limit" style="left:{place}%" title="chosen from {bar.threshold:.2f} on"></b>'
    return (
        f'<div class="hw-bar{chosen}"><span class="hw-name" dir="auto" title="{escape(bar.name)}">{escape(bar.name)}'
        f'</span><span class="hw-track"><i style="width:{_percent(bar.value)}%"></i>{limit}</span>'
        f'<span class="hw-value">{bar.value:.2f}</span></div>'
    )


def _percent(share: float) -> str:
    return f"{100 * min(max(share if math.isfinite(share) else 0.0, 0.0), 1.0):.1f}"


def draw_marked(view: HighlightedText) -> str:
    """A text with its marks; parts with the same label have the same colour."""
    labels = sorted({mark.label for mark in view.marks})
    title = f"<h4>{escape(view.title)}</h4>" if view.title else ""
    pieces, place = [], 0
    for mark in _apart(view.marks):
        pieces.append(escape(view.text[place : mark.start]))
        pieces.append(_mark(view.text, mark, labels.index(mark.label) % COLOURS))
        place = mark.end
    pieces.append(escape(view.text[place:]))
    return f'{title}<div class="hw-text" dir="auto">{"".join(pieces)}</div>'


def _apart(marks: Sequence[Highlight]) -> list[Highlight]:
    """The marks in the text's order, without those that overlap an earlier one of the list."""
    kept: list[Highlight] = []
    for mark in marks:
        if mark.end > mark.start and all(mark.end <= one.start or one.end <= mark.start for one in kept):
            kept.append(mark)
    return sorted(kept, key=lambda mark: mark.start)


def _mark(text: str, mark: Highlight, colour: int) -> str:
    told = " ".join(part for part in (mark.label, "" if mark.score is None else f"{mark.score:.2f}") if part)
    name = f"<small>{escape(mark.label)}</small>" if mark.label else ""
    faint = " hw-faint" if mark.faint else ""
    return (
        f'<mark class="hw-c{colour}{faint}" title="{escape(told)}">{escape(text[mark.start : mark.end])}{name}</mark>'
    )


def draw_choices(choices: Sequence[str], title: str = "", *, long: bool = False) -> str:
    """Texts to click on; which one was clicked comes with the event (`PICK`)."""
    if not choices:
        return ""
    kind = " hw-long" if long else ""
    buttons = [
        f'<button type="button" data-choice="{number}" dir="auto" title="{escape(one)}"><span>{escape(one)}</span>'
        "</button>"
        for number, one in enumerate(choices)
    ]
    head = f"<h4>{escape(title)}</h4>" if title else ""
    return f'<div class="hw-choices{kind}">{head}{"".join(buttons)}</div>'


def draw_token_bars(tokens: Sequence[tuple[str, float, bool]]) -> str:
    """Tokens as bars to click on: how each is shown, its probability, and whether a click can append it."""
    most = max((probability for _, probability, _ in tokens), default=0.0) or 1.0
    rows = []
    for number, (shown, probability, whole) in enumerate(tokens):
        off = "" if whole else " disabled"
        told = "append it" if whole else "it is no text by itself"
        rows.append(
            f'<button type="button" class="hw-bar" data-choice="{number}"{off} title="{told}">'
            f'<span class="hw-name">{escape(shown)}</span>'
            f'<span class="hw-track"><i style="width:{_percent(probability / most)}%"></i></span>'
            f'<span class="hw-value">{100 * probability:.1f} %</span></button>'
        )
    return f'<div class="hw-bars hw-tokens">{"".join(rows)}</div>' if rows else ""


def draw_table(rows: Sequence[Mapping[str, Any]], title: str = "") -> str:
    """Rows under the names of their columns."""
    if not rows:
        return ""
    names = list(dict.fromkeys(name for row in rows for name in row))
    head = "".join(f"<th>{escape(str(name))}</th>" for name in names)
    body = "".join("<tr>" + "".join(_cell(row.get(name)) for name in names) + "</tr>" for row in rows)
    shown = f"<h4>{escape(title)}</h4>" if title else ""
    return f'{shown}<div class="hw-table"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _cell(value: Any) -> str:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    text = "" if value is None else figure(value, 3)
    cut = text if len(text) <= MOST_SIGNS else f"{text[:MOST_SIGNS]}…"
    return f'<td class="hw-number">{escape(cut)}</td>' if number else f'<td dir="auto">{escape(cut)}</td>'


def draw_progress(done: int, total: int, told: str) -> str:
    """How far something is."""
    share = _percent(done / total if total else 1.0)
    return (
        f'<div class="hw-progress" role="progressbar" aria-valuenow="{share}" aria-valuemin="0" aria-valuemax="100">'
        f'<i style="width:{share}%"></i></div>{quiet(told)}'
    )


def draw_code(text: str) -> str:
    """A text in letters of one width, with its line breaks and spaces."""
    return f'<pre class="hw-code" dir="auto">{escape(text)}</pre>'


def draw_frame(page: str, title: str) -> str:
    """A whole page inside this one, which can run its own script and nothing more."""
    return (
        f'<iframe class="hw-frame" sandbox="allow-scripts" title="{escape(title)}" srcdoc="{escape(page)}"></iframe>'
    )


def facts(named: Mapping[str, str]) -> str:
    """A few facts in a row."""
    shown = "".join(
        f'<span><b>{escape(name)}</b> <span dir="auto">{escape(value)}</span></span>' for name, value in named.items()
    )
    return f'<div class="hw-facts">{shown}</div>'
