"""headway evaluate: measure a model on labelled data."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ...core.errors import HeadwayError
from ...core.options import options_of
from ..options import (
    DEVICE,
    JSON,
    LABELLED_DATA,
    PRECISION,
    REFERENCE,
    REPORT,
    SLICE,
    TRAINED_MODEL,
    chosen_columns,
    chosen_options,
    column_options,
    reading_options,
    task_options,
    with_options,
)
from .arguments import split_commas
from .drift_output import show_drift
from .report_file import check_report, write_report

if TYPE_CHECKING:
    from rich.console import Console

    from ...tasks.base.predictor import Predictor
    from ...tasks.base.results import Evaluation
    from ...tasks.evaluation.rule_rows import RuleRows
    from ...tasks.evaluation.rules import RuleOptions, RuleScores

UNKNOWN_LABELS = typer.Option(
    metavar="NAME",
    help="What happens to rows with labels that the model does not know. wrong: they count as wrong, because the "
    "model cannot be right about them; skip: they are left out; error: they are refused.",
)


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
    save: Annotated[
        bool,
        typer.Option("--save", help="Store the fitted decision rules in the model folder; predictions follow them."),
    ] = False,
    json: Annotated[bool, JSON] = False,
    *,
    columns: dict[str, Any],
    reading: dict[str, Any],
    options: dict[str, Any],
    rules: dict[str, Any],
) -> None:
    """Evaluate a model on labelled data.

    With --coverage, --conformal or --none-of-these, also fit decision rules to the rows. A model whose folder has
    such rules (--save) is measured with them on every other file. With --reference, also measure how far the rows
    have drifted from others; rows without labels will do.
    """
    from ...core.atomic_files import atomic_file, new_path
    from ...tasks import load
    from ...tasks.base.label_table import write_rows
    from ...tasks.evaluation import ReportOptions, evaluate_with_report
    from ...tasks.evaluation.out_of_scope import check_scope
    from ...tasks.evaluation.rules import RuleOptions, rows_for_rules, save_rules
    from ..terminal import print_json, screen, section

    fitting = RuleOptions(**chosen_options(rules))
    if save and not fitting.any:
        raise HeadwayError("--save stores decision rules: add --coverage 0.9 or another rule, or omit it.")
    console = screen(to_stderr=json)
    per_label, report = per_label and new_path(per_label), report and new_path(report)
    check_report(report, slice_by)
    if per_label is not None and per_label.exists():
        raise HeadwayError(f"{per_label} already exists. Choose another --per-label.")
    task_model = load(model, device=device, **split_commas(chosen_options(options)))
    task_model.precision = precision
    if fitting.none_of_these is not None:
        check_scope(task_model, reference)  # before anything is computed
    read_as = {"columns": chosen_columns(columns), **reading}
    how = {**read_as, "unknown_labels": unknown_labels}
    need_labels = {"--report": report, "--per-label": per_label, "A decision rule": fitting.any}
    drift, labelled = show_drift(console, task_model, data, reference, how, need_labels=need_labels)
    if not labelled:
        if json and drift is not None:
            print_json({"drift": drift.to_json()})
        return
    rows = rows_for_rules(task_model, fitting, reference, **read_as)
    how |= {"keep_predictions": False, "observe": rows.add}
    if report is None:
        found, described = task_model.evaluate(data, **how), None
    else:
        found, described = evaluate_with_report(
            task_model, data, options=ReportOptions(slice_by or (), reference), **how
        )
    _show(console, found, data, per_label)
    if per_label is not None and found.per_label:
        with atomic_file(per_label, overwrite=False) as path:
            write_rows(path, found.per_label)
    if report is not None and described is not None:
        write_report(report, described, drift and drift.report_part())
        section(console, "Report", f"{report}")
    scores = _apply_rules(console, task_model, found, fitting, rows)  # may refuse: the files are written before
    if save:
        save_rules(task_model)
        section(console, "Stored", f"{model}: its predictions follow these rules from now on")
    if json:
        print_json({**found.to_json(), "decision_rules": scores.to_json(), "drift": drift and drift.to_json()})


def _show(console: "Console", found: "Evaluation", data: str, per_label: Path | None) -> None:
    """Prints an evaluation of the data; all labels are in the file `per_label`, if it is given."""
    from ...tasks.data.findings import count
    from ..terminal import section, show_evaluation

    if found.notes:
        section(console, "Data", *found.notes)
    title = f"Evaluation on {count(found.num_examples, 'example')} of {data}"
    all_labels = "--per-label FILE writes all." if per_label is None else f"All are in {per_label}."
    warnings = found.nothing_learnt, found.seen
    shown = {"intervals": found.bounds, "comparison": found.comparison, "all_labels": all_labels}
    show_evaluation(console, found.metrics, found.per_label, title, *warnings, **shown)


def _apply_rules(
    console: "Console", model: "Predictor", found: "Evaluation", fitting: "RuleOptions", rows: "RuleRows"
) -> "RuleScores":
    """Fits rules to an evaluation, or measures those of the model, and prints what they give.

    Args:
        console: Where to print.
        model: That is evaluated.
        found: The evaluation.
        fitting: The rules to fit.
        rows: What was collected of the evaluated rows.
    """
    from ...tasks.evaluation.rules import fit_rules, measure_rules
    from ..terminal import section

    scores = fit_rules(model, found, fitting, rows=rows) if fitting.any else measure_rules(model, found, rows)
    if sentences := scores.sentences():
        section(console, "Decision rules", *sentences)
    return scores


def evaluate_command() -> Callable[..., None]:
    """Builds the command with all its options."""
    from ...tasks.evaluation.rules import RuleOptions

    return with_options(
        evaluate,
        reading=reading_options(),
        columns=column_options(),
        rules=options_of(RuleOptions),
        options=task_options("after"),
    )
