"""Model folders: reading a published BERT or GPT-2 with its head and labels, and writing one that transformers opens.

Where a model comes from is in sources.py, what its tensors are called in names.py, what config.json says in
config_file.py. transformers is not needed.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..cpu import use_huge_pages
from ..errors import HeadwayError
from ..models.heads import Backbone, Network, new_backbone
from .config_file import config_fields, label_fields, num_outputs, published_class, read_config, read_labels
from .hub import BUILT_IN, find_folder
from .weight_conversion import PublishedTensors, StoredParameter, Weights, published_tensors
from .weight_names import ARCHITECTURES, BACKBONES, BASE_ARCHITECTURES, architecture_of, build_head, expand, model_of

__all__ = [
    "BUILT_IN",
    "Checkpoint",
    "HeadReport",
    "fill",
    "find_folder",
    "load_backbone",
    "load_checkpoint",
    "load_head",
    "save_checkpoint",
]


@dataclass(frozen=True)
class Checkpoint:
    """What a model folder holds."""

    network: Network  # in eval mode; its head is None where the folder has none, or none was asked for
    weights: Weights  # of the network, in the folder's files
    architecture: str  # the published class, e.g. "BertForSequenceClassification"
    labels: tuple[str, ...] | None  # in the order of the head's outputs; None where they are no labels
    problem_type: str | None
    config: dict[str, Any]  # config.json as it is, so that what Headway has no use for survives
    folder: Path
    unused: tuple[str, ...]  # published tensors that belong to other heads


@dataclass(frozen=True)
class HeadReport:
    """Which parameters of a head came from a file and which are new, by their names in the head."""

    loaded: tuple[str, ...]
    new: tuple[str, ...]


def load_checkpoint(
    name_or_path: str | Path, *, head: Literal["published"] | None = "published", filled: bool = True
) -> Checkpoint:
    """Reads a model. Its weights are fp32 and on the CPU, its network is in eval mode.

    Args:
        name_or_path: a folder, a built-in name or a hub id.
        head: the head that the folder was published with, or None for the backbone alone, whatever head there is.
        filled: False leaves the weights in their files, checked as far as that goes without reading them, and the
            network without any: for `inference.prepare_for_inference`, which reads them one by one, or for `fill`.

    Raises:
        HeadwayError: there is no such model, or something in its folder is missing, damaged or not supported.
    """
    use_huge_pages()
    folder = find_folder(name_or_path)
    raw, config = read_config(folder)
    tensors = PublishedTensors(folder, model_of(config))
    with torch.device("meta"):
        backbone = new_backbone(config)
    table = expand(BACKBONES[tensors.model], config.num_layers)
    weights = {f"backbone.{name}": stored for name, stored in tensors.find(backbone, table).items()}
    published = published_class(folder, raw, tensors.model)
    module, labels, problem_type = None, None, None
    if head is not None:
        if published not in ARCHITECTURES:
            known = ", ".join(name for name, one in ARCHITECTURES.items() if one.model == tensors.model)
            raise HeadwayError(
                f"{folder / 'config.json'}: Headway does not know the class {published!r} (only {known}). "
                "Choose one of those, or plug a new head on its backbone."
            )
        module, of_head = _published_head(published, backbone, tensors, weights["backbone.token_embedding.weight"])
        weights |= {f"head.{name}": stored for name, stored in of_head.items()}
        problem_type = raw.get("problem_type")
        if module is not None and ARCHITECTURES[published].labelled:
            labels = read_labels(folder, raw, num_outputs(module))
    unused = tensors.leftovers(strict=head is not None)
    network = Network(backbone, module).eval()
    if filled:
        fill(network, weights)
    return Checkpoint(network, weights, published, labels, problem_type, raw, folder, unused)


def fill(network: Network, weights: Weights) -> None:
    """Gives a network without weights its own, as far as it has a place for them; a tied one stays one.

    Raises:
        HeadwayError: a file is not the one any more that was opened.
    """
    wanted = {name: weights[name] for name in network.state_dict()}
    parameters = {stored: nn.Parameter(stored.read()) for stored in dict.fromkeys(wanted.values())}
    network.load_state_dict({name: parameters[stored] for name, stored in wanted.items()}, strict=True, assign=True)


def load_backbone(name_or_path: str | Path) -> Checkpoint:
    """Reads a model's backbone alone, whatever head it was published with, so that a new head can be plugged on.

    Raises:
        HeadwayError: as load_checkpoint; part of the backbone is missing.
    """
    return load_checkpoint(name_or_path, head=None)


def load_head(network: Network, name_or_path: str | Path) -> HeadReport:
    """Fills a new head from a model's folder as far as the same parts are there, and says what stays new.

    That is BERT's pooler, the language-model heads and the span head; a classifier over labels always stays new.

    Raises:
        HeadwayError: the folder cannot be read, or a tensor has another shape.
    """
    if network.head is None:
        return HeadReport((), ())
    embedding = network.backbone.token_embedding.weight
    parameters = {name: p for name, p in network.head.named_parameters() if p is not embedding}
    published = architecture_of(network.config, network.head)
    if published is None:
        return HeadReport((), tuple(parameters))
    architecture = ARCHITECTURES[published]
    tensors = PublishedTensors(find_folder(name_or_path), architecture.model)
    there = {
        name: source
        for name, source in expand(architecture.table).items()
        if name in parameters and tensors.has(source)
        if not (architecture.labelled and name.startswith("classifier."))
    }
    with torch.no_grad():
        for name, stored in tensors.find(network.head, there).items():
            parameters[name].copy_(stored.read())
    return HeadReport(tuple(there), tuple(name for name in parameters if name not in there))


def save_checkpoint(
    folder: Path,
    network: Network,
    *,
    architecture: str | None = None,
    labels: Sequence[str] | None = None,
    problem_type: str | None = None,
    config: Mapping[str, Any] | None = None,
    dtype: torch.dtype | None = None,
) -> None:
    """Writes config.json and model.safetensors, under the published names, into a folder that exists.

    Args:
        folder: where to, usually the temporary folder of `atomic_folder`.
        network: backbone and head.
        architecture: the published class; found from the head if left out.
        labels: the names of the head's outputs, where they are labels.
        problem_type: the published word for how the outputs are read, e.g. "multi_label_classification".
        config: the config.json that the model came with; its other fields are kept.
        dtype: of the weights in the file; as they are if left out.

    Raises:
        OSError: the disk is full, or the folder may not be written.
    """
    published = architecture or architecture_of(network.config, network.head)
    if published is None or ARCHITECTURES[published].model != model_of(network.config):
        raise ValueError(f"no published class for {type(network.head).__name__} ({architecture})")
    tensors = published_tensors(network, published, dtype)
    fields = {
        **config_fields(network.config, config or {}),
        **label_fields(ARCHITECTURES[published], network.head, labels),
        "architectures": [published],
        "dtype": str(next(iter(tensors.values())).dtype).removeprefix("torch."),
    }
    if problem_type is not None:
        fields["problem_type"] = problem_type
    (folder / "config.json").write_text(json.dumps(fields, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    _write_safetensors(folder / "model.safetensors", tensors)
    # safetensors lets only the owner read what it writes; the weights are for whoever may read the rest.
    (folder / "model.safetensors").chmod((folder / "config.json").stat().st_mode)


def _published_head(
    published: str, backbone: Backbone, tensors: PublishedTensors, embedding: StoredParameter
) -> tuple[nn.Module | None, dict[str, StoredParameter]]:
    """The head of a published class, without weights, and where those are."""
    table = expand(ARCHITECTURES[published].table)
    if published == BASE_ARCHITECTURES[tensors.model] and not tensors.has_any(table.values()):
        return None, {}  # BERT's base model may be published without its pooler
    outputs = 1
    if (classifier := table.get("classifier.weight")) and tensors.has(classifier):
        outputs = tensors.values[classifier.names[0]].shape[0]
    with torch.device("meta"):
        head = build_head(published, backbone, outputs)
    if head is None:
        return None, {}
    tied = {name: source for name, source in table.items() if source.tied and backbone.config.tie_embeddings}
    for source in tied.values():
        tensors.check_tied(source, embedding)
    found = tensors.find(head, {name: source for name, source in table.items() if name not in tied})
    return head, {**found, **dict.fromkeys(tied, embedding)}


def _write_safetensors(path: Path, tensors: dict[str, Tensor]) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        save_file(tensors, path, metadata={"format": "pt"})
    except SafetensorError as error:
        # It hides what the operating system said in its text; whole_folder needs the number.
        if number := re.search(r"\(os error (\d+)\)", str(error)):
            raise OSError(int(number[1]), str(error), str(path)) from error
        raise
