"""headway samples: data files of the package, to try a task before one's own data is ready."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from ..options import JSON, OVERWRITE, with_options


def samples(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="The file to copy. Default: the files are listed.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The copy. Default: NAME in the current folder.")
    ] = None,
    overwrite: Annotated[bool, OVERWRITE] = False,
    json: Annotated[bool, JSON] = False,
) -> None:
    """List the sample data files, or copy one of them.

    They are large enough for a short training run, and too small to compare models.
    """
    from ...core.atomic_files import atomic_file, new_path
    from ...core.errors import HeadwayError
    from ...tasks.samples import FOLDER, SAMPLES
    from ..terminal import command, print_json, screen, section, show_next, table

    console = screen(to_stderr=json)
    if name is None:
        if output is not None:
            raise HeadwayError(f"--output {output} needs the name of a sample, such as: headway samples messages.csv")
        rows = [{"sample": one, "holds": sample.title, "task": sample.task} for one, sample in SAMPLES.items()]
        section(console, "Samples", table(rows))
        show_next(console, command("samples", next(iter(SAMPLES))))
        if json:
            print_json({"samples": rows})
        return
    if name not in SAMPLES:
        raise HeadwayError(f"There is no sample {name!r}; the samples are {', '.join(SAMPLES)}.")
    output = new_path(output or name)
    with atomic_file(output, overwrite) as new:
        shutil.copyfile(FOLDER / name, new)
    section(console, "Sample", f"{output}: {SAMPLES[name].title}")
    show_next(console, command("check", SAMPLES[name].task, "--data", output))
    if json:
        print_json({"output": str(output), "task": SAMPLES[name].task})


def samples_command() -> Callable[..., None]:
    """Builds the command with all its options."""
    return with_options(samples)
