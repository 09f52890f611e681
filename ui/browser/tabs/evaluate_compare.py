"""The part of the tab Evaluate for several models: their differences on the same rows, as by `headway compare`."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from html import escape
from typing import TYPE_CHECKING, Any

import gradio as gr

from ....core.errors import HeadwayError
from ....tasks.evaluation.compare import compare_sides
from ....tasks.evaluation.example_lists import short_place
from ....tasks.evaluation.sides import ModelSide
from ...comparison_tables import difference_rows, differing_rows, model_rows, turned_slices, write_differing_rows
from ...model_registry import StoredModel
from ..background import process_file
from ..drawing import caption, draw_table, heading, hint
from ..events import FILES, bind
from ..pasted_cells import upload_folder
from ..run_drawing import form_message, title
from .evaluate_data import LabelledFile, form_errors, label_columns, model_for, without_paths

if TYPE_CHECKING:
    from ....tasks import TaskModel
    from ....tasks.evaluation.comparison import Comparison
    from ...model_registry import ModelRegistry

NO_COMPARISON = "The differences of the models appear here."
MAX_ROWS = 20  # shown
TEXT_WIDTH = 200  # characters
ROWS_FILE = "differing-rows.csv"


def draw_compare_part(
    registry: "ModelRegistry", data: LabelledFile
) -> tuple[gr.Dropdown, list[Any], Callable[[], Any]]:
    """Draws the part.

    Returns:
        The list of models, the outputs, and a function that returns their empty values.
    """
    models = gr.Dropdown(
        [],
        value=[],
        label="Models",
        info="Two or more for the same task. All are compared with the first one.",
        multiselect=True,
        allow_custom_value=True,
        elem_id="compared",
    )
    with gr.Row(elem_classes="hw-buttons"):
        start = gr.Button("Compare", variant="primary", min_width=120)
        download = gr.DownloadButton("Download", visible=False, min_width=120)
    errors = gr.HTML()
    shown = gr.HTML(hint(NO_COMPARISON), elem_id="comparison", min_height=100)
    outputs = [shown, download]
    given = [models, data.file, data.labels, data.slices]
    options: dict[str, Any] = {"queue": FILES, "on_error": [hint(NO_COMPARISON), gr.update(visible=False)]}
    bind(start.click, partial(compare, registry), given, outputs, errors, **options)
    return models, outputs, lambda: (hint(NO_COMPARISON), gr.DownloadButton(visible=False))


def compare(
    registry: "ModelRegistry", names: Sequence[str] | None, file: str | None, labels: Any, slices: Any
) -> Iterator[tuple[str, Any]]:
    """The differences, after the progress, and the rows on which the models differ for download."""
    names = list(dict.fromkeys(names or ()))
    if len(names) < 2 or not file:
        raise HeadwayError("Choose at least two models, and upload a file with texts and labels.")
    hidden = gr.DownloadButton(visible=False)
    opened = [(name, model_for(registry, name, file)) for name in names]
    with form_errors(file, {str(registry.find(name).folder): name for name in names}):
        running = process_file(file, _compare, opened, file, label_columns(labels), tuple(slices or ()))
        while True:
            try:
                message = next(running)
            except StopIteration as end:
                found = end.value
                break
            yield message, hidden
    found = replace(found, rows=tuple(replace(one, where=short_place(one.where)) for one in found.rows))
    rows = upload_folder("comparisons") / ROWS_FILE
    write_differing_rows(rows, found, overwrite=True)
    more = gr.DownloadButton("Download the differing rows", value=str(rows), visible=True) if found.rows else hidden
    yield without_paths(draw_comparison(found), escape(file), {}), more


def _compare(
    opened: "Sequence[tuple[str, TaskModel | StoredModel]]", file: str, columns: dict[str, Any], slices: Sequence[str]
) -> "Comparison":
    sides = [ModelSide(one.open() if isinstance(one, StoredModel) else one, name) for name, one in opened]
    return compare_sides(sides, file, columns=columns, by=slices)


def draw_comparison(found: "Comparison") -> str:
    """The verdict and the tables."""
    parts = [f'<p class="hw-plain" dir="auto">{escape(one)}</p>' for one in found.verdict]
    parts += [caption(form_message(one)) for one in found.notes]
    differences = [row | {"metric": title(row["metric"])} for row in difference_rows(found)]
    parts.append(draw_table(differences, f"Difference from {found.models[0].name}"))
    models = [{name.replace("_", " "): value for name, value in row.items()} for row in model_rows(found)]
    parts.append(draw_table(models, f"Models on {found.num_rows:,} rows"))
    if turned := turned_slices(found):
        count = f"{len(turned):,} of {len(found.slices):,} slices where the order of the models turns"
        parts.append(draw_table(turned[:MAX_ROWS], f"{count} ({title(found.metric).lower()})"))
    if found.rows:
        parts.append(heading(f"{len(found.rows):,} rows on which the models differ"))
        parts.append(draw_table(differing_rows(found.rows[:MAX_ROWS], TEXT_WIDTH)))
        if len(found.rows) > MAX_ROWS:
            parts.append(caption(f"The first {MAX_ROWS}; the file for download has all of them."))
    else:
        parts.append(caption("The models predict all rows alike."))
    return f'<section class="hw-results">{"".join(parts)}</section>'
