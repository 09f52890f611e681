"""headway prompt: a language model chooses a label or writes an answer after a few examples, without training."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ...core.errors import HeadwayError
from ..options import (
    DEVICE,
    OVERWRITE,
    PRECISION,
    chosen_columns,
    chosen_options,
    column_options,
    output_options,
    reading_options,
    refuse_without_file,
    with_options,
    writing_options,
)
from .arguments import ARGUMENTS, model_and_texts, split_commas, unescape

if TYPE_CHECKING:
    from rich.console import Console

    from ...tasks.data.rows import RowStream
    from ...tasks.prompting.prepared_prompt import PreparedPrompt
    from ...tasks.prompting.prompt import PromptModel
    from ...tasks.prompting.saved_prompt import SavedPrompt

COLUMNS = ("text", "pair", "label")


def prompt(
    arguments: Annotated[list[str] | None, ARGUMENTS] = None,
    data: Annotated[str | None, typer.Option(metavar="FILE", help="Answer for every row of a file.")] = None,
    examples: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Labelled rows from which the examples in the prompt are chosen."),
    ] = None,
    unlabelled: Annotated[str | None, typer.Option(metavar="FILE", help="Texts for --calibration batch.")] = None,
    evaluate: Annotated[
        bool, typer.Option("--evaluate", help="Evaluate the answers with the labels of --data.")
    ] = False,
    seeds: Annotated[
        int, typer.Option(metavar="N", help="Number of random selections of examples that --evaluate averages over.")
    ] = 5,
    show_prompt: Annotated[
        bool, typer.Option("--show-prompt", help="Print the complete prompt of the first text.")
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write rows with their answers: .jsonl, .csv, .tsv or .xlsx."),
    ] = None,
    save: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Save the prompt (.yaml): options, model, and the file of the examples with its fingerprint. "
            "`headway compare` takes this file, and so does this command instead of MODEL.",
        ),
    ] = None,
    precision: Annotated[str, PRECISION] = "auto",
    device: Annotated[str, DEVICE] = "auto",
    overwrite: Annotated[bool, OVERWRITE] = False,
    json: Annotated[
        bool,
        typer.Option("--json", help="Print one line of JSON per text (one in total with --evaluate or --output)."),
    ] = False,
    *,
    columns: dict[str, Any],
    reading: dict[str, Any],
    writing: dict[str, Any],
    prompting: dict[str, Any],
) -> None:
    """Prompt GPT-2 or BERT with a few examples: headway prompt gpt2 "a fine film" --labels good,bad --examples it.csv

    The answer is the most probable label after calibration (--calibration), or a text that GPT-2 generates (--write).
    A masked language model (BERT, RoBERTa, ...) scores the labels at the place of {label}: --template "{text} It was
    {label}." If the template contains {pair}, give two texts per pair. --text, --pair and --label name columns of both
    --data and --examples.
    """
    from ..terminal import print_json, screen, section, show_prompt_evaluation
    from .results import print_predictions, show_predictions, write_predictions

    name, texts = model_and_texts(arguments)
    given = {"examples": examples, "unlabelled": unlabelled, "columns": chosen_columns(columns), "reading": reading}
    saved = _prompt_of(name, _parse(chosen_options(prompting)), given)
    examples, unlabelled, chosen, reading = saved.examples, saved.unlabelled, {**saved.columns}, {**saved.reading}
    if save is None or texts or data is not None:
        _check_modes(texts, data, output, evaluate)
    refuse_without_file(reading, data or examples)
    form = output_options(writing, output)
    console = screen(to_stderr=json)
    if save is not None:
        saved.save(save, overwrite=overwrite)
        console.print(f"The prompt is saved in {save}", soft_wrap=True)
        if not texts and data is None:
            return
    model = saved.open(precision, device)
    if evaluate:
        found = model.evaluate(data, examples, seeds=seeds, columns=chosen, unlabelled=unlabelled, **reading)
        section(console, "Data", *found.notes)
        show_prompt_evaluation(console, found, f"Evaluation on {len(found.examples):,} rows of {data}")
        if json:
            print_json(found.to_json())
        return
    stream = _rows(model, texts, data, reading)
    text_columns = chosen if data is not None else {}
    mapping = model.reader.columns(stream, text_columns, need_label=False)
    paired = "pair" in mapping.texts
    prepared = model.prepare(examples, chosen, unlabelled=unlabelled, paired=paired, **reading)
    if prepared.notes:
        section(console, "Prompt", *prepared.notes)
    if show_prompt:
        _show_prompt(console, prepared, stream, text_columns)
    predictions = prepared.predict_rows(stream, mapping)
    if output is not None:
        write_predictions(predictions, stream.columns, output, overwrite=overwrite, json=json, options=form)
    elif json:
        print_predictions(predictions)
    else:
        if prepared.notes or show_prompt:
            console.print()
        single = len(texts) == 1 + paired
        show_predictions(console, predictions, list(mapping.texts.values()), with_scores=single)
    if prepared.warnings:
        section(console, "Note", *prepared.warnings)


def _prompt_of(name: str, options: dict[str, Any], given: dict[str, Any]) -> "SavedPrompt":
    """The prompt of the options and, if the name of the model is that of a saved prompt, of this file."""
    from ...tasks import Prompt, SavedPrompt
    from ...tasks.prompting.saved_prompt import is_saved_prompt

    if not is_saved_prompt(name):
        return SavedPrompt(Prompt(**options), name, **given)
    saved = SavedPrompt.load(name)
    changed = {key: value for key, value in given.items() if value is not None and key in ("examples", "unlabelled")}
    if "examples" in changed:
        changed["fingerprint"] = None
    merged = {key: {**getattr(saved, key), **given[key]} for key in ("columns", "reading")}
    return replace(saved, prompt=replace(saved.prompt, **options), **changed, **merged)


def _parse(given: dict[str, Any]) -> dict[str, Any]:
    r"""The options with comma-separated lists split and \n replaced by line breaks."""
    given = split_commas(given)
    for name in ("template", "description"):
        if name in given:
            given[name] = unescape(given[name])
    if "stop" in given:
        given["stop"] = tuple(unescape(text) for text in given["stop"])
    return given


def _check_modes(texts: Sequence[str], data: str | None, output: Path | None, evaluate: bool) -> None:
    """Raises HeadwayError for options that contradict each other."""
    if evaluate and data is None:
        raise HeadwayError("--evaluate needs labelled rows: add --data FILE.")
    if evaluate and output is not None:
        raise HeadwayError("--evaluate writes no rows: omit --output.")
    if (data is None) != bool(texts):
        raise HeadwayError('Give either texts (headway prompt MODEL "a text" ...) or a file (--data FILE).')


def _rows(model: "PromptModel", texts: Sequence[str], data: str | None, reading: Mapping[str, Any]) -> "RowStream":
    """The rows of the file, or the texts as rows."""
    from ...tasks.data.read import stream_rows
    from ...tasks.data.rows import table_of_texts

    if data is not None:
        return stream_rows(data, **reading)
    names = [field.name for field in model.reader.fields if field.required]
    if len(texts) % len(names):
        raise HeadwayError(f"The template needs pairs of texts, but {len(texts)} texts are given: give two per pair.")
    starts = range(0, len(texts), len(names))
    rows = [dict(zip(names, texts[start : start + len(names)], strict=True)) for start in starts]
    return stream_rows(table_of_texts(names, rows))


def _show_prompt(console: "Console", prepared: "PreparedPrompt", stream: "RowStream", chosen: dict[str, Any]) -> None:
    from ...tasks.data.read import read_table
    from ..terminal import section

    table = read_table(stream, limit=1)
    mapping = prepared.reader.columns(table, chosen, need_label=False)
    text, _ = prepared.preview(prepared.reader.examples(table, mapping, labelled=False)[0])
    section(console, "Prompt text", text)


def prompt_command() -> Callable[..., None]:
    """Builds the command with all its options."""
    from ...core.options import options_of
    from ...tasks import Prompt

    named = [option for option in column_options() if option.name in COLUMNS]
    return with_options(
        prompt,
        reading=reading_options(),
        writing=writing_options(),
        columns=named,
        prompting=options_of(Prompt),
    )
