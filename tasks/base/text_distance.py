"""How far a text is from those that a model was trained on: the Mahalanobis distance of its vector from their mean.

The vector of a text is the mean of the hidden states of its tokens after two thirds of the blocks, taken in the pass
that predicts. Lee et al. 2018 (https://arxiv.org/abs/1807.03888) use this distance from the mean of each class, in
several blocks. In the figures of docs/benchmarks.md the mean of all texts is as good as those of classes, and about as
good as nearest neighbors (Sun et al. 2022, https://arxiv.org/abs/2204.06507), which store a vector of every text;
the last block's vectors are much worse for some texts.

Shapes: B sequences, T tokens, C hidden size.
"""

import copy
import hashlib
import math
import re
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from ...core.errors import HeadwayError
from ...core.models.heads import Network
from ...core.models.packing import PackedBatch

PREFIX, SUFFIX = "text_distance-", ".safetensors"  # of the file in a model folder, around its digest


class TextDistance(nn.Module):
    """The Mahalanobis distance, divided by the root of C: about 1 for the texts that it was fitted to.

    Args:
        mean: of the vectors of the training texts, (C,).
        factor: its product with its transpose is the inverse of their covariance, (C, C).
    """

    mean: Tensor
    factor: Tensor

    def __init__(self, mean: Tensor, factor: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("factor", factor)

    def forward(self, vectors: Tensor) -> Tensor:
        """(B, C) -> (B, 1)."""
        return ((vectors - self.mean) @ self.factor).norm(dim=1, keepdim=True) / math.sqrt(len(self.mean))

    @property
    def content(self) -> bytes:
        """The content of its file."""
        return save({"mean": self.mean.cpu().contiguous(), "factor": self.factor.cpu().contiguous()})

    @property
    def file(self) -> str:
        """The name of its file, which changes with the content."""
        return f"{PREFIX}{hashlib.sha256(self.content).hexdigest()[:12]}{SUFFIX}"

    @staticmethod
    def is_name(name: str) -> bool:
        """Whether a file has such a name, so that it cannot be outside the folder."""
        return re.fullmatch(rf"{PREFIX}[0-9a-f]{{12}}{re.escape(SUFFIX)}", name) is not None

    @classmethod
    def read(cls, path: Path, size: int) -> Self:
        """Reads a file in a model folder.

        Args:
            path: with the name that `file` has.
            size: C.

        Raises:
            HeadwayError: it is missing or damaged, or is of another model.
        """
        try:
            content = path.read_bytes()
            tensors = load(content)
            found = cls(tensors["mean"], tensors["factor"])
            valid = found.file == path.name and (*found.mean.shape, *found.factor.shape) == (size, size, size)
        except (FileNotFoundError, SafetensorError, KeyError):
            valid, found = False, cls(torch.empty(0), torch.empty(0))
        if not valid:
            raise HeadwayError(
                f"{path}, from which distances of texts are computed, is missing or damaged. Copy the model folder "
                "again, or delete none_of_these from the decision_rules in headway.json."
            )
        return found


class NetworkWithDistance(Network):
    """A classifier whose outputs are followed by the distance of the text from those that it was trained on.

    Args:
        network: prepared for inference; its head reads one token per sequence.
        distance: from the vector of a sequence to an output, or to several.
    """

    def __init__(self, network: Network, distance: nn.Module) -> None:
        super().__init__(network.backbone, network.head)
        self.distance = copy.deepcopy(distance).to(next(network.parameters()).device)
        self.eval()

    def forward(self, batch: PackedBatch) -> Tensor:
        """(B, N + 1) in fp32."""
        blocks = self.backbone.blocks
        last = 2 * len(blocks) // 3  # block, from 1, after which the vectors are taken; the same with one block more
        vectors = [] if last else [mean_by_sequence(self.backbone.embed(batch).float(), batch)]
        computed = 0

        def after_block(_: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
            nonlocal computed
            if inputs[1] is not batch:  # another thread, or a pause in this pass, computes other texts
                return
            computed += 1
            if computed == last:
                vectors.append(mean_by_sequence(output[: batch.num_tokens].float(), batch))

        with ExitStack() as hooks:
            for block in set(blocks):  # shared layers are one module
                hooks.callback(block.register_forward_hook(after_block).remove)
            outputs = super().forward(batch)
        assert isinstance(outputs, Tensor)
        return torch.cat([outputs.float(), self.distance(vectors[0])], dim=1)


def mean_by_sequence(hidden: Tensor, batch: PackedBatch) -> Tensor:
    """The means of the vectors of each sequence, (T, C) -> (B, C)."""
    lengths = batch.cu_seqlens.diff()
    owner = torch.repeat_interleave(torch.arange(len(batch), device=hidden.device), lengths, output_size=len(hidden))
    return hidden.new_zeros(len(batch), hidden.shape[1]).index_add(0, owner, hidden) / lengths[:, None]
