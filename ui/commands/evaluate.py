"""headway evaluate: measure a model on labelled data."""

from collections.abc import Callable
from typing import Annotated, Any

from ..options import (
    JSON,
    LABELLED_DATA,
    PRECISION,
    TRAINED_MODEL,
    UNKNOWN_LABELS,
    chosen_columns,
    chosen_options,
    column_options,
    reading_options,
    task_options,
    with_options,
)


def evaluate(
    model: Annotated[str, TRAINED_MODEL],
    data: Annotated[str, LABELLED_DATA],
    precision: Annotated[str, PRECISION] = "auto",
    unknown_labels: Annotated[str, UNKNOWN_LABELS] = "wrong",
    json: Annotated[bool, JSON] = False,
    *,
    columns: dict[str, Any],
    reading: dict[str, Any],
    options: dict[str, Any],
) -> None:
    """Evaluate a model on labelled data."""
    from ...tasks import load
    from ..terminal import print_json, screen, section, show_evaluation

    console = screen(to_stderr=json)
    task_model = load(model, **chosen_options(options))
    task_model.precision = precision
    found = task_model.evaluate(data, columns=chosen_columns(columns), unknown_labels=unknown_labels, **reading)
    section(console, "Data", *found.notes)
    title = f"Evaluation on {len(found.examples):,} examples of {data}"
    show_evaluation(console, found.metrics, found.per_label, title, found.nothing_learnt)
    if json:
        print_json(found.to_json())


def evaluate_command() -> Callable[..., None]:
    """Builds the command with all its options."""
    return with_options(evaluate, reading=reading_options(), columns=column_options(), options=task_options("after"))
