"""Model folders: reads a published model with its head and labels, and writes one that transformers opens.

hub.py finds the folder, config_file.py reads its configuration, families/ knows the names of its tensors and
weight_conversion.py converts them. transformers is not needed.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..cpu import use_huge_pages
from ..errors import HeadwayError
from ..models.bert import BertPooler
from ..models.encoder_decoder import EncoderDecoderConfig
from ..models.heads import Backbone, Network, new_backbone
from .config_file import (
    config_fields,
    generation_fields,
    label_fields,
    num_outputs,
    published_class,
    read_config,
    read_labels,
)
from .families.family import expand
from .families.registry import (
    Architecture,
    architecture_of,
    build_head,
    family_of,
    find_architecture,
    refuse_encoder_decoder,
)
from .hub import find_folder
from .weight_conversion import OF_LABELS, PublishedTensors, StoredParameter, Weights, backbone_table, published_tensors


@dataclass(frozen=True)
class Checkpoint:
    """The content of a model folder."""

    network: Network  # in eval mode; its head is None if the folder has none or none was requested
    weights: Weights  # the network's weights in the folder's files
    architecture: str  # the published class, e.g. "BertForSequenceClassification"
    labels: tuple[str, ...] | None  # in the order of the head's outputs; None if the outputs are not labels
    problem_type: str | None
    config: dict[str, Any]  # the content of config.json, so that fields that Headway does not use are kept
    folder: Path
    unused: tuple[str, ...]  # published tensors that belong to other heads


@dataclass(frozen=True)
class HeadReport:
    """The parameters of a head that were loaded and those that are new, by their names in the head."""

    loaded: tuple[str, ...]
    new: tuple[str, ...]


def load_checkpoint(
    name_or_path: str | Path, *, head: Literal["published"] | None = "published", filled: bool = True
) -> Checkpoint:
    """Loads a model in eval mode, with its weights in fp32 on the CPU.

    Args:
        name_or_path: a folder, a built-in name or a hub id.
        head: load the head that was published with the model, or, with None, the backbone alone.
        filled: False leaves the weights in their files; names and shapes are checked, and the network stays on the
            meta device until `fill` loads them, or `prepare_for_inference` reads them one by one.

    Raises:
        HeadwayError: there is no such model, or something in its folder is missing, damaged or not supported.
    """
    use_huge_pages()
    folder = find_folder(name_or_path)
    raw, config = read_config(folder)
    family = family_of(config)
    tensors = PublishedTensors(folder, family)
    tensors.check_sizes(config)
    if isinstance(config, EncoderDecoderConfig):
        pooler = [source for name, source in expand(family.backbone).items() if name.startswith("encoder_pooler.")]
        config = replace(config, encoder_pooler=tensors.has_any(pooler))
    with torch.device("meta"):
        backbone = new_backbone(config)
    found = tensors.find(backbone, backbone_table(backbone, family))
    weights = {f"backbone.{name}": stored for name, stored in found.items()}
    published = published_class(folder, raw, family)
    if head is not None and not raw.get("architectures"):
        published = tensors.find_class()
    module, labels, problem_type = None, None, None
    if head is not None:
        architecture = find_architecture(published, family)
        if architecture is None:
            known = ", ".join(f"{family.classes}{suffix}" for suffix in family.heads)
            raise HeadwayError(
                f"{folder / 'config.json'}: Headway does not know the class {published!r} (only {known}). "
                "Choose one of those, or train a new head on its backbone."
            )
        module, of_head = _published_head(published, architecture, backbone, tensors, weights)
        weights |= {f"head.{name}": stored for name, stored in of_head.items()}
        problem_type = raw.get("problem_type")
        if module is not None and architecture.head.labelled:
            labels = read_labels(folder, raw, num_outputs(module))
    unused = tensors.leftovers(strict=head is not None)
    network = Network(backbone, module).eval()
    if filled:
        fill(network, weights)
    return Checkpoint(network, weights, published, labels, problem_type, raw, folder, unused)


def fill(network: Network, weights: Weights) -> None:
    """Loads the weights of a network on the meta device; tied parameters stay tied.

    Args:
        network: the network of a checkpoint, or a part of it.
        weights: the checkpoint's weights; those that the network does not have are ignored.

    Raises:
        HeadwayError: a weight file was replaced after it was opened.
    """
    wanted = {name: weights[name] for name in network.state_dict()}
    parameters = {stored: nn.Parameter(stored.read()) for stored in dict.fromkeys(wanted.values())}
    network.load_state_dict({name: parameters[stored] for name, stored in wanted.items()}, strict=True, assign=True)


def load_backbone(name_or_path: str | Path) -> Checkpoint:
    """Loads the backbone of a model that reads a text alone, without its head.

    Raises:
        HeadwayError: as `load_checkpoint`, a part of the backbone is missing, or the model is an encoder-decoder.
    """
    folder = find_folder(name_or_path)
    refuse_encoder_decoder(read_config(folder)[1], name_or_path)
    return load_checkpoint(folder, head=None)


def load_head(network: Network, name_or_path: str | Path) -> HeadReport:
    """Loads those parts of a new head that the model's folder also has; the others keep their random weights.

    These are BERT's pooler, the language-modeling heads, the head for next sentences and the span head. A classifier
    of labels or choices stays new.

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
    architecture = find_architecture(published, family_of(network.config))
    assert architecture is not None
    tensors = PublishedTensors(find_folder(name_or_path), architecture.family)
    stored = {
        name: source
        for name, source in expand(architecture.head.table).items()
        if name in parameters and tensors.has(source)
        if not (name.startswith("classifier.") and source.names[0].startswith(OF_LABELS))
    }
    with torch.no_grad():
        for name, parameter in tensors.find(network.head, stored).items():
            parameters[name].copy_(parameter.read())
    return HeadReport(tuple(stored), tuple(name for name in parameters if name not in stored))


def save_checkpoint(
    folder: Path,
    network: Network,
    *,
    architecture: str | None = None,
    labels: Sequence[str] | None = None,
    problem_type: str | None = None,
    config: Mapping[str, Any] | None = None,
    fields: Mapping[str, Any] | None = None,
    dtype: torch.dtype | None = None,
) -> None:
    """Writes config.json and model.safetensors, with published names, into an existing folder.

    Args:
        folder: usually the temporary folder of `atomic_folder`.
        network: backbone and head.
        architecture: the published class. Default: inferred from the head.
        labels: the names of the head's outputs, if they are labels.
        problem_type: how transformers interprets the outputs, e.g. "multi_label_classification".
        config: the config.json that the model came with; fields that Headway does not use are kept.
        fields: further fields of config.json, for other libraries.
        dtype: dtype of the weights in the file. Default: unchanged.

    Raises:
        OSError: the disk is full, or the folder is not writable.
    """
    published = architecture or architecture_of(network.config, network.head)
    family = family_of(network.config)
    found = None if published is None else find_architecture(published, family)
    if published is None or found is None or found.family is not family:
        raise ValueError(f"no published class for {type(network.head).__name__} ({architecture})")
    tensors = published_tensors(network, published, dtype)
    written = {
        **config_fields(network.config, config or {}),
        **label_fields(found.head, network.head, labels),
        "architectures": [published],
        "dtype": str(next(iter(tensors.values())).dtype).removeprefix("torch."),
        **(fields or {}),
    }
    if problem_type is not None:
        written["problem_type"] = problem_type
    _write_json(folder / "config.json", written)
    if isinstance(network.config, EncoderDecoderConfig):  # transformers generates with the tokens that this file names
        _write_json(folder / "generation_config.json", generation_fields(network.config))
    _write_safetensors(folder / "model.safetensors", tensors)
    # safetensors makes its file readable by the owner only; the permissions are those of the other files.
    (folder / "model.safetensors").chmod((folder / "config.json").stat().st_mode)


def _published_head(
    published: str, architecture: Architecture, backbone: Backbone, tensors: PublishedTensors, weights: Weights
) -> tuple[nn.Module | None, dict[str, StoredParameter]]:
    """The head of a published class on the meta device, and its weights in the files."""
    table = expand(architecture.head.table)
    if architecture.head.module is BertPooler and not tensors.has_any(table.values()):
        return None, {}  # BERT's base model can be published without its pooler
    outputs = 1
    if (classifier := table.get("classifier.weight")) and tensors.has(classifier):
        outputs = tensors.tensors[classifier.names[0]].shape[0]
    with torch.device("meta"):
        head = build_head(published, backbone, outputs)
    if head is None:
        return None, {}
    embedding = weights[f"backbone.{_name_of_embedding(backbone)}"]
    tied = {name: source for name, source in table.items() if source.tied and backbone.config.tie_embeddings}
    for source in tied.values():
        tensors.check_tied(source, embedding)
    found = tensors.find(head, {name: source for name, source in table.items() if name not in tied})
    return head, {**found, **dict.fromkeys(tied, embedding)}


def _name_of_embedding(backbone: Backbone) -> str:
    """The name of the token embedding that an output matrix is tied to, in the backbone."""
    return next(name for name, p in backbone.named_parameters() if p is backbone.token_embedding.weight)


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _write_safetensors(path: Path, tensors: dict[str, Tensor]) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        save_file(tensors, path, metadata={"format": "pt"})
    except SafetensorError as error:
        # Its text contains the error number, which `atomic_folder` needs.
        if number := re.search(r"\(os error (\d+)\)", str(error)):
            raise OSError(int(number[1]), str(error), str(path)) from error
        raise
