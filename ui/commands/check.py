"""headway check: a look over a data file before training on it."""

from collections.abc import Callable
from typing import Annotated, Any

import typer

from ...core.errors import HeadwayError
from ..options import HEADER, JSON, chosen_columns, column_options, make_task, with_options
from ..options import task_options as task_options_of_all


def check(
    task: Annotated[str, typer.Argument(metavar="TASK", help="What is to be learnt. See: headway tasks")],
    data: Annotated[str, typer.Option(metavar="FILE", help="Labelled rows: CSV, TSV, JSON, JSON lines, Parquet, ...")],
    eval_data: Annotated[str | None, typer.Option(metavar="FILE", help="The same, held out.")] = None,
    model: Annotated[
        str | None, typer.Option(metavar="NAME", help="Measure the texts in this model's tokens.")
    ] = None,
    header: Annotated[bool | None, HEADER] = None,
    json: Annotated[bool, JSON] = False,
    *,
    columns: dict[str, Any],
    task_options: dict[str, Any],
) -> None:
    """Look a data file over before training on it.

    Every row that cannot be used is named, and what would spoil the training or flatter the figures. The exit code is
    2 if the file cannot be trained on as it is.
    """
    from ...tasks.base.check import check_data
    from ..terminal import print_json, screen, section, show_report

    console = screen(to_stderr=json)
    report = check_data(
        make_task(task, task_options),
        data,
        eval_data,
        columns=chosen_columns(columns),
        header=header,
        model=model,
    )
    section(console, "Data", *report.notes)
    show_report(console, report)
    if json:
        print_json(report.to_json())
    if report.errors:
        wrong = "one thing" if len(report.errors) == 1 else f"{len(report.errors)} things"
        raise HeadwayError(f"{data} cannot be trained on as it is: {wrong} above must be mended first.")


def check_command() -> Callable[..., None]:
    """The command with all its options."""
    return with_options(check, columns=column_options(), task_options=task_options_of_all())
