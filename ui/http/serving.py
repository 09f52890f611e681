"""The models of a server, each with the thread that computes its requests.

A model is opened at its first request. Its thread asks the registry for it at every batch, which keeps it open and
notices files that have been replaced: the new ones are opened, and the server's log says so.
"""

import asyncio
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

from ...core.errors import HeadwayError
from ...core.visible import visible
from ..model_registry import FileStates, NoSuchModel, file_states
from .batching import Batcher, Model
from .errors import ApiError
from .generation_prompt import PreparedPrompt
from .interleaving import Interleaver
from .metrics import Metrics
from .model_steps import Embedded, EmbeddingSteps, PredictionInput, PredictionSteps
from .worker import Worker

if TYPE_CHECKING:
    from ...core.generation.decoding import Generation
    from ...core.generation.generation import StreamedText
    from ...core.models.heads import Network
    from ...core.tokenizers.tokenizer import Tokenizer
    from ...tasks.data.examples import Field
    from ..model_registry import Entry, ModelRegistry
    from .limits import Limits
    from .request_bodies import GenerateRequest

Use = Literal["predict", "embed", "generate", "zero-shot"]
WorkerT = TypeVar("WorkerT", bound=Worker)
ItemT = TypeVar("ItemT")
AnswerT = TypeVar("AnswerT")

WARM_UP_TEXT = "some words"


@dataclass(frozen=True)
class ServedModel(Generic[WorkerT]):
    """A model opened for one use, and the worker that computes its requests."""

    name: str
    task: str | None
    fields: "tuple[Field, ...]"
    worker: WorkerT
    folder: Path
    states: FileStates  # of the folder when the model was opened

    @property
    def current(self) -> bool:
        """Whether the folder still holds this model; its files may have been replaced or removed."""
        try:
            return file_states(self.folder) == self.states
        except FileNotFoundError:
            return False


class ModelServer:
    """Finds and opens the model of a request, with one worker for each use of a model.

    Its methods belong to one event loop.

    Args:
        registry: the models.
        limits: limits on requests.
    """

    def __init__(self, registry: "ModelRegistry", limits: "Limits") -> None:
        self.registry, self.limits = registry, limits
        self.metrics = Metrics(self._queue_sizes)
        self.closed = False
        self._served: dict[tuple[Use, str], ServedModel[Any]] = {}
        self._added: dict[tuple[str, str], Worker] = {}

    def add_worker(self, use: str, name: str, steps: Model[ItemT, AnswerT]) -> "Batcher[ItemT, AnswerT]":
        """A worker for something that is open from the start and is no model of the registry."""
        worker = self._added[use, name] = self._batcher(use, name, steps)
        return worker

    def _queue_sizes(self) -> Iterator[tuple[tuple[str, str], int]]:
        for key, worker in self._added.items():
            yield key, worker.waiting
        for (use, name), served in list(self._served.items()):
            yield (use, name), served.worker.waiting

    def find_open(self, use: Use, name: str | None) -> ServedModel[Any] | None:
        """Returns a model if it is open; without a name, the first model that supports the use."""
        if name is None and self.registry.runs is not None:
            return None  # the first model depends on the finished runs, which are read from the disk
        return self._find_current(use, self._first(use) if name is None else name)

    def _find_current(self, use: Use, name: str) -> ServedModel[Any] | None:
        served = self._served.get((use, name))
        return served if served is not None and served.current else None

    async def open(self, use: Use, name: str | None) -> ServedModel[Any]:
        """Returns a model, opened if necessary; without a name, the first model that supports the use.

        Raises:
            NoSuchModel: the model does not exist.
            HeadwayError: the model does not support the use.
        """
        if name is None:
            name = await asyncio.to_thread(self._first, use)
            if served := self._find_current(use, name):
                return served
        entry = await asyncio.to_thread(self.registry.find, name)
        opened = await asyncio.to_thread(self._open, use, entry)
        if served := self._find_current(use, name):
            return served  # a concurrent request has opened it
        if replaced := self._served.get((use, name)):
            print(f"headway: the files of {visible(name)} have changed; they are used from now on.", file=sys.stderr)
            replaced.worker.close(0)  # its thread finishes the accepted requests
        if self.closed:
            opened.worker.close()
        self._served[use, name] = opened
        return opened

    async def warm_up(self) -> None:
        """Opens every model for its main use and computes one request, since the first one is the slowest.

        Raises:
            HeadwayError: a model cannot be used.
        """
        from ...core.generation.generation_config import GenerationConfig

        for entry in self.registry.entries():
            if entry.task is not None:
                served = await self.open("predict", entry.name)
                await served.worker.submit([PredictionInput({field.name: WARM_UP_TEXT for field in served.fields})])
            elif entry.model == "bert":
                await (await self.open("embed", entry.name)).worker.submit([WARM_UP_TEXT])
            if not _unsupported(entry, "generate"):
                served = await self.open("generate", entry.name)
                warm_up = PreparedPrompt(
                    WARM_UP_TEXT, WARM_UP_TEXT, GenerationConfig(max_new_tokens=1), truncated=False
                )
                steps = partial(self.generate, served, warm_up)
                await anext(served.worker.submit(steps))

    def close(self, timeout: float | None = None) -> None:
        """Accepts no more requests and waits up to `timeout` seconds per model for the accepted ones to finish."""
        self.closed = True
        for worker in [*self._added.values(), *(served.worker for served in self._served.values())]:
            worker.close(timeout)

    def label_chooser(
        self, name: str, threshold: float | dict[str, float] | None
    ) -> Callable[[Mapping[str, float]], list[str]] | None:
        """A function from the scores of several labels to those that reach a threshold; None without a threshold.

        Raises:
            ApiError: the model does not predict several labels, or does not have a label of the threshold.
        """
        from ...tasks import TextClassification

        if threshold is None:
            return None
        task = self.registry.task_model(name).task
        if not isinstance(task, TextClassification):
            raise ApiError(
                422, f"threshold is only for models that predict several labels; {name} does not.", "threshold"
            )
        try:
            return task.with_options({"threshold": threshold}).choose_labels
        except HeadwayError as error:
            raise ApiError(422, str(error).replace("--threshold", "threshold"), "threshold") from error

    def check_options(self, name: str, given: Mapping[str, Any]) -> None:
        """Raises an ApiError for options of a request that a model does not have, or that are not possible."""
        if not given:
            return
        task = self.registry.task_model(name).task
        if unknown := next((one for one in given if one not in task.request_options), None):
            raise ApiError(
                422,
                f"{unknown} is only for models that write an output for an input (text-to-text); {name} does not.",
                unknown,
            )
        task.with_options(given)

    def find_ranking(self, name: str | None) -> str:
        """The name of a model that ranks texts: the named one, or the first.

        Raises:
            NoSuchModel: the model does not exist, or the server has no model.
            HeadwayError: the model does not score pairs of texts.
        """
        from ...tasks.ranking import require_ranking

        if name is not None:
            if self.registry.find(name).task is None:
                raise HeadwayError(f"The model {name!r} has no task head, so it cannot rank; use /embed.")
            require_ranking(self.registry.task_model(name), f"The model {name!r}")
            return name
        for entry in self.registry.entries():
            if entry.task is not None and self.registry.task_model(entry.name).task.ranks:
                return entry.name
        raise NoSuchModel("This server has no model that scores pairs of texts. Start it with one.")

    def find_zero_shot(self, name: str | None) -> str:
        """The name of a model that knows entailment: the named one, or the first.

        Raises:
            NoSuchModel: the model does not exist, or the server has no model.
            HeadwayError: the model is no classifier of pairs.
        """
        if name is not None:
            if self.registry.find(name).task is None:
                raise HeadwayError(f"The model {name!r} has no task head, so it knows no entailment; use /embed.")
            self.registry.zero_shot(name)
            return name
        found = next((entry.name for entry in self.registry.entries() if self.registry.knows_entailment(entry)), None)
        if found is None:
            raise NoSuchModel("This server has no classifier of pairs that knows entailment. Start it with one.")
        return found

    def _first(self, use: Use) -> str:
        supported = [entry.name for entry in self.registry.entries() if not _unsupported(entry, use)]
        if not supported:
            raise NoSuchModel(f"This server has no model that can {use}. Start it with one.")
        return supported[0]

    # Opening.

    def _open(self, use: Use, entry: "Entry") -> ServedModel[Any]:
        if reason := _unsupported(entry, use):
            raise HeadwayError(f"The model {entry.name!r} {reason}.")
        create = {
            "predict": self._create_predictor,
            "embed": self._create_embedder,
            "generate": self._create_generator,
            "zero-shot": self._create_zero_shot,
        }[use]
        try:
            return create(entry)
        except NoSuchModel:
            raise
        except HeadwayError as error:  # the client cannot fix it: it belongs in the server's log
            raise RuntimeError(f"the model {entry.name!r} cannot be opened: {error}") from error

    def _create_predictor(self, entry: "Entry") -> "ServedModel[Batcher[PredictionInput, dict[str, Any]]]":
        name = entry.name
        fields = self.registry.task_model(name).task.fields
        steps = PredictionSteps(partial(self.registry.task_model, name), self._token_counter("predict", name))
        return _served_model(entry, fields, self._batcher("predict", name, steps))

    def _create_zero_shot(self, entry: "Entry") -> "ServedModel[Batcher[PredictionInput, dict[str, Any]]]":
        name = entry.name
        fields = self.registry.zero_shot(name).task.fields
        steps = PredictionSteps(partial(self.registry.zero_shot, name), self._token_counter("zero-shot", name))
        return _served_model(entry, fields, self._batcher("zero-shot", name, steps))

    def _create_embedder(self, entry: "Entry") -> "ServedModel[Batcher[str, Embedded]]":
        name = entry.name
        self.registry.embedder(name)
        steps = EmbeddingSteps(partial(self.registry.embedder, name), self._token_counter("embed", name))
        return _served_model(entry, (), self._batcher("embed", name, steps))

    def _create_generator(self, entry: "Entry") -> ServedModel[Interleaver]:
        self.registry.language_model(entry.name)
        return _served_model(entry, (), Interleaver(entry.name, max_queue=self.limits.max_queue))

    def _batcher(self, use: str, name: str, steps: Model[Any, Any]) -> Batcher[Any, Any]:
        batch_texts = self.metrics.batch_texts.labels(use, name)
        return Batcher(name, steps, max_queue=self.limits.max_queue, on_batch=batch_texts.observe)

    def _token_counter(self, use: Use, name: str) -> Callable[[int], None]:
        return self.metrics.tokens.labels(use, name).inc

    # Generation.

    def prompt(self, served: ServedModel[Interleaver], body: "GenerateRequest") -> "PreparedPrompt":
        """What a request asks for: its prompt, in the template of a text-to-text model and with its options."""
        return PreparedPrompt.of(self.registry, served.name, body)

    def generate(
        self, served: ServedModel[Interleaver], prompt: "PreparedPrompt"
    ) -> "Iterator[tuple[Generation, ...] | None]":
        """Generates texts: None after each step, and all samples, or the best beams, at the end."""
        from ...core.generation.generation import generate_in_steps

        share = max(1, served.worker.num_active)  # concurrent generations share the memory
        for texts in generate_in_steps(*self._language_model(served), prompt.given, prompt.config, share=share):
            if texts is not None:
                self._token_counter("generate", served.name)(sum(len(one.token_ids) for one in texts))
            yield texts

    def stream(self, served: ServedModel[Interleaver], prompt: "PreparedPrompt") -> "Iterator[StreamedText | None]":
        """Generates texts piece by piece: None after a step that completes no piece."""
        from ...core.generation.generation import stream

        for part in stream(*self._language_model(served), prompt.given, prompt.config):
            if part.generation is not None:
                self._token_counter("generate", served.name)(len(part.generation.token_ids))
            yield part if part.piece or part.generation is not None else None

    def _language_model(self, served: ServedModel[Interleaver]) -> "tuple[Network, Tokenizer]":
        return self.registry.language_model(served.name)


def _unsupported(entry: "Entry", use: Use) -> str | None:
    """Why a model does not support a use, or None if it does."""
    if use == "predict" and entry.task is None:
        return "has no task head; use /embed for its embeddings"
    if use != "predict" and entry.model == "encoder-decoder":
        return "writes an output for an input, and neither embeds nor continues texts; use /predict"
    if use == "generate" and entry.model != "gpt2":
        from ...core.checkpoints.families.registry import family_named

        return f"is {family_named(entry.family).with_article}, which cannot generate text; choose a GPT-2 model"
    return None


def _served_model(entry: "Entry", fields: "tuple[Field, ...]", worker: WorkerT) -> ServedModel[WorkerT]:
    return ServedModel(entry.name, entry.task, fields, worker, entry.folder, file_states(entry.folder))
