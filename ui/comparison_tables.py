"""The result of a comparison of models as rows of tables, for the terminal and the browser app."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..tasks.evaluation.comparison import format_p
from .terminal import shorten

if TYPE_CHECKING:
    from ..tasks.evaluation.comparison import Comparison
    from ..tasks.evaluation.differing_rows import DifferingRow


def model_rows(found: "Comparison") -> list[dict[str, Any]]:
    """The metrics, the size and the speed of each model."""
    rows = []
    for one in found.models:
        scores = {name: value.value for name, value in one.metrics.items()}
        size = {"parameters": one.parameters, "MB": one.megabytes, "rows per second": one.rows_per_second}
        rows.append({"model": one.name, **scores, **size})
    return rows


def difference_rows(found: "Comparison") -> list[dict[str, Any]]:
    """The differences of the metrics from those of the first model."""
    return [
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


def turned_slices(found: "Comparison") -> list[dict[str, Any]]:
    """The slices on which the order of two models is another one."""
    return [
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


def differing_rows(rows: "Sequence[DifferingRow]", width: int) -> list[dict[str, Any]]:
    """The rows on which the models differ, each text with at most `width` columns."""
    return [
        {
            "place": one.where,
            "text": shorten(" / ".join(one.texts.values()), width),
            "gold": shorten(one.gold, width),
            **{name: shorten(value, width) for name, value in one.predicted.items()},
        }
        for one in rows
    ]


def write_differing_rows(output: Path, found: "Comparison", *, overwrite: bool) -> None:
    """Writes the rows on which the models differ to a file; only a header if there is no such row.

    Raises:
        HeadwayError: it exists, cannot be written, or has an unknown ending.
    """
    from ..tasks.data.write import RowWriter

    contents = [one.to_json() for one in found.rows]
    predicted = (f"predicted by {one.name}" for one in found.models)
    columns = list(contents[0]) if contents else ["place", "gold", *predicted, "right", "difference"]
    with RowWriter(output, columns, overwrite) as writer:
        for content in contents:
            writer.write(content)
