"""The output of `headway predict` and `headway prompt`: predictions on the screen or in a file."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

    from ...tasks.base.predictions import Prediction
    from ...tasks.base.task import Task
    from ...tasks.data.output_options import OutputOptions

    Predictions = Iterator[tuple[dict[str, Any], Prediction]]  # each row with its prediction


WIDEST_CHOICE = 60  # columns


def show_predictions(
    console: "Console", predictions: "Predictions", texts: Sequence[str], *, with_scores: bool
) -> None:
    """Prints one line per prediction.

    Args:
        console: Where to print.
        predictions: Rows with their predictions.
        texts: The columns of the rows that hold the texts.
        with_scores: Whether to print the scores of the labels below each prediction.
    """
    from ...tasks.base.display import ScoreBars
    from ..terminal import shorten, show_prediction, show_scores

    for row, prediction in predictions:
        show_prediction(console, [str(row[name] or "") for name in texts], prediction)
        content = prediction.to_json()
        if not with_scores or not (scores := content.get("scores")):
            continue
        if not isinstance(scores, Mapping):  # of choices, which are not labels of the model
            elements = prediction.display({name: str(row[name] or "") for name in texts})
            bars = [bar for one in elements if isinstance(one, ScoreBars) for bar in one.bars]
            scores = {shorten(bar.name, WIDEST_CHOICE): bar.value for bar in bars}
        show_scores(console, scores, content.get("uncalibrated"))


def note_inputs(predictions: "Predictions", texts: Sequence[str], task: "Task[Any, Any]") -> "Predictions":
    """The same rows; after the last one, says how many have no text in `texts`, and how many were truncated."""
    return _note_truncated(_note_empty(predictions, texts), task)


def _note_empty(predictions: "Predictions", texts: Sequence[str]) -> "Predictions":
    """The same rows; after the last one, says how many have no text in any of these columns."""
    from ..terminal import is_main_process, show_notes

    num_empty = 0
    for row, prediction in predictions:
        num_empty += all(row[name] is None or not str(row[name]).strip() for name in texts)
        yield row, prediction
    if num_empty and is_main_process():
        rows = (
            "1 row has no text; its prediction"
            if num_empty == 1
            else f"{num_empty:,} rows have no text; their predictions"
        )
        show_notes([f"{rows} mean{'s' * (num_empty == 1)} nothing"])


def _note_truncated(predictions: "Predictions", task: "Task[Any, Any]") -> "Predictions":
    """The same rows; after the last one, says how many have a text that was not read completely."""
    from ..terminal import is_main_process, show_notes

    num_rows = num_truncated = 0
    for row, prediction in predictions:
        num_rows, num_truncated = num_rows + 1, num_truncated + prediction.truncated
        yield row, prediction
    if num_truncated and is_main_process():
        advice = "; --long-texts windows reads complete texts" if task.divides and task.long_texts == "cut" else ""
        show_notes([f"{num_truncated:,} of {num_rows:,} texts are too long for the model and were truncated{advice}"])


def with_length(prediction: "Prediction", truncates: bool) -> dict[str, Any]:
    """A prediction as JSON, with its length if the model does not read all of a long text."""
    return {**prediction.to_json(), **(prediction.length.to_json() if truncates else {})}


def print_predictions(predictions: "Predictions", *, truncates: bool = False) -> None:
    """Prints one line of JSON per row, with its prediction, and with its length if the model `truncates` texts."""
    from ...tasks.data.write import with_prediction
    from ..terminal import print_json

    for row, prediction in predictions:
        print_json(with_prediction(row, with_length(prediction, truncates)))


def write_predictions(
    predictions: "Predictions",
    columns: Sequence[str],
    output: Path,
    *,
    overwrite: bool,
    json: bool,
    options: "OutputOptions",
    document: "Callable[[Predictions], dict[str, Any]] | None" = None,
    truncates: bool = False,
) -> None:
    """Writes rows with their predictions to a file and prints their number.

    Args:
        predictions: Rows with their predictions.
        columns: The columns of the rows.
        output: The file; its ending sets the format.
        overwrite: Whether to replace the file if it exists.
        json: Whether to print the number as JSON.
        options: How the file is written.
        document: Turns all predictions into one JSON document, which is written if `output` ends in .json.
        truncates: Whether the model does not read all of a long text, so that the lengths are written, too.
    """
    from json import dumps

    from ...core.atomic_files import atomic_file, new_path
    from ...core.errors import HeadwayError
    from ...tasks.data.output_options import DEFAULT_OUTPUT
    from ...tasks.data.write import RowWriter
    from ..terminal import counting

    start = time.monotonic()
    written = 0

    def counted() -> "Predictions":
        nonlocal written
        for pair in predictions:
            yield pair
            written += 1
            add(1)

    with counting("predictions") as add:
        if document is not None and output.suffix.lower() == ".json":
            if options != DEFAULT_OUTPUT:
                raise HeadwayError(f'{output}: a .json file has one form only. Omit the options under "Output".')
            with atomic_file(new_path(output), overwrite) as unfinished:
                content = dumps(document(counted()), ensure_ascii=False)
                unfinished.write_text(content + "\n", encoding="utf-8")
        else:
            with RowWriter(output, columns, overwrite, options) as writer:
                for row, prediction in counted():
                    writer.write(row, with_length(prediction, truncates))
    show_written(output, written, f"{written:,} predictions", time.monotonic() - start, json=json)


def show_written(output: Path, count: int, what: str, seconds: float, *, json: bool, **more: Any) -> None:
    """Prints what was written to a file and how fast, or the same as JSON with `more` values."""
    from ..terminal import print_json, screen

    if json:
        print_json({"output": str(output), "examples": count, **more, "seconds": seconds})
    else:
        screen().print(f"{output}: {what} ({count / max(seconds, 1e-9):,.0f} per second)")
