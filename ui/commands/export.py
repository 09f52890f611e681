"""headway export: a model as a file for other runtimes."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from ..options import JSON, with_options


def export(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="The folder of a trained BERT, or its name on the Hub.")
    ],
    output: Annotated[Path, typer.Option(metavar="PLACE", help="A file NAME.onnx, or a folder with all one needs.")],
    format: Annotated[str, typer.Option(metavar="NAME", help="What is written: onnx.")] = "onnx",
    pooling: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Give vectors: mean, first, last or max. Left out: as the folder is."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")] = False,
    json: Annotated[bool, JSON] = False,
) -> None:
    """Write a BERT with its head as ONNX, for other languages, browsers and phones.

    What the file gives is held against the model itself before it is left there. A folder has onnx/model.onnx with
    config.json and the tokenizer beside it, as optimum and transformers.js lay it out.
    """
    from ...tasks.export import export as written_by
    from ..terminal import print_json, screen, section

    console = screen(to_stderr=json)
    made = written_by(model, output, format=format, pooling=pooling, overwrite=overwrite)
    section(
        console,
        "Export",
        f"{made.output}: {made.size / 1e6:,.0f} MB, ONNX opset {made.file.opset}",
        f"reads {', '.join(made.file.inputs)}; gives {', '.join(made.file.outputs)}",
        f"checked with {made.file.checked_with}: at most {made.file.apart:.0e} from the model itself",
        *made.notes,
    )
    if json:
        print_json(made.to_json())


def export_command() -> Callable[..., None]:
    """The command with all its options."""
    return with_options(export)
