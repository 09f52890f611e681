"""headway learning-curve: the score of several methods against the number of labelled rows."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ...core.extras import require
from ..options import (
    DEVICE,
    JSON,
    OVERWRITE,
    TRAINING_DATA,
    chosen_columns,
    chosen_options,
    column_options,
    reading_options,
    with_options,
)

if TYPE_CHECKING:
    from rich.console import Console

    from ...tasks.learning_curves.runs import FinishedRun
    from ...tasks.learning_curves.summary import LearningCurve


def learning_curve(
    data: Annotated[str, TRAINING_DATA],
    test_data: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Labelled rows for the test. Default: a quarter of --data is held out."),
    ] = None,
    output: Annotated[
        Path,
        typer.Option(metavar="FOLDER", help="Where results, table and picture are kept (curve.html, curve.svg, ...)."),
    ] = Path("learning-curve"),
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Continue in the folder: finished runs are not repeated. --methods, --sizes, --seeds, --minutes and "
            "--metric may be others than before.",
        ),
    ] = False,
    overwrite: Annotated[bool, OVERWRITE] = False,
    device: Annotated[str, DEVICE] = "auto",
    json: Annotated[bool, JSON] = False,
    *,
    columns: dict[str, Any],
    reading: dict[str, Any],
    curve: dict[str, Any],
) -> None:
    """Measure how many labelled rows are enough: the score of several methods by the number of labelled rows.

    headway learning-curve --data train.csv --test-data test.csv --sizes 8,16,32,64 --minutes 20

    Each method is trained on several draws of each size and tested on the same rows. A power law is fitted to the
    scores of each method; it says what twice as many rows would bring. Every finished run is stored.
    """
    from ...core.atomic_files import new_path
    from ...tasks.learning_curves.learning_curve import learning_curve as measure
    from ...tasks.learning_curves.options import CurveOptions
    from ..curve_files import write_curve
    from ..interrupts import StopRequest
    from ..terminal import print_json, screen

    require("plots", "headway learning-curve")
    console = screen(to_stderr=json)
    folder, shown = new_path(output), 0

    def follow(one: "FinishedRun", number: int, count: int) -> None:
        nonlocal shown
        shown += 1
        console.print(_describe(one, number, count), soft_wrap=True)

    with StopRequest() as stop:
        try:
            found = measure(
                data,
                test_data,
                options=CurveOptions(**chosen_options(curve)),
                output=folder,
                resume=resume,
                overwrite=overwrite,
                columns=chosen_columns(columns),
                device=device,
                follow=follow,
                stop=stop,
                **reading,
            )
        except KeyboardInterrupt as interruption:
            message = (
                f"interrupted. {shown:,} runs are stored in {output}; run the same command with --resume to continue."
            )
            raise stop.interruption(interruption, message) from interruption
    write_curve(folder, found)
    _show(console, found, output)
    if json:
        print_json({**found.to_json(), "output": str(output)})


def _describe(one: "FinishedRun", number: int, count: int) -> str:
    name, value = next(iter(one.metrics.items()))
    took = "stored before" if one.before else f"{one.seconds:.1f} s"
    what = f"{one.run.method}, {one.run.size:,} rows, draw {one.run.draw}"
    return f"  {number:>{len(str(count))}} of {count}  {what}: {name.replace('_', ' ')} {value:.3f} ({took})"


def _show(console: "Console", found: "LearningCurve", output: Path) -> None:
    from ..curve_files import PAGE
    from ..terminal import section, table

    section(console, "Data", *found.notes)
    section(console, f"Scores on {found.test:,} test rows", table([_in_words(row) for row in found.table]))
    section(console, "Power law", table([_in_words(row) for row in found.methods]))
    section(console, "Advice", found.advice)
    console.print(f"\n  {output / PAGE}: the picture and the tables", soft_wrap=True)


def _in_words(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row whose intervals are texts."""
    from ...tasks.intervals import Interval

    return {
        name: "-"
        if cell is None
        else f"{cell.value:.3f} ({cell.low:.3f} to {cell.high:.3f})"
        if isinstance(cell, Interval)
        else cell
        for name, cell in row.items()
    }


def learning_curve_command() -> Callable[..., None]:
    """Builds the command with all its options."""
    from ...core.options import options_of
    from ...tasks.learning_curves.options import CurveOptions

    return with_options(
        learning_curve, reading=reading_options(), columns=column_options(group=True), curve=options_of(CurveOptions)
    )
