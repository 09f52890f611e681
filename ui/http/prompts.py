"""The path /prompt: saved prompts (`headway prompt MODEL ... --save FILE.yaml`) answer texts.

A prompt is opened when the server starts and stays as it was then. Its answers do not depend on the other texts of a
request.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request
from starlette.responses import Response

from ...core.errors import HeadwayError
from ..model_registry import ModelRegistry, NoSuchModel
from .answers import compute
from .batching import Model
from .bodies import read_object
from .errors import JsonResponse
from .middleware import Client
from .model_steps import CHARACTERS_PER_TOKEN, Input, texts_of
from .request_bodies import INPUT_NAMES, check_fields, read_input, read_list, read_model
from .serving import ModelServer

if TYPE_CHECKING:
    from ...tasks.data.examples import Field
    from ...tasks.prompting.prepared_prompt import PreparedPrompt
    from .batching import Batcher

PATH = "/prompt"
MODEL = "model"


@dataclass(frozen=True, eq=False)
class NamedPrompt:
    """A saved prompt with its model, labels and demonstrations.

    Args:
        name: of its file, without the suffix.
        prepared: answers texts.
    """

    name: str
    prepared: "PreparedPrompt"

    @property
    def fields(self) -> "tuple[Field, ...]":
        """The texts that it reads."""
        return self.prepared.reader.fields

    @cached_property
    def context_tokens(self) -> int:
        """The approximate number of tokens around a text: those of the demonstrations."""
        (text,) = self.prepared.reader.texts([{field.name: "a" for field in self.fields if field.required}])
        return len(self.prepared.preview(text)[0]) // CHARACTERS_PER_TOKEN


def open_prompts(files: Sequence[str | Path], registry: ModelRegistry) -> list[NamedPrompt]:
    """Opens saved prompts.

    Args:
        files: that `headway prompt --save` wrote.
        registry: has the device and the precision.

    Raises:
        HeadwayError: a file does not hold a prompt, its model or examples cannot be used, or two have the same name.
    """
    return [NamedPrompt(name, _prepare(path, registry)) for name, path in _names(files, registry).items()]


def _names(files: Sequence[str | Path], registry: ModelRegistry) -> dict[str, Path]:
    found: dict[str, Path] = {}
    taken = {entry.name for entry in registry.entries()}
    for path in map(Path, files):
        if path.stem in taken:
            raise HeadwayError(f"{path}: a model or prompt named {path.stem} is served already. Rename the file.")
        taken.add(path.stem)
        found[path.stem] = path
    return found


def _prepare(path: Path, registry: ModelRegistry) -> "PreparedPrompt":
    from ...tasks import SavedPrompt
    from ...tasks.data.read import read_table
    from ...tasks.prompting.calibration import BATCH
    from ...tasks.prompting.scoring import calibration_of

    saved = SavedPrompt.load(path)
    if calibration_of(saved.prompt) == BATCH and saved.unlabelled is None:
        raise HeadwayError(
            f"{path}: batch calibration depends on all texts, and a server answers one at a time. Save the prompt "
            "with --unlabelled texts, or with another --calibration."
        )
    model = saved.open(registry.precision, registry.device)
    paired = False
    if saved.examples is not None:
        columns = model.reader.columns(read_table(saved.examples, **saved.reading), saved.columns, need_label=True)
        paired = "pair" in columns.texts
    return model.prepare(saved.examples, saved.columns, unlabelled=saved.unlabelled, paired=paired, **saved.reading)


class PromptSteps(Model[Input, dict[str, Any]]):
    """The answers of a prompt; a text is its only window.

    Args:
        prompt: which one.
    """

    def __init__(self, prompt: NamedPrompt) -> None:
        self._prompt = prompt

    def cost(self, item: Input) -> int:
        """The approximate number of tokens of a prompt."""
        return self._prompt.context_tokens + sum(map(len, texts_of(item))) // CHARACTERS_PER_TOKEN

    def divide(self, items: Sequence[Input]) -> list[list[Input]]:
        """Each text by itself."""
        return [[one] for one in items]

    def window_cost(self, window: Input) -> int:
        """As `cost`."""
        return self.cost(window)

    def compute(self, windows: Sequence[Input], pause: Callable[[], None] | None = None) -> list[dict[str, Any]]:  # noqa: ARG002
        """The answers, with what did not fit into the prompt."""
        prepared = replace(self._prompt.prepared)  # with warnings of its own
        texts = prepared.reader.texts(list(windows))
        found = prepared.predict(texts)
        return [
            {**one.to_json(), "dropped_examples": dropped, "truncated": text.where in prepared.shortened}
            for one, text, dropped in zip(found, texts, prepared.dropped, strict=True)
        ]

    def join(self, windows: Sequence[list[Input]], outputs: Sequence[list[Any]]) -> list[dict[str, Any]]:  # noqa: ARG002
        """The answer of each text."""
        return [answer for (answer,) in outputs]


@dataclass(frozen=True, eq=False)
class ServedPrompt:
    """A prompt and the worker that computes its requests."""

    prompt: NamedPrompt
    worker: "Batcher[Input, dict[str, Any]]"


def serve_prompts(prompts: Sequence[NamedPrompt], serving: ModelServer) -> dict[str, ServedPrompt]:
    """A worker for each prompt, which the server closes at its end."""
    return {one.name: ServedPrompt(one, serving.add_worker("prompt", one.name, PromptSteps(one))) for one in prompts}


def find_prompt(served: Mapping[str, ServedPrompt], name: str | None) -> ServedPrompt:
    """The named prompt, or the first.

    Raises:
        NoSuchModel: there is none.
    """
    if not served:
        raise NoSuchModel("This server has no prompts. Start it with one: headway serve FILE.yaml.")
    if name is None:
        return next(iter(served.values()))
    if name not in served:
        raise NoSuchModel(f"There is no prompt {name!r}. Available prompts: {', '.join(served)}.")
    return served[name]


def add_prompts(api: FastAPI, serving: ModelServer, prompts: Sequence[NamedPrompt]) -> None:
    """Adds the path."""
    limits, served_prompts = serving.limits, serve_prompts(prompts, serving)

    @api.post(PATH)
    async def prompt(request: Request) -> Response:
        """Returns the answer of a saved prompt for each input: its labels with their probabilities, or a text.

        Each one has the number of demonstrations that did not fit beside the input, and whether the input was
        truncated.
        """
        body = await read_object(request, limits)
        check_fields(body, PATH, (MODEL, *INPUT_NAMES))
        name, given = read_list(body, limits)
        with Client.of(request) as client:
            served = find_prompt(served_prompts, read_model(body))
            inputs = [read_input(one, f"{name}[{i}]", served.prompt.fields, limits) for i, one in enumerate(given)]
            answers = await compute(client, served, inputs, name, limits)
        return JsonResponse({MODEL: served.prompt.name, "predictions": answers})
