"""headway check: validate a data file before training."""

from collections.abc import Callable
from typing import Annotated, Any

import typer

from ...core.errors import HeadwayError
from ..options import (
    JSON,
    TASK,
    TRAINING_DATA,
    chosen_columns,
    column_options,
    make_task,
    reading_options,
    with_options,
)
from ..options import task_options as all_task_options


def check(
    task: Annotated[str, TASK],
    data: Annotated[str, TRAINING_DATA],
    eval_data: Annotated[str | None, typer.Option(metavar="FILE", help="Held-out data in the same format.")] = None,
    test_data: Annotated[str | None, typer.Option(metavar="FILE", help="Test data in the same format.")] = None,
    model: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Count text lengths in tokens of this model. Default: in characters."),
    ] = None,
    json: Annotated[bool, JSON] = False,
    *,
    columns: dict[str, Any],
    reading: dict[str, Any],
    task_options: dict[str, Any],
) -> None:
    """Check a data file before training.

    Lists every row that cannot be used, and everything that would harm training or inflate the scores. The exit code
    is 2 if the file cannot be used for training.
    """
    from ...tasks.base.check import check_data
    from ..terminal import print_json, screen, section, show_report

    console = screen(to_stderr=json)
    report = check_data(
        make_task(task, task_options),
        data,
        eval_data,
        test_data,
        columns=chosen_columns(columns),
        **reading,
        model=model,
    )
    section(console, "Data", *report.notes)
    show_report(console, report)
    if json:
        print_json(report.to_json())
    if report.errors:
        errors = "1 error" if len(report.errors) == 1 else f"{len(report.errors)} errors"
        raise HeadwayError(f"{data} cannot be used for training: fix the {errors} listed above first.")


def check_command() -> Callable[..., None]:
    """Builds the command with all its options."""
    return with_options(
        check, reading=reading_options(), columns=column_options(group=True), task_options=all_task_options()
    )
