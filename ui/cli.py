"""The command line: `headway COMMAND ...`, with each command in its own module.

Only the module of the requested command is imported, so `headway --help` loads neither torch nor any other large
library. An error that the user can fix is printed as one line on stderr; the exit code is then 2.
"""

import inspect
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.metadata import version
from io import TextIOWrapper
from typing import Annotated

import typer
from typer.main import get_command

from ..core.errors import HeadwayError, SharedError
from ..core.platform_files import is_closed_pipe
from ..core.training.launch import join_launch, launch_rank
from ..core.visible import visible
from .completion import completed_command
from .interrupts import exit_code, sigterm_interrupts

# NAME -> the module whose function NAME_command() builds the command, and its line in `headway --help`.
COMMANDS = {
    "quickstart": ("commands.quickstart", "Train a model on sample messages and try it, in about a minute."),
    "train": ("commands.train", "Train a model on a data file."),
    "evaluate": ("commands.evaluate", "Evaluate a model on labelled data."),
    "compare": ("commands.compare", "Compare models on the same labelled data."),
    "predict": ("commands.predict", "Run a model on texts or on every row of a file."),
    "prompt": ("commands.prompt", "Prompt GPT-2 or BERT with a few examples, without training."),
    "generate": ("commands.generate", "Continue a text with GPT-2."),
    "events": ("commands.events", "Convert MIDI files to texts of events, and back."),
    "inspect": ("commands.inspect", "Show the attention, attributions and layers of a model as an HTML page."),
    "probe": ("commands.probe", "Measure how much each layer of a model knows about the labels of a file."),
    "embed": ("commands.embed", "Turn texts into vectors."),
    "search": ("commands.embed", "Find the rows of a file that are closest in meaning to a query."),
    "rank": ("commands.rank", "Rank the rows of a file by how well they fit a query."),
    "words": ("commands.embed", "Find the nearest words, or compare one word across sentences."),
    "export": ("commands.export", "Export an encoder to ONNX."),
    "push": ("commands.push", "Upload a model folder to the Hugging Face Hub."),
    "ui": ("browser.app", "Open Headway in the browser."),
    "serve": ("http.serve", "Serve models over HTTP."),
    "check": ("commands.check", "Check a data file before training."),
    "learning-curve": ("commands.learning_curve", "Measure how many labelled rows are enough."),
    "label-errors": ("commands.label_errors", "Find labels in a data file that are probably wrong."),
    "tasks": ("commands.lists", "List the tasks that a model can be trained for."),
    "models": ("commands.lists", "List the models that can be used."),
    "samples": ("commands.samples", "Copy a sample data file, to try a task."),
    "doctor": ("commands.doctor", "Check the installation, and say how problems are fixed."),
}
NAME = "headway"
USAGE_ERROR = 2
CLOSED_PIPE = 141  # 128 + SIGPIPE


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command and returns its exit code.

    Args:
        argv: The arguments after `headway`. Default: those of the process.
    """
    arguments = list(sys.argv[1:] if argv is None else argv) or ["--help"]
    debug = "--debug" in arguments
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            # A character that the terminal cannot encode is not an error. Files and pipes get UTF-8 on every system.
            to_utf8 = sys.platform == "win32" and not stream.isatty() and "PYTHONIOENCODING" not in os.environ
            stream.reconfigure(errors="replace", encoding="utf-8" if to_utf8 else None)
    try:
        if "--offline" in arguments:
            os.environ["HF_HUB_OFFLINE"] = "1"  # before any library that reads it is imported
        with sigterm_interrupts():
            if arguments[0] in COMMANDS:
                join_launch()
            _run(arguments)
        sys.stdout.flush()
    except typer.Exit as end:
        return end.exit_code
    except typer.TyperException as error:
        return _print_error(f"{error.format_message()} See: headway {_command_prefix(arguments)}--help", debug)
    except HeadwayError as error:
        is_reported = isinstance(error, SharedError) and launch_rank() > 0  # by the main process
        return USAGE_ERROR if is_reported else _print_error(str(error), debug)
    except KeyboardInterrupt as interruption:
        print(f"headway: {visible(str(interruption)) or 'interrupted.'}", file=sys.stderr)
        return exit_code(interruption)
    except OSError as error:
        if not is_closed_pipe(error):
            raise
        # The reader is gone (`| head`). Python flushes stdout at exit and would fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return CLOSED_PIPE
    return 0


def _run(arguments: list[str]) -> None:
    app = typer.Typer(
        help="Fine-tune BERT and GPT-2 on your texts and use the models.",
        epilog="To get started, run: headway quickstart",
        context_settings={"help_option_names": ["--help", "-h"]},
    )
    app.callback()(_headway)
    completed = completed_command()
    requested = arguments[0] if completed is None else completed
    for name, (module, summary) in COMMANDS.items():
        command = _placeholder
        if name == requested:
            from .options import canonical_arguments

            command = getattr(import_module(f".{module}", __package__), f"{name.replace('-', '_')}_command")()
            arguments = [name, *canonical_arguments(arguments[1:])]
        app.command(name, short_help=summary, help=_unwrapped_help(command))(command)
    if completed is not None:
        get_command(app)(prog_name=NAME)  # answers the shell and exits
    with get_command(app).make_context(NAME, arguments) as context:
        context.command.invoke(context)


def _unwrapped_help(command: Callable[..., None]) -> str:
    """The command's docstring with one line per paragraph, which Typer wraps to the width of the terminal."""
    return "\n\n".join(" ".join(part.split()) for part in (inspect.getdoc(command) or "").split("\n\n"))


def _print_version(requested: bool) -> None:
    if requested:
        print(f"headway {version('headway')}")
        raise typer.Exit


def _headway(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version and exit.")
    ] = False,
) -> None:
    """The options that come before a command."""


def _placeholder() -> None:
    """Represents a command that was not requested in the list of commands."""


def _command_prefix(arguments: Sequence[str]) -> str:
    return f"{arguments[0]} " if arguments[0] in COMMANDS else ""


def _print_error(message: str, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    rank = launch_rank()
    print(f"headway{f' (process {rank})' * bool(rank)}: {visible(message)}", file=sys.stderr)
    return USAGE_ERROR


if __name__ == "__main__":
    sys.exit(main())
