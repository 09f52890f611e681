"""headway inspect: a model's internals as one HTML file, a ranking of its heads, its parameters and memory."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ...core.errors import HeadwayError
from ..options import (
    DEVICE,
    JSON,
    MODEL,
    OVERWRITE,
    chosen_columns,
    column_options,
    flag,
    reading_options,
    refuse_without_file,
    with_options,
)

if TYPE_CHECKING:
    from rich.console import Console

    from ...tasks import TaskModel
    from ...tasks.inspection import InspectedModel, Parameters, Ranking

DEFAULT_OUTPUT = Path("inspect.html")
MAX_EXAMPLES = 200  # for --heads: a model of twelve layers is evaluated 157 times


def inspect(
    model: Annotated[str, MODEL],
    texts: Annotated[
        list[str] | None, typer.Argument(metavar="TEXT", help="The text to inspect, or the texts of a pair.")
    ] = None,
    output: Annotated[Path, typer.Option(metavar="FILE", help="The HTML file to write.")] = DEFAULT_OUTPUT,
    explain: Annotated[
        str | None,
        typer.Option(
            metavar="OUTPUT",
            help='The output to attribute to the words: a label, or an entity such as "PER: Ada". Default: the '
            "prediction.",
        ),
    ] = None,
    heads: Annotated[
        bool, typer.Option("--heads", help="Disable each head and layer in turn and evaluate the model on --data.")
    ] = False,
    data: Annotated[str | None, typer.Option(metavar="FILE", help="Labelled data for --heads.")] = None,
    examples: Annotated[
        int, typer.Option(metavar="N", min=2, help="Maximum number of rows of --data to evaluate on.")
    ] = MAX_EXAMPLES,
    parameters: Annotated[bool, typer.Option("--parameters", help="Only count parameters and memory.")] = False,
    device: Annotated[str, DEVICE] = "auto",
    overwrite: Annotated[bool, OVERWRITE] = False,
    json: Annotated[bool, JSON] = False,
    *,
    columns: dict[str, Any],
    reading: dict[str, Any],
) -> None:
    """Show the internals of a model: headway inspect MODEL "a text" --output page.html

    The HTML page shows the attention of each head, the prediction after each layer (logit lens), the attribution of
    the output to the words, and the parameters. It works without the internet.

    With --data, the options under "Columns" name columns of the file. Without --data they are texts: --pair "another
    text".
    """
    from ...tasks import load
    from ...tasks.inspection import open_model
    from ..terminal import screen

    chosen = chosen_columns(columns)
    if heads != (data is not None):
        raise HeadwayError("--heads and --data must be used together: heads are evaluated on a labelled file.")
    with_texts = bool(texts or (chosen and not heads))
    if heads + parameters + with_texts != 1:
        raise HeadwayError(
            'Give exactly one of: a text (headway inspect MODEL "a text"), --heads with --data FILE, or --parameters.'
        )
    refuse_without_file(reading, data)
    console = screen(to_stderr=json)
    if data is not None:
        task_model = load(model, device=device)
        _rank_heads(console, task_model, data, columns=chosen, reading=reading, max_examples=examples, json=json)
    elif parameters:
        _count_parameters(console, open_model(model, device, reads_text=False), json)
    else:
        opened = open_model(model, device)
        by_field = _texts_by_field(opened, texts or (), chosen)
        _write_page(console, opened, by_field, explain=explain, output=output, overwrite=overwrite, json=json)


# The page.


def _write_page(
    console: "Console",
    opened: "InspectedModel",
    texts: Mapping[str, str],
    *,
    explain: str | None,
    output: Path,
    overwrite: bool,
    json: bool,
) -> None:
    from ...core.atomic_files import atomic_file, new_path, refuse_existing
    from ..terminal import print_json
    from .inspect_page import inspect_texts, render_page

    output = new_path(output)
    refuse_existing(output, overwrite)
    found = inspect_texts(opened, texts, explain)
    with atomic_file(output, overwrite) as unfinished:
        unfinished.write_text(render_page(found), encoding="utf-8")
    if json:
        print_json({"output": str(output), "answer": found.answer, "tokens": len(found.encoded.tokens)})
        return
    if found.answer:
        console.print(found.answer)
    size = output.stat().st_size / 1e6
    console.print(f"{output}: {len(found.encoded.tokens):,} tokens, {size:.1f} MB. Open it in a browser.")


def _texts_by_field(opened: "InspectedModel", texts: Sequence[str], named: Mapping[str, str]) -> dict[str, str]:
    """The texts given as arguments and as options, by the names of the model's fields."""
    names = [field.name for field in opened.fields]
    if len(texts) > len(names):
        raise HeadwayError(f"{len(texts)} texts are given, but the model reads only {' and '.join(names)}. Omit some.")
    positional = dict(zip(names, texts, strict=False))
    if twice := positional.keys() & named.keys():
        raise HeadwayError(f"{flag(min(twice))}: the {min(twice)} is already given as an argument. Omit one.")
    return {**positional, **named}


# The effect of each head and layer.


def _rank_heads(
    console: "Console",
    task_model: "TaskModel",
    data: str,
    *,
    columns: Mapping[str, Any],
    reading: Mapping[str, Any],
    max_examples: int,
    json: bool,
) -> None:
    from rich.progress import Progress

    from ...tasks.inspection import Ranking, rank_components
    from ...tasks.inspection.ablation import all_components
    from ..terminal import print_json

    total = len(all_components(task_model.network.backbone))
    ranking = None
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task("  disabled heads and layers", total=total)
        for found in rank_components(task_model, data, columns=columns, **reading, most=max_examples):
            progress.update(bar, advance=1)
            ranking = found
    assert isinstance(ranking, Ranking)
    _show_ranking(console, ranking, data)
    if json:
        rows = [
            {"layer": row.component.layer, "head": row.component.head, "score": row.score, "change": row.change}
            for row in ranking.rows
        ]
        print_json(
            {"metric": ranking.metric, "score": ranking.score, "examples": ranking.examples, "switched_off": rows}
        )


def _show_ranking(console: "Console", ranking: "Ranking", data: str) -> None:
    from ..terminal import section, table

    if ranking.notes:
        section(console, "Data", *ranking.notes)
    rows = [
        {"disabled": str(row.component), ranking.metric: row.score, "change": f"{row.change:+.3f}"}
        for row in ranking.rows
    ]
    title = f"Evaluation on {ranking.examples:,} examples of {data}: {ranking.metric} {ranking.score:.3f} unmodified"
    note = (
        f"One example of {ranking.examples:,} changes the score by {1 / ranking.examples:.3f}: "
        "differences of a few examples are noise."
    )
    section(console, title, table(rows), "", note)


# Parameters and memory.


def _count_parameters(console: "Console", opened: "InspectedModel", json: bool) -> None:
    from ...tasks.inspection import count_parameters
    from ..terminal import print_json
    from .inspect_page import describe

    found = count_parameters(opened.network)
    _show_parameters(console, describe(opened), found)
    if json:
        print_json(
            {
                "parameters": found.total,
                "matrices": [
                    {"name": one.name, "shape": one.shape, "times": one.count, "parameters": one.parameters}
                    for one in found.matrices
                ],
                "memory": {one.purpose: one.bytes for one in found.memory},
            }
        )


def _show_parameters(console: "Console", description: str, found: "Parameters") -> None:
    from ..terminal import section, table

    rows = [
        {
            "matrix": one.name,
            "shape": " x ".join(f"{size:,}" for size in one.shape),
            "count": one.count,
            "each": one.size,
            "parameters": one.parameters,
        }
        for one in found.matrices
    ]
    total = {"matrix": "total", "shape": "", "count": "", "each": "", "parameters": found.total}
    section(console, "Model", description)
    section(console, "Parameters", table([*rows, total]))
    memory = [{"memory": one.purpose, "MB": round(one.bytes / 1e6), "how": one.calculation} for one in found.memory]
    section(console, "Memory", table(memory))


def inspect_command() -> Callable[..., None]:
    """Builds the command with all its options."""
    return with_options(inspect, reading=reading_options(), columns=column_options())
