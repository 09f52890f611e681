"""Exports a model folder to ONNX, with everything that another program needs to use it.

The layout is that of optimum and transformers.js: onnx/model.onnx, config.json and the tokenizer.
"""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from ..core.atomic_files import atomic_file, atomic_folder, new_path, refuse_existing
from ..core.checkpoints.checkpoint import Checkpoint, load_checkpoint
from ..core.checkpoints.config_file import read_config
from ..core.checkpoints.families.registry import family_of, model_of, titles_of
from ..core.checkpoints.hub import find_folder
from ..core.errors import HeadwayError
from ..core.inference.onnx_export import MAX_FILE_BYTES, OnnxFile, VectorPooling, refuse_without_exporter, write_onnx
from ..core.models.gpt2 import GPT2Config
from ..core.models.heads import Config, reads_segments
from ..core.models.packing import PackedBatch
from ..core.tokenizers.tokenizer import Tokenizer
from .base.decision_rules import STORED_AS
from .base.model_folder import read_info, refuse_replacing
from .embedding.pooling import PaddedPooling, Pooling, parse_modes
from .embedding.published_pooling import PublishedPooling

FORMATS = ("onnx",)
SUFFIX = ".onnx"
# Options of tasks that calibrate the logits -> the values that leave them unchanged.
CALIBRATION: dict[str, Any] = {"temperature": 1.0, "thresholds": [], "threshold": 0.0}


@dataclass(frozen=True)
class Exported:
    """The result of an export."""

    output: Path
    file: OnnxFile
    size: int  # of the graph with its weights, in bytes
    notes: tuple[str, ...]  # what users of the graph need to do themselves, one sentence each

    def to_json(self) -> dict[str, Any]:
        """The result as plain JSON types."""
        return {
            "output": str(self.output),
            "opset": self.file.opset,
            "inputs": list(self.file.inputs),
            "outputs": list(self.file.outputs),
            "bytes": self.size,
            "checked_with": self.file.checked_with,
            "apart": self.file.max_difference,
            "notes": list(self.notes),
        }


def export(
    model: str | Path,
    output: str | Path,
    *,
    format: str = "onnx",
    pooling: str | None = None,
    overwrite: bool = False,
) -> Exported:
    """Exports an encoder with its head to ONNX and compares the outputs of the file with those of the model.

    Args:
        model: a model folder, a built-in model or a Hub id. A sentence-transformers folder becomes a graph that
            computes vectors with the pooling of the folder.
        output: a file NAME.onnx, or a folder with onnx/model.onnx, config.json, the tokenizer and a README.md.
        format: "onnx".
        pooling: compute vectors with this pooling instead of the outputs of the head.
        overwrite: whether to replace `output`.

    Raises:
        HeadwayError: the model cannot be read or is not an encoder, `output` exists, a package is missing, or the file
            gives other outputs than the model.
    """
    if format not in FORMATS:
        raise HeadwayError(f"--format {format}: say {' or '.join(FORMATS)}.")
    output, folder = new_path(output), find_folder(model)
    config = read_config(folder)[1]
    _refuse_unsupported(config, model)
    single_file = output.suffix.lower() == SUFFIX
    _check_output(output, folder, single_file=single_file, overwrite=overwrite)
    refuse_without_exporter()

    published = PublishedPooling(Pooling(parse_modes(pooling))) if pooling else PublishedPooling.read(folder)
    checkpoint = load_checkpoint(folder, head=None if published else "published")
    tokenizer = Tokenizer.load(folder)
    tokenizer.check_fits(checkpoint.network.config.vocab_size, model)
    vectors = published and _vectors(published.pooling)
    notes = _notes(checkpoint, published)
    if single_file:
        if (size := sum(one.nbytes for one in checkpoint.network.parameters())) > MAX_FILE_BYTES:
            raise HeadwayError(
                f"{output}: the weights take {size / 1e9:.1f} GB, and an ONNX file holds 2. Name a folder as --output."
            )
        with atomic_file(output, overwrite) as unfinished:
            written = write_onnx(checkpoint.network, unfinished, vectors)
            size = unfinished.stat().st_size
        return Exported(output, written, size, notes)
    with atomic_folder(output, overwrite) as unfinished:
        (unfinished / "onnx").mkdir()
        written = write_onnx(checkpoint.network, unfinished / "onnx" / "model.onnx", vectors)
        size = sum(file.stat().st_size for file in (unfinished / "onnx").iterdir())
        _write_beside(unfinished, checkpoint, tokenizer, published)
        (unfinished / "README.md").write_text(_readme(output.name, written, notes), encoding="utf-8")
    return Exported(output, written, size, notes)


def _refuse_unsupported(config: Config, model: str | Path) -> None:
    """Refuses what is not an encoder."""
    if model_of(config) == "encoder-decoder":
        raise HeadwayError(
            f"{model} is {family_of(config).with_article}, which writes an output token by token. A file that Headway "
            "exports is one pass over a text, so encoder-decoders are not exported. Use it with headway predict or "
            "serve, or open the folder with transformers."
        )
    if isinstance(config, GPT2Config):
        raise HeadwayError(
            f"{model} is {family_of(config).with_article}; only a {titles_of('bert')} can be exported. "
            "Use it with headway generate, prompt or predict."
        )


def _check_output(output: Path, folder: Path, *, single_file: bool, overwrite: bool) -> None:
    """Refuses to replace the exported model, and other files unless `overwrite` is set."""
    if output.exists() and output.resolve() == folder.resolve():
        raise HeadwayError(f"{output} is the model itself, which the export would replace. Choose another --output.")
    if not single_file:
        refuse_replacing(output, overwrite)
    elif output.is_dir():
        raise HeadwayError(f"{output} is a folder, and its name is that of a file. Choose another --output.")
    else:
        refuse_existing(output, overwrite)


def _vectors(pooling: Pooling) -> VectorPooling:
    def packed(hidden: Tensor, batch: PackedBatch) -> Tensor:
        return pooling.finish(pooling.pool(hidden, batch))

    return VectorPooling(PaddedPooling(pooling).eval(), packed)


def _notes(checkpoint: Checkpoint, published: PublishedPooling | None) -> tuple[str, ...]:
    most = checkpoint.network.config.max_positions
    limit = min(most, published.max_length or most) if published else most
    beyond = "longer texts must be cut or split" if limit == most else f"the model was made for {limit}"
    notes = [f"the graph reads at most {most} tokens: {beyond}"]
    if published and published.lower_case:
        notes.append("texts must be in lower case before the tokenizer reads them")
    if published and published.prompt:
        notes.append(f"texts must have {published.prompt!r} put before them")
    info = read_info(checkpoint.folder)
    options = info.get("options", {})
    if names := [name for name, neutral in CALIBRATION.items() if options.get(name) not in (None, neutral)]:
        notes.append(f"the graph gives uncalibrated logits: apply the {' and '.join(names)} of headway.json to them")
    if template := options.get("prompt_template"):
        how = f"the card of the model says how labels are read from {template!r}"
        notes.append(f"the graph gives logits over the vocabulary: {how}")
    if info.get(STORED_AS):
        notes.append("the decision rules of headway.json are not in the graph: headway predict and serve apply them")
    return tuple(notes)


def _write_beside(
    folder: Path, checkpoint: Checkpoint, tokenizer: Tokenizer, published: PublishedPooling | None
) -> None:
    network = checkpoint.network
    family = family_of(network.config)
    fields = {
        **family.write_config(network.config),
        **checkpoint.config,
        "architectures": [checkpoint.architecture if published is None else family.base_class],
    }
    (folder / "config.json").write_text(json.dumps(fields, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    tokenizer.save(folder, segments=reads_segments(network.config))
    if published is not None:
        published.write(folder, network.config.hidden_size)
    if (info := checkpoint.folder / "headway.json").exists():
        shutil.copy(info, folder / info.name)


def _readme(name: str, written: OnnxFile, notes: tuple[str, ...]) -> str:
    about = "\n".join(f"- {note}" for note in notes)
    segments = '    "token_type_ids": np.array([text.type_ids for text in texts]),\n' * (len(written.inputs) > 2)
    return f"""# {name}

`onnx/model.onnx` (opset {written.opset}) has the inputs {", ".join(f"`{one}`" for one in written.inputs)}: int64, one
row per text, padded on the right. Its outputs are {", ".join(f"`{one}`" for one in written.outputs)}.

{about}

```python
import numpy as np
import onnxruntime
from tokenizers import Tokenizer

tokenizer = Tokenizer.from_file("tokenizer.json")
tokenizer.enable_padding()
texts = tokenizer.encode_batch(["a text", "another, longer text"])
session = onnxruntime.InferenceSession("onnx/model.onnx")
found = session.run(None, {{
    "input_ids": np.array([text.ids for text in texts]),
    "attention_mask": np.array([text.attention_mask for text in texts]),
{segments}}})
```
"""
