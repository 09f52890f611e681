"""headway label-errors: find labels that are probably wrong."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ...core.errors import HeadwayError
from ..options import (
    DEVICE,
    JSON,
    LABELLED_DATA,
    OVERWRITE,
    chosen_columns,
    column_options,
    make_task,
    read_value,
    reading_options,
    with_options,
)

if TYPE_CHECKING:
    from rich.console import Console

    from ...tasks.evaluation.label_errors import LabelErrors

DEFAULT_MODEL = "mini-bert"
SHOWN = 10  # suspects in the terminal
WIDTH = 60  # of a text in the terminal
BETTER = "a better --model, or --folds, suspects fewer right labels"


def label_errors(
    data: Annotated[str, LABELLED_DATA],
    model: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="The model that predicts the labels: a folder, a built-in model, or a name on the Hub. Of a folder "
            "that was trained with --folds on this data, the stored predictions are used.",
        ),
    ] = DEFAULT_MODEL,
    task: Annotated[
        str | None, typer.Option(metavar="TASK", help="The task of the labels. Default: inferred from the data.")
    ] = None,
    folds: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            parser=read_value("folds", int, optional=True),
            help="Fine-tune the model with N folds, which takes longer and errs less. Default: linear models on its "
            "vectors. To be able to resume, use headway train --folds, and the model folder as --model.",
        ),
    ] = None,
    repeats: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            parser=read_value("repeats", int, optional=True),
            help="With --folds: fine-tune with N different divisions into folds and average the predictions, which "
            "errs less; 1 is the fastest. Default: 3.",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Write all suspects: .csv, .tsv, .xlsx or .jsonl. With --apply: the corrected copy."
        ),
    ] = None,
    apply: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Do not search: write a copy of the data, --output, with the likely labels of the suspects in FILE, "
            "which --output wrote before. Delete the rows of suspects whose label is right, or add a column accept "
            "with yes and no; change the likely label where another one is right.",
        ),
    ] = None,
    overwrite: Annotated[bool, OVERWRITE] = False,
    device: Annotated[str, DEVICE] = "auto",
    json: Annotated[bool, JSON] = False,
    *,
    columns: dict[str, Any],
    reading: dict[str, Any],
) -> None:
    """Find labels that are probably wrong, by confident learning (Northcutt et al. 2021).

    Each label is compared with the prediction of a model that was not trained on its row. The suspects are listed with
    the most suspicious ones first, each with the likelier label and the nearest rows that have it. Check them by hand:
    with a weak model, many are mistakes of the model.
    """
    from ...core.atomic_files import new_path, refuse_existing
    from ...core.training.training_config import TrainConfig
    from ...tasks.data.write import RowWriter
    from ...tasks.evaluation.label_errors import Suspect, find_label_errors
    from ..terminal import print_json, screen
    from ..training_view import TrainingView

    labels = {"task": None if task is None else make_task(task, {}), "columns": chosen_columns(columns), **reading}
    if apply is not None:
        if output is None or folds is not None or repeats is not None:
            raise HeadwayError(
                "--apply writes a corrected copy of --data: give --output, and no --folds or --repeats."
            )
        _apply(data, apply, output, json=json, overwrite=overwrite, **labels)
        return
    if repeats is not None and folds is None:
        raise HeadwayError("--repeats is how often the model is fine-tuned with folds: give --folds, too.")
    writer = None
    if output is not None:
        output = new_path(output)
        if output.suffix.lower() == ".conll":
            raise HeadwayError(f"{output}: suspects are written as .csv, .tsv, .xlsx or .jsonl. Use one of these.")
        refuse_existing(output, overwrite)
        as_table = output.suffix.lower() not in (".jsonl", ".ndjson")
        writer = RowWriter(output, Suspect.columns() if as_table else (), overwrite)
    console = screen(to_stderr=json)
    with TrainingView(console) as view:

        def follow(events: Iterable[Any]) -> None:
            for event in events:
                view.show(event)

        found = find_label_errors(
            data,
            model=model,
            folds=folds,
            repeats=repeats,
            config=TrainConfig(device=device),
            device=device,
            follow=follow,
            **labels,
        )
    if writer is not None:
        with writer:
            for one in found.suspects:
                writer.write(one.cells() if writer.columns else one.to_json())
    _show(console, found, output)
    if json:
        print_json(found.to_json())


def _apply(data: str, accepted: Path, output: Path, *, json: bool, overwrite: bool, **labels: Any) -> None:
    from ...tasks.evaluation.corrections import read_corrections, write_corrected
    from ..terminal import print_json, screen, section

    found = write_corrected(data, read_corrections(accepted), output, overwrite=overwrite, **labels)
    console = screen(to_stderr=json)
    section(console, "Data", *found.notes)
    rows = "1 row has" if found.changed == 1 else f"{found.changed:,} rows have"
    console.print(f"\n  {found.path}: a copy of {data} in which {rows} another label")
    if json:
        print_json({"output": str(found.path), "changed": found.changed, "notes": list(found.notes)})


def _show(console: "Console", found: "LabelErrors", output: Path | None) -> None:
    from ...tasks.data.findings import count as named
    from ..terminal import section, shorten, table

    section(console, "Data", *found.notes)
    count, checked = len(found.suspects), found.checked
    lines = [
        f"{count:,} of {checked:,} labels are suspect ({count / max(1, checked):.1%})",
        f"{found.quality}; {BETTER}",
    ]
    if found.unchecked:
        lines.append(f"not checked: {named(found.unchecked, 'row')} with labels that no other rows have")
    rows = [
        {
            "place": one.place,
            **({"of": one.item} if one.item else {}),
            "given": one.given,
            "likely": one.likely,
            "suspicion": one.suspicion,
            "text": shorten(one.text, WIDTH),
        }
        for one in found.suspects[:SHOWN]
    ]
    section(console, "Labels to check", *lines, *(["", table(rows)] if rows else []))
    if output is not None:
        console.print(f"\n  {output}: all suspects, with the nearest rows that have the likely label")
    elif count > SHOWN:
        console.print(f"\n  {count - SHOWN:,} more: --output FILE writes all of them")


def label_errors_command() -> Callable[..., None]:
    """Builds the command with all its options."""
    return with_options(label_errors, reading=reading_options(), columns=column_options(group=True))
