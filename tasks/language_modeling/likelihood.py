"""What both ways of learning from texts without labels share: the texts, what is asked of them, and the figures.

Shapes: S tokens that are asked for, V vocabulary.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional as F

from ...core.errors import HeadwayError
from ...core.models.packing import BatchSampler
from ..base.predictions import Prediction
from ..data.columns import ColumnMapping
from ..data.corpus import CorpusWindow
from ..data.examples import Example
from ..data.features import INFERENCE_BATCH_TOKENS, Features
from ..data.rows import Table

DOCUMENT = "What a document is in plain text; elsewhere a row is one."


@dataclass(frozen=True)
class TextExample(Example):
    """A text to be continued, or with masks in it."""

    text: str

    @property
    def texts(self) -> tuple[str, ...]:
        """The one text."""
        return (self.text,)


@dataclass(frozen=True)
class Likelihood(Prediction):
    """How well a model foretells a held-out sequence."""

    loss: float  # the sum over the tokens it was asked about, in nats
    tokens: int
    right: int  # how many of them it holds for the likeliest
    bytes: int  # UTF-8 bytes of the document, with its first sequence
    followed: bool | None = None  # whether it tells rightly if the second segment followed the first


@dataclass(frozen=True)
class Asked:
    """The tokens of a sequence that are to be found: where they stand, and what they are."""

    positions: list[int]
    ids: list[int]
    follows: bool | None = None  # whether the second segment followed the first; None where there is one
    bytes: int = 0  # of the document
    words: tuple[list[str], list[int]] | None = None  # and where they begin; where a teacher reads them


def text_reader(table: Table, columns: ColumnMapping) -> Callable[[int], TextExample]:
    """Reads the texts of a table, each by the number of its row."""
    name = columns.texts["text"]

    def read(row: int) -> TextExample:
        text = table.rows[row][name]
        if text is not None and not isinstance(text, str):
            raise HeadwayError(f'column "{name}": a {type(text).__name__} where a text belongs. Correct it there.')
        return TextExample(row, table.where(row), text or "")

    return read


def prompt_room(limit: int, more: int) -> int:
    """The tokens of a text that are read before so many more are written: half of the limit at least."""
    return max(limit - more, limit // 2, 1)


def even_windows(length: int, most: int) -> list[CorpusWindow]:
    """A document cut into as few windows as can be, of almost the same length."""
    count = -(-length // most)
    borders = [i * length // count for i in range(count + 1)] if count else []
    return [CorpusWindow(start, stop) for start, stop in pairwise(borders)]


def asked_places(one: Features) -> list[int]:
    """Where the tokens of a sequence stand that the model is asked about."""
    return one.metadata.positions if one.target is None else one.target.positions


def parts_of(features: Sequence[Features], at_once: int = INFERENCE_BATCH_TOKENS) -> Iterable[list[Features]]:
    """Sequences in parts of so many tokens, in their order."""
    plan = BatchSampler([len(one.input_ids) for one in features], batch_tokens=at_once)
    return ([features[i] for i in indices] for indices in plan.in_order())


def likelihoods(logits: Tensor, features: Sequence[Features], followed: Sequence[bool | None]) -> list[Likelihood]:
    """What each sequence's tokens cost, from the logits of all of them (S, V)."""
    counts = [len(one.target.ids) for one in features]
    ids = torch.tensor([token for one in features for token in one.target.ids], device=logits.device)
    losses = F.cross_entropy(logits.float(), ids, reduction="none").double().cpu().split(counts)
    right = (logits.argmax(dim=-1) == ids).cpu().split(counts)
    return [
        Likelihood(float(loss.sum()), len(loss), int(found.sum()), one.target.bytes, follows)
        for loss, found, one, follows in zip(losses, right, features, followed, strict=True)
    ]


def exponential(loss: float) -> float:
    """The exponential; infinity where a number cannot hold it."""
    return math.exp(loss) if loss < 700 else math.inf
