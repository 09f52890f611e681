"""HTML of the tab Train: data, the data check, and training runs with their curves, metrics and errors.

As in drawing.py, all text from outside passes through `html.escape`. The styles are in pages/train.css.
"""

import math
import re
from collections.abc import Mapping, Sequence
from html import escape
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from ...tasks.base.label_table import FILE, describe_rest, worst_rows
from ...tasks.base.repeats import FOLDS, SEEDS, repeat_rows
from ..terminal import duration, format_value
from .drawing import alert, bar_row, caption, draw_progress, draw_table, fold_bars, heading

if TYPE_CHECKING:
    from ...tasks.data.columns import ColumnMapping
    from ...tasks.data.report import DataReport
    from ...tasks.data.rows import Table
    from ..runs.job import History, Job, Status

NUM_ROWS = 5  # rows shown
MAX_COLUMNS = 12
MAX_CELL = 120  # characters
FEW_LABELS = 6  # whose names fit beside each other above a confusion matrix
MAX_OPEN_LABELS = 12  # tables with more rows are folded
MAX_POINTS = 80  # of a curve
MAX_FINDINGS = 20
NUM_FIGURES = 4  # metrics shown in large type
WIDTH, HEIGHT = 420, 200  # of a chart
LEFT, RIGHT, TOP, BOTTOM = 44, 10, 12, 24  # margins of a chart
LABEL = "Label"
LEVELS = {"error": "Error", "warning": "Warning", "note": "Note"}
STATES = {
    "waiting": "waiting",
    "running": "running",
    "stopping": "stopping",
    "stopped": "stopped",
    "failed": "failed",
    "died": "crashed",
    "done": "finished",
}
LABELS = {  # of options with another name
    "eval-data": "Held-out data",
    "eval-fraction": "Held-out fraction",
    "reference": "Training data, for none of these",
}
COMMANDS = {"`headway check`": "the check", "headway check": "the check"}  # in messages -> in the form


def form_message(message: str, fields: Mapping[str, str] = MappingProxyType({})) -> str:
    """Rewrites a message of the command line for the form: options by their labels.

    Args:
        message: of an error or a finding.
        fields: labels of the task's input fields by name.
    """

    def label(name: str) -> str:
        return f"“{fields.get(name) or LABELS.get(name) or title(name)}”"

    message = re.sub(r"\bGive (?=--[a-z-]+ COLUMN)", "Choose ", message)
    message = re.sub(r"(--[a-z-]+) COLUMN", r"\1", message)
    for command, shown in COMMANDS.items():
        message = message.replace(command, shown)
    message = re.sub(r"^([a-z]\w*)=", lambda match: f"{label(match[1])} ", message)
    return re.sub(r"--([a-z][a-z-]+)(=\S+)?", lambda match: f"{label(match[1])}{match[2] or ''}", message)


def title(name: str) -> str:
    """The name of an option or a metric as a heading."""
    return name.replace("-", " ").replace("_", " ").capitalize()


# Data.


def draw_rows(table: "Table", columns: "ColumnMapping | None", fields: Mapping[str, str]) -> str:
    """The first rows with the role of each column.

    Args:
        table: the rows.
        columns: the columns of the texts and the label; None if they cannot be inferred.
        fields: labels of the task's input fields by name.
    """
    roles: dict[str, str] = {}
    if columns:
        for role, name in columns.texts.items():
            roles |= dict.fromkeys((name, *columns.more.get(role, ())), fields[role])
    labels = (columns.label,) if columns and isinstance(columns.label, str) else (columns and columns.label) or ()
    roles |= dict.fromkeys(labels, LABEL)
    ordered = sorted(table.columns, key=lambda name: name not in roles)
    shown, num_hidden = ordered[:MAX_COLUMNS], len(ordered) - MAX_COLUMNS
    head = "".join(
        f'<th><span dir="auto">{escape(_shorten(name, 40))}</span>'
        + (f'<em class="hw-role">{escape(roles[name])}</em>' if name in roles else "")
        + "</th>"
        for name in shown
    )
    body = "".join(
        "<tr>" + "".join(f'<td dir="auto">{escape(_cell_text(row.get(name)))}</td>' for name in shown) + "</tr>"
        for row in table.rows[:NUM_ROWS]
    )
    more = caption(f"{num_hidden} more columns") if num_hidden > 0 else ""
    rows = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return f'<div class="hw-table hw-first">{rows}</div>{more}'


def _cell_text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, Mapping):  # answers with their positions: the first value is the text
        return _cell_text(next(iter(value.values()), None))
    if isinstance(value, list | tuple):
        parts = [_cell_text(one) for one in value]
        are_words = len(parts) > 3 and not any(" " in part for part in parts)  # the words of a sentence, or their tags
        return _shorten((" " if are_words else ", ").join(parts), MAX_CELL)
    return _shorten(str(value), MAX_CELL)


def _shorten(text: str, length: int) -> str:
    text = " ".join(text.split())
    return text if len(text) <= length else f"{text[: length - 1]}…"


def draw_report(report: "DataReport") -> str:
    """The result of the data check."""
    held_out = f", {report.eval_examples:,} held out" if report.eval_examples else ""
    held_out += f", {report.test_examples:,} for the test" if report.test_examples else ""
    parts = [f'<p class="hw-summary">{report.examples:,} usable examples{held_out}</p>']
    if lengths := report.lengths:
        parts.append(
            caption(
                f"{lengths.unit.capitalize()} per text: {lengths.shortest:,} to {lengths.longest:,}, "
                f"median {lengths.median:,}, 90th percentile {lengths.p90:,}"
            )
        )
    if report.label_counts:
        most = max(report.label_counts.values())
        rows = [bar_row(label, count / most, f"{count:,}") for label, count in report.label_counts.items()]
        parts.append(f'<div class="hw-bars">{heading("Labels")}{fold_bars(rows, "more labels")}</div>')
    if not report.findings:
        parts.append('<p class="hw-ok">No problems found.</p>')
    shown = report.findings[:MAX_FINDINGS]
    if shown:
        items = "".join(
            f'<li class="hw-{one.level}"><b>{LEVELS[one.level]}</b> '
            f'<span dir="auto">{escape(form_message(one.message))}</span></li>'
            for one in shown
        )
        num_hidden = len(report.findings) - len(shown)
        more = caption(f"{num_hidden} more") if num_hidden else ""
        parts.append(f'<ul class="hw-findings">{items}</ul>{more}')
    if report.notes:
        parts.append(f"<details><summary>How the file is read</summary>{_draw_notes(report.notes)}</details>")
    return f'<div class="hw-report">{"".join(parts)}</div>'


def _draw_notes(notes: Sequence[str]) -> str:
    items = "".join(f'<li dir="auto">{escape(_shorten(form_message(one), 400))}</li>' for one in notes)
    return f'<ul class="hw-notes">{items}</ul>' if items else ""


# State of a run.


def draw_head(job: "Job", status: "Status", history: "History", runs_before: int) -> str:
    """Name, description, state and progress of a run."""
    request = job.request
    state = f'<span class="hw-state hw-{status.state}">{STATES[status.state]}</span>'
    model = request.shown_model or request.model
    parts = [
        f'<div class="hw-run"><h3 dir="auto">{escape(request.name)}</h3>{state}</div>',
        caption(f"{request.task.replace('-', ' ')} with {model} on {request.data.name}"),
        _draw_state(status, history, runs_before),
    ]
    return f'<section class="hw-run-head">{"".join(parts)}</section>'


def _draw_state(status: "Status", history: "History", runs_before: int) -> str:
    if status.state == "waiting":
        runs = "one other run" if runs_before == 1 else f"{runs_before} other runs"
        return caption(f"Waiting for {runs}" if runs_before else "Starting …")
    if status.state in ("running", "stopping"):
        return _draw_progress(status, history)
    if status.state == "done":
        return caption(_describe_training(history.trained)) if history.trained else ""
    if status.state == "stopped":
        return f'<p class="hw-plain">{escape(status.message)}</p>'
    return alert(form_message(status.message))


def _draw_progress(status: "Status", history: "History") -> str:
    return _draw_steps(status, history) + _draw_finished(history)


def _draw_finished(history: "History") -> str:
    """Which fold or seed is trained, and the main metric of the finished ones."""
    if not (current := history.repeat):
        return ""
    kind = current["kind"].removesuffix("s")
    now = f"{kind} {current['number']} of {current['count']}" if current["number"] <= current["count"] else "all rows"
    finished = [
        f"{kind} {number}: {title(name).lower()} {format_value(value, 3)}"
        for number, one in sorted(history.finished.items())
        for name, value in list(one["metrics"].items())[:1]
    ]
    return caption(f"Now: {now}. " + "; ".join(finished))


def _draw_steps(status: "Status", history: "History") -> str:
    total = history.total
    if status.state == "stopping":
        return draw_progress(history.step, total or 1, "Stopping after this step with a checkpoint …")
    if total is None:
        message = "Preparing the data and the model …" if history.prepared else "Starting the training process …"
        return draw_progress(0, 1, message)
    if history.trained or history.step >= total:
        return draw_progress(1, 1, "Evaluating and saving the model …")
    last = history.last
    if not last:
        return draw_progress(history.step, total, "Computing the first steps …")
    message = (
        f"Step {history.step:,} of {total:,}, epoch {last['epoch']:.1f}, about {duration(last['seconds_left'])} left, "
        f"{last['tokens_per_second']:,.0f} tokens per second"
    )
    return draw_progress(history.step, total, message)


def _describe_training(trained: Mapping[str, Any]) -> str:
    best = trained["best_step"]
    kept = f", best weights from step {best:,}" if best not in (None, trained["steps"]) else ""
    early = ", stopped early without further improvement" if trained["stopped_early"] else ""
    steps = f"{trained['steps']:,} steps in {duration(trained['seconds'])}"
    return f"{trained['examples']:,} examples, {steps}{kept}{early}"


def draw_data(history: "History") -> str:
    """How the training process has read the data, and what it has noted since."""
    return _draw_notes([*history.prepared.get("notes", ()), *history.notes])


# Curves.


def draw_curves(history: "History") -> str:
    """The training loss, and the main metric on the held-out data."""
    total = history.total
    if total is None or not history.losses:
        return ""
    charts = [_draw_chart("Training loss", _averaged(history.losses), total, dots=False)]
    if history.evaluations:
        name = next(iter(history.evaluations[0]["metrics"]))
        points = [(one["step"], one["metrics"][name]) for one in history.evaluations]
        known = [(step, value) for step, value in points if value is not None]
        if known:
            charts.append(_draw_chart(f"{title(name)} on held-out data", known, total, dots=True))
    return f'<div class="hw-charts">{"".join(charts)}</div>'


def _averaged(points: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    """At most MAX_POINTS means of neighbouring points."""
    size = math.ceil(len(points) / MAX_POINTS)
    parts = [points[start : start + size] for start in range(0, len(points), size)]
    return [(part[-1][0], sum(value for _, value in part) / len(part)) for part in parts]


def _draw_chart(name: str, points: Sequence[tuple[int, float]], total: int, *, dots: bool) -> str:
    """A line chart over the steps as SVG, which follows the page's light and dark mode."""
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
    circles = "".join(
        f'<circle cx="{x(step)}" cy="{y(value)}" r="3"><title>step {step:,}: {value:.4f}</title></circle>'
        for step, value in (points if dots else points[-1:])
    )
    description = f"{name}: from {values[0]:.3f} to {values[-1]:.3f}"
    return (
        f'<figure class="hw-chart"><figcaption>{escape(name)} <b>{values[-1]:.3f}</b></figcaption>'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(description)}">'
        f'<g class="hw-grid">{grid}{steps}</g><polyline points="{line}"/>{circles}</svg></figure>'
    )


def _ticks(low: float, high: float) -> list[float]:
    """Three to six round numbers that enclose the values."""
    span = (high - low) or abs(high) or 1.0
    rough = span / 3
    unit = 10 ** math.floor(math.log10(rough))
    step = next(unit * times for times in (1, 2, 5, 10) if unit * times >= rough)
    first, last = math.floor(low / step), math.ceil(high / step)
    last += first == last
    return [number * step for number in range(first, last + 1)]


def _decimals(step: float) -> int:
    return max(0, -math.floor(math.log10(step)))


# Results.


def draw_results(job: "Job", history: "History") -> str:
    """Metrics and errors of the model on the held-out data."""
    trained = history.trained
    if not trained:
        return ""
    if not any(value is not None for value in trained["metrics"].values()):
        return caption("No data was held out, so there are no metrics.")
    scored_on = trained.get("scored_on") or f"{trained['eval_examples']:,} held-out examples"  # of earlier versions
    return draw_metrics(trained, f"Metrics on {scored_on}", job.error_analysis or {})


def draw_metrics(found: Mapping[str, Any], heading_text: str, analysis: Mapping[str, Any]) -> str:
    """Metrics, overall and for each label, and errors.

    Args:
        found: metrics, per_label, notes and nothing_learnt.
        heading_text: heading of the metrics.
        analysis: confusion matrix and errors, of `analyze_errors`.
    """
    metrics = {name: float(value) for name, value in found["metrics"].items() if value is not None}
    main, others = list(metrics.items())[:NUM_FIGURES], list(metrics.items())[NUM_FIGURES:]
    figures = "".join(
        f'<div class="hw-figure"><b>{format_value(value, 3)}</b><span>{escape(title(name))}</span>'
        f"{_draw_interval(found.get('intervals', {}).get(name))}</div>"
        for name, value in main
    )
    more = ", ".join(f"{title(name).lower()} {format_value(value, 3)}" for name, value in others)
    notes = "".join(caption(form_message(note)) for note in found.get("notes", ()))
    parts = [heading(heading_text), f'<div class="hw-figures">{figures}</div>{caption(more)}{notes}']
    parts += [alert(form_message(found[name])) for name in ("nothing_learnt", "seen") if found.get(name)]
    if found.get("proposal"):
        parts.append(f'<p class="hw-plain">{escape(form_message(found["proposal"]))}</p>')
    if found["per_label"]:
        rows = [{title(name): value for name, value in row.items()} for row in worst_rows(found["per_label"])]
        where = f"All are in {FILE} in the model's folder." if found.get("output") else ""
        rest = caption(describe_rest(found["per_label"], where))
        parts.append(_draw_details("Metrics per label", draw_table(rows) + rest, is_open=len(rows) <= MAX_OPEN_LABELS))
    parts += [_draw_repeats(name, found[name]) for name in (FOLDS, SEEDS) if found.get(name)]
    if found.get("comparison"):
        rows = [{title(name): value for name, value in row.items()} for row in found["comparison"]]
        parts.append(draw_table(rows, "Beside outputs that cost nothing"))
    if analysis.get("confusion"):
        parts.append(_draw_confusion(analysis["confusion"]))
    if "mistakes" in analysis:
        parts.append(_draw_errors(analysis["mistakes"]))
    return f'<section class="hw-results">{"".join(parts)}</section>'


def _draw_repeats(kind: str, found: Mapping[str, Any]) -> str:
    """Mean and spread of the metrics of several folds or seeds."""
    rows = [{"metric": title(row["metric"]), **{n: v for n, v in row.items() if n != "metric"}}
            for row in repeat_rows(found)]  # fmt: skip
    kept = f"The model of seed {found['kept']} is kept, which has the median score." if "kept" in found else ""
    return draw_table(rows, f"{found['count']} {kind}: mean and spread") + caption(kept)


def _draw_interval(bounds: Sequence[float] | None) -> str:
    if not bounds:
        return ""
    low, high = (format_value(float(bound), 3) for bound in bounds)
    return f'<span class="hw-interval" title="95 % confidence interval">{low} to {high}</span>'


def _draw_details(summary: str, content: str, *, is_open: bool) -> str:
    return f"<details{' open' if is_open else ''}><summary>{escape(summary)}</summary>{content}</details>"


def _draw_confusion(confusion: Mapping[str, Any]) -> str:
    labels = ["other labels" if label is None else label for label in confusion["labels"]]
    many = " hw-many" if len(labels) > FEW_LABELS else ""  # with vertical headings
    head = "".join(
        f'<th scope="col" dir="auto" title="{escape(one)}">{escape(_shorten(one, 18))}</th>' for one in labels
    )
    rows = []
    for i, (label, counts) in enumerate(zip(labels, confusion["counts"], strict=True)):
        total = sum(counts) or 1
        cells = "".join(
            f'<td class="{"hw-right" if i == j else "hw-wrong"}" style="--share:{count / total:.3f}" '
            f'title="{escape(f"{label} predicted as {labels[j]}: {count:,}")}">{count or "·"}</td>'
            for j, count in enumerate(counts)
        )
        name = escape(_shorten(label, 18))
        rows.append(f'<tr><th scope="row" dir="auto" title="{escape(label)}">{name}</th>{cells}</tr>')
    table = (
        f'<table class="hw-confusion{many}"><thead><tr><td></td>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table>"
    )
    content = f'{caption("Rows: expected labels. Columns: predicted labels.")}<div class="hw-table">{table}</div>'
    return _draw_details("Confusion matrix", content, is_open=len(labels) <= MAX_OPEN_LABELS)


def _draw_errors(mispredictions: Sequence[Mapping[str, Any]]) -> str:
    if not mispredictions:
        return '<p class="hw-ok">All examples are predicted correctly.</p>'
    items = "".join(
        f'<li><div dir="auto">{escape(" / ".join(_shorten(text, 400) for text in one["texts"]))}</div>'
        f'<div class="hw-caption">expected: <b dir="auto">{escape(_shorten(one["right"], 200))}</b>, predicted: '
        f'<b dir="auto">{escape(_shorten(one["predicted"], 200))}</b> · {escape(one["where"])}</div></li>'
        for one in mispredictions
    )
    note = caption("Largest errors first. In some cases the label in the file is wrong.")
    return _draw_details("Errors", f'{note}<ol class="hw-errors">{items}</ol>', is_open=True)
