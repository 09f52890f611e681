"""The vectors of words in every layer of a model, in a file per layer: a treebank's do not fit into memory.

The vector of a word is the mean of those of its pieces (Hewitt & Manning 2019, section 3).

Shapes: R words of all sentences, L layers and the embeddings below them, C hidden size, T tokens.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ...core.atomic_files import disk_errors
from ...core.models.heads import Backbone
from ...core.models.packing import BatchSampler, PackedBatch
from ...core.tokenizers.tokenizer import Tokenizer
from ..data.features import INFERENCE_BATCH_TOKENS
from .probing import layer_states

Words = Sequence[str]


@dataclass(frozen=True)
class WordPieces:
    """The input of a model for a sentence that is divided into words."""

    input_ids: list[int]
    words: list[int]  # of each piece
    first: int  # position of the first piece

    @classmethod
    def encode(cls, tokenizer: Tokenizer, words: Words) -> "WordPieces":
        """Encodes the words with the model's special tokens."""
        encoding = tokenizer.encode_words(words)
        first = tokenizer.num_special(pair=False) // 2
        return cls(tokenizer.join(encoding.ids)[0], [word for word in encoding.word_ids if word is not None], first)

    def average(self, states: Tensor) -> Tensor:
        """The mean of the vectors of each word's pieces, (T, L + 1, C) -> (words, L + 1, C)."""
        words = torch.tensor(self.words, device=states.device)
        pieces = states[self.first : self.first + len(words)].float()
        sums = pieces.new_zeros(self.words[-1] + 1, *pieces.shape[1:]).index_add_(0, words, pieces)
        return sums / words.bincount()[:, None, None]


@dataclass(frozen=True)
class LayerVectors:
    """The files of a model's layers, and where each sentence is in them."""

    folder: Path
    size: int  # C
    num_layers: int  # with the embeddings
    starts: tuple[int, ...]  # row of the first word of each sentence

    @classmethod
    @torch.inference_mode()
    def write(cls, folder: Path, backbone: Backbone, sentences: Sequence[WordPieces]) -> "LayerVectors":
        """Computes the vectors in one pass of the model and writes them.

        Args:
            folder: of the files.
            backbone: in eval mode.
            sentences: those whose vectors are computed.

        Raises:
            HeadwayError: the disk is full.
        """
        device = next(backbone.parameters()).device
        layers = backbone.config.num_layers + 1
        starts = [0] * len(sentences)
        row = 0
        with disk_errors(folder), ExitStack() as stack:
            folder.mkdir(exist_ok=True)
            files = [stack.enter_context(_file(folder, layer).open("wb")) for layer in range(layers)]
            sampler = BatchSampler([len(one.input_ids) for one in sentences], batch_tokens=INFERENCE_BATCH_TOKENS)
            for indices in sampler.by_length():
                batch = PackedBatch.pack([sentences[i].input_ids for i in indices]).to(device)
                for i, states in zip(indices, batch.split(layer_states(backbone, batch)), strict=True):
                    vectors = sentences[i].average(states).cpu().numpy()
                    starts[i], row = row, row + len(vectors)
                    for layer, file in enumerate(files):
                        file.write(np.ascontiguousarray(vectors[:, layer]).tobytes())
        return cls(folder, backbone.config.hidden_size, layers, tuple(starts))

    def read(self, layer: int) -> Tensor:
        """The vectors of all words in one layer, (R, C) fp32."""
        return torch.from_numpy(np.fromfile(_file(self.folder, layer), np.float32).reshape(-1, self.size))


def _file(folder: Path, layer: int) -> Path:
    return folder / f"{layer}.float32"
