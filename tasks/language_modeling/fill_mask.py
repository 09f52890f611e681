"""Masked language modeling: BERT's pretraining objective, and predicting masked tokens.

Devlin et al. 2019 (https://arxiv.org/abs/1810.04805, section 3.1): 15 % of the tokens are predicted; masks are drawn
again each time a sequence is seen, as in Liu et al. 2019 (https://arxiv.org/abs/1907.11692). Training starts from
random weights or from a checkpoint, and reads its text as a `Corpus`.

Shapes: B sequences in a packed batch, S masks, V vocabulary.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...core.checkpoints.families.registry import architecture_of, family_of
from ...core.errors import HeadwayError
from ...core.models.heads import language_model_head
from ...core.options import option
from ...core.tokenizers.vocabulary import Model
from ...core.training.training_inputs import derive_seed
from ..base.card_text import CardText
from ..base.report_parts import ReportCollector
from ..base.task import Task
from ..data.columns import ColumnMapping
from ..data.corpus import DOCUMENTS, Corpus, CorpusWindow
from ..data.examples import Field
from ..data.features import Features, pack
from ..data.rows import Table
from ..data.windows import Windowing, best_window
from ..tallies import Tally
from .card import fill_mask_card
from .distillation import DISTILLATION_WEIGHT, DistillationHead, distillation_loss, find_words, load_teacher
from .masking import choose_positions, corrupt_tokens, ordered_pair, segment_pair
from .predictions import MASK, MASKS, FilledMasks, MaskCandidate, SequenceLoss
from .report_losses import LossCharts
from .targets import (
    CORPUS_TEXT,
    DOCUMENTS_HELP,
    TargetTokens,
    UnlabelledText,
    even_windows,
    select_targets,
    sequence_losses,
    tally_losses,
    text_reader,
    token_batches,
)

if TYPE_CHECKING:
    from ...core.checkpoints.checkpoint import Checkpoint
    from ...core.models.heads import Backbone, Network
    from ...core.models.packing import PackedBatch
    from ...core.tokenizers.tokenizer import Tokenizer
    from ...core.training.training_inputs import Targets

EVALUATION_SEED = 0  # of the masks in held-out text, so that they are the same in every evaluation


@dataclass(frozen=True)
class _MaskedText:
    """Where the masks of a window are, and the text that they are from."""

    text: str
    positions: list[int]  # of the masks that are predicted in this window
    num_masks: int  # of the whole text
    tokenizer: "Tokenizer"


@dataclass(frozen=True)
class FillMask(Task[UnlabelledText, FilledMasks | SequenceLoss]):
    """Predicts masked tokens; its training is BERT's pretraining."""

    mask_probability: float = option(0.15, "Share of the tokens to predict.")
    whole_words: bool = option(False, "Mask whole words instead of single tokens.")
    next_sentence: bool = option(
        False,
        "Also predict whether the second segment follows the first in its document. ALBERT: whether the two are in "
        "their order.",
    )
    documents: str = option("file", DOCUMENTS_HELP, DOCUMENTS, when="always")
    teacher: str | None = option(None, "A larger BERT whose word vectors are learned as well (distillation).")
    top: int = option(5, "Number of candidates for each mask.", when="always")
    sentence_order: bool = False  # of the model: whether its second head says if the segments are in their order

    name: ClassVar[str] = "fill-mask"
    title: ClassVar[str] = "Masked words"
    inputs: ClassVar[tuple[Field, ...]] = (CORPUS_TEXT,)
    architecture: ClassVar[tuple[str, ...]] = ("ForMaskedLM", "ForPreTraining")
    models: ClassVar[tuple[str, ...]] = ("bert",)
    self_supervised: ClassVar[bool] = True
    new_model: ClassVar[Model | None] = "bert"
    per_token: ClassVar[bool] = True
    higher_is_better: ClassVar[bool] = False
    lookahead: ClassVar[int] = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.mask_probability < 1:
            raise HeadwayError(f"--mask-probability {self.mask_probability}: a number between 0 and 1.")
        if self.top < 1:
            raise HeadwayError(f"--top {self.top}: at least 1 candidate.")

    @property
    def sample(self) -> str:
        """Sentences with masks."""
        return "gaps.csv"

    def infer_labels(self, table: Table, columns: ColumnMapping) -> tuple[Self, list[str]]:  # noqa: ARG002
        """The same task: there are no labels."""
        return self, []

    def row_reader(
        self,
        table: Table,
        columns: ColumnMapping,
        *,
        labelled: bool = False,  # noqa: ARG002
    ) -> Callable[[int], UnlabelledText]:
        """Reads a text with masks."""
        return text_reader(table, columns)

    # -- text -> sequences

    def num_added(self, tokenizer: "Tokenizer") -> int:
        """Special tokens of a sequence."""
        return tokenizer.num_special(pair=self.next_sentence)

    def enclosing(self, tokenizer: "Tokenizer") -> tuple[list[int], list[int]]:  # noqa: ARG002
        """Documents have no tokens around them."""
        return [], []

    def cut(self, length: int, limit: int, *, held_out: bool) -> list[CorpusWindow]:  # noqa: ARG002
        """Windows of almost equal length."""
        return even_windows(length, limit)

    def window(self, corpus: Corpus, index: int, ids: list[int], scored_from: int, num_bytes: int) -> Features:  # noqa: ARG002
        """A sequence without masks; `corrupt` draws them."""
        input_ids, segment_ids = corpus.tokenizer.join(ids)
        target = TargetTokens([], [], num_bytes=num_bytes)
        length = len(ids) + self.num_added(corpus.tokenizer)
        return Features(index, input_ids, segment_ids, length, target=target, metadata=corpus)

    def encode(self, examples: Sequence[UnlabelledText], tokenizer: "Tokenizer", limit: int) -> list[Features]:
        """The windows of each text. A mask is predicted in the window that shows the most context around it."""
        features: list[Features] = []
        mask_id = tokenizer.require_mask_id()
        size = limit - tokenizer.num_special(pair=False)
        windowing = Windowing(size, size // 4 if self.overlap is None else self.overlap, self.long_texts)
        for number, example in enumerate(examples):
            parts = tokenizer.encode_ids(self._parts(example.text, tokenizer))
            ids = parts[0] + [one for part in parts[1:] for one in (mask_id, *part)]
            masks = [i for i, one in enumerate(ids) if one == mask_id]
            windows = windowing.divide(len(ids))
            window_of = {mask: best_window(windows, mask) for mask in masks if mask < windows[-1].stop}
            for w, window in enumerate(windows):
                input_ids, segment_ids = tokenizer.join(ids[window.start : window.stop])
                positions = [mask - window.start + 1 for mask, best in window_of.items() if best == w]
                metadata = _MaskedText(example.text, positions, len(masks), tokenizer)
                features.append(Features(number, input_ids, segment_ids, len(ids) + 2, metadata=metadata))
        return features

    @staticmethod
    def _parts(text: str, tokenizer: "Tokenizer") -> list[str]:
        """A text without its masks; where tokens contain the space before a word, a mask does so as well."""
        *before, last = MASKS.split(text)
        return [*before, last] if tokenizer.kind == "wordpiece" else [*(part.rstrip() for part in before), last]

    def corrupt(self, features: Sequence[Features], seed: int) -> Sequence[Features]:
        """Draws the masks and exchanges second segments."""
        return [self._corrupt(one, derive_seed(seed, one.example)) for one in features]

    def _corrupt(self, one: Features, seed: int) -> Features:
        corpus: Corpus = one.metadata
        generator = torch.Generator().manual_seed(seed)
        tokenizer = corpus.tokenizer
        input_ids, segment_ids, is_next = one.input_ids, one.segment_ids, None
        if self.next_sentence:
            pair = ordered_pair if self.sentence_order else segment_pair
            input_ids, segment_ids, is_next = pair(corpus, one.example, generator)
        positions = choose_positions(input_ids, tokenizer, self.mask_probability, self.whole_words, generator)
        corrupted = corrupt_tokens(input_ids, positions, tokenizer, generator)
        target = TargetTokens(positions, [input_ids[i] for i in positions], is_next, one.target.num_bytes)
        return replace(one, input_ids=corrupted, segment_ids=segment_ids, target=target)

    def pack(self, features: Sequence[Features]) -> "PackedBatch":
        """The sequences, with the masks as the selected tokens."""
        return select_targets(pack(features), features)

    # -- the head and its loss

    def head(self, backbone: "Backbone") -> nn.Module:
        """BERT's head over the vocabulary, tied to the token embedding."""
        head = language_model_head(backbone, self.next_sentence)
        if architecture_of(backbone.config, head) is None:
            kind = family_of(backbone.config).with_article
            raise HeadwayError(f"--next-sentence: {kind} has no such head. Remove it, or use a BERT.")
        return head

    def before_training(self, before: Task | None, network: "Network") -> Self:  # noqa: ARG002
        """Adds the part for the teacher to the head, and notes what the second head of the model says."""
        if self.teacher is not None:
            assert network.head is not None
            network.head = DistillationHead(network.backbone, network.head, load_teacher(self.teacher))
        return replace(self, sentence_order=family_of(network.config).sentence_order)

    def after_training(self, network: nn.Module) -> Self:
        """Removes the part for the teacher."""
        if isinstance(network.head, DistillationHead):
            network.head = network.head.student_head
        return replace(self, teacher=None)

    def initial_embedding(self, tokenizer: "Tokenizer") -> Callable[[int], Tensor] | None:
        """The teacher's token embedding by hidden size, to start a new model with; None without a teacher."""
        return None if self.teacher is None else partial(load_teacher(self.teacher).token_embedding, tokenizer)

    def targets(self, features: Sequence[Features]) -> "Targets":
        """For next sentences their class and weight; for the teacher, what it reads. The batch has the tokens."""
        targets: dict[str, Any] = {}
        if self.next_sentence:
            targets["next"] = _next_classes(features)
            targets["masks"] = torch.tensor([len(one.target.ids) for one in features])
        if self.teacher is not None:
            tokenizer = features[0].metadata.tokenizer
            words = [find_words(_uncorrupted(one), tokenizer) for one in features]
            targets |= load_teacher(self.teacher).targets(words, [len(one.input_ids) for one in features])
        return targets

    def loss(self, outputs: Any, targets: "Targets") -> tuple[Tensor, int]:
        """The sum of the cross-entropies at the masks, and their number.

        The next-sentence loss of a sequence is weighted by its number of masks, so that the mean over the masks is
        the sum of the two mean losses.
        """
        outputs, projected = (outputs, None) if self.teacher is None else outputs
        masks, next_logits = outputs if self.next_sentence else (outputs, None)
        total = masks.total
        if projected is not None and self.teacher is not None:
            total = total + DISTILLATION_WEIGHT * distillation_loss(load_teacher(self.teacher), projected, targets)
        if next_logits is not None:
            losses = F.cross_entropy(next_logits.float(), targets["next"], reduction="none")
            total = total + (losses * targets["masks"]).sum()
        return total, len(masks)

    # -- outputs -> predictions -> metrics

    @torch.inference_mode()
    def predict_batch(self, network: nn.Module, features: Sequence[Features]) -> list[Any]:
        """The candidates for the masks of texts; the loss of held-out sequences."""
        if features[0].target is None:
            return super().predict_batch(network, features)
        corrupted = [self._corrupt(one, EVALUATION_SEED + one.example) for one in features]
        return [found for batch in token_batches(corrupted) for found in self._measure(network, batch)]

    def _measure(self, network: nn.Module, features: Sequence[Features]) -> list[SequenceLoss]:
        device = next(network.parameters()).device
        outputs = network(self.pack(features).to(device))
        masks, next_logits = outputs if self.next_sentence else (outputs, None)
        correct = [None] * len(features)
        if next_logits is not None:
            correct = (next_logits.argmax(dim=-1).cpu() == _next_classes(features)).tolist()
        return sequence_losses(masks, features, correct)

    @torch.inference_mode()
    def predict_windows(self, network: nn.Module, features: Sequence[Features]) -> list[Any]:
        """The candidates for the masks of each window; a window without masks is not computed."""
        device = next(network.parameters()).device
        candidates = {one: [] for one in features}
        for batch in token_batches([one for one in features if one.metadata.positions]):
            outputs = network(self.pack(batch).to(device))
            logits = (outputs[0] if self.next_sentence else outputs).float()  # (S, V)
            parts = logits.split([len(one.metadata.positions) for one in batch])
            candidates.update({one: self._candidates(part, one) for one, part in zip(batch, parts, strict=True)})
        return list(candidates.values())

    def join_windows(self, found: Sequence[Any], features: Sequence[Features]) -> list[Any]:
        """The candidates for the masks of each text."""
        return _join_windows(features, found)

    def decode(self, outputs: Sequence[Tensor], features: Sequence[Features]) -> list[Any]:
        """The candidates for the masks.

        Args:
            outputs: the logits at the masks of each sequence, (masks, V).
            features: the sequences.
        """
        return _join_windows(features, list(map(self._candidates, outputs, features)))

    def _candidates(self, logits: Tensor, one: Features) -> list[tuple[MaskCandidate, ...]]:
        """The most likely tokens for each mask of a sequence, from logits (masks, V)."""
        best = logits.softmax(dim=-1).topk(min(self.top, logits.shape[-1]))
        return [
            tuple(map(MaskCandidate, map(one.metadata.tokenizer.spell, ids), scores))
            for scores, ids in zip(best.values.tolist(), best.indices.tolist(), strict=True)
        ]

    def score(self, predictions: Sequence[Any], examples: Sequence[Any]) -> dict[str, float]:
        """The mean loss at the masks in nats, its exponential, and the share of correctly predicted masks."""
        return self.tally(predictions, examples).metrics()

    def tally(self, predictions: Sequence[Any], examples: Sequence[Any]) -> Tally:  # noqa: ARG002
        """The losses of each sequence."""
        return tally_losses(predictions, ("perplexity", "accuracy", *["next_sentence_accuracy"] * self.next_sentence))

    def report_collector(self) -> ReportCollector:
        """Losses by position and by document."""
        return LossCharts()

    # -- model folders

    @classmethod
    def from_published(cls, checkpoint: "Checkpoint") -> Self:
        """The task of a published masked language model."""
        order = family_of(checkpoint.network.config).sentence_order
        return cls(next_sentence=checkpoint.architecture.endswith("ForPreTraining"), sentence_order=order)

    @property
    def head_class(self) -> str:
        """With next sentences, that of both pretraining heads."""
        return self.architecture[int(self.next_sentence)]

    def reuse_head(self, before: Task) -> Self | None:
        """Reuses a head with the same parts: with or without next-sentence prediction."""
        assert isinstance(before, FillMask)
        return self if self.next_sentence == before.next_sentence else None

    def card(self, network: "Network", name: str) -> CardText:  # noqa: ARG002
        """The text of the model card."""
        return fill_mask_card(name, self.top, self.mask_probability, self.whole_words)


def _next_classes(features: Sequence[Features]) -> Tensor:
    """BERT's classes of next-sentence prediction: 0 if the second segment follows the first."""
    return torch.tensor([int(not one.target.is_next) for one in features])


def _uncorrupted(one: Features) -> list[int]:
    """The ids of a sequence before its masks were drawn."""
    ids = list(one.input_ids)
    for position, token in zip(one.target.positions, one.target.ids, strict=True):
        ids[position] = token
    return ids


def _join_windows(
    features: Sequence[Features], candidates: Sequence[list[tuple[MaskCandidate, ...]]]
) -> list[FilledMasks]:
    """One prediction per text, from the candidates for the masks of each window."""
    texts: dict[int, _MaskedText] = {one.example: one.metadata for one in features}
    found: dict[int, list[tuple[MaskCandidate, ...]]] = {example: [] for example in texts}
    for one, masks in zip(features, candidates, strict=True):
        found[one.example] += masks
    return [_filled(texts[example], tuple(masks)) for example, masks in found.items()]


def _filled(masked: _MaskedText, candidates: tuple[tuple[MaskCandidate, ...], ...]) -> FilledMasks:
    first, *rest = MASKS.split(masked.text)
    best = [found[0].word for found in candidates] + [MASK] * (masked.num_masks - len(candidates))
    text = first + "".join(word.removeprefix("##") + following for word, following in zip(best, rest, strict=False))
    return FilledMasks(text, candidates)
