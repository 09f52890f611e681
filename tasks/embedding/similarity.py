"""Sentence similarity: text vectors that are close if the texts mean the same.

A model learns from pairs with a score, which becomes the target of their cosine, or from positive pairs, whose second
texts are negatives for each other (pair_losses.py).

Shapes: E pairs, T tokens in a packed batch, C hidden size, D size of a vector.
"""

import hashlib
import math
from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ...core.checkpoints.families.registry import FAMILIES, model_of
from ...core.errors import HeadwayError
from ...core.options import option
from ...core.training.training_inputs import Gather, own_rows
from ..base.card_text import CardText
from ..base.report_numbers import NumberCharts
from ..base.report_parts import ReportCollector
from ..base.task import Task
from ..data.column_names import normalize_name
from ..data.columns import ColumnMapping, parse_text
from ..data.examples import PAIR, TEXT, Field
from ..data.features import Features, group_windows
from ..data.labels import is_missing, map_valid, raw_label
from ..data.numbers import number_reader
from ..data.rows import RowStream, Table
from ..data.windows import Windowing
from ..tallies import Tally, tally_means, tally_numbers
from .card import similarity_card
from .pair_losses import ranking_loss, ranks, score_loss
from .pooling import MODES, Pooling, parse_modes
from .predictions import PairExample, SimilarityPrediction
from .published_pooling import PublishedPooling

if TYPE_CHECKING:
    from ...core.checkpoints.checkpoint import Checkpoint
    from ...core.models.heads import Backbone, Network
    from ...core.models.packing import PackedBatch
    from ...core.tokenizers.tokenizer import Tokenizer
    from ...core.training.training_inputs import Targets

SCORES, PAIRS = "scores", "pairs"
SAMPLE_ROWS = 100  # searched for a column of numbers
ROW_NUMBER_NAMES = frozenset({"id", "idx", "index", "guid", "pairid", "row", "line"})


@dataclass(frozen=True)
class SentenceSimilarity(Task[PairExample, SimilarityPrediction]):
    """Trains text vectors whose cosine is the similarity of the texts.

    Args:
        lowest, highest: the range of the scores in the training data; the target cosines are 0 and 1.
        normalize: whether other programs that read the model folder give vectors of length 1; cosines are the same.
        lower_case, prompt: whether texts are lower-cased, and what is prepended to them; set by published models.
    """

    pooling: str | None = option(
        None,
        f"How token vectors become one text vector: {', '.join(MODES)}. Default: as in the model folder, or mean.",
    )
    objective: str | None = option(
        None,
        "What to learn from: scores of pairs, or positive pairs, with the other pairs of a batch as negatives. "
        "Default: inferred from the data.",
        choices=(SCORES, PAIRS),
    )
    scale: str | None = option(
        None,
        "Range of the scores: LOWEST,HIGHEST, such as 0,5. Default: from the smallest to the largest score in the "
        "training data.",
    )
    lowest: float = 0.0
    highest: float = 1.0
    normalize: bool = True
    lower_case: bool = False
    prompt: str = ""

    name: ClassVar[str] = "sentence-similarity"
    title: ClassVar[str] = "Sentence similarity"
    inputs: ClassVar[tuple[Field, ...]] = (
        replace(TEXT, aliases=("anchor", "query", "question", *TEXT.aliases)),
        replace(
            PAIR,
            aliases=(
                *("pair", "positive", "sentence2", "hypothesis", "text_b", "question2", "#2 String"),
                *("answer", "passage", "document", "context", "response"),
            ),
            required=True,
        ),
    )
    label_columns: ClassVar[tuple[str, ...]] = (
        *("score", "similarity", "similarity_score", "relatedness_score", "label", "labels", "gold_label", "rating"),
        *("quality", "is_duplicate", "target"),
    )
    architecture: ClassVar[tuple[str, ...]] = tuple(
        family.base_class for family in FAMILIES.values() if model_of(family.config) != "encoder-decoder"
    )
    headless: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        self.to_pooling()  # raises if a mode is unknown
        if self.scale is not None:
            object.__setattr__(self, "scale", "{:g},{:g}".format(*read_scale(self.scale)))
            if self.objective == PAIRS:
                raise HeadwayError("--objective pairs uses no scores: omit --scale.")

    def to_pooling(self) -> Pooling:
        """The pooling that the options describe."""
        return Pooling(parse_modes(self.pooling or MODES[0]), normalize=self.normalize)

    @property
    def sample(self) -> str:
        """Pairs of questions."""
        return "pairs.csv"

    # -- rows -> examples

    def columns(self, table: Table | RowStream, chosen: Mapping[str, Any], *, need_label: bool) -> ColumnMapping:
        """As for every task; the scores are optional unless the objective is to learn from them."""
        if self.objective == PAIRS and chosen.get("label"):
            raise HeadwayError("--objective pairs uses no scores: omit --label.")
        found = super().columns(table, chosen, need_label=need_label and self.objective == SCORES)
        if self.objective == PAIRS:
            unread = need_label and _has_numbers(table, found)
            note = ("each row is read as a positive pair: its numbers are not read (--objective pairs)",) * unread
            return replace(found, label=None, notes=(*found.notes, *note))
        if need_label and found.label is None and _has_numbers(table, found):
            return super().columns(table, chosen, need_label=True)
        return found

    def infer_labels(self, table: Table, columns: ColumnMapping) -> tuple[Self, list[str]]:
        """Infers the objective and the range of the scores: that of all rows, which says what a score means."""
        if columns.label is None:
            if self.scale is not None:
                raise HeadwayError(
                    f"{table.source}: --scale {self.scale}, but no column of scores. Name it with --label."
                )
            note = "each row is a positive pair (use --label COLUMN if there are scores)"
            return replace(self, objective=PAIRS), [note]
        values = [raw_label(row, columns.label) for row in table.rows]
        numbers = list(map_valid(number_reader(values, table.decimal), values))
        advice = "Name another column with --label, or use --objective pairs if each row is a positive pair."
        if not numbers:
            first = next((value for value in values if not is_missing(value)), None)
            raise HeadwayError(
                f'{table.source}: no score in column "{columns.label}" is a number ({first!r}, ...). {advice}'
            )
        lowest, highest = min(numbers), max(numbers)
        if lowest == highest:
            raise HeadwayError(
                f"{table.source}: every score is {lowest:g}; at least two different scores are needed. {advice}"
            )
        why = "the range of the data; --scale LOWEST,HIGHEST sets another one"
        if self.scale is not None:
            (low, high), why = read_scale(self.scale), "as requested"
            if not low <= lowest <= highest <= high:
                outside = lowest if lowest < low else highest
                raise HeadwayError(
                    f'{table.source}: the score {outside:g} in column "{columns.label}" is outside of --scale '
                    f"{self.scale}. Correct one of them."
                )
            lowest, highest = low, high
        inferred = replace(self, objective=SCORES, lowest=lowest, highest=highest)
        note = f"each pair has a score: {lowest:g} becomes a cosine of 0, and {highest:g} a cosine of 1 ({why})"
        return inferred, [note]

    def reset(self) -> Self:
        """A copy without the objective and the range of the scores."""
        return replace(self, objective=None, lowest=0.0, highest=1.0)

    def row_reader(
        self, table: Table, columns: ColumnMapping, *, labelled: bool = True
    ) -> Callable[[int], PairExample]:
        """Reads a pair and its score."""
        text, pair = columns.texts["text"], columns.texts["pair"]
        scored = labelled and columns.label is not None
        read_score = number_reader((raw_label(row, columns.label) for row in table.rows), table.decimal)

        def read(row: int) -> PairExample:
            cells = table.rows[row]
            first = parse_text(cells.get(text), text, "text", labelled=labelled)
            second = parse_text(cells.get(pair), pair, "pair", labelled=labelled)
            score = read_score(raw_label(cells, columns.label)) if scored else None
            return PairExample(row, table.where(row), first, second, score)

        return read

    # -- examples -> sequences -> vectors

    def encode(self, examples: Sequence[PairExample], tokenizer: "Tokenizer", limit: int) -> list[Features]:
        """The windows of the first text of each pair, then those of the second."""
        num_special = tokenizer.num_special(pair=False)
        windowing = Windowing(limit - num_special, self.overlap, self.long_texts)
        texts = [self.prompt + text for example in examples for text in example.texts]
        ids = tokenizer.encode_ids([text.lower() for text in texts] if self.lower_case else texts)
        features = []
        for i, example in enumerate(examples):
            target = None if example.score is None else (example.score - self.lowest) / (self.highest - self.lowest)
            for text_index in (0, 1):
                whole = ids[2 * i + text_index]
                for window in windowing.divide(len(whole)):
                    sequence = tokenizer.join(whole[window.start : window.stop])
                    features.append(Features(i, *sequence, len(whole) + num_special, target, text_index=text_index))
        return features

    def head(self, backbone: "Backbone") -> None:
        """None: vectors are pooled from the hidden states."""

    def pool(self, outputs: Tensor, batch: "PackedBatch") -> Tensor:
        """The vector of each window, (T, C) -> (B, D)."""
        with torch.autocast(outputs.device.type, enabled=False):
            return self.to_pooling().pool(outputs, batch)

    @property
    def in_batch_negatives(self) -> bool:
        """Whether the other pairs of a batch are negatives: of all processes, however many passes compute it."""
        return self.objective != SCORES

    def targets(self, features: Sequence[Features]) -> "Targets":
        """The text that each window is from, and a number for each pair or for each of its texts.

        The number of a pair is its score; that of a text, (E, 2), is a hash, the same for equal texts.
        """
        pairs = group_windows(features)
        if self.objective == SCORES:
            numbers = torch.tensor([windows[0].target for windows in pairs])
        else:
            numbers = torch.tensor([[_text_hash(windows, text_index) for text_index in (0, 1)] for windows in pairs])
        return {"texts": _text_of_window(pairs), "pairs": numbers}

    def loss(self, outputs: Tensor, targets: "Targets", gather: Gather = own_rows) -> tuple[Tensor, int]:
        """The sum of the losses of the pairs (see pair_losses.py), and their number.

        Args:
            outputs: the vectors of windows, (B, D).
            targets: of the E pairs.
            gather: joins a row for each pair with those of the other processes.
        """
        with torch.autocast(outputs.device.type, enabled=False):  # cosines need more than eight bits
            vectors = gather(_join_windows(outputs, targets["texts"], len(targets["pairs"])))
            pairs = gather(targets["pairs"])
            first, second = vectors.unbind(1)
            loss = score_loss if self.objective == SCORES else ranking_loss
            return loss(first, second, pairs), len(pairs)

    # -- outputs -> predictions -> metrics

    def decode(self, outputs: Sequence[Tensor], features: Sequence[Features]) -> list[SimilarityPrediction]:
        """The cosine of each pair."""
        pairs = group_windows(features)
        first, second = _join_windows(torch.stack(list(outputs)), _text_of_window(pairs), len(pairs)).unbind(1)
        similarities = (first * second).sum(-1).tolist()
        return [
            SimilarityPrediction(similarity, (a, b))
            for similarity, a, b in zip(similarities, first.numpy(), second.numpy(), strict=True)
        ]

    def score(self, predictions: Sequence[Any], examples: Sequence[PairExample]) -> dict[str, float]:
        """With scores, Spearman's and Pearson's correlation of cosine and score.

        Without scores, the share of pairs whose second text is the nearest to the first (accuracy), and the mean
        reciprocal rank of the second text (mrr).
        """
        return self.tally(predictions, examples).metrics()

    def tally(self, predictions: Sequence[Any], examples: Sequence[PairExample]) -> Tally:
        """The cosine and the score of each pair, or the rank of its second text among those of all pairs.

        For ranks the vectors of all pairs are needed, 8 D bytes for each, and the time grows with their square.
        """
        if all(example.score is not None for example in examples):
            cosines = [one.similarity for one in predictions]
            return tally_numbers(cosines, [example.score for example in examples], ("spearman", "pearson"))
        return _join_ranks(np.array([one.vectors for one in predictions]))(slice(None))

    def report_collector(self) -> ReportCollector:
        """The cosines beside the scores of the data, if it has them."""
        return NumberCharts(lambda one: one.similarity, same_scale=False)

    @property
    def ranks(self) -> bool:
        """Texts can be ranked by their similarity."""
        return True

    def relevance(self, answer: Mapping[str, Any], *, raw: bool = False) -> float:  # noqa: ARG002
        """The cosine."""
        return answer["similarity"]

    # -- model folders

    def reuse_head(self, before: Task) -> Self | None:
        """Continues with the pooling and the preprocessing of the model."""
        if not isinstance(before, SentenceSimilarity):
            return None
        return replace(
            self,
            pooling=self.pooling or before.pooling,
            max_length=self.max_length or before.max_length,
            normalize=before.normalize,
            lower_case=before.lower_case,
            prompt=before.prompt,
        )

    @classmethod
    def is_published(cls, checkpoint: "Checkpoint") -> bool:
        """Whether it is a sentence-transformers folder: a base model alone does not define a pooling."""
        return checkpoint.architecture in cls.architecture and (checkpoint.folder / "modules.json").exists()

    @classmethod
    def from_published(cls, checkpoint: "Checkpoint") -> Self:
        """The task of a sentence-transformers folder.

        Long texts are read in windows; `long_texts="cut"` reads their beginning, as sentence-transformers does.
        """
        published = PublishedPooling.read(checkpoint.folder)
        assert published is not None
        return cls(
            max_length=published.max_length,
            pooling=",".join(published.pooling.modes),
            normalize=published.pooling.normalize,
            lower_case=published.lower_case,
            prompt=published.prompt,
        )

    def publish(self, folder: Path, network: "Network", tokenizer: "Tokenizer") -> None:  # noqa: ARG002
        """Writes the files that sentence-transformers reads beside the weights."""
        limit = self.limit(network.config.max_positions, folder.name)
        published = PublishedPooling(self.to_pooling(), limit, self.lower_case, self.prompt)
        published.write(folder, network.config.hidden_size)

    def card(self, network: "Network", name: str) -> CardText:
        """The text of the model card."""
        training = {
            SCORES: f"It was trained on scored pairs: a score of {self.lowest:g} is a cosine of 0, and a score of "
            f"{self.highest:g} a cosine of 1.",
            PAIRS: "It was trained on positive pairs, with the other pairs of a batch as negatives.",
        }.get(self.objective or "", "")
        limit = self.limit(network.config.max_positions, "")
        pooling = self.to_pooling()
        return similarity_card(
            name, network.config, pooling, limit=limit, long_texts=self.long_texts, training=training
        )


def read_scale(given: Any) -> tuple[float, float]:
    """The lowest and the highest score.

    Args:
        given: both numbers, or "LOWEST,HIGHEST".

    Raises:
        HeadwayError: it is something else, or the lowest is not below the highest.
    """
    parts = given.split(",") if isinstance(given, str) else given
    try:
        lowest, highest = map(float, parts)
    except (TypeError, ValueError) as error:
        raise HeadwayError(f"--scale {given} is invalid; it must be LOWEST,HIGHEST, such as 0,5.") from error
    if not -math.inf < lowest < highest < math.inf:
        raise HeadwayError(f"--scale {given} is invalid: write the lowest score first, then the highest.")
    return lowest, highest


def _join_ranks(vectors: np.ndarray) -> Callable[[slice], Tally]:
    """The tally of some pairs, whose second texts are ranked among those of all pairs.

    Args:
        vectors: of both texts of all pairs, (E, 2, D).
    """
    found = ranks(vectors[:, 0], vectors[:, 1])

    def part(rows: slice) -> Tally:
        tally = tally_means({"accuracy": found[rows] == 1, "mrr": 1 / found[rows]}, of_01=["accuracy"])
        return replace(tally, numbers=vectors[rows], join=_join_ranks)

    return part


def _has_numbers(table: Table | RowStream, columns: ColumnMapping) -> bool:
    """Whether a column other than the texts could hold scores."""
    rows = [row for _, row in islice(iter(table), SAMPLE_ROWS)]
    for name in table.columns:
        if name in columns.texts.values():
            continue
        if normalize_name(name) in ROW_NUMBER_NAMES and not name.isdecimal():
            continue
        values = [value for row in rows if not is_missing(value := row.get(name))]
        if values and len(list(map_valid(number_reader(values, table.decimal), values))) == len(values):
            return True
    return False


def _text_of_window(pairs: Sequence[Sequence[Features]]) -> Tensor:
    """The text that each window is from, (B,): texts 2i and 2i + 1 are those of pair i."""
    return torch.tensor([2 * i + one.text_index for i, windows in enumerate(pairs) for one in windows])


def _join_windows(vectors: Tensor, texts: Tensor, num_pairs: int) -> Tensor:
    """The unit vectors of the texts of pairs, (B, D) -> (E, 2, D).

    Args:
        vectors: of the windows.
        texts: the text that each window is from, (B,).
        num_pairs: E.
    """
    # The direction of the sum over a text's windows is that of their mean.
    totals = vectors.new_zeros(2 * num_pairs, vectors.shape[1]).index_add(0, texts, vectors)
    return F.normalize(totals, dim=-1).unflatten(0, (-1, 2))


def _text_hash(windows: Sequence[Features], text_index: int) -> int:
    """A hash of the token ids of one text of a pair; two texts of a step have the same with a chance of 2^-64."""
    ids = array("q", [token for one in windows if one.text_index == text_index for token in one.input_ids])
    return int.from_bytes(hashlib.blake2b(ids.tobytes(), digest_size=8).digest(), "big", signed=True)
