"""headway evaluate: how good a model is on labelled data."""

from collections.abc import Callable
from typing import Annotated, Any

import typer

from ..options import (
    HEADER,
    JSON,
    PRECISION,
    chosen_columns,
    chosen_options,
    column_options,
    task_options,
    with_options,
)


def evaluate(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="The folder of a trained model, or its name on the Hub.")
    ],
    data: Annotated[str, typer.Option(metavar="FILE", help="Labelled rows, as for training.")],
    header: Annotated[bool | None, HEADER] = None,
    precision: Annotated[str, PRECISION] = "auto",
    json: Annotated[bool, JSON] = False,
    *,
    columns: dict[str, Any],
    options: dict[str, Any],
) -> None:
    """Measure a model on labelled data."""
    from ...tasks import load
    from ..terminal import print_json, screen, section, show_evaluation

    console = screen(to_stderr=json)
    opened = load(model, **chosen_options(options))
    opened.precision = precision
    found = opened.evaluate(data, columns=chosen_columns(columns), header=header)
    section(console, "Data", *found.notes)
    show_evaluation(console, found.metrics, found.per_label, len(found.examples), f"examples of {data}")
    if json:
        print_json(found.to_json())


def evaluate_command() -> Callable[..., None]:
    """The command with all its options."""
    return with_options(evaluate, columns=column_options(), options=task_options("after"))
