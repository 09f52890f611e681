"""Distillation: a small BERT or relative (the student) also learns the word vectors of a larger one (the teacher).

The vector of each student token, after a linear layer, is trained to have the direction of the teacher's vector of the
same word, as in the hidden-state losses of Jiao et al. 2020 (https://arxiv.org/abs/1909.10351) and Sanh et al. 2019
(https://arxiv.org/abs/1910.01108). The vocabularies may differ: both models see the same words, and the first token of
a word represents it. A student trained from scratch starts with token embeddings derived from the teacher's.

Shapes: T tokens of the student, W words, V tokens of the student's vocabulary, C hidden size of the student, D hidden
size of the teacher.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import accumulate
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...core.checkpoints.checkpoint import load_backbone
from ...core.checkpoints.families.registry import family_of, titles_of
from ...core.errors import HeadwayError
from ...core.models.bert import Bert
from ...core.models.heads import Backbone
from ...core.models.layers import init_weights
from ...core.models.packing import PackedBatch
from ...core.tokenizers.tokenizer import CONTINUED, Tokenizer
from .masking import special_ids

if TYPE_CHECKING:
    from ...core.training.training_inputs import Targets

# Makes the two losses about equal: 15 % of the tokens at about 4 nats, nearly all words at a cosine distance of 0.3.
DISTILLATION_WEIGHT = 2.0
CACHED_WORDS = 2**16  # of which the teacher remembers the tokens
SPECIAL_IDS = ("mask_id", "cls_id", "sep_id", "pad_id", "unk_id")  # of a tokenizer


class DistillationHead(nn.Module):
    """The student's head, and a linear layer to the teacher's vectors that is removed after training.

    It keeps the teacher in memory, which is not a part of the network, until then.
    """

    def __init__(self, backbone: Backbone, student_head: nn.Module, teacher: "Teacher") -> None:
        super().__init__()
        self.student_head = student_head
        self.teacher = teacher
        self.projection = nn.Linear(backbone.config.hidden_size, teacher.size)
        init_weights(self.projection, backbone.config.init_std)

    def __getstate__(self) -> dict[str, Any]:
        """For pickle and deepcopy: without the teacher, which is loaded again when it is needed."""
        return {**self.__dict__, "teacher": None}

    def forward(self, hidden: Tensor, batch: PackedBatch) -> Tensor | tuple[Tensor, Tensor]:
        """(T, C) -> the outputs of the student's head; in training also the projected vectors, (T, D)."""
        outputs = self.student_head(hidden, batch)
        return (outputs, self.projection(hidden)) if self.training else outputs


@dataclass(frozen=True)
class WordPositions:
    """The words of a sequence, and the position of the first token of each."""

    words: list[str]
    positions: list[int]


def find_words(input_ids: Sequence[int], tokenizer: Tokenizer) -> WordPositions:
    """Joins the tokens of a sequence without masks to words.

    Args:
        input_ids: of the sequence.
        tokenizer: of the ids.
    """
    special, continues = special_ids(tokenizer), tokenizer.continues_word
    words: list[list[int]] = []
    positions: list[int] = []
    for position, token in enumerate(input_ids):
        if token in special:
            continue
        if continues[token] and words:
            words[-1].append(token)
        else:
            words.append([token])
            positions.append(position)
    return WordPositions([_spell_word(word, tokenizer) for word in words], positions)


def _spell_word(ids: Sequence[int], tokenizer: Tokenizer) -> str:
    if tokenizer.kind == "byte-level-bpe":  # a token may be a part of a character
        return tokenizer.decode(ids).strip()
    return "".join(tokenizer.spell(token).removeprefix(CONTINUED) for token in ids)


class Teacher:
    """The larger model, which is not trained.

    Args:
        name: a folder, a built-in name or a Hub id.

    Raises:
        HeadwayError: the model does not exist or is not an encoder.
    """

    def __init__(self, name: str | Path) -> None:
        checkpoint = load_backbone(name)
        if not isinstance(checkpoint.network.backbone, Bert):
            raise HeadwayError(
                f"--teacher {name} is {family_of(checkpoint.network.config).with_article}; a teacher is a "
                f"{titles_of('bert')}. Name another model."
            )
        self.model = checkpoint.network.backbone.requires_grad_(False)
        self.tokenizer = Tokenizer.load(checkpoint.folder)
        self.tokenizer.check_fits(self.model.config.vocab_size, name)
        self.size = self.model.config.hidden_size
        self._pieces_of = lru_cache(CACHED_WORDS)(partial(_encode_word, self.tokenizer))

    def targets(self, words: Sequence[WordPositions], lengths: Sequence[int]) -> dict[str, Tensor | PackedBatch]:
        """What `distillation_loss` reads, on the CPU; words beyond the teacher's limit are left out.

        Args:
            words: of each of the student's sequences.
            lengths: tokens of each of them.

        Returns:
            `teacher`: the words as the teacher reads them; `pieces`: the rows of their tokens there, and `owners`: the
            word of each of these tokens; `words`: the row of each word in the student's packed batch, (W,).
        """
        capacity = self.model.config.max_positions - 2
        sequences, pieces, owners, rows = [], [], [], []
        for one, start in zip(words, accumulate(lengths, initial=0), strict=False):
            ids: list[int] = []
            first = sum(map(len, sequences)) + 1  # after [CLS]
            for word, position in zip(one.words, one.positions, strict=True):
                found = self._pieces_of(word)
                if len(ids) + len(found) > capacity:
                    break
                pieces += range(first + len(ids), first + len(ids) + len(found))
                owners += [len(rows)] * len(found)
                rows.append(start + position)
                ids += found
            sequences.append(self.tokenizer.join(ids)[0])
        indices = {"pieces": pieces, "owners": owners, "words": rows}
        tensors = {name: torch.tensor(index, dtype=torch.int64) for name, index in indices.items()}
        return {"teacher": PackedBatch.pack(sequences), **tensors}

    @torch.no_grad()
    def word_vectors(self, targets: "Targets") -> Tensor:
        """The unit vectors of the words, (W, D), from what `targets` returned, on the device to compute on."""
        pieces, owners = targets["pieces"], targets["owners"]
        vectors = self.model.to(pieces.device)(targets["teacher"]).float()[pieces]
        return F.normalize(vectors.new_zeros(len(targets["words"]), self.size).index_add_(0, owners, vectors), dim=-1)

    def token_embedding(self, tokenizer: Tokenizer, size: int) -> Tensor:
        """A token embedding for another vocabulary, (V, size).

        The vector of a token is the mean of its pieces in the teacher's token embedding, reduced to `size` principal
        components.

        Raises:
            HeadwayError: `size` exceeds the hidden size of the teacher.
        """
        table = self.model.token_embedding.weight.detach().cpu()
        largest = table.shape[1]
        if size > largest:
            raise HeadwayError(
                f"the hidden size of the teacher is {largest} and that of the new model {size}, which must not be "
                "larger. Choose another --size or another --teacher."
            )
        ours = self.tokenizer
        same = {getattr(tokenizer, name): getattr(ours, name) for name in SPECIAL_IDS}
        rows = []
        for i, token in enumerate(tokenizer.vocabulary):
            found = same.get(i, ours.id_of(token) if tokenizer.kind == ours.kind else None)
            pieces = self._pieces_of(tokenizer.spell(i).removeprefix(CONTINUED)) if found is None else [found]
            rows.append(table[pieces].mean(dim=0))
        vectors = torch.stack(rows)
        centred = vectors - vectors.mean(dim=0)
        components = torch.linalg.eigh(centred.T @ centred).eigenvectors.flip(1)  # largest variance first
        return centred @ components[:, :size]


def _encode_word(tokenizer: Tokenizer, word: str) -> list[int]:
    return tokenizer.encode_word(word) or [tokenizer.unk_id or 0]


_teachers: WeakValueDictionary[str, Teacher] = WeakValueDictionary()
_loading = Lock()


def load_teacher(name: str) -> Teacher:
    """The teacher of this name; the same one for as long as it is in use."""
    with _loading:
        teacher = _teachers.get(name)
        if teacher is None:
            teacher = _teachers[name] = Teacher(name)
        return teacher


def distillation_loss(teacher: Teacher, projected: Tensor, targets: "Targets") -> Tensor:
    """The sum over words of the cosine distance between the teacher's vector and the projected one.

    Args:
        teacher: encodes the words.
        projected: the projected vectors of a packed batch, (T, D).
        targets: from `Teacher.targets`.
    """
    found = projected.float()[targets["words"]]
    return (1 - F.cosine_similarity(found, teacher.word_vectors(targets), dim=-1)).sum()
