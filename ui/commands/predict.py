"""headway predict: a model's answers about a few texts, or about every row of a file, which may be of any length."""

import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ...core.errors import HeadwayError
from ..options import (
    HEADER,
    PRECISION,
    chosen_columns,
    chosen_options,
    column_options,
    flag,
    task_options,
    with_options,
)

if TYPE_CHECKING:
    from rich.console import Console

    from ...tasks.base.predictions import Prediction
    from ...tasks.base.task import Task
    from ...tasks.data.examples import Field
    from ...tasks.data.rows import RowStream

    Answers = Iterator[tuple[dict[str, Any], Prediction]]

STDIN = "-"
MODEL = typer.Argument(metavar="MODEL", help="The folder of a trained model, or its name on the Hub.")


def predict(
    model: Annotated[str, MODEL],
    texts: Annotated[
        list[str] | None, typer.Argument(metavar="TEXT", help="Texts; - reads one a line from stdin.")
    ] = None,
    data: Annotated[str | None, typer.Option(metavar="FILE", help="A file, of any length; - is stdin.")] = None,
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where the rows and their answers go: .jsonl, .csv or .tsv.")
    ] = None,
    header: Annotated[bool | None, HEADER] = None,
    precision: Annotated[str, PRECISION] = "auto",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the output file.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print a line of JSON for each text.")] = False,
    *,
    columns: dict[str, Any],
    options: dict[str, Any],
) -> None:
    """Ask a model about texts, or about every row of a file.

    With --data, the options for columns name columns, and the file's own columns come back beside each answer.
    Without it they are texts: headway predict MODEL "one text" --pair "the other".

    An --output that ends in .json is what the task's official scoring script reads, where there is one.
    """
    from ...tasks import load
    from ...tasks.data.read import stream_rows
    from ..terminal import screen, speaks

    chosen = chosen_columns(columns)
    if (texts and data is not None) or not (texts or chosen or data is not None):
        raise HeadwayError('Give either texts (headway predict MODEL "a text") or a file (--data FILE).')
    opened = load(model, **chosen_options(options))
    opened.precision = precision
    with ExitStack() as stack:
        if data is not None:
            stream = stream_rows(_spooled(stack) if data == STDIN else data, header=header)
        else:
            texts = _texts_of(texts, chosen, opened.task.fields)
            lines = _lines_of(_spooled(stack)) if texts == [STDIN] else lambda: texts
            stream, chosen = _rows_of_texts(lines, chosen, opened.task.fields), {}
        settled = opened.task.columns(stream, chosen, need_label=False)
        found = opened.predict_rows(stream, chosen)
        if not speaks():
            for _ in found:
                pass  # several processes compute together, one writes
        elif output is not None:
            _write(found, opened.task, stream.columns, output, overwrite, json)
        elif json:
            _print_json(found)
        else:
            shown = [name for field in opened.task.fields if (name := settled.texts.get(field.name))]
            _show(screen(), found, shown, alone=texts is not None and len(texts) == 1 and texts != [STDIN])


# What is read.


def _spooled(stack: ExitStack) -> Path:
    """All of stdin as a file, since what is read is looked over first."""
    path = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "stdin"
    with path.open("wb") as file:
        shutil.copyfileobj(sys.stdin.buffer, file)
    return path


def _lines_of(path: Path) -> Callable[[], Iterable[str]]:
    from ...tasks.data.reading.lines import read_lines, refuse_binary

    refuse_binary(path)
    return lambda: (text for line in read_lines(path) if (text := line.rstrip("\r\n")).strip())


def _texts_of(texts: list[str] | None, chosen: dict[str, Any], fields: "Sequence[Field]") -> list[str]:
    """The first texts that the model reads: typed by themselves, or else taken out of the options."""
    first = fields[0].name
    if texts and first in chosen:
        raise HeadwayError(f"{flag(first)}: the {first} is given already ({texts[0]!r}). Leave one of them out.")
    if texts:
        return texts
    if first not in chosen:
        raise HeadwayError(f'The model reads {" and ".join(field.name for field in fields)}: add {flag(first)} "...".')
    return [chosen.pop(first)]


def _rows_of_texts(
    texts: Callable[[], Iterable[str]], others: Mapping[str, str], fields: "Sequence[Field]"
) -> "RowStream":
    """Texts as the rows of a table that has one column for each text that the model reads."""
    from ...tasks.data.rows import RowStream

    first, *more = fields
    reads = " and ".join(field.name for field in fields)
    for name in others:
        if name not in {field.name for field in more}:
            raise HeadwayError(f"{flag(name)}: the model reads {reads} only. Leave it out.")
    for field in more:
        if field.required and field.name not in others:
            raise HeadwayError(f'The model reads {reads}: add {flag(field.name)} "...".')

    def read() -> Iterator[tuple[int, dict[str, Any]]]:
        for number, text in enumerate(texts(), start=1):
            yield number, {first.name: text, **others}

    return RowStream("the texts given", "rows", (first.name, *others), True, read)


# What is written.


def _write(found: "Answers", task: "Task", columns: Sequence[str], output: Path, overwrite: bool, json: bool) -> None:
    from rich.progress import Progress, TextColumn

    from ...tasks.data.write import RowWriter
    from ..terminal import print_json, screen

    console = screen(to_stderr=True)
    counter = Progress(
        TextColumn("  {task.completed:,.0f} answers   {task.fields[rate]:,.0f} a second", style="dim"),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    counted = counter.add_task("", total=None, rate=0.0)
    began = time.monotonic()
    written = 0

    def told() -> "Answers":
        nonlocal written
        for answer in found:
            yield answer
            written += 1
            counter.update(counted, advance=1, rate=written / (time.monotonic() - began))

    with counter:
        if task.has_document and output.suffix.lower() == ".json":
            _write_document(task.document, told(), output, overwrite)
        else:
            with RowWriter(output, columns, overwrite) as writer:
                for row, prediction in told():
                    writer.write(row, prediction.to_json())
    seconds = time.monotonic() - began
    if json:
        print_json({"output": str(output), "examples": written, "seconds": seconds})
    else:
        rate = written / max(seconds, 1e-9)
        screen().print(f"{output}: {written:,} answers ({rate:,.0f} a second)")


def _write_document(
    document: "Callable[[Answers], dict[str, Any]]", found: "Answers", output: Path, overwrite: bool
) -> None:
    from json import dumps

    from ...core.atomic_files import atomic_file, new_path

    with atomic_file(new_path(output), overwrite) as unfinished:
        unfinished.write_text(dumps(document(found), ensure_ascii=False) + "\n", encoding="utf-8")


def _print_json(found: "Answers") -> None:
    from ...tasks.data.write import with_prediction
    from ..terminal import print_json

    for row, prediction in found:
        print_json(with_prediction(row, prediction.to_json()))


def _show(console: "Console", found: "Answers", shown: Sequence[str], *, alone: bool) -> None:
    from ..terminal import show_answer, show_scores

    for row, prediction in found:
        show_answer(console, [str(row[name] or "") for name in shown], prediction)
        if alone and (scores := prediction.to_json().get("scores")):
            show_scores(console, scores)


def predict_command() -> Callable[..., None]:
    """The command with all its options."""
    return with_options(predict, columns=column_options(label=False), options=task_options("after"))
