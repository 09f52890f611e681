"""Masked words: BERT's own way of learning from text, and finding what stands behind a mask.

The pretraining of Devlin et al. 2019 (https://arxiv.org/abs/1810.04805, section 3.1): 15 % of the tokens are to be
found again, of which 80 % are hidden behind [MASK], 10 % replaced and 10 % left as they are, drawn anew each time a
text is seen (as in Liu et al. 2019, https://arxiv.org/abs/1907.11692). It starts from scratch or goes on from a
checkpoint, and reads texts as a `Corpus`.

Shapes: B sequences in a packed batch, T tokens in all, S of them selected, V vocabulary.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import islice
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...core.errors import HeadwayError
from ...core.models.heads import language_model_head
from ...core.options import option
from ..base.display import DisplayElement, Highlight, HighlightedText, ScoreBar, ScoreBars, Text
from ..base.predictions import Prediction
from ..base.task import Task
from ..data.columns import ColumnMapping
from ..data.corpus import DOCUMENTS, Corpus, CorpusWindow
from ..data.examples import TEXT, Field
from ..data.features import Features, pack
from ..data.rows import Table
from ..data.windows import Windowing, best_window
from .distillation import WEIGHT, DistillationHead, distillation_loss, find_teacher, words_of
from .likelihood import (
    DOCUMENT,
    Asked,
    Likelihood,
    TextExample,
    asked_places,
    even_windows,
    exponential,
    likelihoods,
    parts_of,
    text_reader,
)

if TYPE_CHECKING:
    from ...core.checkpoints.checkpoint import Checkpoint
    from ...core.models.heads import Backbone, Network
    from ...core.models.packing import PackedBatch
    from ...core.tokenizers.tokenizer import Tokenizer
    from ..base.card_text import CardText

MASK = "[MASK]"
EVALUATION_SEED = 0  # of the masks that a held-out text is measured with: always the same ones


@dataclass(frozen=True)
class Word:
    """What may stand behind a mask."""

    word: str
    score: float  # its probability


@dataclass(frozen=True)
class FilledMasks(Prediction):
    """The likeliest words for every mask of a text, the likeliest first."""

    text: str  # with the likeliest word behind each mask
    masks: tuple[tuple[Word, ...], ...]

    @property
    def brief(self) -> str:
        """The likeliest words of each mask."""
        if not self.masks:
            return f"no {MASK} in the text"
        return " | ".join(", ".join(f"{one.word} {one.score:.2f}" for one in words) for words in self.masks)

    def display(self, texts: Mapping[str, str]) -> tuple[DisplayElement, ...]:
        """The text with its masks filled, and the likeliest words of each."""
        if not self.masks:
            return (Text(self.brief, f"Write {MASK} where a word is missing."),)
        first, *rest = texts.get("text", "").split(MASK)
        filled, marks = first, []
        for words, following in zip(self.masks, rest, strict=False):
            word = words[0].word.removeprefix("##")
            marks.append(Highlight(len(filled), len(filled) + len(word)))
            filled += word + following
        filled += "".join(MASK + following for following in rest[len(self.masks) :])
        bars = [
            ScoreBars(
                tuple(ScoreBar(one.word, one.score, chosen=not place) for place, one in enumerate(words)),
                f"Gap {number}" if len(self.masks) > 1 else "",
            )
            for number, words in enumerate(self.masks, start=1)
        ]
        return HighlightedText(filled, tuple(marks)), *bars


@dataclass(frozen=True)
class _Masks:
    """The way back from a window to its text."""

    text: str
    positions: list[int]  # of the masks in the window that it has the say about
    number: int  # masks of the text
    tokenizer: "Tokenizer"


@dataclass(frozen=True)
class FillMask(Task):
    """Finds the words behind masks; in training, BERT's own way of learning from text."""

    mask_probability: float = option(0.15, "Part of the tokens that are to be found again.")
    whole_words: bool = option(False, "Mask whole words instead of single tokens.")
    next_sentence: bool = option(False, "Learn besides whether a second segment followed the first in its document.")
    documents: str = option("file", DOCUMENT, DOCUMENTS, when="always")
    teacher: str | None = option(None, "A BERT whose vectors of the words are learnt besides (distillation).")
    top: int = option(5, "Words that are given for each mask.", when="always")

    name: ClassVar[str] = "fill-mask"
    title: ClassVar[str] = "Masked words"
    inputs: ClassVar[tuple[Field, ...]] = (TEXT,)
    architecture: ClassVar[tuple[str, ...]] = ("BertForMaskedLM", "BertForPreTraining")
    models: ClassVar[tuple[str, ...]] = ("bert",)
    self_supervised: ClassVar[bool] = True
    per_token: ClassVar[bool] = True
    higher_is_better: ClassVar[bool] = False
    lookahead: ClassVar[int] = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.mask_probability < 1:
            raise HeadwayError(f"--mask-probability {self.mask_probability}: a number between 0 and 1.")
        if self.top < 1:
            raise HeadwayError(f"--top {self.top}: at least 1 word.")

    @property
    def sample(self) -> str:
        """Sentences with gaps."""
        return "gaps.csv"

    def reset(self) -> Self:
        """Nothing is learnt from data but the weights."""
        return self

    def row_reader(
        self,
        table: Table,
        columns: ColumnMapping,
        *,
        labelled: bool = False,  # noqa: ARG002
    ) -> Callable[[int], TextExample]:
        """A text with masks."""
        return text_reader(table, columns)

    # -- texts -> the model

    @property
    def num_added(self) -> int:
        """Special tokens of a sequence."""
        return 3 if self.next_sentence else 2

    def enclosing(self, tokenizer: "Tokenizer") -> tuple[list[int], list[int]]:  # noqa: ARG002
        """What a document begins and ends with."""
        return [], []

    def cut(self, length: int, limit: int, *, held_out: bool) -> list[CorpusWindow]:  # noqa: ARG002
        """The sequences of a document of so many tokens, evenly long."""
        return even_windows(length, limit - self.num_added)

    def window(self, corpus: Corpus, index: int, ids: list[int], scored_from: int, num_bytes: int) -> Features:  # noqa: ARG002
        """A sequence of a corpus; which tokens are masked is drawn by `corrupt`."""
        input_ids, segment_ids = corpus.tokenizer.join(ids)
        length = len(ids) + self.num_added
        return Features(index, input_ids, segment_ids, length, target=Asked([], [], bytes=num_bytes), metadata=corpus)

    def encode(self, examples: Sequence[TextExample], tokenizer: "Tokenizer", limit: int) -> list[Features]:
        """Texts whose masks are to be filled: each mask in the window that shows most of what is around it."""
        features: list[Features] = []
        room = limit - tokenizer.num_special(pair=False)
        windowing = Windowing(room, room // 4 if self.overlap is None else self.overlap, self.long_texts)
        for number, example in enumerate(examples):
            parts = [encoding.ids for encoding in tokenizer.encode_batch(example.text.split(MASK))]
            assert tokenizer.mask_id is not None
            ids = parts[0] + [one for part in parts[1:] for one in (tokenizer.mask_id, *part)]
            places = [i for i, one in enumerate(ids) if one == tokenizer.mask_id]
            spans = windowing.divide(len(ids))
            said = [best_window(spans, place) if place < spans[-1].stop else None for place in places]
            for w, span in enumerate(spans):
                input_ids, segment_ids = tokenizer.join(ids[span.start : span.stop])
                mine = [place - span.start + 1 for place, by in zip(places, said, strict=True) if by == w]
                context = _Masks(example.text, mine, len(places), tokenizer)
                features.append(Features(number, input_ids, segment_ids, len(ids) + 2, metadata=context))
        return features

    def head(self, backbone: "Backbone") -> nn.Module:
        """BERT's own head over the vocabulary, tied to the token embedding; with a teacher, one on top of it."""
        return self._taught(backbone, language_model_head(backbone, self.next_sentence))

    def _taught(self, backbone: "Backbone", own: nn.Module) -> nn.Module:
        return own if self.teacher is None else DistillationHead(backbone, own, find_teacher(self.teacher).size)

    def before_training(self, before: Task, network: nn.Module) -> Self:  # noqa: ARG002
        """What is for the teacher alone stands on the head that the model has."""
        network.head = self._taught(network.backbone, network.head)  # pyright: ignore[reportArgumentType] - a Network's
        return self

    def after_training(self, network: nn.Module) -> Self:
        """What was for the teacher alone is dropped."""
        if isinstance(network.head, DistillationHead):
            network.head = network.head.own
        return replace(self, teacher=None)

    def pack(self, features: Sequence[Features]) -> "PackedBatch":
        """The sequences with the tokens selected that the model is asked about."""
        return pack(features).select([asked_places(one) for one in features])

    def corrupt(self, features: Sequence[Features]) -> Sequence[Features]:
        """Draws which tokens are masked, and which second segments are exchanged."""
        return [self._corrupted(one, None) for one in features]

    def _corrupted(self, one: Features, generator: torch.Generator | None) -> Features:
        corpus: Corpus = one.metadata
        tokenizer = corpus.tokenizer
        input_ids, segment_ids, follows = one.input_ids, one.segment_ids, None
        if self.next_sentence:
            input_ids, segment_ids, follows = self._pair(one, corpus, generator)
        special = (tokenizer.cls_id, tokenizer.sep_id)
        places = [i for i, token in enumerate(input_ids) if token not in special]
        wanted = max(1, round(self.mask_probability * len(places)))
        if self.whole_words:
            chosen = _whole_words(places, input_ids, _inside_words(tokenizer), wanted, generator)
        else:
            order = torch.randperm(len(places), generator=generator)[:wanted].tolist()
            chosen = sorted(places[i] for i in order)
        draws = torch.rand(len(chosen), generator=generator).tolist()
        others = torch.randint(tokenizer.vocab_size, (len(chosen),), generator=generator).tolist()
        masked = list(input_ids)
        for place, draw, other in zip(chosen, draws, others, strict=True):
            if draw < 0.8:
                masked[place] = tokenizer.mask_id or 0
            elif draw < 0.9:
                masked[place] = other
        words = None
        if self.teacher is not None and generator is None:
            words = words_of(replace(one, input_ids=input_ids), _vocabulary(tokenizer), special)
        target = Asked(chosen, [input_ids[i] for i in chosen], follows, one.target.bytes, words)
        return replace(one, input_ids=masked, segment_ids=segment_ids, target=target)

    def _pair(
        self, one: Features, corpus: Corpus, generator: torch.Generator | None
    ) -> tuple[list[int], list[int], bool]:
        """The sequence as two segments; half of the time the second is from another document."""
        ids = corpus.ids_of(one.example)
        middle = 1 + int(torch.randint(max(1, len(ids) - 1), (), generator=generator))
        first, second = ids[:middle], ids[middle:]
        follows = bool(torch.rand((), generator=generator) < 0.5) or corpus.num_documents < 2
        if not follows:
            other = one.example
            while corpus.document_of(other) == corpus.document_of(one.example):
                other = int(torch.randint(len(corpus), (), generator=generator))
            second = corpus.ids_of(other)[: max(1, len(second))]
        return *corpus.tokenizer.join(first, second), follows

    def loss(self, outputs: Any, features: Sequence[Features]) -> tuple[Tensor, int]:
        """Cross-entropy of the tokens behind the masks; each sequence's next-sentence loss counts once a mask.

        So the mean over masks is the sum of the two mean losses, each sequence weighed by its masks.
        """
        outputs, projected = (outputs, None) if self.teacher is None else outputs
        logits, follows = outputs if self.next_sentence else (outputs, None)
        ids = torch.tensor([token for one in features for token in one.target.ids], device=logits.device)
        total = F.cross_entropy(logits.float(), ids, reduction="sum")
        if projected is not None and self.teacher is not None:
            total = total + WEIGHT * distillation_loss(find_teacher(self.teacher), projected, features)
        if follows is not None:
            weights = torch.tensor([len(one.target.ids) for one in features], device=logits.device)
            second = F.cross_entropy(follows.float(), _followed(features, logits.device), reduction="none")
            total = total + (second * weights).sum()
        return total, len(ids)

    # -- outputs -> answers -> figures

    @torch.inference_mode()
    def predict_batch(self, network: nn.Module, features: Sequence[Features]) -> list[Any]:
        """The words behind the masks; for held-out text, how likely the model finds them."""
        if features[0].target is not None:
            measured = [
                self._corrupted(one, torch.Generator().manual_seed(EVALUATION_SEED + one.example)) for one in features
            ]
            return [found for part in parts_of(measured) for found in self._measure(network, part)]
        return self._fill(network, features)

    def _measure(self, network: nn.Module, features: Sequence[Features]) -> list[Likelihood]:
        device = next(network.parameters()).device
        outputs = network(self.pack(features).to(device))
        logits, follows = outputs if self.next_sentence else (outputs, None)
        right = [None] * len(features)
        if follows is not None:
            right = (follows.argmax(dim=-1) == _followed(features, device)).tolist()
        return likelihoods(logits, features, right)

    def _fill(self, network: nn.Module, features: Sequence[Features]) -> list[FilledMasks]:
        device = next(network.parameters()).device
        texts = {one.example: one.metadata for one in features}
        found: dict[int, list[tuple[Word, ...]]] = {example: [] for example in texts}
        for part in parts_of([one for one in features if one.metadata.positions]):
            outputs = network(self.pack(part).to(device))
            logits = (outputs[0] if self.next_sentence else outputs).float()
            best = logits.softmax(dim=-1).topk(min(self.top, logits.shape[-1]))
            rows = iter(zip(best.values.tolist(), best.indices.tolist(), strict=True))
            for one in part:
                for scores, ids in islice(rows, len(one.metadata.positions)):
                    words = one.metadata.tokenizer.tokens(ids)
                    found[one.example].append(tuple(Word(w, s) for w, s in zip(words, scores, strict=True)))
        return [_filled(texts[example], tuple(masks)) for example, masks in found.items()]

    def score(self, predictions: Sequence[Any], examples: Sequence[Any]) -> dict[str, float]:  # noqa: ARG002
        """The loss of masked tokens in nats, its exponential, and how many of them are found at the first guess."""
        tokens = sum(one.tokens for one in predictions)
        loss = sum(one.loss for one in predictions) / tokens
        figures = {
            "loss": loss,
            "perplexity": exponential(loss),
            "accuracy": sum(one.right for one in predictions) / tokens,
        }
        if self.next_sentence:
            figures["next_sentence_accuracy"] = sum(one.followed for one in predictions) / len(predictions)
        return figures

    # -- model folders

    @classmethod
    def from_published(cls, checkpoint: "Checkpoint") -> Self:
        """A published masked language model."""
        return cls(next_sentence=checkpoint.architecture == "BertForPreTraining")

    @property
    def published(self) -> dict[str, Any]:
        """Its outputs are no labels."""
        return {"labels": None, "problem_type": None}

    def reuse_head(self, before: Task) -> Self | None:
        """The head is trained further if it has, or lacks, the next-sentence part as it should."""
        assert isinstance(before, FillMask)
        return self if self.next_sentence == before.next_sentence else None

    def card(self, network: "Network", name: str) -> "CardText":  # noqa: ARG002
        """What the model card says."""
        from .card import fill_mask_card

        return fill_mask_card(self, name)


def _followed(features: Sequence[Features], device: torch.device) -> Tensor:
    """BERT's classes of next sentences: 0 means that it followed."""
    return torch.tensor([int(not one.target.follows) for one in features], device=device)


@lru_cache(maxsize=8)
def _inside_words(tokenizer: "Tokenizer") -> list[bool]:
    """Of each token, whether it goes on with a word that another one began."""
    return [token.startswith("##") for token in _vocabulary(tokenizer)]


@lru_cache(maxsize=8)
def _vocabulary(tokenizer: "Tokenizer") -> list[str]:
    return tokenizer.tokens(range(tokenizer.vocab_size))


def _whole_words(
    places: Sequence[int], ids: Sequence[int], inside: Sequence[bool], wanted: int, generator: torch.Generator | None
) -> list[int]:
    """The places of words drawn at random until so many tokens are reached; the last word may go beyond."""
    words: list[list[int]] = []
    for place in places:
        if words and inside[ids[place]] and words[-1][-1] == place - 1:
            words[-1].append(place)
        else:
            words.append([place])
    chosen: list[int] = []
    for i in torch.randperm(len(words), generator=generator).tolist():
        if len(chosen) >= wanted:
            break
        chosen += words[i]
    return sorted(chosen)


def _filled(masks: _Masks, words: tuple[tuple[Word, ...], ...]) -> FilledMasks:
    first, *rest = masks.text.split(MASK)
    best = [found[0].word for found in words] + [MASK] * (masks.number - len(words))
    return FilledMasks(
        first + "".join(word.removeprefix("##") + text for word, text in zip(best, rest, strict=False)), words
    )
