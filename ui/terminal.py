"""What the commands know, as something a person looks at in a terminal; plain lines where there is none."""

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.cells import cell_len
from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.progress import Progress, TextColumn
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from ..core.generation.decoding import Generation
    from ..core.generation.generation import TokenStep
    from ..tasks.base.predictions import Prediction
    from ..tasks.data.examples import Field
    from ..tasks.data.report import DataReport
    from ..tasks.embedding.word_vectors import InContext, Neighbour
    from ..tasks.prompting.evaluation import PromptEvaluation

UNLIMITED = 10_000  # columns; where nobody looks, nothing is wrapped or cut
LEVEL_STYLES = {"error": "bold red", "warning": "yellow", "note": "dim"}
MOST_LABELS = 12  # counted in one line
MOST_SCORES = 6  # shown of one text
ANSWER = 14  # columns at least, so that texts stand below one another
FEWEST_COLUMNS = 20  # of a text
BAR = 24
FEWEST_MILLIONS = 100_000  # of parameters, from where they are counted in millions
# The measures of a prompt by the first of them: of one label, of several, of written answers.
PROMPT_MEASURES = {
    "accuracy": ("accuracy", "macro-F1"),
    "f1": ("micro-F1", "macro-F1"),
    "exact_match": ("exact match", "F1 of words"),
}
INDENT = (0, 0, 0, 2)


def screen(*, to_stderr: bool = False) -> Console:
    """Where people look: stdout, or stderr where stdout is for a program. Of several processes one speaks."""
    console = Console(stderr=to_stderr, markup=False, emoji=False, highlight=False, quiet=not speaks())
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = UNLIMITED
    return console


def speaks() -> bool:
    """Whether this is the one of several processes that talks to people, as their launcher says."""
    return int(os.environ.get("RANK", 0)) == 0


def print_json(content: Mapping[str, Any]) -> None:
    """One line on stdout, for a program."""
    if speaks():
        print(json.dumps(content, ensure_ascii=False, default=str))


# Parts of a page.


def section(console: Console, title: str, *parts: RenderableType) -> None:
    """A title and what stands under it."""
    console.print()
    console.print(title, style="bold")
    for part in parts:
        console.print(Padding(part, INDENT, expand=False) if part else "")


def table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Rows under the names of their columns; numbers stand to the right."""
    grid = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    for name, value in rows[0].items():
        number = isinstance(value, int | float)
        grid.add_column(name, justify="right" if number else "left", no_wrap=number, overflow="fold")
    for row in rows:
        grid.add_row(*(Text(figure(value, 3)) for value in row.values()))
    return grid


def figure(value: Any, decimals: int) -> str:
    """A value as people read it: with decimals where it is measured, thousands apart where it is counted."""
    if isinstance(value, float):
        return f"{value:.{decimals}f}" if abs(value) < 1000 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def figures(metrics: Mapping[str, float]) -> Text:
    """Several figures in one line."""
    return Text("   ").join(Text.assemble((f"{name} ", "dim"), figure(value, 4)) for name, value in metrics.items())


def duration(seconds: float) -> str:
    """1:02:03, or 2:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def shorten(text: str, width: int) -> str:
    """A text on one line, its end left out where it is wider than so many columns."""
    line = Text(" ".join(text.split()))
    line.truncate(width, overflow="ellipsis")
    return line.plain


def show_answer(console: Console, texts: Sequence[str], prediction: "Prediction") -> None:
    """A prediction and what it is about, on one line."""
    left = prediction.brief.ljust(ANSWER)
    room = console.width - cell_len(left) - len("  ") if console.is_terminal else UNLIMITED
    about = shorten(" / ".join(texts), max(room, FEWEST_COLUMNS))
    console.print(Text.assemble((left, "bold"), "  ", about), soft_wrap=True)


def show_scores(console: Console, scores: Mapping[str, float]) -> None:
    """The likeliest labels as bars."""
    likeliest = sorted(scores.items(), key=lambda item: -item[1])[:MOST_SCORES]
    rows = [{"label": label, "score": score, " ": "█" * round(BAR * score) or "▏"} for label, score in likeliest]
    console.print()
    console.print(Padding(table(rows), INDENT, expand=False))


def show_calibrated(console: Console, scores: Mapping[str, float], uncalibrated: Mapping[str, float]) -> None:
    """The likeliest labels as bars, with what they were before calibration beside them."""
    likeliest = sorted(scores.items(), key=lambda item: -item[1])[:MOST_SCORES]
    rows = [
        {"label": label, "score": score, " ": "█" * round(BAR * score) or "▏", "uncalibrated": uncalibrated[label]}
        for label, score in likeliest
    ]
    console.print()
    console.print(Padding(table(rows), INDENT, expand=False))


def command(*words: object) -> str:
    """A command line as one would type it, in any shell."""
    return " ".join(["headway", *(f'"{word}"' if " " in str(word) else str(word) for word in words)])


def show_next(console: Console, *commands: str) -> None:
    """What to type next."""
    section(console, "Next")
    for one in commands:
        console.print(f"  {one}", style="cyan", soft_wrap=True)


# Data.


def show_report(console: Console, report: "DataReport") -> None:
    """What a look over the data has found."""
    if report.first:
        rows = [_example_row(console, example) for example in report.first]
        section(console, "As it was read", table(rows))
    known = []
    if report.label_counts:
        counts = [f"{label} ({count:,})" for label, count in list(report.label_counts.items())[:MOST_LABELS]]
        more = len(report.label_counts) - len(counts)
        known.append(f"labels: {', '.join(counts)}{f' and {more} more' if more else ''}")
    if report.lengths:
        lengths = report.lengths
        known.append(
            f"{lengths.unit} a text: {lengths.shortest:,} to {lengths.longest:,}, half of them up to "
            f"{lengths.median:,}, nine in ten up to {lengths.p90:,}"
        )
    section(console, "Check", *known)
    if not report.findings:
        console.print(Text("  nothing is wrong with it", style="green"))
        return
    grid = Table.grid(padding=(0, 2, 0, 0))
    for finding in report.findings:
        grid.add_row(Text(finding.level, style=LEVEL_STYLES[finding.level]), Text(finding.message))
    console.print(Padding(grid, INDENT, expand=False))


def _example_row(console: Console, example: Any) -> dict[str, str]:
    gold = example.gold
    shown = ", ".join(gold) if isinstance(gold, tuple) else figure(gold, 2) if isinstance(gold, float) else str(gold)
    width = max(20, (console.width - 24) // len(example.texts)) if console.is_terminal else 80
    names = ["text", "second text"] if len(example.texts) > 1 else ["text"]
    label = {} if gold is None else {"label": shown}
    return {**label, **{name: shorten(text, width) for name, text in zip(names, example.texts, strict=False)}}


# Figures.


def show_evaluation(
    console: Console, metrics: Mapping[str, float], per_label: Sequence[Mapping[str, Any]], examples: int, what: str
) -> None:
    """How good a model is."""
    section(console, f"On {examples:,} {what}", *([table(per_label), ""] if per_label else []), figures(metrics))


def prompt_figures(found: "PromptEvaluation") -> list[dict[str, Any]]:
    """How good a prompt is, a row for each kind of answers, with the intervals."""
    rows = []
    for answers, measures in found.figures.items():
        row: dict[str, Any] = {"answers": answers}
        for shown, one in zip(PROMPT_MEASURES[next(iter(measures))], measures.values(), strict=True):
            row[shown] = one.mean
            row[f"{shown}, 95 %"] = "" if one.low is None or one.high is None else f"{one.low:.3f} to {one.high:.3f}"
            row[f"{shown}, runs"] = "" if one.worst == one.best else f"{one.worst:.3f} to {one.best:.3f}"
        rows.append(row)
    return rows


def show_prompt_evaluation(console: Console, found: "PromptEvaluation", what: str) -> None:
    """How good a prompt is, with its intervals, and what to make of it."""
    section(console, f"On {len(found.examples):,} {what}", table(prompt_figures(found)))
    section(console, "What to make of it", *found.verdict)


# Continued texts.


def show_continued(console: Console, prompt: str, found: "Sequence[Generation]", *, scored: bool) -> None:
    """A prompt, dimmed, and each of the texts that go on from it."""
    for one in found:
        console.print(Text.assemble((prompt, "dim"), one.text), soft_wrap=True)
        show_ending(console, one, scored=scored)


def show_ending(console: Console, found: "Generation", *, scored: bool) -> None:
    """Why a text ends, where that is worth a word, and how likely it is."""
    parts = [f"score {found.score:.2f}, ended by {found.finish_reason}"] if scored else []
    if found.finish_reason == "context":
        parts.append("the model's context is full: --context slide goes on")
    if parts:
        console.print(f"  ({'; '.join(parts)})", style="dim")


def show_steps(console: Console, steps: "Sequence[TokenStep]") -> None:
    """Token by token what was chosen, and what else was likely."""
    rows = [
        {
            "token": quoted(step.token),
            "probability": step.probability,
            "likeliest": "   ".join(f"{quoted(one.token)} {one.probability:.3f}" for one in step.likeliest),
        }
        for step in steps
    ]
    console.print()
    console.print(Padding(table(rows), INDENT, expand=False))


def quoted(token: str) -> str:
    """A token in quotation marks, so that its spaces and line breaks are seen."""
    return json.dumps(token, ensure_ascii=False)


# Vectors.


@contextmanager
def counting(what: str) -> Iterator[Callable[[int], None]]:
    """Counts on a terminal what is written to a file: call what it gives with how many more there are."""
    console = screen(to_stderr=True)
    counter = Progress(
        TextColumn(f"  {{task.completed:,.0f}} {what}   {{task.fields[rate]:,.0f}} a second", style="dim"),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    counted = counter.add_task("", total=None, rate=0.0)
    began = time.monotonic()

    def told(more: int) -> None:
        counter.update(counted, advance=more)
        counter.update(counted, rate=counter.tasks[0].completed / (time.monotonic() - began))

    with counter:
        yield told


def show_vector(console: Console, vector: Sequence[float]) -> None:
    """The numbers of one vector."""
    console.print(" ".join(f"{number:.4f}" for number in vector), soft_wrap=True)


def show_similarities(console: Console, texts: Sequence[str], similarities: Sequence[Sequence[float]]) -> None:
    """How near each text is to every other."""
    rows = [
        {
            "": i,
            **{str(j): similarity for j, similarity in enumerate(row, start=1)},
            "text": shorten(text, _room(console)),
        }
        for i, (text, row) in enumerate(zip(texts, similarities, strict=True), start=1)
    ]
    section(console, "Similarity", table(rows))


def show_hits(console: Console, hits: Sequence[tuple[float, str]]) -> None:
    """Texts that were found, with their scores."""
    for score, text in hits:
        line = Text.assemble((f"{score:6.3f}", "bold"), "  ", shorten(text, _room(console)))
        console.print(line, soft_wrap=True)


def show_neighbours(console: Console, expression: str, neighbours: "Sequence[Neighbour]") -> None:
    """The words nearest to a word, or to a sum of words."""
    rows = [{"word": one.word, "similarity": one.score} for one in neighbours]
    section(console, expression, *([table(rows)] if rows else []))


def show_in_context(console: Console, found: "InContext") -> None:
    """A word at several places: how near it is to itself elsewhere, and to its one vector in the table."""
    rows = []
    for i, (place, row) in enumerate(zip(found.places, found.cosines.tolist(), strict=True), start=1):
        marked = f"{place.sentence[: place.start]}[{place.sentence[place.start : place.end]}]"
        rows.append(
            {
                "": i,
                **{str(j): similarity for j, similarity in enumerate(row, start=1)},
                "static": float(found.to_static[i - 1]),
                "where": shorten(marked + place.sentence[place.end :], _room(console)),
            }
        )
    section(console, "Similarity of the word in its sentences, and to its static vector", table(rows))


def _room(console: Console) -> int:
    """For a text beside figures."""
    return max(console.width // 2, FEWEST_COLUMNS) if console.is_terminal else UNLIMITED


def ask(output: Path, fields: "Sequence[Field]") -> str:
    """What to type to ask a model about a text."""
    others = [
        part for field in fields[1:] if field.required for part in (f"--{field.name}", f"its {field.label.lower()}")
    ]
    return command("predict", output, f"a {fields[0].label.lower()} of your own", *others)
