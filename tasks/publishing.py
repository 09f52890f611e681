"""What of a model folder is published on the Hugging Face Hub: the model, without files of the run and rows.

Results on a benchmark of the Hub: https://huggingface.co/docs/hub/eval-results
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from ..core.atomic_files import user_path
from ..core.checkpoints.config_file import read_config
from ..core.checkpoints.hub import SMALL_FILES
from ..core.checkpoints.model_files import SAFETENSORS, open_weights
from ..core.errors import HeadwayError
from ..core.tokenizers.tokenizer import Tokenizer
from . import load
from .base.card import dataset_of, model_card, scored_data
from .base.fold import FILE as OUT_OF_FOLD
from .base.label_table import FILE as LABEL_TABLE
from .base.left_out import NAME as LEFT_OUT
from .base.left_out import count_left_out
from .base.model_folder import read_info
from .base.training_rows import FILE as TRAINING_ROWS

CARD, INFO = "README.md", "headway.json"
PUBLISHED = (
    *SMALL_FILES, *SAFETENSORS, CARD, LABEL_TABLE, "generation_config.json", "chat_template.jinja",
    "sentencepiece.bpe.model", "LICENSE*",
)  # fmt: skip
RESULTS = ".eval_results/headway.yaml"
# Why files of a model folder are not uploaded; others are not part of a model at all.
REASONS = {
    TRAINING_ROWS: "tells which texts were trained on",
    LEFT_OUT: "holds rows of the data",
    OUT_OF_FOLD: "holds rows of the data",
    "log.jsonl": "log of the run",
    "run.yaml": "options of the run, with paths of this machine",
}


@dataclass(frozen=True)
class Publication:
    """The files to upload.

    Args:
        files: name in the repository -> the file, or its content where that differs from the folder's.
        left_out: name of a file that is not uploaded -> the reason.
        notes: what was changed, as sentences.
    """

    files: Mapping[str, Path | bytes]
    left_out: Mapping[str, str]
    notes: tuple[str, ...]

    def sizes(self) -> dict[str, int]:
        """The number of bytes of each file."""
        return {name: len(one) if isinstance(one, bytes) else one.stat().st_size for name, one in self.files.items()}


def prepare_publication(model: str | Path, repository: str, benchmark_task: str | None = None) -> Publication:
    """Chooses the files of a model folder to upload; the folder itself is not changed.

    Args:
        model: the folder.
        repository: USER/NAME, which the card names instead of the folder.
        benchmark_task: the id of a task of the Hub's benchmark that the model was evaluated on, for RESULTS.

    Raises:
        HeadwayError: it is no model folder, cannot be read, or has no weights in safetensors.
    """
    folder = user_path(model)
    _check_folder(folder)
    files: dict[str, Path | bytes] = {}
    left_out = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = path.relative_to(folder).as_posix()
        if any(fnmatch(name, pattern) for pattern in PUBLISHED):
            files[name] = path
        else:
            left_out[name] = REASONS.get(name, "not a part of the model")
    notes = []
    info = read_info(folder)
    if info:
        files |= _described(folder, info, repository, notes)
    elif CARD not in files:
        notes.append(f"There is no {CARD}, so the Hub will show no description.")
    if benchmark_task is not None:
        files[RESULTS] = _benchmark_results(info, benchmark_task)
    return Publication(files, left_out, tuple(notes))


def _check_folder(folder: Path) -> None:
    if folder.name.endswith(".running"):
        raise HeadwayError(f"{folder} is an unfinished training run. Complete it with --resume, then push its model.")
    if not (folder / "config.json").is_file():
        raise HeadwayError(f"{folder} is not a model folder: it has no config.json. Give a folder that was trained.")
    read_config(folder)
    Tokenizer.load(folder)
    weights = open_weights(folder)
    if pickles := sorted({path.name for path in weights.files.values() if path.suffix != ".safetensors"}):
        raise HeadwayError(
            f"{folder} has its weights in {pickles[0]}, a format that can run code. Save it as safetensors first: "
            "headway.tasks.load(FOLDER).save(OTHER)."
        )


def _described(folder: Path, info: dict[str, Any], repository: str, notes: list[str]) -> dict[str, bytes]:
    """headway.json without texts, and the card as one of the repository unless a person has edited it."""
    public = {name: value for name, value in info.items() if name != "examples"}
    if kept := info.get("examples"):
        notes.append(f"The {len(kept)} example texts in {INFO} are held-out rows of the data; they are not uploaded.")
    found = {INFO: (json.dumps(public, indent=2, ensure_ascii=False) + "\n").encode()}
    model = load(folder, device="cpu")
    hashes = (folder / TRAINING_ROWS).exists()
    written = model_card(
        model.task, model.network, info, folder.name, hashes=hashes, num_left_out=count_left_out(folder)
    )
    card = folder / CARD
    if not card.is_file() or card.read_text(encoding="utf-8") == written:
        found[CARD] = model_card(model.task, model.network, public, repository).encode()
        notes.append(f"{CARD} names {repository} instead of {folder.name}, and only files that are uploaded.")
    else:
        notes.append(f"{CARD} was edited or the folder renamed, so {CARD} is uploaded unchanged. Read it first.")
    return found


def _benchmark_results(info: Mapping[str, Any], task: str) -> bytes:
    """The score on a benchmark in the Hub's form of results."""
    import yaml
    from huggingface_hub import EvalResultEntry, eval_result_entries_to_yaml

    metrics, source = info.get("metrics") or {}, scored_data(info)["source"] if info.get("metrics") else ""
    data = dataset_of(source)
    if "split" not in data:
        what = f"on {source}, which is not on the Hub" if source else "on no data"
        raise HeadwayError(
            f"--benchmark-task {task} is for a model that was evaluated on a benchmark of the Hub (hub:NAME), and "
            f"this one was evaluated {what}. Omit it: the results are in the card."
        )
    metric, value = next(iter(metrics.items()))
    parts = ", ".join(f"{name} {data[name]}" for name in ("config", "split") if name in data)
    notes = f"{metric.replace('_', ' ')}, {parts}, measured with Headway {info['headway']}"
    entry = EvalResultEntry(dataset_id=data["type"], task_id=task, value=round(value, 4), notes=notes)
    return yaml.safe_dump(eval_result_entries_to_yaml([entry]), sort_keys=False).encode()
