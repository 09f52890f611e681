"""What the browser app shows of data and of training runs, as HTML: rows, the check, curves, scores, mistakes.

As in drawing.py every text from outside passes through `html.escape`; the looks are in pages/train.css.
"""

import math
import re
from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from ..terminal import duration, figure
from .drawing import draw_progress, draw_table, quiet

if TYPE_CHECKING:
    from ...tasks.data.columns import ColumnMapping
    from ...tasks.data.report import DataReport
    from ...tasks.data.rows import Table
    from ..runs.job import History, Job, Status

FIRST_ROWS = 5
MOST_COLUMNS = 12
MOST_SIGNS = 120  # of a cell
MOST_LABELS = 12
MOST_POINTS = 80  # of a curve
MOST_FINDINGS = 20
WIDTH, HEIGHT = 420, 200  # of a curve
LEFT, RIGHT, TOP, BOTTOM = 44, 10, 12, 24
LABEL = "Label"
LEVELS = {"error": "To be mended", "warning": "Worth a look", "note": "Good to know"}
STATES = {
    "waiting": "waiting",
    "running": "running",
    "stopping": "stopping",
    "stopped": "stopped",
    "failed": "failed",
    "died": "broke off",
    "done": "finished",
}
# What the command line's messages speak of, as the page has it.
COMMANDS = {"`headway check`": "the check", "headway check": "the check"}


def spoken(message: str) -> str:
    """A message as the page says it: the options under the names that they have there."""
    for command, shown in COMMANDS.items():
        message = message.replace(command, shown)
    message = re.sub(r"^([a-z]\w*)=", lambda found: f"“{title(found[1])}” ", message)
    return re.sub(r"--([a-z][a-z-]+)(=\S+)?", lambda found: f"“{title(found[1])}”{found[2] or ''}", message)


def title(name: str) -> str:
    """The name of an option or a figure as a heading."""
    return name.replace("-", " ").replace("_", " ").capitalize()


# Data.


def draw_rows(table: "Table", columns: "ColumnMapping | None", fields: Mapping[str, str]) -> str:
    """The first rows, and which column holds what.

    Args:
        table: the rows.
        columns: what they hold; None where it cannot be told.
        fields: what the texts that the task reads are called.
    """
    roles = {name: fields[role] for role, name in columns.texts.items()} if columns else {}
    labels = (columns.label,) if columns and isinstance(columns.label, str) else (columns and columns.label) or ()
    roles |= dict.fromkeys(labels, LABEL)
    ordered = sorted(table.columns, key=lambda name: name not in roles)
    shown, more = ordered[:MOST_COLUMNS], len(ordered) - MOST_COLUMNS
    head = "".join(
        f'<th><span dir="auto">{escape(_cut(name, 40))}</span>'
        + (f'<em class="hw-role">{escape(roles[name])}</em>' if name in roles else "")
        + "</th>"
        for name in shown
    )
    body = "".join(
        "<tr>" + "".join(f'<td dir="auto">{escape(_cell(row.get(name)))}</td>' for name in shown) + "</tr>"
        for row in table.rows[:FIRST_ROWS]
    )
    rest = quiet(f"and {more} more columns") if more > 0 else ""
    drawn = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return f'<div class="hw-table hw-first">{drawn}</div>{rest}'


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, Mapping):  # answers with their places: what comes first says it
        return _cell(next(iter(value.values()), None))
    if isinstance(value, list | tuple):
        parts = [_cell(one) for one in value]
        words = len(parts) > 3 and not any(" " in part for part in parts)  # of a sentence, or their tags
        return _cut((" " if words else ", ").join(parts), MOST_SIGNS)
    return _cut(str(value), MOST_SIGNS)


def _cut(text: str, most: int) -> str:
    text = " ".join(text.split())
    return text if len(text) <= most else f"{text[: most - 1]}…"


def draw_report(report: "DataReport") -> str:
    """What a look over the data has found, in plain words."""
    held_out = f", {report.eval_examples:,} held out" if report.eval_examples else ""
    parts = [f'<p class="hw-said-small">{report.examples:,} examples can be used{held_out}.</p>']
    if report.lengths:
        found = report.lengths
        parts.append(
            quiet(
                f"{found.unit.capitalize()} a text: {found.shortest:,} to {found.longest:,}, half of them up to "
                f"{found.median:,}, nine in ten up to {found.p90:,}."
            )
        )
    if report.label_counts:
        parts.append(_draw_counts(report.label_counts))
    if not report.findings:
        parts.append('<p class="hw-fine">Nothing is wrong with it.</p>')
    shown = report.findings[:MOST_FINDINGS]
    if shown:
        items = "".join(
            f'<li class="hw-{one.level}"><b>{LEVELS[one.level]}</b> <span dir="auto">{escape(spoken(one.message))}'
            "</span></li>"
            for one in shown
        )
        more = len(report.findings) - len(shown)
        parts.append(f'<ul class="hw-findings">{items}</ul>{quiet(f"and {more} more") if more else ""}')
    return f'<div class="hw-report">{"".join(parts)}</div>'


def _draw_counts(counts: Mapping[str, int]) -> str:
    most = max(counts.values())
    rows = [
        f'<div class="hw-bar"><span class="hw-name" dir="auto" title="{escape(label)}">{escape(label)}</span>'
        f'<span class="hw-track"><i style="width:{100 * count / most:.1f}%"></i></span>'
        f'<span class="hw-value">{count:,}</span></div>'
        for label, count in counts.items()
    ]
    more = ""
    if len(rows) > MOST_LABELS:
        folded = "".join(rows[MOST_LABELS:])
        more = f"<details><summary>{len(rows) - MOST_LABELS:,} more labels</summary>{folded}</details>"
    return f'<div class="hw-bars"><h4>Labels</h4>{"".join(rows[:MOST_LABELS])}{more}</div>'


# A run.


def draw_head(job: "Job", status: "Status", history: "History", place: int) -> str:
    """What a run is, how it is, and how far."""
    request = job.request
    state = f'<span class="hw-state hw-{status.state}">{STATES[status.state]}</span>'
    model = request.shown_model or request.model
    what = f"{request.task.replace('-', ' ')} on {model}, from {request.data.name}"
    parts = [
        f'<div class="hw-run"><h3 dir="auto">{escape(request.name)}</h3>{state}</div>',
        quiet(what),
        _draw_state(status, history, place),
    ]
    return f'<section class="hw-head-of-run">{"".join(parts)}</section>'


def _draw_state(status: "Status", history: "History", place: int) -> str:
    if status.state == "waiting":
        runs = "one run is" if place == 1 else f"{place} runs are"
        return quiet(f"It waits for its turn: {runs} before it." if place else "It starts in a moment.")
    if status.state in ("running", "stopping"):
        return _draw_progress(status, history)
    if status.state == "done":
        return quiet(_how_it_went(history.trained)) if history.trained else ""
    if status.state == "stopped":
        return f'<p class="hw-plain">{escape(status.message)}</p>'
    return f'<div class="hw-note" role="alert">{escape(spoken(status.message))}</div>'


def _draw_progress(status: "Status", history: "History") -> str:
    total = history.total
    if status.state == "stopping":
        return draw_progress(history.step, total or 1, "It ends after this step, and keeps what it has learnt.")
    if total is None:
        read = "The data is read and the model is made ready …"
        return draw_progress(0, 1, read if history.prepared else "The training process starts …")
    if history.trained or history.step >= total:
        return draw_progress(1, 1, "The model is measured and saved …")
    last = history.last
    if not last:
        return draw_progress(history.step, total, "The first steps are made …")
    told = (
        f"Step {history.step:,} of {total:,}, epoch {last['epoch']:.1f}, about {duration(last['seconds_left'])} left, "
        f"{last['tokens_per_second']:,.0f} tokens a second"
    )
    return draw_progress(history.step, total, told)


def _how_it_went(trained: Mapping[str, Any]) -> str:
    best = trained["best_step"]
    kept = f", kept as it was after step {best:,}" if best not in (None, trained["steps"]) else ""
    early = ", stopped early because it got no better" if trained["stopped_early"] else ""
    return (
        f"{trained['examples']:,} examples, {trained['steps']:,} steps in {duration(trained['seconds'])}{kept}{early}."
    )


def draw_data(history: "History") -> str:
    """What was taken for what, as training has read it."""
    notes = history.prepared.get("notes", ())
    items = "".join(f'<li dir="auto">{escape(_cut(spoken(one), 400))}</li>' for one in notes)
    return f'<ul class="hw-notes">{items}</ul>' if items else ""


def draw_curves(history: "History") -> str:
    """The loss of the training steps, and the score on the held-out examples."""
    total = history.total
    if total is None or not history.losses:
        return ""
    charts = [_draw_chart("Loss of the training steps", _means(history.losses), total, dots=False)]
    if history.evaluations:
        name = next(iter(history.evaluations[0]["metrics"]))
        points = [(one["step"], one["metrics"][name]) for one in history.evaluations]
        known = [(step, value) for step, value in points if value is not None]
        if known:
            charts.append(_draw_chart(f"{title(name)} on held-out examples", known, total, dots=True))
    return f'<div class="hw-charts">{"".join(charts)}</div>'


def _means(points: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    """Neighbouring points as their means, so that there are few enough to draw."""
    size = math.ceil(len(points) / MOST_POINTS)
    parts = [points[start : start + size] for start in range(0, len(points), size)]
    return [(part[-1][0], sum(value for _, value in part) / len(part)) for part in parts]


def _draw_chart(name: str, points: Sequence[tuple[int, float]], total: int, *, dots: bool) -> str:
    values = [value for _, value in points]
    ticks = _ticks(min(values), max(values))
    low, high, decimals = ticks[0], ticks[-1], _decimals(ticks[1] - ticks[0])

    def x(step: float) -> float:
        return round(LEFT + step / total * (WIDTH - LEFT - RIGHT), 1)

    def y(value: float) -> float:
        return round(HEIGHT - BOTTOM - (value - low) / (high - low) * (HEIGHT - TOP - BOTTOM), 1)

    grid = "".join(
        f'<line x1="{x(0)}" x2="{x(total)}" y1="{y(tick)}" y2="{y(tick)}"/>'
        f'<text x="{LEFT - 6}" y="{y(tick) + 4}" text-anchor="end">{tick:.{decimals}f}</text>'
        for tick in ticks
    )
    steps = (
        f'<text x="{x(0)}" y="{HEIGHT - 6}">0</text>'
        f'<text x="{x(total)}" y="{HEIGHT - 6}" text-anchor="end">{total:,} steps</text>'
    )
    line = " ".join(f"{x(step)},{y(value)}" for step, value in points)
    marked = points if dots else points[-1:]
    circles = "".join(
        f'<circle cx="{x(step)}" cy="{y(value)}" r="3"><title>step {step:,}: {value:.4f}</title></circle>'
        for step, value in marked
    )
    told = f"{name}: {values[0]:.3f} at first, {values[-1]:.3f} at last"
    return (
        f'<figure class="hw-chart"><figcaption>{escape(name)} <b>{values[-1]:.3f}</b></figcaption>'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(told)}">'
        f'<g class="hw-grid">{grid}{steps}</g><polyline points="{line}"/>{circles}</svg></figure>'
    )


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers that enclose the values, three to six of them."""
    span = (high - low) or abs(high) or 1.0
    rough = span / 3
    unit = 10 ** math.floor(math.log10(rough))
    step = next(unit * times for times in (1, 2, 5, 10) if unit * times >= rough)
    first, last = math.floor(low / step), math.ceil(high / step)
    last += first == last
    return [number * step for number in range(first, last + 1)]


def _decimals(step: float) -> int:
    return max(0, -math.floor(math.log10(step)))


# The end.


def draw_results(job: "Job", history: "History") -> str:
    """How good the model is, and where it is wrong."""
    trained = history.trained
    if not trained:
        return ""
    metrics = {name: value for name, value in trained["metrics"].items() if value is not None}
    if not metrics:
        return quiet("Nothing was held out, so nothing is measured.")
    first = "".join(
        f'<div class="hw-figure"><b>{figure(float(value), 3)}</b><span>{escape(title(name))}</span></div>'
        for name, value in list(metrics.items())[:4]
    )
    rest = dict(list(metrics.items())[4:])
    others = ", ".join(f"{title(name).lower()} {figure(float(value), 3)}" for name, value in rest.items())
    parts = [
        f"<h4>On {trained['eval_examples']:,} held-out examples</h4>",
        f'<div class="hw-figures">{first}</div>{quiet(others)}',
    ]
    if trained["per_label"]:
        rows = [{title(name): value for name, value in row.items()} for row in trained["per_label"]]
        parts.append(_folded("Label by label", draw_table(rows), rows))
    account = job.error_analysis or {}
    if account.get("confusion"):
        parts.append(_draw_confusion(account["confusion"]))
    if "mistakes" in account:
        parts.append(_draw_mistakes(account["mistakes"]))
    return f'<section class="hw-results">{"".join(parts)}</section>'


def _folded(name: str, content: str, rows: Sequence[Any]) -> str:
    unfolded = " open" if len(rows) <= MOST_LABELS else ""
    return f"<details{unfolded}><summary>{escape(name)}</summary>{content}</details>"


def _draw_confusion(confusion: Mapping[str, Any]) -> str:
    labels = ["all others" if label is None else label for label in confusion["labels"]]
    counts = confusion["counts"]
    head = "".join(f'<th scope="col" dir="auto" title="{escape(one)}">{escape(_cut(one, 18))}</th>' for one in labels)
    rows = []
    for place, (label, row) in enumerate(zip(labels, counts, strict=True)):
        whole = sum(row) or 1
        cells = "".join(
            f'<td class="{"hw-right" if place == other else "hw-wrong"}" style="--share:{count / whole:.3f}" '
            f'title="{escape(f"{label} taken for {labels[other]}: {count:,}")}">{count or "·"}</td>'
            for other, count in enumerate(row)
        )
        rows.append(
            f'<tr><th scope="row" dir="auto" title="{escape(label)}">{escape(_cut(label, 18))}</th>{cells}</tr>'
        )
    table = (
        f'<table class="hw-confusion"><thead><tr><td></td>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table>'
    )
    told = quiet("Each row is a right answer; its numbers say how often it was given which.")
    return _folded("What is taken for what", f'{told}<div class="hw-table">{table}</div>', labels)


def _draw_mistakes(mistakes: Sequence[Mapping[str, Any]]) -> str:
    if not mistakes:
        return '<p class="hw-fine">No held-out example is answered wrongly.</p>'
    items = "".join(
        f'<li><div dir="auto">{escape(" / ".join(_cut(text, 400) for text in one["texts"]))}</div>'
        f'<div class="hw-quiet">right: <b dir="auto">{escape(_cut(one["right"], 200))}</b>, the model says: '
        f'<b dir="auto">{escape(_cut(one["predicted"], 200))}</b> · {escape(one["where"])}</div></li>'
        for one in mistakes
    )
    told = quiet("The most wrong ones come first. Now and then it is the file that is wrong.")
    return f'<details open><summary>The worst mistakes</summary>{told}<ol class="hw-mistakes">{items}</ol></details>'
