"""HTML of the browser app: predictions, lists of choices, tables and messages. The styles are in pages/app.css.

All text from users, files and models passes through `html.escape` and is placed in an element or a quoted attribute,
so that it is shown and never executed.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from itertools import groupby
from typing import Any

from ...tasks.base.display import DisplayElement, Highlight, HighlightedText, ScoreBars, Text
from ...tasks.base.predictions import Prediction
from ...tasks.data.features import TextLength
from ..terminal import format_value

NUM_COLORS = 8  # of highlights, in app.css
MAX_BARS = 12  # further bars are folded
LONG_NAME = 40  # characters; longer names are placed above their bars
MAX_CELL = 300  # characters
# For `js_on_load` of an HTML component: a click on a choice triggers an event with the number of the choice.
CHOICE_CLICK_JS = """
element.addEventListener('click', (event) => {
  const choice = event.target.closest('button[data-choice]');
  if (choice) trigger('click', {choice: Number(choice.dataset.choice)});
});
"""


def alert(message: str) -> str:
    """An error message; empty for an empty message."""
    return f'<div class="hw-alert" role="alert">{escape(message)}</div>' if message else ""


def hint(message: str) -> str:
    """A placeholder for an empty output."""
    return f'<div class="hw-hint">{escape(message)}</div>'


def caption(message: str) -> str:
    """A line of small text; empty for an empty message."""
    return f'<div class="hw-caption" dir="auto">{escape(message)}</div>' if message else ""


def truncation(length: TextLength) -> str:
    """Says that a text was not read completely; empty if it was."""
    if not length.truncated:
        return ""
    return alert(
        f"Only {length.num_read:,} of {length.num_tokens:,} tokens were read: the text is too long for the model."
    )


def draw_certainty(prediction: Prediction) -> str:
    """What the decision rules of the model say about a prediction; empty if it has none, or is sure."""
    return alert(prediction.certainty.warning) + caption(prediction.certainty.note)


def draw_display(elements: Iterable[DisplayElement]) -> str:
    """The display elements of a prediction; bars with a title stand side by side."""
    parts = []
    for titled, group in groupby(elements, key=lambda element: isinstance(element, ScoreBars) and bool(element.title)):
        drawn = "".join(_draw(one) for one in group)
        parts.append(f'<div class="hw-columns">{drawn}</div>' if titled else drawn)
    return f'<div class="hw-display">{"".join(parts)}</div>'


def _draw(element: DisplayElement) -> str:
    match element:
        case Text():
            return f'<div class="hw-result" dir="auto">{escape(element.text)}</div>{caption(element.detail)}'
        case ScoreBars():
            return draw_bars(element)
        case HighlightedText():
            return draw_highlighted(element)


def heading(text: str) -> str:
    """A small heading; empty for an empty text."""
    return f"<h4>{escape(text)}</h4>" if text else ""


def draw_bars(scores: ScoreBars) -> str:
    """Names with their scores as bars."""
    rows = [
        bar_row(one.name, one.value, f"{one.value:.2f}", chosen=one.chosen, threshold=one.threshold)
        for one in scores.bars
    ]
    wide = " hw-wide" if max((len(one.name) for one in scores.bars), default=0) > LONG_NAME else ""
    return f'<div class="hw-bars{wide}">{heading(scores.title)}{fold_bars(rows, "more")}</div>'


def bar_row(name: str, share: float, value: str, *, chosen: bool = False, threshold: float | None = None) -> str:
    """A bar with its name and value.

    Args:
        name: name of the bar.
        share: length of the bar, from 0 to 1; values outside are clipped.
        value: value to show.
        chosen: whether the bar is emphasized.
        threshold: position of a threshold mark, from 0 to 1.
    """
    mark = ""
    if threshold is not None:
        title = f"threshold {threshold:.2f}"
        mark = f'<b class="hw-threshold" style="left:{_percent(threshold)}%" title="{title}"></b>'
    return (
        f'<div class="hw-bar{" hw-chosen" if chosen else ""}">'
        f'<span class="hw-name" dir="auto" title="{escape(name)}">{escape(name)}</span>'
        f'<span class="hw-track"><i style="width:{_percent(share)}%"></i>{mark}</span>'
        f'<span class="hw-value">{escape(value)}</span></div>'
    )


def fold_bars(rows: Sequence[str], more: str) -> str:
    """Rows of bars, those after the first MAX_BARS folded under their number and `more`."""
    first, rest = rows[:MAX_BARS], rows[MAX_BARS:]
    folded = f"<details><summary>{len(rest):,} {more}</summary>{''.join(rest)}</details>" if rest else ""
    return "".join(first) + folded


def _percent(share: float) -> str:
    return f"{100 * min(max(share if math.isfinite(share) else 0.0, 0.0), 1.0):.1f}"


def draw_highlighted(element: HighlightedText) -> str:
    """A text with its highlights, one color per label."""
    labels = sorted({mark.label for mark in element.marks})
    pieces, position = [], 0
    for mark in _without_overlaps(element.marks):
        pieces.append(escape(element.text[position : mark.start]))
        pieces.append(_draw_highlight(element.text, mark, labels.index(mark.label) % NUM_COLORS))
        position = mark.end
    pieces.append(escape(element.text[position:]))
    return f'{heading(element.title)}<div class="hw-text" dir="auto">{"".join(pieces)}</div>'


def _without_overlaps(marks: Sequence[Highlight]) -> list[Highlight]:
    """The highlights in the order of the text, without those that overlap an earlier one of the list."""
    kept: list[Highlight] = []
    for mark in marks:
        if mark.end > mark.start and all(mark.end <= one.start or one.end <= mark.start for one in kept):
            kept.append(mark)
    return sorted(kept, key=lambda mark: mark.start)


def _draw_highlight(text: str, mark: Highlight, color: int) -> str:
    title = " ".join(part for part in (mark.label, "" if mark.score is None else f"{mark.score:.2f}") if part)
    label = f"<small>{escape(mark.label)}</small>" if mark.label else ""
    faint = " hw-faint" if mark.faint else ""
    content = escape(text[mark.start : mark.end])
    return f'<mark class="hw-c{color}{faint}" title="{escape(title)}">{content}{label}</mark>'


def draw_choices(choices: Sequence[str], title: str = "", *, long: bool = False) -> str:
    """Buttons for texts; `CHOICE_CLICK_JS` adds the number of the clicked one to the event."""
    if not choices:
        return ""
    kind = " hw-long" if long else ""
    buttons = [
        f'<button type="button" data-choice="{number}" dir="auto" title="{escape(one)}"><span>{escape(one)}</span>'
        "</button>"
        for number, one in enumerate(choices)
    ]
    return f'<div class="hw-choices{kind}">{heading(title)}{"".join(buttons)}</div>'


def draw_token_bars(tokens: Sequence[tuple[str, float, bool]]) -> str:
    """Tokens as clickable bars.

    Args:
        tokens: the text to show, the probability, and whether the token can be appended.
    """
    highest = max((probability for _, probability, _ in tokens), default=0.0) or 1.0
    rows = []
    for number, (shown, probability, enabled) in enumerate(tokens):
        disabled = "" if enabled else " disabled"
        title = "append" if enabled else "not a complete character"
        rows.append(
            f'<button type="button" class="hw-bar" data-choice="{number}"{disabled} title="{title}">'
            f'<span class="hw-name">{escape(shown)}</span>'
            f'<span class="hw-track"><i style="width:{_percent(probability / highest)}%"></i></span>'
            f'<span class="hw-value">{100 * probability:.1f} %</span></button>'
        )
    return f'<div class="hw-bars hw-tokens">{"".join(rows)}</div>' if rows else ""


def draw_table(rows: Sequence[Mapping[str, Any]], title: str = "") -> str:
    """A table of rows by column name."""
    if not rows:
        return ""
    names = list(dict.fromkeys(name for row in rows for name in row))
    head = "".join(f"<th>{escape(str(name))}</th>" for name in names)
    body = "".join("<tr>" + "".join(_draw_cell(row.get(name)) for name in names) + "</tr>" for row in rows)
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return f'{heading(title)}<div class="hw-table">{table}</div>'


def _draw_cell(value: Any) -> str:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    text = "" if value is None else format_value(value, 3)
    text = text if len(text) <= MAX_CELL else f"{text[:MAX_CELL]}…"
    return f'<td class="hw-number">{escape(text)}</td>' if is_number else f'<td dir="auto">{escape(text)}</td>'


def draw_progress(done: int, total: int, message: str) -> str:
    """A progress bar with a message."""
    percent = _percent(done / total if total else 1.0)
    return (
        f'<div class="hw-progress" role="progressbar" aria-valuenow="{percent}" aria-valuemin="0" aria-valuemax="100">'
        f'<i style="width:{percent}%"></i></div>{caption(message)}'
    )


def draw_code(text: str) -> str:
    """Monospaced text with its white space."""
    return f'<pre class="hw-code" dir="auto">{escape(text)}</pre>'


def draw_frame(page: str, title: str) -> str:
    """A complete page in a sandboxed frame, which can run its own script only.

    Its base makes the frame follow a link to a part of the page; the inherited one would open the app in the frame.
    """
    page = page.replace("<head>", '<head><base href="about:srcdoc">', 1)
    return (
        f'<iframe class="hw-frame" sandbox="allow-scripts" title="{escape(title)}" srcdoc="{escape(page)}"></iframe>'
    )


def draw_facts(facts: Mapping[str, str]) -> str:
    """Names with short values in a row."""
    shown = "".join(
        f'<span><b>{escape(name)}</b> <span dir="auto">{escape(value)}</span></span>' for name, value in facts.items()
    )
    return f'<div class="hw-facts">{shown}</div>'
