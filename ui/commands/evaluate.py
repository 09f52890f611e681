"""headway evaluate: measure a model on labelled data."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from ...core.errors import HeadwayError
from ..options import (
    DEVICE,
    JSON,
    LABELLED_DATA,
    PRECISION,
    REFERENCE,
    REPORT,
    SLICE,
    TRAINED_MODEL,
    UNKNOWN_LABELS,
    chosen_columns,
    chosen_options,
    column_options,
    reading_options,
    task_options,
    with_options,
)
from .report_file import check_report, write_report


def evaluate(
    model: Annotated[str, TRAINED_MODEL],
    data: Annotated[str, LABELLED_DATA],
    precision: Annotated[str, PRECISION] = "auto",
    device: Annotated[str, DEVICE] = "auto",
    unknown_labels: Annotated[str, UNKNOWN_LABELS] = "wrong",
    per_label: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the metrics of every label to this CSV file.")
    ] = None,
    report: Annotated[Path | None, REPORT] = None,
    slice_by: Annotated[list[str] | None, SLICE] = None,
    reference: Annotated[str | None, REFERENCE] = None,
    json: Annotated[bool, JSON] = False,
    *,
    columns: dict[str, Any],
    reading: dict[str, Any],
    options: dict[str, Any],
) -> None:
    """Evaluate a model on labelled data."""
    from ...core.atomic_files import atomic_file, new_path
    from ...tasks import load
    from ...tasks.base.label_table import write_rows
    from ...tasks.evaluation import ReportOptions, evaluate_with_report
    from ..terminal import print_json, screen, section, show_evaluation

    console = screen(to_stderr=json)
    per_label, report = per_label and new_path(per_label), report and new_path(report)
    check_report(report, slice_by, reference)
    if per_label is not None and per_label.exists():
        raise HeadwayError(f"{per_label} already exists. Choose another --per-label.")
    task_model = load(model, device=device, **chosen_options(options))
    task_model.precision = precision
    how = {"columns": chosen_columns(columns), "unknown_labels": unknown_labels, **reading}
    if report is None:
        found, described = task_model.evaluate(data, **how), None
    else:
        found, described = evaluate_with_report(
            task_model, data, options=ReportOptions(slice_by or (), reference), **how
        )
    section(console, "Data", *found.notes)
    title = f"Evaluation on {len(found.examples):,} examples of {data}"
    all_labels = "--per-label FILE writes all." if per_label is None else f"All are in {per_label}."
    warnings = found.nothing_learnt, found.seen
    shown = {"intervals": found.bounds, "comparison": found.comparison, "all_labels": all_labels}
    show_evaluation(console, found.metrics, found.per_label, title, *warnings, **shown)
    if per_label is not None and found.per_label:
        with atomic_file(per_label, overwrite=False) as path:
            write_rows(path, found.per_label)
    if report is not None and described is not None:
        write_report(report, described)
        section(console, "Report", f"{report}")
    if json:
        print_json(found.to_json())


def evaluate_command() -> Callable[..., None]:
    """Builds the command with all its options."""
    return with_options(evaluate, reading=reading_options(), columns=column_options(), options=task_options("after"))
