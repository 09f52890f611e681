"""headway export: write a model as a file for other runtimes."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from ..options import JSON, OVERWRITE, with_options


def export(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="A BERT or a relative: a folder or a name on the Hub.")
    ],
    output: Annotated[
        Path, typer.Option(metavar="PATH", help="A file NAME.onnx, or a folder for the model with its tokenizer.")
    ],
    format: Annotated[str, typer.Option(metavar="NAME", help="File format: onnx.")] = "onnx",
    pooling: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Also export text vectors with this pooling: mean, cls, last or max. Default: as in the folder.",
        ),
    ] = None,
    overwrite: Annotated[bool, OVERWRITE] = False,
    json: Annotated[bool, JSON] = False,
) -> None:
    """Export an encoder, a BERT or one of its relatives, with its head to ONNX.

    The outputs of the exported file are compared with those of the model before the file is saved. A folder holds
    onnx/model.onnx, config.json and the tokenizer, in the layout of optimum and transformers.js.
    """
    from ...tasks.export import export as export_model
    from ..terminal import print_json, screen, section

    console = screen(to_stderr=json)
    made = export_model(model, output, format=format, pooling=pooling, overwrite=overwrite)
    section(
        console,
        "Export",
        f"{made.output}: {made.size / 1e6:,.0f} MB, ONNX opset {made.file.opset}",
        f"inputs: {', '.join(made.file.inputs)}; outputs: {', '.join(made.file.outputs)}",
        f"checked with {made.file.checked_with}: maximum difference from the model {made.file.max_difference:.0e}",
        *made.notes,
    )
    if json:
        print_json(made.to_json())


def export_command() -> Callable[..., None]:
    """Builds the command with all its options."""
    return with_options(export)
