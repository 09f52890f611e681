"""The models that a server answers with, each with the thread that does its work.

A model is opened when it is first asked for. Its thread then asks the shelf for it at every batch, which keeps it open
and sees when a run has been replaced.
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

from ...core.errors import HeadwayError
from ..model_registry import NoSuchModel
from .batching import BATCH_TOKENS, Batcher, Worker
from .interleaving import Turns
from .metrics import Labels, Metrics

if TYPE_CHECKING:
    import numpy as np

    from ...core.generation.decoding import Generation
    from ...core.generation.generation import StreamedText
    from ...core.generation.generation_config import GenerationConfig
    from ...core.models.heads import Network
    from ...core.tokenizers.tokenizer import Tokenizer
    from ...tasks.data.examples import Field
    from ..model_registry import Entry, ModelRegistry
    from .middleware import Limits

Use = Literal["predict", "embed", "generate"]
Work = TypeVar("Work", bound=Worker)
Input = Mapping[str, Any]  # a text for each field, or its words

WARM_UP = "some words"
CHARACTERS_PER_TOKEN = 4  # in English; what is computed at once is counted exactly below


@dataclass(frozen=True)
class Embedded:
    """A text's vector, and how many tokens the text has."""

    vector: "np.ndarray"  # (D,)
    tokens: int


@dataclass(frozen=True)
class Room(Generic[Work]):
    """A model in one use of it, and who does the work."""

    name: str
    task: str | None
    fields: "tuple[Field, ...]"
    work: Work
    config: Path  # of the model's folder
    changed: float  # when it was last written

    @property
    def fresh(self) -> bool:
        """Whether the model is still the one that was opened: a run may be replaced, or gone."""
        try:
            return self.config.stat().st_mtime == self.changed
        except FileNotFoundError:
            return False


class Serving:
    """Finds the model for a request, opens it, and sees to it that one thread works with it.

    Its methods belong to one event loop.

    Args:
        registry: where the models are.
        limits: how much is taken.
    """

    def __init__(self, registry: "ModelRegistry", limits: "Limits") -> None:
        self.registry, self.limits = registry, limits
        self.metrics = Metrics(self._queues)
        self.closed = False
        self._rooms: dict[tuple[Use, str], Room[Any]] = {}

    def _queues(self) -> Iterator[tuple[Labels, float]]:
        for (use, name), room in list(self._rooms.items()):
            yield (use, name), room.work.waiting

    def open_room(self, use: Use, name: str | None) -> Room[Any] | None:
        """The room of a model, of the first that fits where no name is given; None where it is not open yet."""
        if name is None and self.registry.runs is not None:
            return None  # which runs there are is read from the disk
        return self._fresh(use, self._first(use) if name is None else name)

    def _fresh(self, use: Use, name: str) -> Room[Any] | None:
        room = self._rooms.get((use, name))
        return room if room is not None and room.fresh else None

    async def room(self, use: Use, name: str | None) -> Room[Any]:
        """The same, opened where it was not.

        Raises:
            NoSuchModel: there is no such model.
            HeadwayError: it cannot be used so.
        """
        if name is None:
            name = await asyncio.to_thread(self._first, use)
            if room := self._fresh(use, name):
                return room
        entry = await asyncio.to_thread(self.registry.find, name)
        opened = {"predict": self._open_predictor, "embed": self._open_embedder, "generate": self._open_writer}[use]
        made = await asyncio.to_thread(_opened, entry, use, opened)
        if room := self._fresh(use, name):
            return room  # somebody else was faster
        if room := self._rooms.get((use, name)):
            room.work.close(0)  # in its own time it finishes what it took
        if self.closed:
            made.work.close()
        self._rooms[use, name] = made
        return made

    async def warm_up(self) -> None:
        """Opens every model in the use that it is made for and asks it something: the first answer is the slowest.

        Raises:
            HeadwayError: one cannot be used.
        """
        from ...core.generation.generation_config import GenerationConfig

        for entry in self.registry.entries():
            if entry.task is not None:
                room = await self.room("predict", entry.name)
                await room.work.submit([{field.name: WARM_UP for field in room.fields}])
            elif entry.model == "bert":
                await (await self.room("embed", entry.name)).work.submit([WARM_UP])
            if not _unfit(entry, "generate"):
                writer = await self.room("generate", entry.name)
                steps = partial(self.whole, writer, WARM_UP, GenerationConfig(max_new_tokens=1))
                await anext(writer.work.submit(steps))

    def close(self, timeout: float | None = None) -> None:
        """Takes nothing more, finishes what was taken, and waits for that at most so many seconds a model."""
        self.closed = True
        for room in list(self._rooms.values()):
            room.work.close(timeout)

    def _first(self, use: Use) -> str:
        fitting = [entry.name for entry in self.registry.entries() if not _unfit(entry, use)]
        if not fitting:
            raise NoSuchModel(f"There is no model here that can {use}. Start the server with one.")
        return fitting[0]

    def _open_predictor(self, entry: "Entry") -> "Room[Batcher[Input, dict[str, Any]]]":
        name = entry.name
        fields = self.registry.task_model(name).task.fields

        def predict(inputs: Sequence[Input]) -> list[dict[str, Any]]:
            model = self.registry.task_model(name)
            answers = [prediction.to_json() for prediction in model.predict(list(inputs))]
            self._count("predict", name, model.tokenizer, [text for one in inputs for text in _texts(one)])
            return answers

        return _room(entry, fields, self._batcher("predict", name, predict, _cost_of_input))

    def _open_embedder(self, entry: "Entry") -> "Room[Batcher[str, Embedded]]":
        name = entry.name
        self.registry.embedder(name)

        def embed(texts: Sequence[str]) -> list[Embedded]:
            model = self.registry.embedder(name)
            vectors = model.embed(texts)
            counts = self._count("embed", name, model.tokenizer, texts)
            return [Embedded(vector, count) for vector, count in zip(vectors, counts, strict=True)]

        return _room(entry, (), self._batcher("embed", name, embed, _cost_of_text))

    def _open_writer(self, entry: "Entry") -> Room[Turns]:
        self.registry.language_model(entry.name)
        return _room(entry, (), Turns(entry.name, most_waiting=self.limits.max_queue))

    def _batcher(
        self, use: Use, name: str, work: Callable[[Sequence[Any]], list[Any]], cost: Callable[[Any], int]
    ) -> Batcher[Any, Any]:
        def computed(texts: int) -> None:
            self.metrics.batches.add(use, name, value=texts)

        return Batcher(name, work, cost, budget=BATCH_TOKENS, most_waiting=self.limits.max_queue, computed=computed)

    def _count(self, use: Use, name: str, tokenizer: "Tokenizer", texts: Sequence[str]) -> list[int]:
        """The tokens of each text, without special ones."""
        counts = [len(ids) for ids in tokenizer.encode_ids(texts)]
        self.metrics.tokens.add(use, name, by=sum(counts))
        return counts

    # -- going on with a text

    def whole(
        self, room: Room[Turns], prompt: str, config: "GenerationConfig"
    ) -> "Iterator[tuple[Generation, ...] | None]":
        """Goes on with a text, None at each step, and gives all its samples, or the best of its beams, at the end."""
        from ...core.generation.generation import CACHE_BYTES, generate_in_steps

        # Of what a computation alone may keep, each of those that are under way now gets its share.
        share = CACHE_BYTES // max(1, room.work.under_way)
        for found in generate_in_steps(*self._language_model(room), prompt, config, cache_bytes=share):
            if found is not None:
                self.metrics.tokens.add("generate", room.name, by=sum(len(one.token_ids) for one in found))
            yield found

    def piecewise(self, room: Room[Turns], prompt: str, config: "GenerationConfig") -> "Iterator[StreamedText | None]":
        """Goes on with a text and gives it as it comes."""
        from ...core.generation.generation import stream

        for part in stream(*self._language_model(room), prompt, config):
            if part.generation is not None:
                self.metrics.tokens.add("generate", room.name, by=len(part.generation.token_ids))
            yield part if part.piece or part.generation is not None else None

    def _language_model(self, room: Room[Turns]) -> "tuple[Network, Tokenizer]":
        return self.registry.language_model(room.name)


def _unfit(entry: "Entry", use: Use) -> str | None:
    """Why a model cannot be used so, if it cannot."""
    if use == "predict" and entry.task is None:
        return "has no head that answers anything; /embed makes vectors with it"
    if use == "generate" and entry.model != "gpt2":
        return "is a BERT, which cannot go on with a text; name a GPT-2"
    return None


def _room(entry: "Entry", fields: "tuple[Field, ...]", work: Work) -> Room[Work]:
    config = entry.folder / "config.json"
    return Room(entry.name, entry.task, fields, work, config, config.stat().st_mtime)


def _opened(entry: "Entry", use: Use, opened: "Callable[[Entry], Room[Any]]") -> Room[Any]:
    if why := _unfit(entry, use):
        raise HeadwayError(f"The model {entry.name!r} {why}.")
    try:
        return opened(entry)
    except NoSuchModel:
        raise
    except HeadwayError as error:  # whoever asks cannot mend it: it belongs into the server's log
        raise RuntimeError(f"the model {entry.name!r} cannot be opened: {error}") from error


def _texts(given: Input) -> Iterator[str]:
    for text in given.values():
        if isinstance(text, str):
            yield text
        else:
            yield from text


def _cost_of_text(text: str) -> int:
    return 2 + len(text) // CHARACTERS_PER_TOKEN


def _cost_of_input(given: Input) -> int:
    return sum(map(_cost_of_text, _texts(given)))
