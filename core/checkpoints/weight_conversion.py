"""Published tensors put together into our parameters, and our parameters taken apart into published tensors.

Every tensor of a file is used, belongs to another published head, or is an error; none is dropped silently.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from ..errors import HeadwayError
from ..models.heads import Network
from .model_files import StoredTensor, read_tensors
from .weight_names import (
    ARCHITECTURES,
    BACKBONES,
    BASE_ARCHITECTURES,
    IGNORED,
    PREFIXES,
    Source,
    expand,
    is_backbone,
    plain_name,
    prefixed,
)

APART = "config.json and the weights do not belong together: copy or download both again."


@dataclass(frozen=True, eq=False)
class StoredParameter:
    """A parameter of ours in published files, not in memory yet."""

    shape: tuple[int, ...]
    parts: tuple[StoredTensor, ...]  # laid on top of one another along the first dimension
    transpose: bool

    def read(self) -> Tensor:
        """The parameter as a new fp32 tensor."""
        ours = torch.empty(self.shape, dtype=torch.float32)
        for part, stored in zip(ours.chunk(len(self.parts)), self.parts, strict=True):
            value = stored.read()
            part.copy_(value.t() if self.transpose else value)
        return ours

    def peek(self) -> Tensor:
        """The parameter in fp32 for a moment, without a copy where the file has it so."""
        return self.read() if self.transpose or len(self.parts) > 1 else self.mapped().float()

    def mapped(self) -> Tensor:
        """The parameter as it lies in the file, in the file's precision: what is looked at is read, and no more.

        Only of a parameter that is one tensor there, laid as ours is.
        """
        (stored,) = self.parts
        assert not self.transpose
        return stored.read()


Weights = Mapping[str, StoredParameter]  # by the names of a network's state dict


class PublishedTensors:
    """The tensors of a model folder by the names in our tables, and which of them were used.

    Args:
        folder: of the model.
        model: "bert" or "gpt2".
    """

    def __init__(self, folder: Path, model: str) -> None:
        published = read_tensors(folder)
        self.model = model
        self.values = {plain_name(name): value for name, value in published.values.items()}
        self._names = {plain_name(name): name for name in published.values}
        self._files = published.files
        self._where = published.where
        self._prefixed = any(name.startswith(PREFIXES[model]) for name in published.values)
        self._used: set[str] = set()

    def has(self, source: Source) -> bool:
        """Whether a parameter of ours can be put together."""
        return source.copy in self.values or all(name in self.values for name in source.names)

    def has_any(self, sources: Iterable[Source]) -> bool:
        """Whether one of several parameters can be put together."""
        return any(self.has(source) for source in sources)

    def find(self, module: nn.Module, table: Mapping[str, Source]) -> dict[str, StoredParameter]:
        """Where the parameters of a module are (the keys of the table).

        Raises:
            HeadwayError: a tensor is missing, has another shape or does not hold floating-point numbers.
        """
        shapes = {name: tuple(value.shape) for name, value in module.state_dict().items()}
        absent = [source for source in table.values() if not self.has(source)]
        missing = [name for source in absent for name in source.names if name not in self.values]
        if missing:
            more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
            raise HeadwayError(f"{self._where}: the tensor {self._called(missing[0])!r} is missing{more}. {APART}")
        return {name: self._find_one(source, shapes[name]) for name, source in table.items()}

    def check_tied(self, source: Source, embedding: StoredParameter) -> None:
        """A tied output matrix may stand in the file once more.

        Raises:
            HeadwayError: it is there, but differs from the embedding.
        """
        (name,) = source.names
        if name in self.values and not torch.equal(self.values[name].read().float(), embedding.mapped().float()):
            raise HeadwayError(
                f"{self._place(name)} differs from the token embedding, though config.json says that they are one. "
                'Put "tie_word_embeddings": false into config.json if they are meant to differ.'
            )
        self._used.add(name)

    def leftovers(self, *, strict: bool) -> tuple[str, ...]:
        """The published names of the tensors that belong to other heads.

        Raises:
            HeadwayError: a tensor that was not used belongs to the backbone, or (if strict) to no published head.
        """
        left = [name for name in self.values if name not in self._used and not IGNORED.fullmatch(name)]
        heads = {
            name
            for one in ARCHITECTURES.values()
            if one.model == self.model
            for source in expand(one.table).values()
            for name in (*source.names, source.copy)
        }
        for name in left:
            if is_backbone(name, self.model) or (strict and name not in heads):
                raise HeadwayError(
                    f"{self._place(name)} has no place in the model that config.json describes. {APART}"
                )
        return tuple(self._called(name) for name in left)

    def _find_one(self, source: Source, shape: tuple[int, ...]) -> StoredParameter:
        names = source.names if source.copy not in self.values else (source.copy,)
        self._used.update(source.names, names)
        expected = source.shape(shape)
        for name in names:
            value = self.values[name]
            if value.shape != expected:
                raise HeadwayError(
                    f"{self._place(name)} has the shape {value.shape}; config.json means {expected}. {APART}"
                )
            if not value.dtype.is_floating_point:
                raise HeadwayError(
                    f"{self._place(name)} holds {value.dtype} numbers: quantised weights are not read. "
                    "Use the model as it was before that."
                )
        parts = tuple(self.values[name] for name in names)
        return StoredParameter(shape, parts, source.transpose and len(shape) == 2)

    def _called(self, name: str) -> str:
        """What a tensor is called in these files, or would be."""
        return self._names.get(name) or (prefixed(name, self.model) if self._prefixed else name)

    def _place(self, name: str) -> str:
        return f"{self._files[self._names[name]]}: the tensor {self._called(name)!r}"


def published_tensors(network: Network, published: str, dtype: torch.dtype | None) -> dict[str, Tensor]:
    """A network's weights on the CPU under their published names, as a published class writes them."""
    architecture = ARCHITECTURES[published]
    config = network.config
    parts: list[tuple[nn.Module, Mapping[str, Source]]] = [
        (network.backbone, expand(BACKBONES[architecture.model], config.num_layers))
    ]
    if network.head is not None:
        parts.append((network.head, expand(architecture.table)))
    base = published == BASE_ARCHITECTURES[architecture.model]
    tensors: dict[str, Tensor] = {}
    for module, table in parts:
        state = module.state_dict()
        if state.keys() != table.keys():
            raise ValueError(f"{published} does not describe this network: {sorted(state.keys() ^ table.keys())}")
        for ours, source in table.items():
            if source.tied and config.tie_embeddings:
                continue
            value = state[ours].detach().to("cpu", dtype)
            for name, part in zip(source.names, value.chunk(len(source.names)), strict=True):
                published_part = part.t() if source.transpose and part.dim() == 2 else part
                tensors[name if base else prefixed(name, architecture.model)] = published_part.contiguous()
            if source.copy is not None:
                tensors[source.copy] = value.clone()  # safetensors does not write one memory twice
    return tensors
