"""The command line: `headway COMMAND ...`, each command in a module of its own.

A command's module is imported when it is asked for, so that `headway --help` waits for neither torch nor anything
else that is large. An error that a person can mend is one line on stderr and the exit code 2.
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

from ..core.errors import HeadwayError

# NAME -> the module whose function NAME_command() makes the command, and a line for the list of commands.
COMMANDS = {
    "quickstart": ("commands.quickstart", "See it all in a minute, on sample messages."),
    "train": ("commands.train", "Train a model on your labelled file."),
    "evaluate": ("commands.evaluate", "Measure a model on labelled data."),
    "predict": ("commands.predict", "Ask a model about texts, or about every row of a file."),
    "prompt": ("commands.prompt", "Ask GPT-2 with a few worked examples, without training."),
    "generate": ("commands.generate", "Let GPT-2 go on with your text."),
    "inspect": ("commands.inspect", "Look inside a model: a page for your browser."),
    "probe": ("commands.probe", "See which layer of a model knows what your file asks."),
    "embed": ("commands.embed", "Turn texts into vectors."),
    "search": ("commands.embed", "Find the rows of a file that mean what you say."),
    "words": ("commands.embed", "See which words are near, and what a word is in a sentence."),
    "export": ("commands.export", "Write a BERT as ONNX, for other languages and browsers."),
    "ui": ("browser.app", "Open all this in your browser."),
    "serve": ("http.serve", "Answer over HTTP with your models."),
    "check": ("commands.check", "Look a data file over before training on it."),
    "tasks": ("commands.lists", "What can be trained."),
    "models": ("commands.lists", "Which models can be used."),
}
USAGE_ERROR = 2
INTERRUPTED = 130  # 128 + SIGINT, as shells have it
CLOSED_PIPE = 141  # 128 + SIGPIPE


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command and returns its exit code.

    Args:
        argv: what was typed after `headway`; the process's own arguments if left out.
    """
    arguments = list(sys.argv[1:] if argv is None else argv) or ["--help"]
    debug = "--debug" in arguments
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that cannot show a letter is no reason to stop
    try:
        if "--offline" in arguments:
            os.environ["HF_HUB_OFFLINE"] = "1"  # before anything that reads it is imported
        _run(arguments)
        sys.stdout.flush()
    except typer.Exit as end:
        return end.exit_code
    except typer.TyperException as error:
        return _complain(f"{error.format_message()} See: headway {_asked_for(arguments)}--help", debug)
    except HeadwayError as error:
        return _complain(str(error), debug)
    except KeyboardInterrupt:
        print("headway: interrupted.", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read has gone (`| head`); nothing may be written at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return CLOSED_PIPE
    return 0


def _run(arguments: list[str]) -> None:
    app = typer.Typer(
        help="Fine-tunes BERT and GPT-2 on your texts, and puts them to work.",
        epilog="Begin with: headway quickstart",
        add_completion=False,
        context_settings={"help_option_names": ["--help", "-h"]},
    )
    app.callback()(_headway)
    for name, (module, summary) in COMMANDS.items():
        command = _not_asked_for
        if name == arguments[0]:
            from .options import plain_arguments

            command = getattr(import_module(f".{module}", __package__), f"{name}_command")()
            arguments = [name, *plain_arguments(arguments[1:])]
        app.command(name, short_help=summary, help=_flowing(command))(command)
    with get_command(app).make_context("headway", arguments) as context:
        context.command.invoke(context)


def _flowing(command: Callable[..., None]) -> str:
    """A command's docstring with its paragraphs as lines, which are then broken to the width of the terminal."""
    return "\n\n".join(" ".join(part.split()) for part in (inspect.getdoc(command) or "").split("\n\n"))


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"headway {version('headway')}")
        raise typer.Exit


def _headway(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_show_version, help="Show the version.")
    ] = False,
) -> None:
    """What comes before a command."""


def _not_asked_for() -> None:
    """Stands for a command in the list of commands."""


def _asked_for(arguments: Sequence[str]) -> str:
    return f"{arguments[0]} " if arguments[0] in COMMANDS else ""


def _complain(message: str, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    rank = int(os.environ.get("RANK", 0))  # of several processes, as their launcher says
    print(f"headway{f' (process {rank})' * bool(rank)}: {message}", file=sys.stderr)
    return USAGE_ERROR


if __name__ == "__main__":
    sys.exit(main())
