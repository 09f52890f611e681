"""headway rank: the rows of a file that fit a query best, by a model that reads query and text together."""

from collections.abc import Callable
from typing import Annotated, Any

import typer

from ..options import DEVICE, JSON_LINES, LONG_TEXTS, TRAINED_MODEL, chosen_options, reading_options, with_options
from .embed import COLUMN, TOP, note_column


def rank(
    model: Annotated[str, TRAINED_MODEL],
    query: Annotated[str, typer.Argument(metavar="QUERY", help="The text that the rows are compared with.")],
    data: Annotated[str, typer.Option(metavar="FILE", help="The file with the texts to rank.")],
    text: Annotated[str | None, COLUMN] = None,
    top: Annotated[int, TOP] = 10,
    long_texts: Annotated[str | None, LONG_TEXTS] = None,
    device: Annotated[str, DEVICE] = "auto",
    json: Annotated[bool, JSON_LINES] = False,
    *,
    reading: dict[str, Any],
) -> None:
    """Rank the rows of a file by how well they fit a query.

    The model reads the query together with each text: a cross-encoder, such as cross-encoder/ms-marco-MiniLM-L6-v2 on
    the Hub, or a model trained on pairs with a number. That is more accurate than headway search, and takes longer:
    rank what a search has found.

    A query and a text that are longer than the model's limit are read in overlapping windows, whose scores are
    averaged. With --long-texts cut only their beginning is read, and each row says whether it was truncated.
    """
    from ...tasks import load
    from ...tasks.data.read import stream_rows
    from ...tasks.data.write import with_prediction
    from ...tasks.ranking import best_rows, score_rows, text_column
    from ..terminal import is_main_process, print_json, screen, show_hits, show_notes
    from .results import note_inputs

    opened = load(model, device=device, **chosen_options({"long_texts": long_texts}))
    stream = stream_rows(data, **reading)
    show_notes(stream.notes)
    column = text_column(stream, text)
    note_column(stream, column, text)
    predictions = note_inputs(score_rows(opened, query, stream, column), [column], opened.task)
    hits = best_rows(opened, predictions, top)
    if not is_main_process():
        return
    if json:
        for hit in hits:
            print_json(with_prediction(hit.row, hit.to_json(with_length=opened.task.truncates)))
    else:
        show_hits(screen(), [(hit.score, str(hit.row.get(column) or "")) for hit in hits])


def rank_command() -> Callable[..., None]:
    """Builds the command with all its options."""
    return with_options(rank, reading=reading_options())
