"""Reads and writes the files that sentence-transformers stores beside the weights of a model.

See https://sbert.net/docs/sentence_transformer/usage/custom_models.html.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from ...core.checkpoints.model_files import read_json, read_json_value
from ...core.errors import HeadwayError
from .pooling import MODES, Pooling

# Published name -> ours, in the order in which sentence-transformers concatenates several.
PUBLISHED_MODES = {
    "cls": "cls",
    "max": "max",
    "mean": "mean",
    "mean_sqrt_len_tokens": "mean_sqrt",
    "weightedmean": "weighted_mean",
    "lasttoken": "last",
}
PUBLISHED_SWITCHES = {  # before version 5: one boolean per mode
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}


@dataclass(frozen=True)
class PublishedPooling:
    """The settings of a sentence-transformers folder."""

    pooling: Pooling
    max_length: int | None = None  # in tokens, special tokens included; None: the limit of the model
    lower_case: bool = False  # whether texts are lower-cased before tokenization
    prompt: str = ""  # prepended to every text

    @classmethod
    def read(cls, folder: Path) -> Self | None:
        """Reads modules.json and the files that it names; None without it, or if the folder is of a cross-encoder.

        Raises:
            HeadwayError: a file is damaged, or the model has a module that Headway does not support.
        """
        listing = folder / "modules.json"
        settings = folder / "config_sentence_transformers.json"
        if not listing.exists() or (settings.exists() and read_json(settings).get("model_type") == "CrossEncoder"):
            return None
        modes: tuple[str, ...] = ()
        normalize = False
        limits: Mapping[str, Any] = {}
        for kind, path in _read_modules(listing):
            if kind == "Transformer":
                settings = folder / path / "sentence_bert_config.json"
                limits = read_json(settings) if settings.exists() else {}
            elif kind == "Pooling":
                modes = _read_modes(folder / path / "config.json")
            elif kind == "Normalize":
                normalize = True
            else:
                raise HeadwayError(
                    f"{listing}: the model has a module {kind}; Headway supports Transformer, Pooling and Normalize. "
                    "Choose another model, or add --pooling to read the model without that module."
                )
        if not modes:
            raise HeadwayError(f"{listing} names no Pooling. Name one: --pooling {MODES[0]}.")
        return cls(
            Pooling(modes, normalize=normalize),
            max_length=_read_limit(limits, listing.parent),
            lower_case=bool(limits.get("do_lower_case")),
            prompt=_read_prompt(folder),
        )

    def write(self, folder: Path, hidden_size: int) -> None:
        """Writes the settings into an existing folder, as all versions of sentence-transformers read them."""
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
    """The kind and the folder of each module, in order."""
    modules = read_json_value(listing)
    try:
        found = [(str(module["type"]).rpartition(".")[2], str(module.get("path", ""))) for module in modules]
        if all(Path(path).name == path for _, path in found):  # a folder of the model's, or the model's itself
            return found
        raise ValueError(found)
    except (TypeError, KeyError, AttributeError, ValueError) as error:
        raise HeadwayError(
            f"{listing} is damaged: it must be a list of modules with their types. Copy or download it again."
        ) from error


def _read_limit(settings: Mapping[str, Any], folder: Path) -> int | None:
    limit = settings.get("max_seq_length")
    if limit is not None and (not isinstance(limit, int) or isinstance(limit, bool)):
        raise HeadwayError(
            f"{folder}: max_seq_length is {repr(limit)[:99]} instead of a number of tokens. Correct it."
        )
    return limit


def _read_modes(path: Path) -> tuple[str, ...]:
    config = read_json(path)
    published = config.get("pooling_mode")
    if published is None:
        published = [name for switch, name in PUBLISHED_SWITCHES.items() if config.get(switch)] or "mean"
    names = [published] if isinstance(published, str) else published
    if not isinstance(names, list) or not names:
        raise HeadwayError(f"{path}: pooling_mode is {repr(names)[:99]}. Copy or download the file again.")
    unknown = [name for name in names if str(name) not in PUBLISHED_MODES]
    if unknown:
        raise HeadwayError(
            f"{path}: the pooling {repr(unknown[0])[:99]} is unknown. Headway supports {', '.join(PUBLISHED_MODES)}. "
            "Choose another model, or --pooling."
        )
    if config.get("include_prompt") is False and _read_prompt(path.parents[1]):
        raise HeadwayError(
            f"{path} leaves the prompt out of the pooling, which Headway does not support. Choose another model."
        )
    return tuple(PUBLISHED_MODES[name] for name in names)


def _read_prompt(folder: Path) -> str:
    path = folder / "config_sentence_transformers.json"
    config = read_json(path) if path.exists() else {}
    name, prompts = config.get("default_prompt_name"), config.get("prompts") or {}
    if not isinstance(name or "", str) or not isinstance(prompts, dict):
        raise HeadwayError(f"{path}: prompts must map names to texts. Copy or download the file again.")
    return str(prompts.get(name) or "") if name else ""
