"""headway generate: GPT-2 goes on with texts, whole, as it comes, or token by token with what else was likely."""

import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ...core.errors import HeadwayError
from ..options import HEADER, PRECISION, chosen_columns, chosen_options, column_options, with_options

if TYPE_CHECKING:
    from rich.console import Console

    from ...core.generation.decoding import Generation
    from ...core.generation.generation import TokenStep
    from ...core.generation.generation_config import GenerationConfig
    from ...core.models.heads import Network
    from ...core.tokenizers.tokenizer import Tokenizer

DEFAULT_MODEL = "mini-gpt2"
STDIN = "-"
ROWS_AT_ONCE = 256
# What may be the name of a model: written as on the Hub, or a path without spaces.
MODEL_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?|[~./\\]\S*|\S*[/\\]\S*")
ARGUMENTS = typer.Argument(
    metavar="MODEL TEXT",
    help="A GPT-2: its folder, its name on the Hub, or a built-in one; the built-in mini-gpt2 if the first word has a "
    "space in it and is no folder. Then texts; - reads one a line from stdin.",
)


def generate(
    arguments: Annotated[list[str] | None, ARGUMENTS] = None,
    data: Annotated[str | None, typer.Option(metavar="FILE", help="Go on with a column of every row.")] = None,
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where the rows of --data go: .jsonl, .csv or .tsv.")
    ] = None,
    stream: Annotated[bool, typer.Option("--stream", help="Show the text as it comes.")] = False,
    show_probabilities: Annotated[
        bool, typer.Option("--show-probabilities", help="Show the ten likeliest tokens at every step.")
    ] = False,
    precision: Annotated[str, PRECISION] = "auto",
    header: Annotated[bool | None, HEADER] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the output file.")] = False,
    json: Annotated[
        bool, typer.Option("--json", help="Print one line of JSON on stdout, and everything else on stderr.")
    ] = False,
    *,
    columns: dict[str, Any],
    generation: dict[str, Any],
) -> None:
    r"""Let GPT-2 go on with your text: headway generate gpt2 "Once upon a time" --samples 3 --top-k 40

    Without a text it starts from nothing, as every text did in its training. Without --temperature, --top-k, --top-p,
    --min-p or several --samples it always takes the likeliest token. In --stop, \n is a new line.

    With --data, --text names the column. Without it, it is a text.
    """
    from ...core.generation.generation_config import GenerationConfig
    from ...tasks.language_modeling.loading import load_language_model
    from ..terminal import screen

    given = chosen_options(generation)
    if "stop" in given:
        given["stop"] = tuple(unescaped(text) for text in given["stop"])
    config = GenerationConfig(**given)
    name, texts = model_and_texts(arguments)
    chosen = chosen_columns(columns)
    if data is None and "text" in chosen:
        if texts:
            raise HeadwayError(f"--text: the text is given already ({texts[0]!r}). Leave one of them out.")
        texts = [chosen["text"]]
    shown = "--stream" if stream else "--show-probabilities" if show_probabilities else None
    if data is not None and (texts or shown):
        raise HeadwayError(f"--data goes on with the rows of a file: leave {shown or 'the texts'} out.")
    if (data is None) != (output is None):
        raise HeadwayError("--data and --output go together: rows are read from one file and written to another.")
    if stream and show_probabilities:
        raise HeadwayError("--stream shows the text and --show-probabilities the tokens: leave one of them out.")
    network, tokenizer = load_language_model(name, precision)
    if data is not None and output is not None:
        _continue_rows(network, tokenizer, config, data, output, chosen, header, overwrite, json)
        return
    console = screen(to_stderr=json)
    found = _Continued(network, tokenizer, config, console)
    results = []
    for prompt in texts or [""]:
        if show_probabilities:
            results.append(found.by_token(prompt))
        elif stream:
            results.append(found.as_it_comes(prompt))
        else:
            break
    if not results:
        results = found.whole(texts or [""])
    if json:
        from ..terminal import print_json

        print_json({"model": name, "results": results})


class _Continued:
    """Ways to go on with texts, each shown and given as JSON."""

    def __init__(
        self, network: "Network", tokenizer: "Tokenizer", config: "GenerationConfig", console: "Console"
    ) -> None:
        self.network, self.tokenizer, self.config, self.console = network, tokenizer, config, console
        self.scored = config.num_return_sequences > 1 or config.num_beams > 1

    def whole(self, prompts: Sequence[str]) -> list[dict[str, Any]]:
        from ...core.generation.generation import generate as continued
        from ..terminal import show_continued

        results = []
        for prompt, texts in zip(prompts, continued(self.network, self.tokenizer, prompts, self.config), strict=True):
            show_continued(self.console, prompt, texts, scored=self.scored)
            results.append({"prompt": prompt, "texts": [_plain(one) for one in texts]})
        return results

    def as_it_comes(self, prompt: str) -> dict[str, Any]:
        from rich.text import Text

        from ...core.generation.generation import stream
        from ..terminal import show_ending

        texts: list[Generation] = []
        begins = True
        for part in stream(self.network, self.tokenizer, prompt, self.config):
            shown = Text.assemble((prompt if begins else "", "dim"), part.piece)
            self.console.print(shown, end="", soft_wrap=True)
            self.console.file.flush()
            begins = part.generation is not None
            if part.generation is not None:
                self.console.print()
                show_ending(self.console, part.generation, scored=self.scored)
                texts.append(part.generation)
        return {"prompt": prompt, "texts": [_plain(one) for one in texts]}

    def by_token(self, prompt: str) -> dict[str, Any]:
        from ...core.generation.generation import next_tokens
        from ..terminal import show_steps

        steps: list[TokenStep] = list(next_tokens(self.network, self.tokenizer, prompt, self.config))
        text = "".join(step.piece for step in steps)
        self.console.print(prompt, style="dim", end="", soft_wrap=True)
        self.console.print(text, soft_wrap=True)
        show_steps(self.console, steps)
        return {
            "prompt": prompt,
            "texts": [{"text": text, "token_ids": [step.token_id for step in steps]}],
            "steps": [
                {
                    "token": step.token,
                    "probability": step.probability,
                    "likeliest": [{"token": one.token, "probability": one.probability} for one in step.likeliest],
                }
                for step in steps
            ],
        }


def _plain(found: "Generation") -> dict[str, Any]:
    return {
        "text": found.text,
        "token_ids": list(found.token_ids),
        "score": found.score,
        "finish_reason": found.finish_reason,
    }


def _continue_rows(
    network: "Network",
    tokenizer: "Tokenizer",
    config: "GenerationConfig",
    data: str,
    output: Path,
    chosen: dict[str, Any],
    header: bool | None,
    overwrite: bool,
    json: bool,
) -> None:
    """Every row of a file with what its text goes on with, in the file's order and in bounded memory."""
    from ...core.generation.generation import generate as continued
    from ...tasks.classification.classification import TextClassification
    from ...tasks.data.read import stream_rows
    from ...tasks.data.write import RowWriter
    from ..terminal import print_json, screen, section

    rows = stream_rows(data, header=header)
    settled = TextClassification(paired=False).columns(rows, chosen, need_label=False)
    section(screen(to_stderr=json), "Data", *settled.notes)
    column = settled.texts["text"]
    with RowWriter(output, rows.columns, overwrite) as writer:
        for part in _parts(row for _, row in rows):
            texts = ["" if row.get(column) is None else str(row[column]) for row in part]
            for row, found in zip(part, continued(network, tokenizer, texts, config), strict=True):
                first, *others = (one.text for one in found)
                writer.write(row, {"continuation": first} if not others else {"continuations": [first, *others]})
    if json:
        print_json({"output": str(output), "rows": writer.written})
    else:
        screen().print(f"{output}: {writer.written:,} rows")


def _parts(rows: Iterator[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    while part := list(islice(rows, ROWS_AT_ONCE)):
        yield part


# What `headway prompt` has in common with this.


def model_and_texts(arguments: Sequence[str] | None) -> tuple[str, list[str]]:
    """The model and the texts among what was typed; the built-in model where the first word cannot be one.

    Raises:
        HeadwayError: there is no built-in model, and none is given.
    """
    from ...core.checkpoints.hub import BUILT_IN

    given = list(arguments or ())
    first = given[0] if given and given[0] != STDIN else ""  # which, as a path, would be the folder one is in
    # Path would fail at a text that is too long for a name, or that has a tilde before a name nobody has.
    if first and (MODEL_NAME.fullmatch(first) or os.path.isdir(os.path.expanduser(first))):
        name, texts = given[0], given[1:]
    elif DEFAULT_MODEL in BUILT_IN:
        name, texts = DEFAULT_MODEL, given
    else:
        raise HeadwayError(
            f"The model is missing, and {DEFAULT_MODEL} does not come with this package. Give the folder of a GPT-2, "
            'or its name on the Hub, before the texts: headway generate gpt2 "a text".'
        )
    if texts == [STDIN]:
        texts = [text for line in sys.stdin if (text := line.rstrip("\r\n")).strip()]
        if not texts:
            raise HeadwayError("stdin holds no text: pipe one a line into the command.")
    return name, texts


def unescaped(text: str) -> str:
    r"""A text as it was typed, with \n as a new line and \t as a tabulator."""
    return text.replace(r"\n", "\n").replace(r"\t", "\t")


def generate_command() -> Callable[..., None]:
    """The command with all its options."""
    from ...core.generation.generation_config import GenerationConfig
    from ...core.options import options_of

    texts = [option for option in column_options(label=False) if option.name == "text"]
    return with_options(generate, columns=texts, generation=options_of(GenerationConfig))
