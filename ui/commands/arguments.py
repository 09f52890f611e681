"""The arguments MODEL TEXT of the commands for GPT-2: the model is optional."""

import os
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import typer

from ...core.errors import HeadwayError

DEFAULT_MODEL = "mini-gpt2"
COMMA_SEPARATED = ("labels", "verbalize")  # options whose values can be separated by commas
STDIN = "-"
# What can be the name of a model: written as on the Hub, or a path without spaces.
MODEL_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?(@[\w./-]+)?|[~./\\]\S*|\S*[/\\]\S*")
ARGUMENTS = typer.Argument(
    metavar="MODEL TEXT",
    help="A GPT-2 model (a folder, a built-in model, or a name on the Hub), then texts; - reads one text per line "
    f"from stdin. The model is {DEFAULT_MODEL} if the first argument contains a space and is not a folder.",
)


def model_and_texts(arguments: Sequence[str] | None) -> tuple[str, list[str]]:
    """The name of the model and the texts; the built-in model if the first argument cannot be a model.

    Raises:
        HeadwayError: The model is missing and there is no built-in model.
    """
    from ...core.checkpoints.hub import BUILT_IN

    given = list(arguments or ())
    first = given[0] if given and given[0] != STDIN else ""  # "" as a path would be the working directory
    # os.path, because Path raises for a text that is too long for a name or starts with a tilde.
    if first and (MODEL_NAME.fullmatch(first) or os.path.isdir(os.path.expanduser(first))):
        name, texts = given[0], given[1:]
    elif DEFAULT_MODEL in BUILT_IN:
        name, texts = DEFAULT_MODEL, given
    else:
        raise HeadwayError(
            f"The model is missing, and this package does not include {DEFAULT_MODEL}. Give the folder of a GPT-2 or "
            'its name on the Hub before the texts: headway generate gpt2 "a text".'
        )
    if texts == [STDIN]:
        texts = [text for line in sys.stdin if (text := line.rstrip("\r\n")).strip()]
        if not texts:
            raise HeadwayError("stdin contains no text: pipe one text per line into the command.")
    return name, texts


def unescape(text: str) -> str:
    r"""A text from the command line with \n and \t replaced by a line break and a tab."""
    return text.replace(r"\n", "\n").replace(r"\t", "\t")


def split_commas(given: Mapping[str, Any]) -> dict[str, Any]:
    """The options with comma-separated lists split."""
    split = {name: tuple(part.strip() for one in given[name] for part in one.split(","))
             for name in COMMA_SEPARATED if name in given}  # fmt: skip
    return {**given, **split}
