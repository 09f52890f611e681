"""headway probe: which layer of a model knows what a file asks."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ...core.errors import HeadwayError
from ..options import HEADER, JSON, chosen_columns, column_options, with_options

if TYPE_CHECKING:
    from rich.console import Console

    from ...tasks.inspection import LayerScore, ProbeResult

MODEL = typer.Argument(metavar="MODEL", help="Any BERT or GPT-2: its folder, a built-in one, or a name on the Hub.")


def probe(
    model: Annotated[str, MODEL],
    data: Annotated[str, typer.Option(metavar="FILE", help="Labelled rows, as for training.")],
    task: Annotated[
        str | None,
        typer.Option(metavar="TASK", help="text-classification or token-classification; told from the data."),
    ] = None,
    seeds: Annotated[int, typer.Option(metavar="N", min=1, help="How often the rows are divided anew.")] = 3,
    examples: Annotated[int, typer.Option(metavar="N", min=10, help="Rows that are looked at, at most.")] = 2000,
    pooling: Annotated[
        str, typer.Option(metavar="TEXT", help="A text's vector: mean of its tokens, or summary ([CLS], last token).")
    ] = "mean",
    plot: Annotated[Path | None, typer.Option(metavar="FILE", help="Draw score against layer: an .svg.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the plot.")] = False,
    header: Annotated[bool | None, HEADER] = None,
    json: Annotated[bool, JSON] = False,
    *,
    columns: dict[str, Any],
) -> None:
    """Which layer knows: a linear probe of every layer, and of a mix of all layers that is learnt.

    The model is not trained: logistic regression learns from what each layer makes of the texts or words. Every seed
    divides the rows anew: four fifths to learn from, one to measure.
    """
    from rich.progress import Progress

    from ...core.atomic_files import atomic_file, new_path, refuse_existing
    from ...tasks.inspection import ProbeResult
    from ...tasks.inspection import probe as probed
    from ..options import make_task
    from ..terminal import print_json, screen
    from .probe_plot import draw_probe

    if plot is not None:
        if plot.suffix.lower() != ".svg":
            raise HeadwayError(f"{plot}: the plot is an SVG. Let its name end in .svg.")
        plot = new_path(plot)
        refuse_existing(plot, overwrite)
    console = screen(to_stderr=json)
    found = None
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        shown = progress.add_task("  probes", total=None)
        steps = probed(
            model,
            data,
            task=None if task is None else make_task(task, {}),
            columns=chosen_columns(columns),
            header=header,
            seeds=seeds,
            most=examples,
            pooling=pooling,
        )
        for step in steps:
            progress.update(shown, advance=1)
            found = step
    assert isinstance(found, ProbeResult)
    _show(console, found, data)
    if plot is not None:
        with atomic_file(plot, overwrite) as unfinished:
            name = Path(model)
            drawn = draw_probe(found, name.resolve().name if name.is_dir() else model)
            unfinished.write_text(drawn, encoding="utf-8")
        console.print(f"\n  {plot}: score against layer")
    if json:
        print_json(_plain(found))


def _show(console: "Console", found: "ProbeResult", data: str) -> None:
    from ..terminal import BAR, section, table

    section(console, "Data", *found.notes)
    named = [("embeddings" if one.layer == 0 else f"layer {one.layer}", one) for one in found.layers]
    named += [("mix of all", found.mix), ("commonest label", found.commonest)]
    weights = [f"{weight:.3f}" for weight in found.weights]
    rows = [
        {
            "": name,
            found.metric: one.mean,
            "spread": one.spread,
            "worst to best": f"{min(one.scores):.3f} to {max(one.scores):.3f}",
            "in the mix": weight,
            " ": "█" * round(BAR * one.mean),
        }
        for (name, one), weight in zip(named, [*weights, "", ""], strict=True)
    ]
    seeds = len(found.mix.scores)
    told = f"{seeds} seeds; the spread is their standard deviation" if seeds > 1 else "one seed"
    title = f"What each layer knows of {data}: {found.examples:,} examples, {told}"
    best = max(found.layers, key=lambda one: one.mean)
    say = f"Layer {best.layer} alone" if best.layer else "The embeddings alone"
    section(
        console,
        title,
        table(rows),
        "",
        f"{say} knows most. The mix's weights lie around layer {found.centre:.1f}.",
    )


def _plain(found: "ProbeResult") -> dict[str, Any]:
    def row(one: "LayerScore") -> dict[str, Any]:
        return {"mean": one.mean, "spread": one.spread, "scores": one.scores}

    layers = zip(found.layers, found.weights, strict=True)
    return {
        "task": found.task,
        "metric": found.metric,
        "examples": found.examples,
        "layers": [{"layer": one.layer, **row(one), "mix_weight": weight} for one, weight in layers],
        "mix": row(found.mix),
        "commonest": row(found.commonest),
    }


def probe_command() -> Callable[..., None]:
    """The command with all its options."""
    return with_options(probe, columns=column_options())
