"""headway probe: measure how much each layer of a model knows about the labels of a file."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ...core.errors import HeadwayError
from ..options import (
    DEVICE,
    JSON,
    LABELLED_DATA,
    MODEL,
    OVERWRITE,
    chosen_columns,
    column_options,
    make_task,
    reading_options,
    with_options,
)

if TYPE_CHECKING:
    from rich.console import Console

    from ...tasks.inspection import LayerScore, ProbeResult

PLOT_FORMATS = (".svg", ".png")


def probe(
    model: Annotated[str, MODEL],
    data: Annotated[str, LABELLED_DATA],
    task: Annotated[
        str | None, typer.Option(metavar="TASK", help="The task of the labels. Default: inferred from the data.")
    ] = None,
    seeds: Annotated[int, typer.Option(metavar="N", min=1, help="Number of random train/test splits.")] = 3,
    examples: Annotated[int, typer.Option(metavar="N", min=10, help="Maximum number of rows to use.")] = 2000,
    pooling: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="How the vectors of a text's tokens become one vector: mean, or summary ([CLS] or the last token).",
        ),
    ] = "mean",
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Plot the score of each layer: .svg or .png.")
    ] = None,
    device: Annotated[str, DEVICE] = "auto",
    overwrite: Annotated[bool, OVERWRITE] = False,
    json: Annotated[bool, JSON] = False,
    *,
    columns: dict[str, Any],
    reading: dict[str, Any],
) -> None:
    """Measure how much each layer of a model knows about the labels, with linear probes.

    The model is not trained: for each layer, and for a learned mix of all layers, logistic regression is fitted on
    the layer's vectors of texts or words. Each seed draws a random split: 80 % of the rows for fitting, 20 % for
    evaluation.
    """
    from ...core.atomic_files import atomic_file, new_path, refuse_existing
    from ...tasks.inspection import probe
    from ..terminal import print_json, screen

    if plot is not None:
        if plot.suffix.lower() not in PLOT_FORMATS:
            raise HeadwayError(f"{plot}: plots are written as {' or '.join(PLOT_FORMATS)}. Change the file name.")
        plot = new_path(plot)
        refuse_existing(plot, overwrite)
    console = screen(to_stderr=json)
    steps = probe(
        model,
        data,
        task=None if task is None else make_task(task, {}),
        columns=chosen_columns(columns),
        **reading,
        seeds=seeds,
        most=examples,
        pooling=pooling,
        device=device,
    )
    found = _follow(console, steps)
    _show(console, found, data)
    if plot is not None:
        from .probe_plot import save_plot

        name = Path(model).resolve().name if Path(model).is_dir() else model
        with atomic_file(plot, overwrite) as unfinished:
            save_plot(found, name, unfinished, plot.suffix.lower().removeprefix("."))
        console.print(f"\n  {plot}: score of each layer")
    if json:
        print_json(_to_json(found))


def _follow(console: "Console", steps: "Iterator[Any]") -> "ProbeResult":
    """Shows the progress of the probes and returns the result, which comes last."""
    from rich.progress import Progress

    from ...tasks.inspection import ProbeResult

    found = None
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task("  probes", total=None)
        for step in steps:
            progress.update(bar, advance=1)
            found = step
    assert isinstance(found, ProbeResult)
    return found


def _show(console: "Console", found: "ProbeResult", data: str) -> None:
    from ..terminal import bar, section, table

    section(console, "Data", *found.notes)
    named = [("embeddings" if one.layer == 0 else f"layer {one.layer}", one) for one in found.layers]
    named += [("mix of all layers", found.mix), ("most common label", found.majority)]
    weights = [f"{weight:.3f}" for weight in found.mix_weights]
    rows = [
        {
            "": name,
            found.metric: one.mean,
            "std": one.std,
            "worst to best": f"{min(one.scores):.3f} to {max(one.scores):.3f}",
            "mix weight": weight,
            " ": bar(one.mean),
        }
        for (name, one), weight in zip(named, [*weights, "", ""], strict=True)
    ]
    seeds = len(found.mix.scores)
    splits = f"{seeds} random splits (std: standard deviation over them)" if seeds > 1 else "one random split"
    title = f"Linear probes on {found.examples:,} examples of {data}, {splits}"
    best = max(found.layers, key=lambda one: one.mean)
    name = f"layer {best.layer}" if best.layer else "the embeddings"
    summary = f"Best single layer: {name}. Weighted mean layer of the mix: {found.center_of_gravity:.1f}."
    section(console, title, table(rows), "", summary)


def _to_json(found: "ProbeResult") -> dict[str, Any]:
    def row(one: "LayerScore") -> dict[str, Any]:
        return {"mean": one.mean, "spread": one.std, "scores": one.scores}

    layers = zip(found.layers, found.mix_weights, strict=True)
    return {
        "task": found.task,
        "metric": found.metric,
        "examples": found.examples,
        "layers": [{"layer": one.layer, **row(one), "mix_weight": weight} for one, weight in layers],
        "mix": row(found.mix),
        "commonest": row(found.majority),
    }


def probe_command() -> Callable[..., None]:
    """Builds the command with all its options."""
    return with_options(probe, reading=reading_options(), columns=column_options())
