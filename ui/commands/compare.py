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
    chosen_options,
    column_options,
    reading_options,
    task_options,
    with_options,
)
from .arguments import split_commas

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
    options: dict[str, Any],
) -> None:
    """Compare models on the same labelled rows: differences with intervals and tests, size and speed.

    headway compare runs/a runs/b --data test.csv

    Labels that a model does not know count as wrong. A difference is tested row by row (McNemar's exact test, or a
    permutation test); with more than two models, the p are corrected for their number.
    """
    from ...core.atomic_files import new_path, refuse_existing
    from ...tasks import compare as compare_models
    from ..comparison_tables import write_differing_rows
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
        options=split_commas(chosen_options(options)),
        **reading,
    )
    _show(screen(to_stderr=json), found, output)
    if output is not None:
        write_differing_rows(output, found, overwrite=overwrite)
    if json:
        print_json(found.to_json())


def _show(console: "Console", found: "Comparison", output: Path | None) -> None:
    from ..comparison_tables import difference_rows, model_rows, turned_slices
    from ..terminal import section, table

    if found.notes:
        section(console, "Data", *found.notes)
    section(console, f"Models on {found.num_rows:,} rows of {found.source}", table(model_rows(found)))
    differences = table(difference_rows(found))
    section(console, f"Difference from {found.models[0].name}", differences, "", *found.verdict)
    if turned := turned_slices(found):
        counted = (
            f"{len(turned):,} of {len(found.slices):,} slices where the order of the models turns ({found.metric})"
        )
        section(console, counted, table(turned[:MAX_ROWS]))
    _show_rows(console, found.rows, output)


def _show_rows(console: "Console", rows: "Sequence[DifferingRow]", output: Path | None) -> None:
    from ..comparison_tables import differing_rows
    from ..terminal import section, table

    if not rows:
        section(console, "The models predict the same for all rows")
        return
    shown = differing_rows(rows[:MAX_ROWS], TEXT_WIDTH)
    where = "--output FILE writes all" if output is None else f"all are in {output}"
    title = f"{len(rows):,} rows on which the models differ"
    section(console, title + (f" ({where})" if len(rows) > MAX_ROWS or output else ""), table(shown))


def compare_command() -> Callable[..., None]:
    """Builds the command with all its options."""
    return with_options(
        compare, reading=reading_options(), columns=column_options(group=True), options=task_options("after")
    )
