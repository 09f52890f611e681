"""Output of the commands: formatted for a terminal, or plain lines if stdout is not one."""

import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType
from rich.padding import Padding
from rich.progress import Progress, TextColumn
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from ..core.training.launch import launch_rank
from ..core.visible import visible, visible_json

if TYPE_CHECKING:
    from ..core.generation.decoding import Generation
    from ..core.generation.generation import TokenStep
    from ..tasks.base.predictions import Prediction
    from ..tasks.data.examples import Field
    from ..tasks.data.report import DataReport
    from ..tasks.embedding.word_vectors import ContextComparison, Neighbour
    from ..tasks.prompting.evaluation import PromptEvaluation

UNLIMITED = 10_000  # columns; outside a terminal nothing is wrapped or truncated
LEVEL_STYLES = {"error": "bold red", "warning": "yellow", "note": "dim"}
MAX_LABELS = 12  # listed with their counts on one line
MAX_SCORES = 6  # shown for one text
PREDICTION_WIDTH = 14  # columns, so that the texts beside predictions are aligned
MIN_TEXT_WIDTH = 20  # columns
BAR_WIDTH = 24  # columns
# Names of a prompt's metrics by the first of them: for one label, for several labels.
PROMPT_METRICS = {
    "accuracy": ("accuracy", "macro-F1"),
    "f1": ("micro-F1", "macro-F1"),
}
INDENT = (0, 0, 0, 2)


class SafeConsole(Console):
    """A console that shows the control characters in texts, labels and file names, so that no terminal obeys them."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """The segments of a renderable; rich's own movements of the cursor are segments marked as control."""
        for segment in super().render(renderable, options):
            if segment.control or not segment.text:
                yield segment
            else:
                yield Segment(visible(segment.text), segment.style)


def screen(*, to_stderr: bool = False) -> Console:
    """The console on stdout or stderr; silent in every process of a distributed run except the first."""
    console = SafeConsole(stderr=to_stderr, markup=False, emoji=False, highlight=False, quiet=not is_main_process())
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = UNLIMITED
    return console


def is_main_process() -> bool:
    """Whether this is the process of a distributed run that prints and writes files."""
    return launch_rank() == 0


def print_json(content: Mapping[str, Any]) -> None:
    """Prints one line of JSON on stdout."""
    if is_main_process():
        print(visible_json(json.dumps(content, ensure_ascii=False, default=str)))


# Building blocks.


def section(console: Console, title: str, *parts: RenderableType) -> None:
    """Prints a title and indented parts below it."""
    console.print()
    console.print(title, style="bold")
    for part in parts:
        console.print(Padding(part, INDENT, expand=False) if part else "")


def show_notes(notes: Sequence[str]) -> None:
    """Prints what was inferred about a file on stderr, where it does not mix with results."""
    if notes and is_main_process():
        section(screen(to_stderr=True), "Data", *notes)


def table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """A table of rows with the same keys; columns of numbers are aligned to the right."""
    grid = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    for name, value in rows[0].items():
        number = isinstance(value, int | float)
        grid.add_column(name, justify="right" if number else "left", no_wrap=number, overflow="fold")
    for row in rows:
        grid.add_row(*(Text(format_value(value, 3)) for value in row.values()))
    return grid


def format_value(value: Any, decimals: int) -> str:
    """A float with `decimals` places (none from 1000 on), an integer with thousands separators."""
    if isinstance(value, float):
        return f"{value:.{decimals}f}" if abs(value) < 1000 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def metrics_line(metrics: Mapping[str, float], intervals: Mapping[str, Sequence[float]] | None = None) -> Text:
    """Several metrics on one line, with the 95 % confidence interval of the first one, if it has one."""
    parts = [Text.assemble((f"{name} ", "dim"), format_value(value, 4)) for name, value in metrics.items()]
    first = next(iter(metrics), "")
    if bounds := (intervals or {}).get(first):
        low, high = (format_value(bound, 4) for bound in bounds)
        parts[0] = Text.assemble(parts[0], (f" (95 % interval {low} to {high})", "dim"))
    return Text("   ").join(parts)


def duration(seconds: float) -> str:
    """A duration as h:mm:ss or m:ss."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def shorten(text: str, width: int) -> str:
    """A text on one line, truncated with an ellipsis to `width` columns."""
    line = Text(" ".join(text.split()))
    line.truncate(width, overflow="ellipsis")
    return line.plain


def show_prediction(console: Console, texts: Sequence[str], prediction: "Prediction") -> None:
    """Prints a prediction and its texts on one line."""
    left = prediction.summary.ljust(PREDICTION_WIDTH)
    width = console.width - cell_len(left) - len("  ") if console.is_terminal else UNLIMITED
    right = shorten(" / ".join(texts), max(width, MIN_TEXT_WIDTH))
    console.print(Text.assemble((left, "bold"), "  ", right), soft_wrap=True)


def show_scores(
    console: Console, scores: Mapping[str, float], uncalibrated: Mapping[str, float] | None = None
) -> None:
    """Prints the most likely labels as bars, with their scores before calibration if there are any."""
    most_likely = sorted(scores.items(), key=lambda item: -item[1])[:MAX_SCORES]
    rows = [
        {"label": label, "score": score, " ": bar(score)}
        | ({"uncalibrated": uncalibrated[label]} if uncalibrated else {})
        for label, score in most_likely
    ]
    console.print()
    console.print(Padding(table(rows), INDENT, expand=False))


def bar(share: float) -> str:
    """A bar whose length represents a share from 0 to 1."""
    return "█" * round(BAR_WIDTH * share) or "▏"


def command(*words: object) -> str:
    """A command line that can be pasted into any shell."""
    return " ".join(["headway", *(f'"{word}"' if " " in str(word) else str(word) for word in words)])


def show_next(console: Console, *commands: str) -> None:
    """Prints the commands to run next."""
    section(console, "Next steps")
    for one in commands:
        console.print(f"  {one}", style="cyan", soft_wrap=True)


def predict_command(model: Path, fields: "Sequence[Field]") -> str:
    """The command line that runs a model on texts."""
    others = [
        part for field in fields[1:] if field.required for part in (f"--{field.name}", f"its {field.label.lower()}")
    ]
    return command("predict", model, f"your {fields[0].label.lower()}", *others)


# Data.


def show_report(console: Console, report: "DataReport") -> None:
    """Prints the report of a data check."""
    if report.first:
        rows = [_example_row(console, example) for example in report.first]
        section(console, "First rows", table(rows))
    facts = []
    if report.label_counts:
        counts = [f"{label} ({count:,})" for label, count in list(report.label_counts.items())[:MAX_LABELS]]
        more = len(report.label_counts) - len(counts)
        facts.append(f"labels: {', '.join(counts)}{f' and {more} more' if more else ''}")
    if report.lengths:
        lengths = report.lengths
        facts.append(
            f"{lengths.unit} per text: {lengths.shortest:,} to {lengths.longest:,}, median {lengths.median:,}, "
            f"90th percentile {lengths.p90:,}"
        )
    section(console, "Check", *facts)
    if not report.findings:
        console.print(Text("  no problems found", style="green"))
        return
    grid = Table.grid(padding=(0, 2, 0, 0))
    for finding in report.findings:
        grid.add_row(Text(finding.level, style=LEVEL_STYLES[finding.level]), Text(finding.message))
    console.print(Padding(grid, INDENT, expand=False))


def _example_row(console: Console, example: Any) -> dict[str, str]:
    texts = example.shown_texts
    width = max(20, (console.width - 24) // len(texts)) if console.is_terminal else 80
    label = {} if example.gold is None else {example.gold_name: example.shown_gold}
    return {**label, **{name: shorten(text, width) for name, text in texts.items()}}


# Evaluation.


def show_evaluation(
    console: Console,
    metrics: Mapping[str, float],
    per_label: Sequence[Mapping[str, Any]],
    title: str,
    *warnings: str | None,
    intervals: Mapping[str, Sequence[float]] | None = None,
    all_labels: str = "",
    comparison: Sequence[Mapping[str, Any]] = (),
) -> None:
    """Prints the metrics of a model, with a table of labels and warnings.

    Args:
        console: Where to print.
        metrics: The metrics.
        per_label: The table; only the worst rows of a long one are printed.
        title: The title.
        *warnings: Those that are not None are printed.
        intervals: The bounds of the 95 % confidence intervals of metrics.
        all_labels: Where all rows of a long table are, as a sentence.
        comparison: The scores of the model beside those of baselines.
    """
    from ..tasks.base.label_table import describe_rest, worst_rows

    rest = [describe_rest(per_label, all_labels)] if describe_rest(per_label, all_labels) else []
    shown = [table(worst_rows(per_label)), *rest, ""] if per_label else []
    section(console, title, *shown, metrics_line(metrics, intervals))
    if comparison:
        section(console, "Comparison", table(comparison))
    for warning in filter(None, warnings):
        section(console, "Warning", Text(warning, "yellow"))


def prompt_rows(found: "PromptEvaluation") -> list[dict[str, Any]]:
    """The metrics of a prompt with their intervals: calibrated, uncalibrated and the baseline, one row each."""
    rows = []
    for answers, measures in found.figures.items():
        row: dict[str, Any] = {"answers": answers}
        names = PROMPT_METRICS.get(next(iter(measures)), [name.replace("_", " ") for name in measures])
        for shown, one in zip(names, measures.values(), strict=True):
            row[shown] = one.mean
            row[f"{shown}, 95 %"] = "" if one.low is None or one.high is None else f"{one.low:.3f} to {one.high:.3f}"
            row[f"{shown}, runs"] = "" if one.worst == one.best else f"{one.worst:.3f} to {one.best:.3f}"
        rows.append(row)
    empty = {name for name in rows[0] if not any(row[name] != "" for row in rows)}
    return [{name: value for name, value in row.items() if name not in empty} for row in rows]


def show_prompt_evaluation(console: Console, found: "PromptEvaluation", title: str) -> None:
    """Prints the metrics of a prompt with their intervals, and what they mean."""
    section(console, title, table(prompt_rows(found)))
    section(console, "Interpretation", *found.verdict)


# Generated texts.


def show_generations(console: Console, prompt: str, found: "Sequence[Generation]", *, scored: bool) -> None:
    """Prints the prompt, dimmed, followed by each of its continuations."""
    for one in found:
        console.print(Text.assemble((prompt, "dim"), one.text), soft_wrap=True)
        show_ending(console, one, scored=scored)


def show_ending(console: Console, found: "Generation", *, scored: bool) -> None:
    """Prints the score of a text and why it ended, if `scored`; always prints that the context was full."""
    parts = [f"score {found.score:.2f}, ended by {found.finish_reason}"] if scored else []
    if found.finish_reason == "context":
        parts.append("the model's context is full; use --context slide to continue")
    if parts:
        console.print(f"  ({'; '.join(parts)})", style="dim")


def show_steps(console: Console, steps: "Sequence[TokenStep]") -> None:
    """Prints each token of a text with its probability and the most likely tokens in its position."""
    rows = [
        {
            "token": quoted(step.token),
            "probability": step.probability,
            "most likely": "   ".join(f"{quoted(one.token)} {one.probability:.3f}" for one in step.likeliest),
        }
        for step in steps
    ]
    console.print()
    console.print(Padding(table(rows), INDENT, expand=False))


def quoted(token: str) -> str:
    """A token in quotation marks, which makes its spaces and line breaks visible."""
    return json.dumps(token, ensure_ascii=False)


# Vectors.


@contextmanager
def counting(what: str) -> Iterator[Callable[[int], None]]:
    """Shows a counter and its rate on stderr if it is a terminal; yields a function that adds to the counter."""
    console = screen(to_stderr=True)
    counter = Progress(
        TextColumn(f"  {{task.completed:,.0f}} {what}   {{task.fields[rate]:,.0f}} per second", style="dim"),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    counted = counter.add_task("", total=None, rate=0.0)
    start = time.monotonic()

    def add(count: int) -> None:
        counter.update(counted, advance=count)
        counter.update(counted, rate=counter.tasks[0].completed / (time.monotonic() - start))

    with counter:
        yield add


def show_vector(console: Console, vector: Sequence[float]) -> None:
    """Prints the numbers of one vector."""
    console.print(" ".join(f"{number:.4f}" for number in vector), soft_wrap=True)


def show_similarities(console: Console, texts: Sequence[str], similarities: Sequence[Sequence[float]]) -> None:
    """Prints the similarity of each text to every other."""
    rows = [
        {
            "": i,
            **{str(j): similarity for j, similarity in enumerate(row, start=1)},
            "text": shorten(text, _half_width(console)),
        }
        for i, (text, row) in enumerate(zip(texts, similarities, strict=True), start=1)
    ]
    section(console, "Similarity", table(rows))


def show_hits(console: Console, hits: Sequence[tuple[float, str]]) -> None:
    """Prints the texts that a search found, with their scores."""
    for score, text in hits:
        line = Text.assemble((f"{score:6.3f}", "bold"), "  ", shorten(text, _half_width(console)))
        console.print(line, soft_wrap=True)


def show_neighbours(console: Console, expression: str, neighbours: "Sequence[Neighbour]") -> None:
    """Prints the words nearest to a word or to a sum of words."""
    rows = [{"word": one.word, "similarity": one.score} for one in neighbours]
    section(console, expression, *([table(rows)] if rows else []))


def show_in_context(console: Console, found: "ContextComparison") -> None:
    """Prints the similarity of a word to itself in other sentences and to its static vector."""
    rows = []
    for i, (place, row) in enumerate(zip(found.occurrences, found.cosines.tolist(), strict=True), start=1):
        marked = f"{place.sentence[: place.start]}[{place.sentence[place.start : place.end]}]"
        rows.append(
            {
                "": i,
                **{str(j): similarity for j, similarity in enumerate(row, start=1)},
                "static": float(found.to_static[i - 1]),
                "sentence": shorten(marked + place.sentence[place.end :], _half_width(console)),
            }
        )
    section(console, "Similarity across sentences and to the static vector", table(rows))


def _half_width(console: Console) -> int:
    """The width of a text that is printed beside numbers."""
    return max(console.width // 2, MIN_TEXT_WIDTH) if console.is_terminal else UNLIMITED
