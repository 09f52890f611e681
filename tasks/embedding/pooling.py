"""From one vector a token to one vector a text: which layers are read, and how their tokens are joined.

Pooling is that of Reimers & Gurevych 2019 (https://arxiv.org/abs/1908.10084), the choice of layers that of Devlin et
al. 2019 (https://arxiv.org/abs/1810.04805, section 5.3). What sentence-transformers writes beside a model's weights
is read and written here too (https://sbert.net/docs/sentence_transformer/usage/custom_models.html).

Shapes: B sequences in a packed batch, T tokens in all, C hidden size, D size of a vector.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor
from torch.nn import functional as F

from ...core.checkpoints.model_files import read_json
from ...core.errors import HeadwayError
from ...core.models.gpt2 import GPT2
from ...core.models.heads import Backbone
from ...core.models.packing import PackedBatch

MODES = ("mean", "first", "last", "max")
COMBINED = ("sum", "concat")
# sentence-transformers' names, in the order in which it joins several; its two rarer means are read as well.
PUBLISHED_MODES = {
    "cls": "first",
    "max": "max",
    "mean": "mean",
    "mean_sqrt_len_tokens": "mean_sqrt",
    "weightedmean": "weighted_mean",
    "lasttoken": "last",
}
PUBLISHED_SWITCHES = {  # in files of before version 5, a switch each
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}


@dataclass(frozen=True)
class Pooling:
    """How the tokens' vectors become a text's.

    Args:
        modes: how tokens are joined: mean, first, last, max; several are laid one after the other.
        layers: which hidden states are read: 0 is what enters the first block, the number of blocks is the output;
            negative ones count from the end. None: the output.
        combine: how several layers are joined: their sum, or one after the other.
        normalize: whether vectors get length 1.
    """

    modes: tuple[str, ...] = ("mean",)
    layers: tuple[int, ...] | None = None
    combine: str = "sum"
    normalize: bool = False

    def __post_init__(self) -> None:
        for mode in self.modes:
            if mode not in PUBLISHED_MODES.values():
                raise HeadwayError(f"--pooling {mode}: one of {', '.join(MODES)}.")
        if self.combine not in COMBINED:
            raise HeadwayError(f"--combine {self.combine}: say {' or '.join(COMBINED)}.")

    def size(self, hidden_size: int) -> int:
        """D, the numbers in a vector."""
        layers = len(self.layers) if self.layers and self.combine == "concat" else 1
        return hidden_size * layers * len(self.modes)

    def hidden(self, backbone: Backbone, batch: PackedBatch) -> Tensor:
        """What the chosen layers give each token, (T, C), or (T, k C) where k are laid one after the other.

        Blocks after the last layer that is read are left out.

        Raises:
            HeadwayError: the model has no such layer.
        """
        if self.layers is None:
            return backbone(batch)
        last = len(backbone.blocks)
        wanted = [layer + last + 1 if layer < 0 else layer for layer in self.layers]
        if not all(0 <= layer <= last for layer in wanted):
            raise HeadwayError(f"--layer: this model has the layers 0 (its embeddings) to {last}. Choose one of them.")
        kept: dict[int, Tensor] = {}
        x = backbone.embed(batch)
        for layer in range(max(wanted) + 1):
            if layer:
                x = backbone.blocks[layer - 1](x, batch)
            if layer in wanted:
                kept[layer] = backbone.final_norm(x) if layer == last and isinstance(backbone, GPT2) else x
        states = [kept[layer] for layer in wanted]
        return torch.cat(states, dim=-1) if self.combine == "concat" else sum(states[1:], start=states[0])

    def pool(self, hidden: Tensor, batch: PackedBatch) -> Tensor:
        """The tokens' vectors (T, C) as one for each sequence, (B, D), in fp32; not yet normalised."""
        return torch.cat([_pool(hidden, batch, mode) for mode in self.modes], dim=-1)

    def finish(self, vectors: Tensor) -> Tensor:
        """Vectors (B, D) as they are handed out: of length 1, if that is wanted."""
        return F.normalize(vectors, dim=-1) if self.normalize else vectors


def _pool(hidden: Tensor, batch: PackedBatch, mode: str) -> Tensor:
    """(T, C) -> (B, C)."""
    if mode == "first":
        return hidden[batch.first].float()
    if mode == "last":
        return hidden[batch.last].float()
    lengths = batch.cu_seqlens.diff()
    rows = torch.repeat_interleave(torch.arange(len(batch), device=hidden.device), lengths, output_size=len(hidden))
    hidden = hidden.float()
    empty = hidden.new_zeros(len(batch), hidden.shape[-1])
    if mode == "max":
        return empty.scatter_reduce(0, rows[:, None].expand_as(hidden), hidden, "amax", include_self=False)
    divisor = lengths.to(hidden.dtype)
    if mode == "weighted_mean":  # the later a token, the more it counts
        weights = (batch.position_ids + 1).to(hidden.dtype)
        hidden, divisor = hidden * weights[:, None], divisor * (divisor + 1) / 2
    elif mode == "mean_sqrt":
        divisor = divisor.sqrt()
    return empty.index_add(0, rows, hidden) / divisor[:, None]


@dataclass(frozen=True)
class PublishedPooling:
    """What a sentence-transformers folder says besides the weights."""

    pooling: Pooling
    max_length: int | None = None  # tokens, special ones included; None: the model's own limit
    lower_case: bool = False  # before the tokenizer sees a text
    prompt: str = ""  # put before every text

    @classmethod
    def read(cls, folder: Path) -> Self | None:
        """Reads modules.json and what it points to; None where there is none.

        Raises:
            HeadwayError: a file is damaged, or there is a module that Headway does not have.
        """
        listing = folder / "modules.json"
        if not listing.exists():
            return None
        modes: tuple[str, ...] = ()
        normalize = False
        limits: Mapping[str, Any] = {}
        for kind, path in _read_modules(listing):
            own = folder / path / "config.json"
            if kind == "Transformer":
                about = folder / path / "sentence_bert_config.json"
                limits = read_json(about) if about.exists() else {}
            elif kind == "Pooling":
                modes = _read_modes(own)
            elif kind == "Normalize":
                normalize = True
            else:
                raise HeadwayError(
                    f"{listing}: the model has a module {kind}; Headway reads Transformer, Pooling and Normalize. "
                    "Choose another model, or name the --pooling to read its tokens without that module."
                )
        if not modes:
            raise HeadwayError(f"{listing} names no Pooling. Name one: --pooling {MODES[0]}.")
        return cls(
            Pooling(modes, normalize=normalize),
            max_length=limits.get("max_seq_length"),
            lower_case=bool(limits.get("do_lower_case")),
            prompt=_read_prompt(folder),
        )

    def write(self, folder: Path, hidden_size: int) -> None:
        """Writes the same into a folder that exists, as sentence-transformers of any version reads it."""
        names = {ours: theirs for theirs, ours in PUBLISHED_MODES.items()}
        chosen = {names[mode] for mode in self.pooling.modes}
        kinds = [("Transformer", ""), ("Pooling", "1_Pooling")]
        kinds += [("Normalize", "2_Normalize")] if self.pooling.normalize else []
        files: dict[str, Any] = {
            "modules.json": [
                {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
                for i, (kind, path) in enumerate(kinds)
            ],
            "sentence_bert_config.json": {"max_seq_length": self.max_length, "do_lower_case": self.lower_case},
            "config_sentence_transformers.json": {
                "prompts": {"default": self.prompt} if self.prompt else {},
                "default_prompt_name": "default" if self.prompt else None,
            },
            "1_Pooling/config.json": {
                "word_embedding_dimension": hidden_size,
                **{switch: name in chosen for switch, name in PUBLISHED_SWITCHES.items()},
            },
        }
        for name, content in files.items():
            path = folder / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _read_modules(listing: Path) -> list[tuple[str, str]]:
    """The modules in their order: what kind, in which folder."""
    try:
        modules = json.loads(listing.read_text(encoding="utf-8"))
        return [(str(module["type"]).rpartition(".")[2], str(module.get("path", ""))) for module in modules]
    except (UnicodeDecodeError, json.JSONDecodeError, TypeError, KeyError, AttributeError) as error:
        raise HeadwayError(
            f"{listing} is damaged: it must be a list of modules with their types. Copy it again from where it came."
        ) from error


def _read_modes(path: Path) -> tuple[str, ...]:
    config = read_json(path)
    said = config.get("pooling_mode")
    if said is None:
        said = [name for switch, name in PUBLISHED_SWITCHES.items() if config.get(switch)] or "mean"
    names = [said] if isinstance(said, str) else said
    unknown = [name for name in names if name not in PUBLISHED_MODES]
    if unknown:
        raise HeadwayError(f"{path} asks for the pooling {unknown[0]!r}. Known are {', '.join(PUBLISHED_MODES)}.")
    if config.get("include_prompt") is False and _read_prompt(path.parents[1]):
        raise HeadwayError(f"{path} leaves the prompt out of the pooling, which Headway cannot. Name another model.")
    return tuple(PUBLISHED_MODES[name] for name in names)


def _read_prompt(folder: Path) -> str:
    path = folder / "config_sentence_transformers.json"
    config = read_json(path) if path.exists() else {}
    name = config.get("default_prompt_name")
    return str((config.get("prompts") or {}).get(name) or "") if name else ""
