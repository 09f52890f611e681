"""headway push: upload a model folder to the Hugging Face Hub."""

from collections.abc import Callable
from typing import Annotated

import typer

from ..options import JSON, with_options


def push(
    folder: Annotated[str, typer.Argument(metavar="FOLDER", help="A model folder.")],
    repository: Annotated[str, typer.Argument(metavar="USER/NAME", help="The repository on the Hub.")],
    private: Annotated[
        bool,
        typer.Option("--private", help="Make a new repository private; one that exists is not changed."),
    ] = False,
    revision: Annotated[
        str | None,
        typer.Option(
            metavar="BRANCH", help="Commit to this branch, which is created if it is missing. Default: main."
        ),
    ] = None,
    message: Annotated[
        str, typer.Option(metavar="TEXT", help="The message of the commit.")
    ] = "Upload a model with Headway",
    benchmark_task: Annotated[
        str | None,
        typer.Option(
            metavar="ID",
            help="Also add the first metric to the leaderboard of the benchmark on the Hub that the model was "
            "evaluated on, as this task of it (an id in its eval.yaml).",
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List what would be uploaded, and stop.")] = False,
    json: Annotated[bool, JSON] = False,
) -> None:
    """Upload a model folder to the Hugging Face Hub.

    Only the model is uploaded: no checkpoints, no log, no rows of the data. The list of files is printed first. The
    token comes from HF_TOKEN or `hf auth login`. Afterwards the model is used by its name: headway predict USER/NAME.
    """
    from huggingface_hub.utils import disable_progress_bars

    from ...core.checkpoints.upload import check_upload, upload
    from ...tasks.publishing import prepare_publication
    from ..terminal import command, print_json, screen, section, show_next, table

    page = check_upload(repository, dry_run=dry_run)
    made = prepare_publication(folder, repository, benchmark_task)
    console = screen(to_stderr=json)
    sizes = made.sizes()
    visibility = f"A new repository will be {'private' if private else 'public (--private makes it private)'}."
    rows = [{"file": name, "size": f"{size / 1e3:,.0f} kB"} for name, size in sizes.items()]
    section(console, f"Upload to {page}", table(rows), "", visibility, *made.notes)
    if made.left_out:
        section(console, "Not uploaded", table([{"file": name, "": why} for name, why in made.left_out.items()]))
    facts = {"repository": repository, "files": sizes, "left_out": dict(made.left_out), "notes": list(made.notes)}
    if dry_run:
        section(console, "Dry run", "Nothing was uploaded.")
        if json:
            print_json(facts)
        return
    if not console.is_terminal:
        disable_progress_bars()
    commit = upload(repository, made.files, private=private, revision=revision, message=message)
    section(console, "Uploaded", commit)
    name = repository if revision in (None, "main") else f"{repository}@{revision}"
    show_next(console, command("predict", name, "a text"))
    if json:
        print_json({**facts, "commit": commit})


def push_command() -> Callable[..., None]:
    """Builds the command with all its options."""
    return with_options(push)
