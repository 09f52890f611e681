"""Converts published tensors to our parameters and back.

Every tensor of a file is used, belongs to another published head, or is an error: none is ignored silently.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from ..errors import HeadwayError
from ..models.bert import BertConfig
from ..models.encoder_decoder import EncoderDecoderConfig
from ..models.gpt2 import GPT2Config
from ..models.heads import Backbone, Config, Network
from ..models.transformer import TransformerConfig
from .families.family import Family, Source, expand
from .families.registry import family_of, find_architecture
from .model_files import StoredTensor, open_weights

# Constant buffers that older versions of transformers wrote.
IGNORED = re.compile(
    r"((encoder|decoder)\.(\w+\.)?)?"
    r"(embeddings\.(position_ids|token_type_ids)|embed_positions\.weight|h\.\d+\.(attn|crossattention)\.(masked_)?bias)"
)
MAX_SINUSOIDS = 2**17  # positions, whose number no file confirms either
OF_LABELS = ("classifier.", "score.")  # classifiers of labels or choices, which differ from task to task
MAX_SHARED = 200  # layers with the same parameters, whose number no file confirms
MISMATCH = "config.json and the weights do not belong together: copy or download both again."


@dataclass(frozen=True, eq=False)
class StoredParameter:
    """One of our parameters in published files, not in memory yet."""

    shape: tuple[int, ...]
    parts: tuple[StoredTensor, ...]  # concatenated along the first dimension
    transpose: bool

    def read(self) -> Tensor:
        """The parameter as a new fp32 tensor."""
        ours = torch.empty(self.shape, dtype=torch.float32)
        for part, stored in zip(ours.chunk(len(self.parts)), self.parts, strict=True):
            value = stored.read()
            part.copy_((value.t() if self.transpose else value).view(part.shape))
            stored.require_finite(part)
        return ours

    def peek(self) -> Tensor:
        """The parameter in fp32 for temporary use, without a copy if the file stores it that way."""
        return self.read() if self.transpose or len(self.parts) > 1 else self.mapped().float()

    def mapped(self) -> Tensor:
        """A view of the file, in its precision: only the pages that are accessed are read.

        For a parameter that is a single tensor in the file, not transposed.
        """
        (stored,) = self.parts
        assert not self.transpose
        stored.require_finite(stored.read())  # of another mapping, so that its pages do not stay in memory
        return stored.read()


Weights = Mapping[str, StoredParameter]  # keyed like a network's state dict


class PublishedTensors:
    """The tensors of a model folder by the names in our tables, and which of them were used.

    Args:
        folder: the model folder.
        family: the model's.
    """

    def __init__(self, folder: Path, family: Family) -> None:
        published = open_weights(folder)
        self.family = family
        self.tensors = {family.plain_name(name): tensor for name, tensor in published.tensors.items()}
        self._names = {family.plain_name(name): name for name in published.tensors}
        self._source = published.source
        self._prefixed = any(name.startswith(family.prefix) for name in published.tensors)
        self._used: set[str] = set()

    def has(self, source: Source) -> bool:
        """Whether all tensors of a parameter are there."""
        return source.copy in self.tensors or all(name in self.tensors for name in source.names)

    def has_any(self, sources: Iterable[Source]) -> bool:
        """Whether all tensors of at least one parameter are there."""
        return any(self.has(source) for source in sources)

    def find_class(self) -> str:
        """The published class of files that do not name it: that of the largest head whose tensors only it has."""
        fitting = {
            suffix: len(table)
            for suffix, one in self.family.heads.items()
            if (table := expand(one.table))
            and not any(source.names[0].startswith(OF_LABELS) for source in table.values())
            if all(source.tied or self.has(source) for source in table.values())
        }
        return f"{self.family.classes}{max(fitting, key=lambda suffix: fitting[suffix], default='Model')}"

    def find(self, module: nn.Module, table: Mapping[str, Source]) -> dict[str, StoredParameter]:
        """Finds the parameters of a module that are in a table.

        Raises:
            HeadwayError: a tensor is missing, has another shape, or is not of floating point.
        """
        shapes = {name: tuple(value.shape) for name, value in module.state_dict().items()}
        self._require(table.values())
        found: dict[tuple[str, ...], StoredParameter] = {}  # those of the same tensors are the same: shared layers
        for name, source in table.items():
            if source.names not in found:
                found[source.names] = self._find_one(source, shapes[name])
                for repeated in source.repeated:
                    self._check_equal(repeated, found[source.names], "Copy or download the model again.")
        return {name: found[source.names] for name, source in table.items()}

    def check_sizes(self, config: Config) -> None:
        """Checks, before a network is built, that the tensors have its sizes: a wrong one could fill the memory.

        Raises:
            HeadwayError: a tensor is missing or has another shape.
        """
        if isinstance(config, EncoderDecoderConfig):
            self._check_sizes(config.encoder, "encoder.")
            self._check_sizes(config.decoder, "decoder.")
        else:
            self._check_sizes(config, "")

    def _check_sizes(self, config: BertConfig | GPT2Config | TransformerConfig, part: str) -> None:
        """`check_sizes` of a model or of a part of one, whose prefix our names have."""
        size, positions = config.hidden_size, config.max_positions
        if isinstance(config, TransformerConfig) and positions > MAX_SINUSOIDS:
            raise HeadwayError(f"{self._source}: {positions} positions are more than {MAX_SINUSOIDS}. {MISMATCH}")
        if isinstance(config, BertConfig):
            size, positions = config.embedding_size or size, positions + config.position_offset
        shapes = {
            "token_embedding.weight": (config.vocab_size, size),
            "position_embedding.weight": (positions, size),
            "blocks.0.mlp.up.weight": (config.intermediate_size, config.hidden_size),
        }
        if isinstance(config, BertConfig) and config.num_segments:
            shapes["segment_embedding.weight"] = (config.num_segments, size)
        table = expand(self.family.backbone, 1)
        depths = {"blocks": config.num_layers}
        if isinstance(config, TransformerConfig):
            depths["encoder_blocks"] = config.num_encoder_layers
        lasts = [
            self.family.backbone[f"{part}{blocks}.{{i}}.norm1.{{p}}"].fill(i=str(layers - 1), p="weight")
            for blocks, layers in depths.items()
        ]
        shapes = {part + name: shape for name, shape in shapes.items() if part + name in table}  # no stored sinusoids
        self._require([*(table[name] for name in shapes), *lasts])
        shared = isinstance(config, BertConfig) and config.share_layers
        if config.num_layers > (MAX_SHARED if shared else len(self.tensors)):  # although there is a last one
            raise HeadwayError(f"{self._source} holds fewer layers than config.json requires. {MISMATCH}")
        for name, shape in shapes.items():
            self._find_one(table[name], shape)

    def _require(self, sources: Iterable[Source]) -> None:
        absent = [source for source in sources if not self.has(source)]
        missing = [name for source in absent for name in source.names if name not in self.tensors]
        if missing:
            more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
            raise HeadwayError(
                f"{self._source}: the tensor {self._published_name(missing[0])!r} is missing{more}. {MISMATCH}"
            )

    def check_tied(self, source: Source, embedding: StoredParameter) -> None:
        """Checks that a tied output matrix, if it is stored as well, equals the token embedding.

        Raises:
            HeadwayError: it differs.
        """
        (name,) = source.names
        advice = 'Set "tie_word_embeddings": false in config.json if they are meant to differ.'
        self._check_equal(name, embedding, advice)

    def _check_equal(self, name: str, embedding: StoredParameter, advice: str) -> None:
        """Checks that a tensor, if it is there, equals the token embedding."""
        if name in self.tensors and not torch.equal(self.tensors[name].read().float(), embedding.mapped().float()):
            raise HeadwayError(
                f"{self.tensors[name].place} differs from the token embedding, but config.json says they are tied. "
                f"{advice}"
            )
        self._used.add(name)

    def leftovers(self, *, strict: bool) -> tuple[str, ...]:
        """The published names of the unused tensors, which belong to other heads.

        Raises:
            HeadwayError: an unused tensor belongs to the backbone, or (if strict) to no published head.
        """
        left = [name for name in self.tensors if name not in self._used and not IGNORED.fullmatch(name)]
        heads = {
            name
            for table in (*(one.table for one in self.family.heads.values()), *self.family.headless.values())
            for source in expand(table).values()
            for name in (*source.names, source.copy)
        }
        for name in left:
            if name not in heads and (strict or self.family.is_backbone(name)):
                raise HeadwayError(
                    f"{self.tensors[name].place} has no place in the model that config.json describes. {MISMATCH}"
                )
        return tuple(self._published_name(name) for name in left)

    def _find_one(self, source: Source, shape: tuple[int, ...]) -> StoredParameter:
        names = source.names if source.copy not in self.tensors else (source.copy,)
        self._used.update(source.names, names)
        expected = source.shape(shape)
        for name in names:
            value = self.tensors[name]
            if value.shape != expected:
                raise HeadwayError(
                    f"{value.place} has the shape {value.shape}; config.json requires {expected}. {MISMATCH}"
                )
            if not value.dtype.is_floating_point:
                raise HeadwayError(
                    f"{value.place} holds {value.dtype} numbers: quantized weights are not supported. "
                    "Use the model without quantization."
                )
        parts = tuple(self.tensors[name] for name in names)
        return StoredParameter(shape, parts, source.transpose and len(shape) == 2)

    def _published_name(self, name: str) -> str:
        """The name of a tensor in these files, or the name it would have."""
        return self._names.get(name) or (self.family.prefixed(name) if self._prefixed else name)


def backbone_table(backbone: Backbone, family: Family) -> dict[str, Source]:
    """The sources of a backbone's parameters; the family's table also has those of parts that not every model has."""
    names, config = backbone.state_dict().keys(), backbone.config
    layers = config.num_layers
    if isinstance(config, EncoderDecoderConfig | TransformerConfig):
        layers = max(layers, config.num_encoder_layers)
    table = expand(family.backbone, layers)
    return {name: source for name, source in table.items() if name in names}


def published_tensors(network: Network, published: str, dtype: torch.dtype | None) -> dict[str, Tensor]:
    """The weights of a network on the CPU, as a published class names and stores them."""
    config = network.config
    family = family_of(config)
    architecture = find_architecture(published, family)
    assert architecture is not None
    parts: list[tuple[nn.Module, Mapping[str, Source]]] = [
        (network.backbone, backbone_table(network.backbone, family))
    ]
    if network.head is not None:
        parts.append((network.head, expand(architecture.head.table)))
    base = published == family.base_class
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
                published_part = published_part[None] if source.row else published_part
                tensors[name if base else family.prefixed(name)] = published_part.contiguous()
            if source.copy is not None:
                tensors[source.copy] = value.clone()  # safetensors refuses two names for the same memory
    return tensors
