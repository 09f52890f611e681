"""headway probe: measure how much each layer of a model knows about the labels of a file, or about its trees."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ...core.errors import HeadwayError
from ...core.extras import require
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
PAGE_FORMATS = (".html",)


def probe(
    model: Annotated[str, MODEL],
    data: Annotated[str, LABELLED_DATA],
    task: Annotated[
        str | None, typer.Option(metavar="TASK", help="The task of the labels. Default: inferred from the data.")
    ] = None,
    structure: Annotated[
        bool, typer.Option("--structure", help="Probe for the dependency trees of a treebank: a CoNLL-U file.")
    ] = False,
    rank: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Rank of the probes for trees. Default: 64.")
    ] = None,
    seeds: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Number of random train/test splits. Default: 3; 1 with --structure."),
    ] = None,
    examples: Annotated[
        int, typer.Option(metavar="N", min=10, help="Maximum number of rows or sentences to use.")
    ] = 2000,
    pooling: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="How the vectors of a text's tokens become one vector: mean, or summary ([CLS] or the last token). "
            "Default: mean.",
        ),
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Plot the score of each layer: .svg or .png.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Page with the trees found beside the true ones: .html.")
    ] = None,
    device: Annotated[str, DEVICE] = "auto",
    overwrite: Annotated[bool, OVERWRITE] = False,
    json: Annotated[bool, JSON] = False,
    *,
    columns: dict[str, Any],
    reading: dict[str, Any],
) -> None:
    """Measure how much each layer of a model knows about labels, or about the structure of sentences.

    The model is not trained: for each layer, and for a learned mix of all layers, logistic regression is fitted on
    the layer's vectors of texts or words. Each seed draws a random split: 80 % of the rows for fitting, 20 % for
    evaluation.

    With --structure, the probes are linear maps under which distances between words are those in the dependency tree
    (Hewitt and Manning 2019). The same model with random weights is probed, too.
    """
    from ...core.atomic_files import atomic_file
    from ...tasks.inspection import probe, probe_structure
    from ..terminal import print_json, screen
    from .probe_plot import save_plot, save_structure_plot
    from .probe_structure import show_structure, structure_as_json
    from .structure_page import render_page

    _refuse("structure (--structure)", {} if structure else {"rank": rank, "output": output})
    _refuse("labels (without --structure)", {"task": task, "pooling": pooling} if structure else {})
    if plot is not None:
        require("plots", "--plot")
    plot, output = _new_file(plot, PLOT_FORMATS, overwrite), _new_file(output, PAGE_FORMATS, overwrite)
    console = screen(to_stderr=json)
    shared: dict[str, Any] = {"columns": chosen_columns(columns), "most": examples, "device": device, **reading}
    if structure:
        shared |= {} if rank is None else {"rank": rank}
        found = _follow(console, probe_structure(model, data, seeds=seeds or 1, **shared))
        show_structure(console, found, data)
        content, save = structure_as_json(found), save_structure_plot
    else:
        chosen = None if task is None else make_task(task, {})
        steps = probe(model, data, task=chosen, seeds=seeds or 3, pooling=pooling or "mean", **shared)
        found = _follow(console, steps)
        _show(console, found, data)
        content, save = _to_json(found), save_plot
    name = Path(model).resolve().name if Path(model).is_dir() else model
    if plot is not None:
        with atomic_file(plot, overwrite) as unfinished:
            save(found, name, unfinished, plot.suffix.lower().removeprefix("."))
        console.print(f"\n  {plot}: score of each layer")
    if output is not None:
        with atomic_file(output, overwrite) as unfinished:
            unfinished.write_text(render_page(found, name), encoding="utf-8")
        console.print(f"\n  {output}: trees of {len(found.trees)} held-out sentences. Open it in a browser.")
    if json:
        print_json(content)


def _refuse(probes: str, options: dict[str, Any]) -> None:
    for name, value in options.items():
        if value is not None:
            raise HeadwayError(f"--{name} is an option of probes for {probes}. Omit it.")


def _new_file(path: Path | None, formats: tuple[str, ...], overwrite: bool) -> Path | None:
    """The file to write, checked before the work begins."""
    from ...core.atomic_files import new_path, refuse_existing

    if path is None:
        return None
    if path.suffix.lower() not in formats:
        what = "plots are" if formats == PLOT_FORMATS else "the page is"
        raise HeadwayError(f"{path}: {what} written as {' or '.join(formats)}. Change the file name.")
    path = new_path(path)
    refuse_existing(path, overwrite)
    return path


def _follow(console: "Console", steps: "Iterator[Any]") -> Any:
    """Shows the progress of the probes and returns the result, which comes last."""
    from rich.progress import Progress

    found = None
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task("  probes", total=None)
        for step in steps:
            progress.update(bar, advance=1)
            found = step
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
