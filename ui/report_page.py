"""An evaluation report as a single HTML file without scripts, which works without the internet and can be printed.

All text from outside passes through `html.escape`.
"""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from ..tasks.base.report_parts import Chart, ReportPart, ReportTable
from ..tasks.evaluation.slices import MIN_EXAMPLES
from .charts import draw_chart
from .html_page import static_page
from .terminal import format_value

if TYPE_CHECKING:
    from ..tasks.evaluation.example_lists import ConfusionSummary, ListedRow
    from ..tasks.evaluation.likely_errors import SuspectLabels
    from ..tasks.evaluation.near_duplicates import NearDuplicate
    from ..tasks.evaluation.report import EvaluationReport
    from ..tasks.evaluation.slices import Slice

NUM_FIGURES = 4  # metrics in large type
MAX_SLICES = 60
MAX_CONFUSIONS = 15
OTHERS = "other labels"
LEFT = ' class="text"'  # cells and headings of columns of texts


def render_report(report: "EvaluationReport") -> str:
    """The complete HTML page."""
    sections = [(name, content) for name, content in _sections(report) if content]
    links = "".join(f'<a href="#{_anchor(name)}">{escape(name)}</a>' for name, _ in sections)
    left_out = f", {report.left_out:,} rows left out" if report.left_out else ""
    facts = f"{report.title}; {report.examples:,} {report.unit} of {report.data}{left_out}"
    body = [
        f'<header><h1 dir="auto">{escape(report.model)}</h1>',
        f'<p class="quiet">Evaluation report. {escape(facts)}.</p><nav>{links}</nav></header>',
        *(f'<section id="{_anchor(name)}"><h2>{escape(name)}</h2>{content}</section>' for name, content in sections),
    ]
    return static_page("report", f"{report.model}: evaluation on {report.data}", f"<main>{''.join(body)}</main>")


def _anchor(name: str) -> str:
    return name.lower().replace(" ", "-")


def _sections(report: "EvaluationReport") -> Iterable[tuple[str, str]]:
    yield "Metrics", _draw_metrics(report)
    if report.comparison:
        yield "Comparison", _draw_table(report.comparison)
    if report.per_label:
        yield "Labels", _draw_table(report.per_label) + _quiet("With 95 % confidence intervals.")
    if report.confusion:
        yield "Confusions", _draw_confusion(report.confusion)
    yield "Details", draw_parts(report.parts)
    yield "Slices", _draw_slices(report.slices, report.slice_metric)
    yield "Mistakes", _draw_mistakes(report)
    if report.label_errors:
        yield "Labels to check", _draw_label_errors(report.label_errors)
    yield "Near duplicates", _draw_duplicates(report)
    yield "Reading", draw_parts(report.reading)
    yield "Run", _draw_run(report)


def _quiet(text: str) -> str:
    return f'<p class="quiet">{escape(text)}</p>' if text else ""


def _title(name: str) -> str:
    return name.replace("_", " ")


# Metrics and tables.


def _draw_metrics(report: "EvaluationReport") -> str:
    bounds = {
        name: f"{format_value(one.low, 3)} to {format_value(one.high, 3)}" for name, one in report.intervals.items()
    }
    main = list(report.metrics.items())[:NUM_FIGURES]
    figures = "".join(
        f'<div class="figure"><b>{format_value(value, 3)}</b><span>{escape(_title(name))}</span>'
        f"<span>{bounds.get(name, '')}</span></div>"
        for name, value in main
    )
    rows = [
        {"metric": _title(name), "value": value, "95 % confidence interval": bounds.get(name, "")}
        for name, value in report.metrics.items()
    ]
    warnings = "".join(f'<p class="warning" dir="auto">{escape(one)}</p>' for one in report.warnings)
    notes = "".join(f'<li dir="auto">{escape(one)}</li>' for one in report.notes)
    more = _draw_table(rows) if rows else ""
    return f'{warnings}<div class="figures">{figures}</div>{more}{f"<ul class=notes>{notes}</ul>" if notes else ""}'


def _draw_table(rows: Sequence[Mapping[str, Any]], classes: Sequence[str] = ()) -> str:
    """A table; cells are texts, numbers, intervals or None.

    Args:
        rows: cells by column.
        classes: of each row.
    """
    columns = list(rows[0])
    head = "".join(
        f'<th scope="col"{LEFT if isinstance(rows[0][name], str) else ""}>{escape(_title(name))}</th>'
        for name in columns
    )
    body = "".join(
        f'<tr class="{own}">{"".join(_draw_cell(row[name]) for name in columns)}</tr>'
        for row, own in zip(rows, classes or [""] * len(rows), strict=True)
    )
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _draw_cell(cell: Any) -> str:
    if cell is None:
        return "<td></td>"
    if isinstance(cell, str):
        return f'<td class="text" dir="auto">{escape(cell)}</td>'
    if isinstance(cell, int):
        return f"<td>{cell:,}</td>"
    if isinstance(cell, float):
        return f"<td>{format_value(cell, 3)}</td>"
    low, high = format_value(cell.low, 3), format_value(cell.high, 3)
    return f"<td>{format_value(cell.value, 3)}<small>{low} to {high}</small></td>"


def draw_parts(parts: Sequence[ReportPart]) -> str:
    """Tables, and charts beside each other."""
    tables = "".join(_draw_titled(one) for one in parts if isinstance(one, ReportTable))
    pictures = "".join(_draw_figure(one) for one in parts if isinstance(one, Chart))
    return tables + (f'<div class="charts">{pictures}</div>' if pictures else "")


def _draw_titled(one: ReportTable) -> str:
    return f"<h3>{escape(one.title)}</h3>{_draw_table(one.rows) if one.rows else ''}{_quiet(one.note)}"


def _draw_figure(one: Chart) -> str:
    return f"<figure><figcaption>{escape(one.title)}</figcaption>{draw_chart(one)}{_quiet(one.note)}</figure>"


# Labels.


def _draw_confusion(found: "ConfusionSummary") -> str:
    """The matrix; its cells lead to rows, which are hidden until then."""
    numbers = {(one.gold, one.predicted): i for i, one in enumerate(found.mistakes)}
    names = [OTHERS if label is None else label for label in found.labels]
    head = "".join(f'<th scope="col" dir="auto" title="{escape(one)}">{escape(_short(one))}</th>' for one in names)
    body = []
    for gold, name, counts in zip(found.labels, names, found.counts, strict=True):
        total = sum(counts) or 1
        cells = "".join(
            f'<td class="{"right" if gold == label else "wrong"}" style="--share:{count / total:.3f}" '
            f'title="{escape(f"{name} predicted as {OTHERS if label is None else label}")}">'
            f"{_link(count, numbers.get((gold or '', label or '')))}</td>"
            for label, count in zip(found.labels, counts, strict=True)
        )
        body.append(f'<tr><th scope="row" dir="auto" title="{escape(name)}">{escape(_short(name))}</th>{cells}</tr>')
    matrix = (
        f'<div class="scroll"><table class="confusion"><thead><tr><td></td>{head}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table></div>"
    )
    shown = found.mistakes[:MAX_CONFUSIONS]
    frequent = "".join(
        f"<tr>{_draw_cell(one.gold)}{_draw_cell(one.predicted)}<td>{_link(one.count, i)}</td></tr>"
        for i, one in enumerate(shown)
    )
    table = (
        f'<h3>Most frequent confusions</h3><div class="scroll"><table><thead><tr><th{LEFT}>correct</th>'
        f"<th{LEFT}>predicted</th><th>number</th></tr></thead><tbody>{frequent}</tbody></table></div>"
    )
    lists = "".join(
        f'<div class="cell" id="cell-{i}"><h3 dir="auto">{escape(f"{one.gold} predicted as {one.predicted}")}</h3>'
        f"{_quiet(f'{len(one.rows):,} of the rows, chosen at random.')}{_draw_rows(one.rows)}"
        f'<a href="#confusions">Back to the matrix</a></div>'
        for i, one in enumerate(found.mistakes)
    )
    note = _quiet(
        "Rows: correct labels. Columns: predicted labels. The number of mistakes leads to some of their rows."
    )
    return f"{note}{matrix}{table if shown else ''}{lists}"


def _link(count: int, number: int | None) -> str:
    if not count:
        return "·"
    return f"{count:,}" if number is None else f'<a href="#cell-{number}">{count:,}</a>'


def _short(name: str) -> str:
    return name if len(name) <= 18 else f"{name[:17]}…"


# Parts of the data.


def _draw_slices(slices: "Sequence[Slice]", metric: str) -> str:
    if not slices:
        return ""
    shown = slices[:MAX_SLICES]
    rows = [
        {
            "slice": f"{one.by}: {one.value}",
            metric: one.score,
            "all others": one.rest,
            "p (corrected)": one.p,
            "examples": one.examples,
        }
        for one in shown
    ]
    classes = ["" if not one.significant else "significant" if one.worse else "significant better" for one in shown]
    number = sum(one.significant for one in slices)
    what = (
        f"{number:,} of {len(slices):,} slices differ from all other examples by more than chance (marked; p below "
        f"0.05 after Holm's correction for the number of slices). The smallest of them are first."
    )
    if few := sum(one.p is None for one in slices):
        what += f" {few:,} with fewer than {MIN_EXAMPLES} examples inside or outside are not tested and come last."
    rest = f" {len(slices) - len(shown):,} more are in the JSON report." if len(slices) > len(shown) else ""
    return _quiet(what + rest) + _draw_table(rows, classes)


# Rows.


def _draw_mistakes(report: "EvaluationReport") -> str:
    if report.mistakes is None:
        return ""
    if not report.mistakes:
        return "<p>No prediction is wrong.</p>"
    share = report.mistakes / max(1, report.examples)
    parts = [_quiet(f"{report.mistakes:,} of {report.examples:,} examples have a mistake ({share:.1%}).")]
    parts.append(f"<h3>Worst</h3>{_quiet('In some cases the label in the file is wrong.')}{_draw_rows(report.worst)}")
    if report.confident:
        parts.append(f"<h3>Most confident</h3>{_draw_rows(report.confident)}")
    return "".join(parts)


def _draw_rows(rows: "Sequence[ListedRow]") -> str:
    items = "".join(
        f'<li><div dir="auto">{escape(" / ".join(one.texts))}</div>'
        f'<div class="given">correct: <b dir="auto">{escape(one.gold)}</b>, predicted: '
        f'<b dir="auto">{escape(one.predicted)}</b> · {escape(one.where)}</div></li>'
        for one in rows
    )
    return f'<ol class="rows">{items}</ol>'


def _draw_label_errors(found: "SuspectLabels") -> str:
    note = (
        f"Of {found.checked:,} labels in the file, {found.found:,} are suspect: the model is confident of another one "
        "(confident learning, Northcutt et al. 2021), or the model is wrong."
    )
    items = "".join(
        f'<li><div dir="auto">{escape(one.text)}</div><div class="given">{_item(one.item)}in the file: '
        f'<b dir="auto">{escape(one.given)}</b> ({one.given_probability:.3f}), likely: '
        f'<b dir="auto">{escape(one.likely)}</b> ({one.likely_probability:.3f}) · {escape(one.where)}</div></li>'
        for one in found.rows
    )
    return f'{_quiet(note)}<ol class="rows">{items}</ol>'


def _item(name: str) -> str:
    return f'<b dir="auto">{escape(name)}</b>, ' if name else ""


def _draw_duplicates(report: "EvaluationReport") -> str:
    if report.near_duplicates is None:
        return ""
    what = f"{report.near_duplicates:,} of {report.examples:,} examples almost equal a training text."
    items = "".join(
        f'<li><div dir="auto">{escape(one.text)}</div><div dir="auto">{escape(one.training_text)}</div>'
        f'<div class="given">{escape(_pair_of(one))}</div></li>'
        for one in report.duplicates
    )
    return f'<p>{what}</p><ol class="rows">{items}</ol>'


def _pair_of(one: "NearDuplicate") -> str:
    return f"{one.where} and {one.training_where}, similarity {one.similarity:.2f}"


def _draw_run(report: "EvaluationReport") -> str:
    run = report.run
    rows = [
        {"": "time", "value": f"{run.seconds:,.1f} s"},
        {"": report.unit, "value": f"{run.examples_per_second:,.0f} per second"},
        {"": "tokens", "value": f"{run.tokens_per_second:,.0f} per second"},
        {"": "device", "value": run.device},
    ]
    for name, size in (("largest memory of the process", run.peak_memory), ("GPU memory", run.peak_gpu_memory)):
        if size is not None:
            rows.append({"": name, "value": f"{size / 2**20:,.0f} MiB"})
    return _draw_table(rows) + _quiet("Reading the data, predicting and counting, without loading the model.")
