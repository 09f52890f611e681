"""headway compare: models beside each other on the same rows."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ...core.errors import HeadwayError
from ..options import (
    DEVICE,
    JSON,
    LABELLED_DATA,
    OVERWRITE,
    PRECISION,
    chosen_columns,
    column_options,
    reading_options,
    with_options,
)

if TYPE_CHECKING:
    from rich.console import Console

    from ...tasks.evaluation.comparison import Comparison
    from ...tasks.evaluation.differing_rows import DifferingRow

MAX_ROWS = 10  # shown
TEXT_WIDTH = 60  # columns


def compare(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL MODEL ...",
            help="Trained models: folders or names on the Hub, or prompts that `headway prompt --save` wrote (.yaml). "
            "All are compared with the first one.",
        ),
    ],
    data: Annotated[str, LABELLED_DATA],
    slice: Annotated[
        list[str] | None,
        typer.Option(metavar="COLUMN", help="Compare also by the values of this column; can be repeated."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the rows on which the models differ: .csv, .tsv, .xlsx or .jsonl."),
    ] = None,
    precision: Annotated[str, PRECISION] = "auto",
    device: Annotated[str, DEVICE] = "auto",
    overwrite: Annotated[bool, OVERWRITE] = False,
    json: Annotated[bool, JSON] = False,
    *,
    columns: dict[str, Any],
    reading: dict[str, Any],
) -> None:
    """Compare models on the same labelled rows: differences with intervals and tests, size and speed.

    headway compare runs/a runs/b --data test.csv

    Labels that a model does not know count as wrong. A difference is tested row by row (McNemar's exact test, or a
    permutation test); with more than two models, the p are corrected for their number.
    """
    from ...core.atomic_files import new_path, refuse_existing
    from ...tasks import compare as compare_models
    from ..terminal import print_json, screen

    if len(models) < 2:
        raise HeadwayError("Give at least two models to compare.")
    if output is not None:
        refuse_existing(new_path(output), overwrite)
    found = compare_models(
        *models,
        data=data,
        columns=chosen_columns(columns),
        slices=slice or (),
        device=device,
        precision=precision,
        **reading,
    )
    _show(screen(to_stderr=json), found, output)
    if output is not None:
        _write(output, found.rows, overwrite=overwrite)
    if json:
        print_json(found.to_json())


def _show(console: "Console", found: "Comparison", output: Path | None) -> None:
    from ...tasks.evaluation.comparison import format_p
    from ..terminal import section, table

    if found.notes:
        section(console, "Data", *found.notes)
    rows = []
    for one in found.models:
        scores = {name: value.value for name, value in one.metrics.items()}
        size = {"parameters": one.parameters, "MB": one.megabytes, "rows per second": one.rows_per_second}
        rows.append({"model": one.name, **scores, **size})
    section(console, f"Models on {found.num_rows:,} rows of {found.source}", table(rows))
    rows = [
        {
            "model": one.model,
            "metric": one.metric,
            "difference": f"{one.value.value:+.4f}",
            "95 % interval": f"{one.value.low:+.4f} to {one.value.high:+.4f}",
            "p": "" if one.p is None else format_p(one.p),
            "test": one.test,
        }
        for one in found.differences
    ]
    section(console, f"Difference from {found.models[0].name}", table(rows), "", *found.verdict)
    _show_slices(console, found)
    _show_rows(console, found.rows, output)


def _show_slices(console: "Console", found: "Comparison") -> None:
    """The slices on which the order of two models is another one."""
    from ...tasks.evaluation.comparison import format_p
    from ..terminal import section, table

    turned = [
        {
            "model": one.model,
            "slice": one.slice,
            "rows": one.rows,
            found.models[0].name: one.first,
            "model's": one.other,
            "p": "" if one.p is None else format_p(one.p),
        }
        for one in found.slices
        if one.turns
    ]
    if turned:
        counted = (
            f"{len(turned):,} of {len(found.slices):,} slices where the order of the models turns ({found.metric})"
        )
        section(console, counted, table(turned[:MAX_ROWS]))


def _show_rows(console: "Console", rows: "Sequence[DifferingRow]", output: Path | None) -> None:
    from ..terminal import section, shorten, table

    if not rows:
        return
    shown = [
        {
            "place": one.where,
            "text": shorten(" / ".join(one.texts.values()), TEXT_WIDTH),
            "gold": shorten(one.gold, TEXT_WIDTH),
            **{name: shorten(value, TEXT_WIDTH) for name, value in one.predicted.items()},
        }
        for one in rows[:MAX_ROWS]
    ]
    where = "--output FILE writes all" if output is None else f"all are in {output}"
    title = f"{len(rows):,} rows on which the models differ"
    section(console, title + (f" ({where})" if len(rows) > MAX_ROWS or output else ""), table(shown))


def _write(output: Path, rows: "Sequence[DifferingRow]", *, overwrite: bool) -> None:
    from ...tasks.data.write import RowWriter

    contents = [one.to_json() for one in rows]
    with RowWriter(output, list(contents[0]) if contents else ("place",), overwrite) as writer:
        for content in contents:
            writer.write(content)


def compare_command() -> Callable[..., None]:
    """Builds the command with all its options."""
    return with_options(compare, reading=reading_options(), columns=column_options(group=True))
