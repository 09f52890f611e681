"""headway prompt: GPT-2 chooses a label or writes an answer after a few worked examples, without training."""

import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ...core.errors import HeadwayError
from ..options import HEADER, PRECISION, chosen_columns, chosen_options, column_options, with_options
from .generate import ARGUMENTS, model_and_texts, unescaped

if TYPE_CHECKING:
    from rich.console import Console

    from ...tasks.base.predictions import Prediction
    from ...tasks.data.rows import RowStream
    from ...tasks.prompting.prepared_prompt import PreparedPrompt
    from ...tasks.prompting.prompt import PromptModel

COLUMNS = ("text", "pair", "label")
JOINED = ("labels", "verbalize")  # options whose values may be joined by commas


def prompt(
    arguments: Annotated[list[str] | None, ARGUMENTS] = None,
    data: Annotated[str | None, typer.Option(metavar="FILE", help="Ask about every row of a file.")] = None,
    examples: Annotated[
        str | None, typer.Option(metavar="FILE", help="Labelled rows, to choose worked examples from.")
    ] = None,
    unlabelled: Annotated[str | None, typer.Option(metavar="FILE", help="Texts for --calibration batch.")] = None,
    evaluate: Annotated[bool, typer.Option("--evaluate", help="Measure the answers on the labels of --data.")] = False,
    seeds: Annotated[int, typer.Option(metavar="N", help="Choices of worked examples that --evaluate measures.")] = 5,
    show_prompt: Annotated[
        bool, typer.Option("--show-prompt", help="Show the whole prompt of the first text.")
    ] = False,
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where rows and answers go: .jsonl, .csv or .tsv.")
    ] = None,
    precision: Annotated[str, PRECISION] = "auto",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the output file.")] = False,
    header: Annotated[bool | None, HEADER] = None,
    json: Annotated[
        bool,
        typer.Option("--json", help="Print a line of JSON for each text (for all, with --evaluate or --output)."),
    ] = False,
    *,
    columns: dict[str, Any],
    prompting: dict[str, Any],
) -> None:
    """Ask GPT-2 with a few worked examples: headway prompt gpt2 "a fine film" --labels good,bad --examples some.csv

    Answers are chosen among labels by how likely the model finds them, with what it says of any text taken out again
    (--calibration), or written (--write). With a template that has {pair}, texts are given two by two. --text, --pair
    and --label name columns, of --data and --examples alike.
    """
    from ...tasks import Prompt
    from ..terminal import print_json, screen, section, show_prompt_evaluation

    asking = Prompt(**_as_meant(chosen_options(prompting)))
    chosen = chosen_columns(columns)
    name, texts = model_and_texts(arguments)
    _check(texts, data, output, evaluate)
    console = screen(to_stderr=json)
    model = asking.on(name, precision)
    if evaluate:
        found = model.evaluate(data, examples, seeds=seeds, columns=chosen, unlabelled=unlabelled, header=header)
        section(console, "Data", *found.notes)
        show_prompt_evaluation(console, found, f"rows of {data}")
        if json:
            print_json(found.to_json())
        return
    stream, given = _rows(model, texts, data, header)
    settled = model.reader.columns(stream, chosen if data is not None else {}, need_label=False)
    paired = "pair" in settled.texts
    prepared = model.prepare(examples, chosen, unlabelled=unlabelled, paired=paired, header=header)
    if prepared.notes:
        section(console, "Prompt", *prepared.notes)
    if show_prompt:
        _show_prompt(console, prepared, stream, chosen if data is not None else {})
    answers = prepared.predict_rows(stream, settled)
    if output is not None:
        _write(answers, stream.columns, output, overwrite, json)
    else:
        shown = list(settled.texts.values())
        if not json and (prepared.notes or show_prompt):
            console.print()
        _show(console, answers, shown, alone=len(given) == 1, json=json)
    if prepared.warnings:
        section(console, "Note", *prepared.warnings)


def _as_meant(given: dict[str, Any]) -> dict[str, Any]:
    r"""Options as they were typed: lists joined by commas, \n for a new line."""
    for name in JOINED:
        if name in given:
            given[name] = tuple(part.strip() for one in given[name] for part in one.split(","))
    for name in ("template", "description"):
        if name in given:
            given[name] = unescaped(given[name])
    if "stop" in given:
        given["stop"] = tuple(unescaped(text) for text in given["stop"])
    return given


def _check(texts: Sequence[str], data: str | None, output: Path | None, evaluate: bool) -> None:
    if evaluate and data is None:
        raise HeadwayError("--evaluate needs labelled rows to measure on: add --data FILE.")
    if evaluate and output is not None:
        raise HeadwayError("--evaluate measures and writes no rows: leave --output out.")
    if (data is None) != bool(texts):
        raise HeadwayError('Give either texts (headway prompt MODEL "a text" ...) or a file (--data FILE).')


def _rows(
    model: "PromptModel", texts: Sequence[str], data: str | None, header: bool | None
) -> tuple["RowStream", list[dict[str, Any]]]:
    """The file, or the texts as the rows of one."""
    from ...tasks.data.read import stream_rows
    from ...tasks.data.rows import Table

    if data is not None:
        return stream_rows(data, header=header), []
    names = [field.name for field in model.reader.fields if field.required]
    if len(texts) % len(names):
        raise HeadwayError(f"The template asks about pairs, and {len(texts)} texts are given: give them two by two.")
    starts = range(0, len(texts), len(names))
    rows = [dict(zip(names, texts[start : start + len(names)], strict=True)) for start in starts]
    places = list(range(1, len(rows) + 1))
    return stream_rows(Table("the texts given", "rows", tuple(names), True, rows, places)), rows


def _show_prompt(console: "Console", prepared: "PreparedPrompt", stream: "RowStream", chosen: dict[str, Any]) -> None:
    from ...tasks.data.read import read_table
    from ..terminal import section

    table = read_table(stream, limit=1)
    columns = prepared.reader.columns(table, chosen, need_label=False)
    text, _ = prepared.preview(prepared.reader.examples(table, columns, labelled=False)[0])
    section(console, "The prompt", text)


def _write(
    answers: "Iterable[tuple[dict[str, Any], Prediction]]",
    columns: Sequence[str],
    output: Path,
    overwrite: bool,
    json: bool,
) -> None:
    from ...tasks.data.write import RowWriter
    from ..terminal import print_json, screen

    began = time.monotonic()
    with RowWriter(output, columns, overwrite) as writer:
        for row, prediction in answers:
            writer.write(row, prediction.to_json())
    seconds = time.monotonic() - began
    if json:
        print_json({"output": str(output), "examples": writer.written, "seconds": seconds})
    else:
        rate = writer.written / max(seconds, 1e-9)
        screen().print(f"{output}: {writer.written:,} answers ({rate:,.0f} a second)")


def _show(
    console: "Console",
    answers: "Iterable[tuple[dict[str, Any], Prediction]]",
    shown: Sequence[str],
    *,
    alone: bool,
    json: bool,
) -> None:
    from ...tasks.data.write import with_prediction
    from ..terminal import print_json, show_answer, show_calibrated, show_scores

    for row, prediction in answers:
        if json:
            print_json(with_prediction(row, prediction.to_json()))
            continue
        show_answer(console, [str(row[name] or "") for name in shown], prediction)
        found = prediction.to_json()
        if alone and (scores := found.get("scores")):
            if uncalibrated := found["uncalibrated"]:
                show_calibrated(console, scores, uncalibrated)
            else:
                show_scores(console, scores)


def prompt_command() -> Callable[..., None]:
    """The command with all its options."""
    from ...core.options import options_of
    from ...tasks import Prompt

    named = [option for option in column_options() if option.name in COLUMNS]
    return with_options(prompt, columns=named, prompting=options_of(Prompt))
