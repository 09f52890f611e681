"""headway inspect: a look inside a model, as one HTML file; heads ranked on a file; parameters and memory."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ...core.errors import HeadwayError
from ..options import HEADER, JSON, chosen_columns, column_options, flag, with_options

if TYPE_CHECKING:
    from rich.console import Console

    from ...tasks.inspection import Inspected, Parameters, Ranking
    from .inspect_page import Inspection

MODEL = typer.Argument(metavar="MODEL", help="Any BERT or GPT-2: its folder, a built-in one, or a name on the Hub.")
PAGE = Path("inspect.html")
MOST_EXAMPLES = 200  # that every head is measured on: a model of twelve layers is measured 157 times


def inspect(
    model: Annotated[str, MODEL],
    texts: Annotated[
        list[str] | None, typer.Argument(metavar="TEXT", help="What to look at: a text, or the texts of a pair.")
    ] = None,
    output: Annotated[Path, typer.Option(metavar="FILE", help="The page.")] = PAGE,
    explain: Annotated[
        str | None,
        typer.Option(metavar="ANSWER", help='Whose words are told: a label, "PER: Ada"; left out: the model\'s own.'),
    ] = None,
    heads: Annotated[
        bool, typer.Option("--heads", help="Switch every head and layer off in turn, and measure on --data.")
    ] = False,
    data: Annotated[str | None, typer.Option(metavar="FILE", help="Labelled rows, for --heads.")] = None,
    examples: Annotated[
        int, typer.Option(metavar="N", min=2, help="Rows of --data that are measured, at most.")
    ] = MOST_EXAMPLES,
    parameters: Annotated[bool, typer.Option("--parameters", help="Only count parameters and memory.")] = False,
    header: Annotated[bool | None, HEADER] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the page.")] = False,
    json: Annotated[bool, JSON] = False,
    *,
    columns: dict[str, Any],
) -> None:
    """Look inside a model: headway inspect MODEL "a text" --output page.html

    The page shows where each token looks, what each layer would have said, which words the answer rests on, and what
    the model consists of. It opens without the internet.

    With --data, the options for columns name columns. Without it they are texts: --pair "the other".
    """
    from ..terminal import screen

    chosen = chosen_columns(columns)
    if heads != (data is not None):
        raise HeadwayError("--heads and --data go together: heads are measured on a labelled file.")
    given = bool(texts or (chosen and not heads))
    if heads + parameters + given != 1:
        raise HeadwayError(
            'Say one of: a text (headway inspect MODEL "a text"), --heads with --data FILE, or --parameters.'
        )
    console = screen(to_stderr=json)
    if heads:
        _rank(console, model, data, chosen, header, examples, json)
        return
    from ...tasks.inspection import open_model

    opened = open_model(model)
    if parameters:
        _count(console, opened, json)
    else:
        _write(console, opened, texts or (), chosen, explain, output, overwrite, json)


# The page.


def _write(
    console: "Console",
    opened: "Inspected",
    texts: Sequence[str],
    named: Mapping[str, str],
    explain: str | None,
    output: Path,
    overwrite: bool,
    json: bool,
) -> None:
    from ...core.atomic_files import atomic_file, new_path, refuse_existing
    from ..terminal import print_json
    from .inspect_page import render_page

    output = new_path(output)
    refuse_existing(output, overwrite)
    names = [field.name for field in opened.fields]
    if len(texts) > len(names):
        raise HeadwayError(f"{len(texts)} texts, but the model reads {' and '.join(names)} only. Leave some out.")
    typed = dict(zip(names, texts, strict=False))
    if twice := typed.keys() & named.keys():
        raise HeadwayError(f"{flag(min(twice))}: the {min(twice)} is given already. Leave one of them out.")
    found = look(opened, {**typed, **named}, explain)
    with atomic_file(output, overwrite) as unfinished:
        unfinished.write_text(render_page(found), encoding="utf-8")
    if json:
        print_json({"output": str(output), "answer": found.answer, "tokens": len(found.reading.tokens)})
        return
    if found.answer:
        console.print(found.answer)
    size = output.stat().st_size / 1e6
    console.print(f"{output}: {len(found.reading.tokens):,} tokens, {size:.1f} MB. Open it in a browser.")


def look(opened: "Inspected", texts: Mapping[str, str], explain: str | None = None) -> "Inspection":
    """Everything that a page shows of texts on a model.

    Args:
        opened: the model.
        texts: by the names of its fields.
        explain: the answer whose words are told; the model's own if left out.

    Raises:
        HeadwayError: the texts are not those that the model reads, or there is no such answer.
    """
    from ...tasks.inspection import (
        choose_output,
        count_parameters,
        integrated_gradients,
        leave_one_out,
        outputs_of,
        view_attention,
        view_lens,
        view_next_tokens,
    )
    from .inspect_page import Inspection

    reading = opened.read(**texts)
    attributions = ()
    if explain is not None or opened.task is not None:
        outputs = outputs_of(opened, reading)
        if outputs:
            chosen = choose_output(outputs, explain)
            attributions = integrated_gradients(opened, reading, chosen), leave_one_out(opened, reading, chosen)
    prediction = opened.predict(reading)
    steps = ()
    if opened.task is None and not reading.unread and len(reading.texts) == 1:
        steps = view_next_tokens(opened, reading.texts[0])
    name = Path(opened.name)
    return Inspection(
        name.resolve().name if name.is_dir() else opened.name,  # a page that is passed on tells no paths
        describe(opened),
        "" if prediction is None else f"The model says: {' '.join(prediction.brief.split())}",
        reading,
        attributions,
        view_attention(opened, reading),
        view_lens(opened, reading) if opened.vocabulary_head is not None else None,
        steps,
        count_parameters(opened.network),
    )


def describe(opened: "Inspected") -> str:
    """What kind of model it is, in a line."""
    config = opened.network.config
    kind = "GPT-2" if opened.causal else "BERT"
    head = opened.model.task.title.lower() if opened.model is not None else "no head that answers"
    size = f"{config.hidden_size:,}, {config.vocab_size:,} tokens in the vocabulary"
    return (
        f"{kind}, {head}; {config.num_layers} layers of {config.num_heads} heads, hidden size "
        f"{size}, reads {config.max_positions:,} at once"
    )


# Heads and layers switched off.


def _rank(
    console: "Console",
    model: str,
    data: str | None,
    columns: Mapping[str, Any],
    header: bool | None,
    examples: int,
    json: bool,
) -> None:
    from rich.progress import Progress

    from ...tasks import load
    from ...tasks.inspection import Ranking, rank_switches
    from ...tasks.inspection.switches import all_switches
    from ..terminal import print_json

    opened = load(model)
    total = len(all_switches(opened.network.backbone))
    ranking = None
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        shown = progress.add_task("  switched off", total=total)
        for found in rank_switches(opened, data, columns=columns, header=header, most=examples):
            progress.update(shown, advance=1)
            ranking = found
    assert isinstance(ranking, Ranking)
    _show_ranking(console, ranking, str(data))
    if json:
        rows = [
            {"layer": row.switch.layer, "head": row.switch.head, "score": row.score, "change": row.change}
            for row in ranking.rows
        ]
        print_json(
            {"metric": ranking.metric, "score": ranking.score, "examples": ranking.examples, "switched_off": rows}
        )


def _show_ranking(console: "Console", ranking: "Ranking", data: str) -> None:
    from ..terminal import section, table

    section(console, "Data", *ranking.notes)
    rows = [
        {"switched off": str(row.switch), ranking.metric: row.score, "change": f"{row.change:+.3f}"}
        for row in ranking.rows
    ]
    title = f"On {ranking.examples:,} examples of {data}: {ranking.metric} {ranking.score:.3f} with everything on"
    one = f"One example of {ranking.examples:,} is {1 / ranking.examples:.3f}: changes of a few examples are chance."
    section(console, title, table(rows), "", one)


# Parameters and memory.


def _count(console: "Console", opened: "Inspected", json: bool) -> None:
    from ...tasks.inspection import count_parameters
    from ..terminal import print_json

    found = count_parameters(opened.network)
    _show_parameters(console, describe(opened), found)
    if json:
        print_json(
            {
                "parameters": found.total,
                "matrices": [
                    {"name": one.name, "shape": one.shape, "times": one.times, "parameters": one.parameters}
                    for one in found.matrices
                ],
                "memory": {need.what: need.bytes for need in found.memory},
            }
        )


def _show_parameters(console: "Console", described: str, found: "Parameters") -> None:
    from ..terminal import section, table

    rows = [
        {
            "matrix": one.name,
            "shape": " x ".join(f"{size:,}" for size in one.shape),
            "times": one.times,
            "each": one.each,
            "parameters": one.parameters,
        }
        for one in found.matrices
    ]
    total = {"matrix": "total", "shape": "", "times": "", "each": "", "parameters": found.total}
    section(console, "Model", described)
    section(console, "Parameters", table([*rows, total]))
    memory = [{"memory": need.what, "MB": round(need.bytes / 1e6), "how": need.how} for need in found.memory]
    section(console, "Memory", table(memory))


def inspect_command() -> Callable[..., None]:
    """The command with all its options."""
    return with_options(inspect, columns=column_options())
