"""A small BERT that learns from a large one: besides masked words, what the large one makes of every word in context.

Each token's vector of the small model (the student), through a linear layer, is to point where the vector of the same
word in the large one (the teacher) points, as in the hidden-state losses of Jiao et al. 2020
(https://arxiv.org/abs/1909.10351) and Sanh et al. 2019 (https://arxiv.org/abs/1910.01108). The two may have different
vocabularies: what both cut at the same places are words, and a word's first token stands for it. A student that begins
from nothing takes over what the teacher's token embedding says of its tokens.

Shapes: T tokens of the student, W words, C the student's hidden size, D the teacher's.
"""

from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...core.checkpoints.checkpoint import load_backbone
from ...core.errors import HeadwayError
from ...core.models.bert import Bert
from ...core.models.heads import Backbone
from ...core.models.layers import init_weights
from ...core.models.packing import PackedBatch
from ...core.tokenizers.tokenizer import Tokenizer

if TYPE_CHECKING:
    from ..data.features import Features

# With it the two losses weigh about alike: 15 % of the tokens at some 4 nats, nearly all words at some 0.3 of cosine.
WEIGHT = 2.0


class DistillationHead(nn.Module):
    """The student's own head, and the linear layer to the teacher's vectors, which is dropped after training."""

    def __init__(self, backbone: Backbone, own: nn.Module, teacher_size: int) -> None:
        super().__init__()
        self.own = own
        self.projection = nn.Linear(backbone.config.hidden_size, teacher_size)
        init_weights(self.projection, backbone.config.init_std)

    def forward(self, hidden: Tensor, batch: PackedBatch) -> Tensor | tuple[Tensor, Tensor]:
        """(T, C) -> the own head's outputs, and in training the projected vectors of all tokens (T, D)."""
        own = self.own(hidden, batch)
        return (own, self.projection(hidden)) if self.training else own


class Teacher:
    """The large model, which only reads.

    Args:
        name: a folder, a built-in name or a hub id.

    Raises:
        HeadwayError: there is no such model, or it is no BERT.
    """

    def __init__(self, name: str | Path) -> None:
        checkpoint = load_backbone(name)
        if not isinstance(checkpoint.network.backbone, Bert):
            raise HeadwayError(f"--teacher {name}: only a BERT can teach a BERT. Name another model.")
        self.model = checkpoint.network.backbone.requires_grad_(False)
        self.tokenizer = Tokenizer.load(checkpoint.folder)
        self.size = self.model.config.hidden_size
        self._pieces: dict[str, list[int]] = {}

    @torch.no_grad()
    def read(self, sequences: Sequence[list[str]], device: torch.device) -> list[Tensor]:
        """What it makes of every word, (W, D) for each sequence of words; what does not fit into it is left out."""
        self.model.to(device)
        room = self.model.config.max_positions - 2
        encoded, owners = [], []
        for words in sequences:
            ids: list[int] = []
            owner: list[int] = []
            for number, word in enumerate(words):
                pieces = self._pieces_of(word)
                if len(ids) + len(pieces) > room:
                    break
                ids += pieces
                owner += [number] * len(pieces)
            encoded.append(self.tokenizer.join(ids)[0])
            owners.append(owner)
        batch = PackedBatch.pack(encoded).to(device)
        hidden = batch.split(self.model(batch).float())
        found = []
        for vectors, owner in zip(hidden, owners, strict=True):
            index = torch.tensor(owner, dtype=torch.int64, device=device)
            count = owner[-1] + 1 if owner else 0
            total = vectors.new_zeros(count, self.size).index_add_(0, index, vectors[1:-1])
            found.append(F.normalize(total, dim=-1))
        return found

    def embeddings_of(self, tokenizer: Tokenizer, size: int) -> Tensor:
        """What the teacher knows of another vocabulary's tokens before it has read them, (V, size).

        A token's vector is the mean of its pieces' in the teacher's token embedding, brought down to `size` numbers
        along the directions in which the tokens differ most (principal components).

        Raises:
            HeadwayError: the teacher's own vectors are shorter than that.
        """
        if size > self.size:
            raise HeadwayError(
                f"the teacher's vectors have {self.size} numbers and the new model's {size}: it has to be the smaller "
                "one. Choose another --size or another --teacher."
            )
        table = self.model.token_embedding.weight.detach().cpu()
        known = self.tokenizer.id_of
        rows = []
        for token in tokenizer.tokens(range(tokenizer.vocab_size)):
            number = known(token)
            pieces = self._pieces_of(token.removeprefix("##")) if number is None else [number]
            rows.append(table[pieces].mean(dim=0))
        vectors = torch.stack(rows)
        centred = vectors - vectors.mean(dim=0)
        directions = torch.linalg.eigh(centred.T @ centred).eigenvectors.flip(1)  # those of the largest spread first
        return centred @ directions[:, :size]

    def _pieces_of(self, word: str) -> list[int]:
        if word not in self._pieces:
            self._pieces[word] = self.tokenizer.encode(word).ids or [self.tokenizer.unk_id or 0]
        return self._pieces[word]


@lru_cache(maxsize=1)
def find_teacher(name: str) -> Teacher:
    """The teacher of this name, read once."""
    return Teacher(name)


def words_of(one: "Features", tokens: Sequence[str], special: Sequence[int | None]) -> tuple[list[str], list[int]]:
    """The words of a sequence as its tokens spell them, and where each one's first token stands.

    Args:
        one: the sequence, nothing in it masked.
        tokens: the vocabulary.
        special: the ids that are no words.
    """
    words: list[str] = []
    starts: list[int] = []
    for place, token in enumerate(one.input_ids):
        if token in special:
            continue
        piece = tokens[token]
        if piece.startswith("##") and words:
            words[-1] += piece[2:]
        else:
            words.append(piece.removeprefix("##"))
            starts.append(place)
    return words, starts


def distillation_loss(teacher: Teacher, projected: Tensor, features: Sequence["Features"]) -> Tensor:
    """The sum over words of one minus the cosine between the teacher's vector and the projected one.

    Args:
        teacher: who reads the words.
        projected: of all tokens of a packed batch, (T, D).
        features: its sequences, whose targets hold their words.
    """
    wanted = teacher.read([one.target.words[0] for one in features], projected.device)
    lengths = [len(one.input_ids) for one in features]
    places = [
        start + place
        for start, one, vectors in zip(accumulate(lengths, initial=0), features, wanted, strict=False)
        for place in one.target.words[1][: len(vectors)]
    ]
    return (1 - F.cosine_similarity(projected.float()[places], torch.cat(wanted), dim=-1)).sum()
