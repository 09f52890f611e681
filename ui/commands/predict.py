"""headway predict: run a model on a few texts, or on every row of a file of any length."""

import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ...core.errors import HeadwayError
from ..options import (
    DEVICE,
    JSON_LINES,
    OVERWRITE,
    PRECISION,
    TRAINED_MODEL,
    chosen_columns,
    chosen_options,
    column_options,
    flag,
    output_options,
    reading_options,
    refuse_without_file,
    task_options,
    with_options,
    writing_options,
)
from .arguments import split_commas

if TYPE_CHECKING:
    from ...tasks.data.examples import Field
    from ...tasks.data.rows import RowStream

STDIN = "-"
MIN_CONFIDENCE = typer.Option(
    metavar="NUMBER",
    help="Mark predictions with a lower confidence as unsure; 0: none. The confidence is the probability of the "
    "label, answer or choice; of several labels or entities, of the least certain one. Default: the rule that "
    "headway evaluate --coverage stored in the model folder, if any.",
)


def predict(
    model: Annotated[str, TRAINED_MODEL],
    texts: Annotated[
        list[str] | None, typer.Argument(metavar="TEXT", help="Texts; - reads one text per line from stdin.")
    ] = None,
    data: Annotated[str | None, typer.Option(metavar="FILE", help="A file of any length; - is stdin.")] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write rows with their predictions to a .jsonl, .csv, .tsv or .xlsx; entities also to a .conll.",
        ),
    ] = None,
    min_confidence: Annotated[float | None, MIN_CONFIDENCE] = None,
    precision: Annotated[str, PRECISION] = "auto",
    device: Annotated[str, DEVICE] = "auto",
    overwrite: Annotated[bool, OVERWRITE] = False,
    json: Annotated[bool, JSON_LINES] = False,
    *,
    columns: dict[str, Any],
    reading: dict[str, Any],
    writing: dict[str, Any],
    options: dict[str, Any],
) -> None:
    """Run a model on texts or on every row of a file.

    With --data, the options under "Columns" name columns of the file, and each row is returned with its prediction.
    Without --data they are texts: headway predict MODEL "a text" --pair "another text".

    In a .csv, .tsv or .xlsx each label has a column with its score; texts that a spreadsheet would compute as formulas
    are written unchanged to .csv and .tsv unless --for-excel is given. If --output ends in .json, the predictions are
    written in the format of the task's official scoring script (only for tasks that have one).

    Long texts are read in overlapping windows. Where a part may not be read (--long-texts cut, prompts, questions),
    each prediction has its text's number of tokens and whether it was truncated.
    """
    from ...tasks import load
    from ...tasks.data.read import stream_rows
    from ...tasks.data.read_options import ReadOptions
    from ..terminal import is_main_process, screen, show_notes
    from .results import note_inputs, print_predictions, show_predictions, write_predictions

    chosen = chosen_columns(columns)
    if (texts and data is not None) or not (texts or chosen or data is not None):
        raise HeadwayError('Give either texts (headway predict MODEL "a text") or a file (--data FILE).')
    refuse_without_file(reading, data)
    ReadOptions(**reading).refuse_for_prediction()
    form = output_options(writing, output)
    task_model = load(model, device=device, **split_commas(chosen_options(options)))
    task_model.precision = precision
    task = task_model.task
    with ExitStack() as stack:
        if data is not None:
            stream = stream_rows(_stdin_file(stack) if data == STDIN else data, **reading)
        else:
            texts = _first_texts(texts, chosen, task.fields)
            lines = _lines_of(_stdin_file(stack)) if texts == [STDIN] else lambda: texts
            stream, chosen = _rows_of_texts(lines, chosen, task.fields), {}
        mapping = task_model.columns(stream, chosen)
        show_notes([*stream.notes, *(mapping.notes if data is not None else ())])
        predictions = task_model.predict_rows(stream, mapping, min_confidence=min_confidence)
        predictions = note_inputs(predictions, list(mapping.texts.values()), task)
        if not is_main_process():
            for _ in predictions:
                pass  # all processes compute, the main process writes
        elif output is not None:
            document = task.document if task.has_document else None
            write_predictions(
                predictions,
                stream.columns,
                output,
                overwrite=overwrite,
                json=json,
                options=form.like(stream.delimiter),
                document=document,
                truncates=task.truncates,
            )
        elif json:
            print_predictions(predictions, truncates=task.truncates)
        else:
            shown = [name for field in task.fields if (name := mapping.texts.get(field.name))]
            single = texts is not None and len(texts) == 1 and texts != [STDIN]
            show_predictions(screen(), predictions, shown, with_scores=single)


def listed(names: Iterable[str]) -> str:
    """Names as in a sentence: "context, choices and question"."""
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last


def _stdin_file(stack: ExitStack) -> Path:
    """A copy of stdin on disk, because the input is read twice: its format and columns are inferred first."""
    # After an error the file may still be open, which Windows does not delete.
    path = Path(stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True))) / "stdin"
    with path.open("wb") as file:
        shutil.copyfileobj(sys.stdin.buffer, file)
    return path


def _lines_of(path: Path) -> Callable[[], Iterable[str]]:
    from ...tasks.data.reading.file_format import SourceFile
    from ..terminal import show_notes

    file = SourceFile(path)
    show_notes(file.encoding.notes)
    return lambda: (text for line in file.lines() if (text := line.rstrip("\r\n")).strip())


def _first_texts(texts: list[str] | None, chosen: dict[str, Any], fields: "Sequence[Field]") -> list[str]:
    """The texts of the first field: the arguments, or the value of its option, which is removed from `chosen`."""
    first = fields[0].name
    if texts and first in chosen:
        raise HeadwayError(f"{flag(first)}: the {first} is already given as an argument ({texts[0]!r}). Omit one.")
    if texts:
        return texts
    if first not in chosen:
        raise HeadwayError(f'The model reads {listed(field.name for field in fields)}: add {flag(first)} "...".')
    return [chosen.pop(first)]


def _rows_of_texts(
    texts: Callable[[], Iterable[str]], others: Mapping[str, str], fields: "Sequence[Field]"
) -> "RowStream":
    """Texts as rows of a table with one column per field; `others` are the texts of the other fields in every row."""
    from ...tasks.data.rows import RowStream

    first, *more = fields
    reads = listed(field.name for field in fields)
    for name in others:
        if name not in {field.name for field in more}:
            raise HeadwayError(f"{flag(name)}: the model reads only {reads}. Omit the option.")
    for field in more:
        if field.required and field.name not in others:
            raise HeadwayError(f'The model reads {reads}: add {flag(field.name)} "...".')

    def read() -> Iterator[tuple[int, dict[str, Any]]]:
        for number, text in enumerate(texts(), start=1):
            yield number, {first.name: text, **others}

    return RowStream("the given texts", "rows", (first.name, *others), True, read, "row")


def predict_command() -> Callable[..., None]:
    """Builds the command with all its options."""
    return with_options(
        predict,
        reading=reading_options(),
        writing=writing_options(),
        columns=column_options(label=False),
        options=task_options("after"),
    )
