"""The drift of the rows of `headway evaluate --reference`, which need no labels."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ...core.errors import HeadwayError

if TYPE_CHECKING:
    from rich.console import Console

    from ...tasks.base.predictor import Predictor
    from ...tasks.evaluation.drift import Drift


def show_drift(
    console: "Console",
    model: "Predictor",
    data: str,
    reference: str | None,
    how: Mapping[str, Any],
    *,
    need_labels: Mapping[str, Any],
) -> tuple["Drift | None", bool]:
    """Measures and prints the drift, if there is a reference.

    Args:
        console: Where to print.
        model: A trained one.
        data: The new rows.
        reference: The reference rows.
        how: The columns and options for reading, as for `evaluate`.
        need_labels: The values of options that need labelled rows, by name.

    Returns:
        The drift (None if labelled rows are too few for it), and whether the new rows have labels, so that the model
        can be evaluated on them.

    Raises:
        HeadwayError: An option needs labels that the rows do not have, or rows without labels are too few.
    """
    if reference is None:
        return None, True
    from ...tasks.evaluation.drift import TooFewRows, has_labels, measure_drift
    from ..terminal import section, table

    reading = {name: value for name, value in how.items() if name != "unknown_labels"}
    labelled, why = has_labels(model, data, **reading)
    for name, value in need_labels.items():
        if value and not labelled:
            raise HeadwayError(f"{name} needs labels. {why}. Name their column, or omit {name}.")
    try:
        found = measure_drift(model, data, reference, **reading)
    except TooFewRows as error:
        if not labelled:
            raise
        section(console, "Note", f"Drift is not measured: {error}")
        return None, True
    title = f"Drift of {found.new_rows:,} rows of {found.new} from {found.reference_rows:,} rows of {found.reference}"
    section(console, title, table([one.to_row() for one in found.findings]), "", *found.sentences, *found.notes)
    if why:
        section(console, "Note", why)
    return found, labelled
