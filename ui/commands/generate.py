"""headway generate: continue texts with GPT-2, all at once, streamed, or token by token with the alternatives."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ...core.errors import HeadwayError
from ..options import (
    DEVICE,
    JSON,
    OVERWRITE,
    PRECISION,
    chosen_columns,
    chosen_options,
    column_options,
    reading_options,
    refuse_without_file,
    with_options,
)
from .arguments import ARGUMENTS, model_and_texts, unescape

if TYPE_CHECKING:
    from rich.console import Console

    from ...core.generation.decoding import Generation
    from ...core.generation.generation import TokenStep
    from ...core.generation.generation_config import GenerationConfig
    from ...core.models.heads import Network
    from ...core.tokenizers.tokenizer import Tokenizer
    from ...tasks.data.rows import RowStream
    from ...tasks.text_to_text.stored import StoredPrompt, StoredTask

ROWS_AT_ONCE = 256


def generate(
    arguments: Annotated[list[str] | None, ARGUMENTS] = None,
    data: Annotated[str | None, typer.Option(metavar="FILE", help="Continue the text in every row of a file.")] = None,
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the rows of --data to a .jsonl, .csv or .tsv.")
    ] = None,
    stream: Annotated[bool, typer.Option("--stream", help="Print the text while it is generated.")] = False,
    show_probabilities: Annotated[
        bool, typer.Option("--show-probabilities", help="Print the ten most likely tokens at every step.")
    ] = False,
    plain: Annotated[
        bool,
        typer.Option("--plain", help="Continue the text itself, without the template of a text-to-text model."),
    ] = False,
    precision: Annotated[str, PRECISION] = "auto",
    device: Annotated[str, DEVICE] = "auto",
    overwrite: Annotated[bool, OVERWRITE] = False,
    json: Annotated[bool, JSON] = False,
    *,
    columns: dict[str, Any],
    reading: dict[str, Any],
    generation: dict[str, Any],
) -> None:
    r"""Continue a text with GPT-2: headway generate gpt2 "Once upon a time" --samples 3 --top-k 40

    Without a text, generation starts from the end-of-text token. Decoding is greedy unless --temperature, --top-k,
    --top-p, --min-p or --samples greater than 1 is given. In --stop, \n is a line break.

    With --data, --text names the column of the texts. Without --data it is a text.
    """
    from ...core.generation.generation_config import GenerationConfig
    from ...tasks.data.read import stream_rows
    from ...tasks.language_modeling.loading import load_language_model
    from ...tasks.text_to_text.stored import find_stored
    from ..terminal import print_json, screen, section

    given = chosen_options(generation)
    if "stop" in given:
        given["stop"] = tuple(unescape(text) for text in given["stop"])
    name, texts = model_and_texts(arguments)
    chosen = chosen_columns(columns)
    if data is None and "text" in chosen:
        if texts:
            raise HeadwayError(f"--text: the text is already given as an argument ({texts[0]!r}). Omit one.")
        texts = [chosen["text"]]
    _check_modes(texts, data, output, stream=stream, show_probabilities=show_probabilities)
    refuse_without_file(reading, data)
    console = screen(to_stderr=json)
    GenerationConfig(**given)  # before a model is searched
    stored = None if plain else find_stored(name)
    loaded = load_language_model(name, precision, device)
    if stored is not None:
        given = stored.options(given, as_written=stream or show_probabilities)
        note = f"each text is read in the template of {name}: {stored.template.shown} (--plain continues it as it is)"
        section(screen(to_stderr=True), "Prompt", note)
    generator = _Generator(*loaded, GenerationConfig(**given), console, stored)
    if data is not None and output is not None:
        written = generator.continue_rows(stream_rows(data, **reading), chosen.get("text"), output, overwrite)
        if json:
            print_json({"output": str(output), "rows": written})
        else:
            console.print(f"{output}: {written:,} rows")
        return
    prompts = generator.prompts(texts or [""])
    if show_probabilities:
        results = [generator.show_steps(prompt) for prompt in prompts]
    elif stream:
        results = [generator.stream(prompt) for prompt in prompts]
    else:
        results = generator.continue_texts(prompts)
    if json:
        print_json({"model": name, "results": results})


def _check_modes(
    texts: Sequence[str], data: str | None, output: Path | None, *, stream: bool, show_probabilities: bool
) -> None:
    """Raises HeadwayError for options that contradict each other."""
    shown = "--stream" if stream else "--show-probabilities" if show_probabilities else None
    if data is not None and (texts or shown):
        raise HeadwayError(f"--data continues the rows of a file: omit {shown or 'the texts'}.")
    if (data is None) != (output is None):
        raise HeadwayError("--data and --output must be used together: one file is read, the other is written.")
    if stream and show_probabilities:
        raise HeadwayError("--stream prints text, --show-probabilities prints tokens: omit one of them.")


@dataclass(frozen=True)
class _Generator:
    """A language model that prints its texts on a console and returns them as JSON."""

    network: "Network"
    tokenizer: "Tokenizer"
    config: "GenerationConfig"
    console: "Console"
    stored: "StoredTask | None" = None  # of a text-to-text model

    def prompts(self, texts: Sequence[str]) -> "list[StoredPrompt | str]":
        """What is continued for each text."""
        from ..terminal import screen

        if unknown := [word for text in texts for word in self.tokenizer.unknown(text)]:
            screen(to_stderr=True).print(
                f"{len(unknown):,} words are not in the vocabulary and are read as unknown, the first one is "
                f"{unknown[0]!r}.",
                style="yellow",
                markup=False,
            )
        if self.stored is None:
            return list(texts)
        most, new = self.network.config.max_positions, self.config.max_new_tokens
        found = [self.stored.prompt(text, self.tokenizer, most, new) for text in texts]
        if cut := [one.num_unread for one in found if one.num_unread]:
            screen(to_stderr=True).print(
                f"{len(cut):,} of {len(found):,} texts are too long: of each, the {self.stored.task.cut_side} is not "
                f"read (up to {max(cut):,} tokens).",
                style="yellow",
            )
        return [*found]

    @property
    def scored(self) -> bool:
        """Whether there are several texts per prompt or a beam search, so that their scores are of interest."""
        return self.config.num_return_sequences > 1 or self.config.num_beams > 1

    def continue_texts(self, prompts: "Sequence[StoredPrompt | str]") -> list[dict[str, Any]]:
        """Prints the continuations of all prompts."""
        from ..terminal import show_generations

        results = []
        for prompt, texts in zip(prompts, self._generate(prompts), strict=True):
            show_generations(self.console, _text(prompt), texts, scored=self.scored)
            results.append({"prompt": _text(prompt), "texts": [_to_json(one) for one in texts]})
        return results

    def stream(self, prompt: "StoredPrompt | str") -> dict[str, Any]:
        """Prints a text while it is generated."""
        from rich.text import Text

        from ...core.generation.generation import stream
        from ..terminal import show_ending

        texts: list[Generation] = []
        first = True
        for part in stream(self.network, self.tokenizer, _given(prompt), self.config):
            self.console.print(
                Text.assemble((_text(prompt) if first else "", "dim"), part.piece), end="", soft_wrap=True
            )
            self.console.file.flush()
            first = part.generation is not None  # of the next sample
            if part.generation is not None:
                self.console.print()
                show_ending(self.console, part.generation, scored=self.scored)
                texts.append(part.generation)
        return {"prompt": _text(prompt), "texts": [_to_json(one) for one in texts]}

    def show_steps(self, prompt: "StoredPrompt | str") -> dict[str, Any]:
        """Prints a text, then each of its tokens with the most likely ones."""
        from ...core.generation.generation import next_tokens
        from ..terminal import show_steps

        steps: list[TokenStep] = list(next_tokens(self.network, self.tokenizer, _given(prompt), self.config))
        text = "".join(step.piece for step in steps)
        self.console.print(_text(prompt), style="dim", end="", soft_wrap=True)
        self.console.print(text, soft_wrap=True)
        show_steps(self.console, steps)
        return {
            "prompt": _text(prompt),
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

    def continue_rows(self, stream: "RowStream", column: str | None, output: Path, overwrite: bool) -> int:
        """Writes every row of a file with the continuation of its text and returns their number.

        The rows are read in parts, so memory is bounded.
        """
        from ...tasks.data.column_inference import infer_columns
        from ...tasks.data.examples import TEXT
        from ...tasks.data.write import RowWriter
        from ..terminal import section

        mapping = infer_columns(stream, [TEXT], chosen={"text": column}, need_label=False)
        section(self.console, "Data", *mapping.notes)
        text = mapping.texts["text"]
        rows = (row for _, row in stream)
        with RowWriter(output, stream.columns, overwrite) as writer:
            while part := list(islice(rows, ROWS_AT_ONCE)):
                prompts = self.prompts(["" if row.get(text) is None else str(row[text]) for row in part])
                for row, found in zip(part, self._generate(prompts), strict=True):
                    first, *others = (one.text for one in found)
                    writer.write(row, {"continuations": [first, *others]} if others else {"continuation": first})
            return writer.num_rows

    def _generate(self, prompts: "Sequence[StoredPrompt | str]") -> "list[tuple[Generation, ...]]":
        from ...core.generation.generation import generate

        return generate(self.network, self.tokenizer, [_given(one) for one in prompts], self.config)


def _text(prompt: "StoredPrompt | str") -> str:
    return prompt if isinstance(prompt, str) else prompt.text


def _given(prompt: "StoredPrompt | str") -> str | list[int]:
    return prompt if isinstance(prompt, str) else prompt.ids


def _to_json(found: "Generation") -> dict[str, Any]:
    return {
        "text": found.text,
        "token_ids": list(found.token_ids),
        "score": found.score,
        "finish_reason": found.finish_reason,
    }


def generate_command() -> Callable[..., None]:
    """Builds the command with all its options."""
    from ...core.generation.generation_config import GenerationConfig
    from ...core.options import options_of

    texts = [option for option in column_options(label=False) if option.name == "text"]
    return with_options(generate, reading=reading_options(), columns=texts, generation=options_of(GenerationConfig))
