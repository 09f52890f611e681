"""Predictions and embeddings in the steps in which the server computes them: windows, outputs, answers.

The model is asked for at every step: the registry keeps a model open that is in use. A window knows its model, so that
a text that is being computed when its model is replaced ends with the model it began with.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from .batching import Model

if TYPE_CHECKING:
    import numpy as np

    from ...tasks import Embedder, TaskModel
    from ...tasks.data.features import Features, TextLength

Input = Mapping[str, Any]  # the text of each field, or its words
CountTokens = Callable[[int], None]
ItemT = TypeVar("ItemT")
AnswerT = TypeVar("AnswerT")

CHARACTERS_PER_TOKEN = 4  # of English; only an estimate for the batch budget


class PredictionInput(NamedTuple):
    """An input of a request for predictions, and the options that the request sets for it."""

    texts: Input
    options: Mapping[str, Any] = {}


class Window(NamedTuple):
    """A window of a text, and the model that reads it."""

    model: Any
    features: "Features"


class Embedded(NamedTuple):
    """The embedding of a text, and its number of tokens."""

    vector: "np.ndarray"  # (D,)
    length: "TextLength"


class _Steps(Model[ItemT, AnswerT]):
    """What both have in common. Tokens are counted with special tokens, as in `Features.length`.

    Args:
        find: returns the model.
        count: called with the number of tokens of finished texts that were read.
    """

    def __init__(self, find: "Callable[[], TaskModel | Embedder]", count: CountTokens) -> None:
        self._find, self._count = find, count

    def divide(self, items: Sequence[ItemT]) -> list[list[Window]]:
        """The windows of each item."""
        model: Any = self._find()
        return [[Window(model, one) for one in windows] for windows in self.windows(model, items)]

    def windows(self, model: Any, items: Sequence[ItemT]) -> "Iterable[list[Features]]":
        """The features of each item."""
        return model.windows(items)

    def window_cost(self, window: Window) -> int:
        """The number of tokens of a window."""
        return len(window.features.input_ids)


class PredictionSteps(_Steps[PredictionInput, dict[str, Any]]):
    """The predictions of a model."""

    def cost(self, item: PredictionInput) -> int:
        """The approximate number of tokens of an input, which may be read once for each of some labels."""
        return sum(map(_text_cost, texts_of(item.texts))) * max(1, len(item.options.get("labels", ())))

    def windows(self, model: Any, items: Sequence[PredictionInput]) -> "Iterator[list[Features]]":
        """The features of each input, with its options."""
        for options, part in groupby(items, key=attrgetter("options")):
            yield from model.windows([one.texts for one in part], options)

    def compute(self, windows: Sequence[Window], pause: Callable[[], None] | None = None) -> list[Any]:
        """What the model says about each window."""
        return [output for model, features in _by_model(windows) for output in model.predict_windows(features, pause)]

    def join(self, windows: Sequence[list[Window]], outputs: Sequence[list[Any]]) -> list[dict[str, Any]]:
        """The prediction for each input, with its length, as plain JSON types."""
        parts = [[one.features for one in part] for part in windows]
        found = windows[0][0].model.join_windows(parts, [one for part in outputs for one in part])
        self._count(sum(prediction.length.num_read for prediction in found))
        return [{**prediction.to_json(), **prediction.length.to_json()} for prediction in found]


class EmbeddingSteps(_Steps[str, Embedded]):
    """The embeddings of a model."""

    def cost(self, item: str) -> int:
        """The approximate number of tokens of a text."""
        return _text_cost(item)

    def compute(self, windows: Sequence[Window], pause: Callable[[], None] | None = None) -> list[Any]:
        """The vector of each window."""
        return [vector for model, features in _by_model(windows) for vector in model.embed_windows(features, pause)]

    def join(self, windows: Sequence[list[Window]], outputs: Sequence[list[Any]]) -> list[Embedded]:
        """The embedding of each text."""
        import torch

        from ...tasks.data.features import text_length

        model = windows[0][0].model
        parts = [[one.features for one in part] for part in windows]
        vectors = model.join_windows(parts, torch.stack([one for part in outputs for one in part]))
        lengths = list(map(text_length, parts))
        self._count(sum(one.num_read for one in lengths))
        return [Embedded(vector, length) for vector, length in zip(vectors, lengths, strict=True)]


def _by_model(windows: Iterable[Window]) -> "Iterator[tuple[Any, list[Features]]]":
    for _, part in groupby(windows, key=lambda one: id(one.model)):
        same = list(part)
        yield same[0].model, [one.features for one in same]


def texts_of(given: Input) -> Iterator[str]:
    """The texts of an input; of a list of words, each word."""
    for text in given.values():
        if isinstance(text, str):
            yield text
        else:
            yield from text


def _text_cost(text: str) -> int:
    return 2 + len(text) // CHARACTERS_PER_TOKEN
