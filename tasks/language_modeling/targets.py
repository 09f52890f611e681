"""What masked and causal language modeling share: examples, target tokens, and the loss of held-out text."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import torch

from ...core.errors import HeadwayError
from ...core.models.packing import BatchSampler, PackedBatch
from ...core.models.vocabulary_loss import TokenLosses
from ..data.columns import ColumnMapping
from ..data.corpus import CorpusWindow
from ..data.examples import Example, Field
from ..data.features import INFERENCE_BATCH_TOKENS, Features
from ..data.rows import Table
from ..tallies import Tally, ratio
from .predictions import SequenceLoss

CORPUS_TEXT = Field("text", "Text", aliases=("sentence", "content", "document", "body", "review"))
DOCUMENTS_HELP = "What a document is in plain text; in other formats, each row is one."


@dataclass(frozen=True)
class UnlabelledText(Example):
    """A text to continue, or with masks to fill."""

    text: str

    @property
    def texts(self) -> tuple[str, ...]:
        """The text."""
        return (self.text,)


@dataclass(frozen=True)
class TargetTokens:
    """The tokens of a sequence that the model predicts."""

    positions: list[int]  # at which the model predicts them
    ids: list[int]
    is_next: bool | None = None  # whether the second segment follows the first; None without a second segment
    num_bytes: int = 0  # UTF-8 bytes of the document, with its first sequence


def text_reader(table: Table, columns: ColumnMapping) -> Callable[[int], UnlabelledText]:
    """A function that reads the text of a row."""
    name = columns.texts["text"]

    def read(row: int) -> UnlabelledText:
        text = table.rows[row][name]
        if text is not None and not isinstance(text, str):
            raise HeadwayError(f'column "{name}": expected a text, found a {type(text).__name__}. Correct it.')
        return UnlabelledText(row, table.where(row), text or "")

    return read


def prompt_budget(limit: int, max_new_tokens: int) -> int:
    """Tokens of a prompt that are read before up to `max_new_tokens` are generated: at least half of the limit."""
    return max(limit - max_new_tokens, limit // 2, 1)


def even_windows(length: int, limit: int) -> list[CorpusWindow]:
    """Divides a document into as few windows as possible, of almost equal length."""
    count = -(-length // limit)
    borders = [i * length // count for i in range(count + 1)] if count else []
    return [CorpusWindow(start, stop) for start, stop in pairwise(borders)]


def target_positions(one: Features) -> list[int]:
    """The positions of a sequence at which the model predicts tokens."""
    return one.metadata.positions if one.target is None else one.target.positions


def select_targets(batch: PackedBatch, features: Sequence[Features]) -> PackedBatch:
    """A packed batch of the sequences, with their target positions and, where they are known, their target tokens."""
    positions = [target_positions(one) for one in features]
    if sum(map(len, positions)) != batch.num_tokens:
        batch = batch.select(positions)
    if features[0].target is None:
        return batch
    ids = [token for one in features for token in one.target.ids]
    return replace(batch, target_ids=torch.tensor(ids, dtype=torch.int64))


def token_batches(
    features: Sequence[Features], batch_tokens: int = INFERENCE_BATCH_TOKENS
) -> Iterable[list[Features]]:
    """Sequences in their order, in batches of at most `batch_tokens` tokens."""
    sampler = BatchSampler([one.num_read for one in features], batch_tokens=batch_tokens)
    return ([features[i] for i in indices] for indices in sampler.in_order())


def sequence_losses(
    outputs: TokenLosses, features: Sequence[Features], next_sentence_correct: Sequence[bool | None]
) -> list[SequenceLoss]:
    """The loss of each sequence.

    Args:
        outputs: of the target tokens of all sequences, computed without gradients.
        features: the sequences.
        next_sentence_correct: for each sequence.
    """
    assert outputs.correct is not None
    counts = [len(one.target.ids) for one in features]
    losses, correct = outputs.losses.cpu().double().split(counts), outputs.correct.cpu().split(counts)
    return [
        SequenceLoss(
            float(loss.sum()), len(loss), int(found.sum()), one.target.num_bytes, is_next, _by_position(loss, one)
        )
        for loss, found, one, is_next in zip(losses, correct, features, next_sentence_correct, strict=True)
    ]


def _by_position(losses: torch.Tensor, one: Features) -> tuple[tuple[float, int], ...]:
    """The sum of a sequence's losses and their number at the positions 0, 1, 2 to 3, 4 to 7, ..."""
    if not len(losses):
        return ()
    powers = [position.bit_length() for position in one.target.positions]
    return tuple(zip(np.bincount(powers, losses).tolist(), np.bincount(powers).tolist(), strict=True))


COUNTED = {  # what each metric sums over the sequences, beside their losses
    "perplexity": None,
    "accuracy": "num_correct",
    "bits_per_byte": "num_bytes",
    "next_sentence_accuracy": "next_sentence_correct",
}


def tally_losses(predictions: Sequence[Any], names: Sequence[str]) -> Tally:
    """The mean loss per target token in nats, and other metrics from the sums over held-out sequences.

    Args:
        predictions: of the sequences, each with `loss`, `num_targets` and what the metrics count.
        names: keys of COUNTED; a perplexity that exceeds the range of a float is infinite.
    """
    from scipy.sparse import csr_array

    fields = ["loss", "num_targets", *filter(None, (COUNTED[name] for name in names))]
    rows = [[1.0, *(float(getattr(one, name)) for name in fields)] for one in predictions]

    def formulas(sums: np.ndarray) -> dict[str, np.ndarray]:
        count = dict(zip(["sequences", *fields], sums.T, strict=True))
        scores = {"loss": ratio(count["loss"], count["num_targets"], np.nan)}
        for name in names:
            if name == "perplexity":
                with np.errstate(over="ignore"):
                    scores[name] = np.exp(scores["loss"])
            elif name == "bits_per_byte":
                scores[name] = ratio(count["loss"] / math.log(2), count["num_bytes"], np.nan)
            else:
                of = "sequences" if name == "next_sentence_accuracy" else "num_targets"
                scores[name] = ratio(count[str(COUNTED[name])], count[of], np.nan)
        return scores

    return Tally(csr_array(np.array(rows).reshape(len(rows), -1)), formulas)
