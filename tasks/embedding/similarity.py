"""Sentence similarity: vectors of texts that are near one another where the texts mean the same.

A model learns from pairs with scores, whose cosine is to be the score (Reimers & Gurevych 2019,
https://arxiv.org/abs/1908.10084, "CosineSimilarityLoss" of sentence-transformers), or from pairs that belong together,
whose second text is to be nearer to the first than the second texts of other pairs are (Henderson et al. 2017,
https://arxiv.org/abs/1705.00652, section 4.4, "MultipleNegativesRankingLoss" with its scale of 20).

Shapes: E pairs, T tokens in a packed batch, C hidden size, D size of a vector.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ...core.errors import HeadwayError
from ...core.options import option
from .. import metrics
from ..base.card_text import CardText
from ..base.display import DisplayElement, ScoreBar, ScoreBars, Text
from ..base.predictions import Prediction
from ..base.task import Task
from ..classification.classification import TextClassification
from ..data.column_names import normalize_name
from ..data.columns import ColumnMapping, parse_text
from ..data.examples import Example, ExampleWarning, Field
from ..data.features import Features, group_windows, pack
from ..data.labels import is_missing, map_valid, parse_number, raw_label
from ..data.rows import RowStream, Table
from ..data.windows import Windowing
from .card import card_text
from .pooling import MODES, Pooling, PublishedPooling

if TYPE_CHECKING:
    from ...core.checkpoints.checkpoint import Checkpoint
    from ...core.models.heads import Backbone, Network
    from ...core.tokenizers.tokenizer import Tokenizer

SCORES, PAIRS = "scores", "pairs"
SCALE = 20.0  # of cosines before the softmax over the pairs, as sentence-transformers has it
ROWS_TO_TELL = 100  # that are looked at for a column of numbers
NUMBERS_OF_ROWS = frozenset({"id", "idx", "index", "guid", "pairid", "row", "line"})


@dataclass(frozen=True)
class PairExample(Example):
    """Two texts, and how near they are if somebody has said so."""

    text: str
    pair: str
    score: float | None = None

    @property
    def texts(self) -> tuple[str, ...]:
        """Both texts."""
        return (self.text, self.pair)

    @property
    def gold(self) -> float | None:
        """The score."""
        return self.score


@dataclass(frozen=True)
class SimilarityPrediction(Prediction):
    """How near two texts are, and where they are."""

    similarity: float  # the cosine of their vectors, -1 to 1
    vectors: tuple[np.ndarray, np.ndarray] = field(repr=False, compare=False)  # (D,) each, of length 1

    @property
    def brief(self) -> str:
        """The cosine."""
        return f"{self.similarity:.3f}"

    def display(self, texts: Mapping[str, str]) -> tuple[DisplayElement, ...]:  # noqa: ARG002
        """The cosine; below 0 the bar is empty."""
        return Text(self.brief), ScoreBars((ScoreBar("similarity", self.similarity, chosen=True),))

    def to_json(self) -> dict[str, Any]:
        """The cosine; `headway embed` gives the vectors."""
        return {"similarity": self.similarity}


@dataclass(frozen=True)
class SentenceSimilarity(Task[PairExample, SimilarityPrediction]):
    """Gives texts vectors by which their likeness can be told.

    Args:
        lowest, highest: the scores of the training data, which are brought to 0 and 1.
        normalize: whether those who read the folder give vectors the length 1; cosines are the same either way.
        lower_case, prompt: what a published model asks for before its tokenizer sees a text.
    """

    pooling: str | None = option(
        None, f"How a text's tokens become its vector: {', '.join(MODES)}. Left out: as the model has it, or mean."
    )
    objective: str | None = option(
        None,
        "What is learnt from: scores of pairs, or pairs that belong together while the others of a batch do not; "
        "told from the data if left out.",
        choices=(SCORES, PAIRS),
    )
    lowest: float = 0.0
    highest: float = 1.0
    normalize: bool = True
    lower_case: bool = False
    prompt: str = ""

    name: ClassVar[str] = "sentence-similarity"
    title: ClassVar[str] = "Sentence similarity"
    inputs: ClassVar[tuple[Field, ...]] = (
        replace(
            TextClassification.inputs[0],
            aliases=("anchor", "query", "question", *TextClassification.inputs[0].aliases),
        ),
        Field(
            "pair",
            "Second text",
            aliases=(
                *("pair", "positive", "sentence2", "hypothesis", "text_b", "question2", "#2 String"),
                *("answer", "passage", "document", "context", "response"),
            ),
        ),
    )
    label_columns: ClassVar[tuple[str, ...]] = (
        *("score", "similarity", "similarity_score", "relatedness_score", "label", "labels", "gold_label", "rating"),
        *("quality", "is_duplicate", "target"),
    )
    architecture: ClassVar[tuple[str, ...]] = ("BertModel", "GPT2Model")
    per_token: ClassVar[bool] = True
    headless: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        _ = self.pooled  # which refuses a pooling that there is not

    @property
    def pooled(self) -> Pooling:
        """How tokens become a vector."""
        modes = tuple(mode.strip() for mode in (self.pooling or MODES[0]).split(","))
        return Pooling(modes, normalize=self.normalize)

    @property
    def sample(self) -> str:
        """Pairs of questions."""
        return "pairs.csv"

    # -- people's data -> examples

    def columns(self, table: Table | RowStream, chosen: Mapping[str, Any], *, need_label: bool) -> ColumnMapping:
        """As for every task; there need be no scores where pairs that belong together are learnt from."""
        if self.objective == PAIRS and chosen.get("label"):
            raise HeadwayError("--objective pairs learns from no scores: leave --label out.")
        found = super().columns(table, chosen, need_label=need_label and self.objective == SCORES)
        if self.objective == PAIRS:
            return replace(found, label=None)
        if need_label and found.label is None and _has_numbers(table, found):
            return super().columns(table, chosen, need_label=True)
        return found

    def infer_labels(self, table: Table, columns: ColumnMapping) -> tuple[Self, list[str]]:
        """What is learnt from, and the range of the scores."""
        if columns.label is None:
            together = "each row is a pair that belongs together (say --label COLUMN if there are scores)"
            return replace(self, objective=PAIRS), [together]
        values = [raw_label(row, columns.label) for row in table.rows]
        numbers = list(map_valid(parse_number, values))
        if not numbers:
            first = next((value for value in values if not is_missing(value)), None)
            raise HeadwayError(
                f'{table.source}: no score in column "{columns.label}" is a number ({first!r}, ...). Name another '
                "with --label, or say --objective pairs if each row is a pair that belongs together."
            )
        lowest, highest = min(numbers), max(numbers)
        if lowest == highest:
            raise HeadwayError(
                f"{table.source}: every score is {lowest:g}; at least two different ones are needed. Name another "
                "column with --label, or say --objective pairs if each row is a pair that belongs together."
            )
        learnt = replace(self, objective=SCORES, lowest=lowest, highest=highest)
        return learnt, [f"each pair has a score: {lowest:g} becomes a cosine of 0, and {highest:g} one of 1"]

    def reset(self) -> Self:
        """The same texts and pooling, for other data."""
        return replace(self, objective=None, lowest=0.0, highest=1.0)

    def row_reader(
        self, table: Table, columns: ColumnMapping, *, labelled: bool = True
    ) -> Callable[[int], PairExample]:
        """How to read a row: its two texts, and their score if there is one."""
        text, pair = columns.texts["text"], columns.texts["pair"]
        scored = labelled and columns.label is not None

        def read(row: int) -> PairExample:
            cells = table.rows[row]
            first = parse_text(cells.get(text), text, "text", labelled=labelled)
            second = parse_text(cells.get(pair), pair, "pair", labelled=labelled)
            score = parse_number(raw_label(cells, columns.label)) if scored else None
            return PairExample(row, table.where(row), first, second, score)

        return read

    # -- examples -> the model

    def encode(self, examples: Sequence[PairExample], tokenizer: "Tokenizer", limit: int) -> list[Features]:
        """Two sequences an example, one after the other; each text that is long gives one for each window."""
        windowing = Windowing(limit - tokenizer.num_special(pair=False), self.overlap, self.long_texts)
        texts = [self.prompt + text for example in examples for text in example.texts]
        ids = tokenizer.encode_ids([text.lower() for text in texts] if self.lower_case else texts)
        features = []
        for i, example in enumerate(examples):
            target = None if example.score is None else (example.score - self.lowest) / (self.highest - self.lowest)
            for text_index in (0, 1):
                whole = ids[2 * i + text_index]
                length = len(whole) + tokenizer.num_special(pair=False)
                sequences = [tokenizer.join(whole[part.start : part.stop]) for part in windowing.divide(len(whole))]
                features += [Features(i, *sequence, length, target, text_index=text_index) for sequence in sequences]
        return features

    def warnings(self, example: PairExample, windows: Sequence[Features]) -> list[ExampleWarning]:  # noqa: ARG002
        """Texts that are cut: a pair is two sequences, so that the general count does not see it."""
        if self.long_texts != "cut" or all(len(one.input_ids) == one.length for one in windows):
            return []
        return [ExampleWarning("a text is cut: only its beginning is read")]

    def head(self, backbone: "Backbone") -> None:
        """None: a text's vector is made of the hidden states themselves."""

    def _vectors(self, hidden: Tensor, features: Sequence[Features]) -> tuple[Tensor, Tensor]:
        """The tokens' vectors (T, C) as those of the first and second texts, (E, D) each, of length 1."""
        vectors = self.pooled.pool(hidden, pack(features).to(hidden.device))
        counts = [len(list(same)) for _, same in groupby(features, key=lambda one: (one.example, one.text_index))]
        if len(counts) < len(features):
            vectors = torch.stack([part.mean(0) for part in vectors.split(counts)])
        first, second = F.normalize(vectors, dim=-1).unflatten(0, (-1, 2)).unbind(1)
        return first, second

    @property
    def in_batch_negatives(self) -> bool:
        """A pair without a score is held against the others."""
        return self.objective != SCORES

    def loss(self, outputs: Tensor, features: Sequence[Features]) -> tuple[Tensor, int]:
        """The squared error of the cosines; or for each pair how unlikely its second text is among all of them.

        The second texts of the other pairs that are computed at once are what a pair is held against: those of the
        whole batch where its tokens fit in --tokens-at-once, else those of the same part of it. A pair that has a
        text in common with another is not held against it.

        Args:
            outputs: (T, C).
            features: of the sequences; the two texts of a pair are neighbours.
        """
        with torch.autocast(outputs.device.type, enabled=False):  # cosines need more than eight bits
            first, second = self._vectors(outputs, features)
            targets = [windows[0].target for windows in group_windows(features)]
            if self.objective == SCORES:
                wanted = torch.tensor(targets, device=first.device, dtype=first.dtype)
                return F.mse_loss((first * second).sum(-1), wanted, reduction="sum"), len(targets)
            logits = SCALE * first @ second.T  # (E, E)
            logits = logits.masked_fill(_in_common(features).to(logits.device), -torch.inf)
            own = torch.arange(len(logits), device=logits.device)
            return F.cross_entropy(logits, own, reduction="sum"), len(targets)

    # -- outputs -> answers -> figures

    def decode(self, outputs: Sequence[Tensor], features: Sequence[Features]) -> list[SimilarityPrediction]:
        """The cosine of each pair."""
        first, second = self._vectors(torch.cat(list(outputs)), features)
        similarities = (first * second).sum(-1).tolist()
        return [
            SimilarityPrediction(similarity, (a, b))
            for similarity, a, b in zip(similarities, first.numpy(), second.numpy(), strict=True)
        ]

    def score(self, predictions: Sequence[Any], examples: Sequence[PairExample]) -> dict[str, float]:
        """With scores: Spearman's and Pearson's correlation of cosine and score.

        Without: how often a pair's own second text is the nearest of all second texts to its first (accuracy), and
        the mean of one over its rank among them (mrr).
        """
        if all(example.score is not None for example in examples):
            cosines, gold = [one.similarity for one in predictions], [example.score for example in examples]
            found = metrics.regression_metrics(cosines, gold)
            return {name: found[name] for name in ("spearman", "pearson")}
        ranks = _ranks(predictions)
        return {"accuracy": float(np.mean(ranks == 1)), "mrr": float(np.mean(1 / ranks))}

    # -- model folders

    def reuse_head(self, before: Task) -> Self | None:
        """Goes on with a model that makes vectors already, in the way in which it makes them."""
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
        """Whether it is a sentence-transformers folder: a base model alone says nothing of how to pool."""
        return checkpoint.architecture in cls.architecture and (checkpoint.folder / "modules.json").exists()

    @classmethod
    def from_published(cls, checkpoint: "Checkpoint") -> Self:
        """Its own pooling and length, beyond which sentence-transformers cuts."""
        published = PublishedPooling.read(checkpoint.folder)
        assert published is not None
        return cls(
            max_length=published.max_length,
            long_texts="cut",
            pooling=",".join(published.pooling.modes),
            normalize=published.pooling.normalize,
            lower_case=published.lower_case,
            prompt=published.prompt,
        )

    def publish(self, folder: Path, network: "Network") -> None:
        """What sentence-transformers reads beside the weights."""
        limit = self.limit(network.config.max_positions, folder.name)
        about = PublishedPooling(self.pooled, limit, self.lower_case, self.prompt)
        about.write(folder, network.config.hidden_size)

    def card(self, network: "Network", name: str) -> CardText:
        """What the vectors are for and how to make them."""
        return card_text(self, network, name)


def _has_numbers(table: Table | RowStream, columns: ColumnMapping) -> bool:
    """Whether a column beside the texts could hold scores."""
    free = [name for name in table.columns if name not in columns.texts.values()]
    rows = [row for _, row in islice(iter(table), ROWS_TO_TELL)]
    for name in free:
        if normalize_name(name) in NUMBERS_OF_ROWS and not name.isdecimal():
            continue
        values = [value for row in rows if not is_missing(value := row.get(name))]
        if values and len(list(map_valid(parse_number, values))) == len(values):
            return True
    return False


def _in_common(features: Sequence[Features]) -> Tensor:
    """(E, E), true where two different pairs have their first or their second text in common."""
    firsts, seconds = (
        [
            tuple(token for one in windows if one.text_index == text_index for token in one.input_ids)
            for windows in group_windows(features)
        ]
        for text_index in (0, 1)
    )
    same = torch.zeros(len(firsts), len(firsts), dtype=torch.bool)
    for texts in (firsts, seconds):
        numbers = {text: i for i, text in enumerate(dict.fromkeys(texts))}
        number = torch.tensor([numbers[text] for text in texts])
        same |= number[:, None] == number[None, :]
    return same.fill_diagonal_(False)


def _ranks(predictions: Sequence[SimilarityPrediction], at_once: int = 1024) -> np.ndarray:
    """The place of each pair's own second text among all second texts, from 1, (E,)."""
    first = np.stack([one.vectors[0] for one in predictions])
    second = np.stack([one.vectors[1] for one in predictions])
    ranks = []
    for start in range(0, len(first), at_once):
        part = first[start : start + at_once] @ second.T  # (e, E)
        own = part[np.arange(len(part)), np.arange(start, start + len(part))]
        ranks.append(1 + (part > own[:, None] + 1e-6).sum(1))  # texts that occur twice are equally near
    return np.concatenate(ranks)
