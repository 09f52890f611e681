"""Model folders: writing one, and reading the task of one.

config.json, model.safetensors and the tokenizer are what transformers reads. headway.json holds the task with its
options, metrics and facts about the training; README.md is the model card.
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ...core.atomic_files import atomic_file, atomic_folder, refuse_existing, user_path
from ...core.checkpoints.checkpoint import Checkpoint, save_checkpoint
from ...core.checkpoints.hub import BUILT_IN
from ...core.checkpoints.joining import JOINED, parts_of
from ...core.checkpoints.model_files import read_json
from ...core.errors import HeadwayError
from ...core.models.heads import Network, reads_segments
from ...core.tokenizers.tokenizer import Tokenizer
from ...core.training.distributed import barrier, processes
from ..data.rows import LeftOutRow
from .card import model_card
from .card_rules import with_rules
from .decision_rules import STORED_AS, DecisionRules
from .fold import FILE as OUT_OF_FOLD
from .label_table import add_label_table
from .left_out import add_left_out, count_left_out
from .task import Task
from .text_distance import TextDistance
from .training_rows import FILE as TRAINING_ROWS
from .training_rows import TrainingRows

# What headway.json holds in addition to facts that are only shown.
KINDS: dict[str, Any] = {
    "task": str, "options": dict, "base": str, "metrics": dict, "metrics_from": str | None, "per_label": list,
    "comparison": list, "score_by_precision": dict, "columns": dict | None, "folds": dict, "seeds": dict,
    "data": dict, "training": dict, "steps": int, "best_step": int | None, "seconds": int | float,
    "decision_rules": dict,
}  # fmt: skip


def write_model(
    output: Path,
    task: Task[Any, Any],
    network: Network,
    tokenizer: Tokenizer,
    *,
    info: Mapping[str, Any],
    came_with: Mapping[str, Any],
    overwrite: bool = False,
    settings: Mapping[str, Any] | None = None,
    log: Path | None = None,
    left_out: Sequence[LeftOutRow] = (),
    training_rows: TrainingRows | None = None,
    out_of_fold: Sequence[str] = (),
    distance: TextDistance | None = None,
) -> None:
    """Writes a folder that Headway and transformers open, completely or not at all.

    The main process of a launch writes it, and the others wait.

    Args:
        output: the folder.
        task: with its labels, thresholds and similar.
        network: the trained backbone and head.
        tokenizer: of the network.
        info: the rest of headway.json: the base model, metrics, facts about data and training.
        came_with: the config.json of the model that training started from.
        overwrite: replace the model that is there.
        settings: for run.yaml.
        log: of the run; it is copied.
        left_out: rows of the training data that were not used, for left_out.csv.
        training_rows: hashes of the texts it was trained on.
        out_of_fold: lines of JSON, the predictions of a cross-validation.
        distance: of texts from the training texts, for a decision rule that needs it.

    Raises:
        HeadwayError: something is there that may not be replaced, or the disk is full.
    """
    if not processes().is_main:
        barrier()
        return
    refuse_replacing(output, overwrite)
    info = _describe_model(task, info)
    card = model_card(task, network, info, output.name, hashes=training_rows is not None, num_left_out=len(left_out))
    with atomic_folder(output, overwrite) as folder:
        save_checkpoint(folder, network, config=came_with, **task.published)
        task.publish(folder, network, tokenizer)
        tokenizer.save(folder, segments=reads_segments(network.config))
        _write_texts(folder, info, card, settings)
        add_left_out(folder, left_out)
        add_label_table(folder, info.get("per_label") or [])
        if out_of_fold:
            _write_text(folder / OUT_OF_FOLD, "".join(f"{line}\n" for line in out_of_fold))
        if training_rows is not None:
            training_rows.write(folder)
        if distance is not None:
            (folder / distance.file).write_bytes(distance.content)
        if log is not None:
            shutil.copy(log, folder / "log.jsonl")
    barrier()


def copy_model(
    source: Path, output: Path, task: Task[Any, Any], network: Network, *, info: Mapping[str, Any],
    settings: Mapping[str, Any] | None, overwrite: bool,
) -> None:  # fmt: skip
    """Copies a model folder, with another headway.json, card and run.yaml; the arguments are as in `write_model`."""
    if processes().is_main:
        refuse_replacing(output, overwrite)
        info = _describe_model(task, info)
        num_left_out = count_left_out(source)
        hashes = (source / TRAINING_ROWS).exists()
        card = model_card(task, network, info, output.name, hashes=hashes, num_left_out=num_left_out)
        with atomic_folder(output, overwrite) as folder:
            shutil.copytree(source, folder, dirs_exist_ok=True)
            _write_texts(folder, info, card, settings)
    barrier()


def _write_texts(folder: Path, info: Mapping[str, Any], card: str, settings: Mapping[str, Any] | None) -> None:
    _write_text(folder / "headway.json", json.dumps(info, indent=2, ensure_ascii=False) + "\n")
    _write_text(folder / "README.md", card)
    if settings is not None:
        import yaml

        _write_text(folder / "run.yaml", yaml.safe_dump(dict(settings), sort_keys=False, allow_unicode=True))


def _describe_model(task: Task[Any, Any], info: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "headway": version("headway"),
        "task": task.name,
        "options": task.to_json(),
        **{name: value for name, value in info.items() if name not in ("headway", "task", "options", "versions")},
        "versions": {name: version(name) for name in ("torch", "tokenizers", "accelerate")},
    }


def refuse_replacing(output: Path, overwrite: bool) -> None:
    """Raises HeadwayError if something is at `output`; with `overwrite`, if that is neither a model nor empty."""
    refuse_existing(output, overwrite)
    if not output.exists() or (output / "config.json").exists():
        return
    if not output.is_dir() or any(output.iterdir()):
        raise HeadwayError(f"{output} is not a model folder, so it is not replaced. Choose another --output.")


def stored_task(checkpoint: Checkpoint, tasks: Mapping[str, type[Task[Any, Any]]]) -> Task[Any, Any] | None:
    """The task of a folder that Headway saved or that was published with a head; None if it is not one of `tasks`.

    Raises:
        HeadwayError: headway.json is damaged, or does not match config.json.
    """
    info = read_info(checkpoint.folder)
    if not info:
        fitting = (task for task in tasks.values() if task.is_published(checkpoint))
        return next((task.from_published(checkpoint) for task in fitting), None)
    name = str(info.get("task"))
    if name not in tasks:
        return None
    task = tasks[name].from_json(info.get("options", {}))
    labels = task.published["labels"]  # None: they have no names
    renamed = labels is not None and checkpoint.labels is not None and checkpoint.labels != labels
    if renamed or not checkpoint.architecture.endswith(task.head_class):
        raise HeadwayError(
            f"{checkpoint.folder / 'headway.json'} and config.json describe different heads or labels. "
            "Copy the model folder again from its source."
        )
    return task


def require_task(checkpoint: Checkpoint, tasks: Mapping[str, type[Task[Any, Any]]], name: str) -> Task[Any, Any]:
    """The stored task of the model `name`.

    Raises:
        HeadwayError: it is not one of `tasks`, or the folder is damaged.
    """
    task = stored_task(checkpoint, tasks)
    if task is not None:
        return task
    if info := read_info(checkpoint.folder):
        raise HeadwayError(
            f"{name} is a model for {info.get('task')}, which this version does not know. Update Headway."
        )
    raise HeadwayError(
        f"{name} has no head that predicts (its class is {checkpoint.architecture}). Train one on it "
        f"(headway train TASK --model {name} --data FILE --output FOLDER), or make vectors with it (headway embed)."
    )


def read_info(folder: Path) -> dict[str, Any]:
    """The content of headway.json; empty if the folder has none.

    Raises:
        HeadwayError: it is damaged.
    """
    path = folder / "headway.json"
    info = read_json(path) if path.exists() else {}
    for name, kind in KINDS.items():
        if name in info and not isinstance(info[name], kind):
            raise HeadwayError(f"{path}: {name} is {repr(info[name])[:99]}, which cannot be. Copy the file again.")
    return info


def update_rules(model: str, rules: DecisionRules, distance: TextDistance | None = None) -> None:
    """Replaces the decision rules in a model folder and its card. The main process of a launch does it.

    Args:
        model: the folder.
        rules: instead of those that it has.
        distance: that a rule needs, if the folder does not have it. Each has a file with a name of its own, so that
            the new headway.json is what changes the rules.

    Raises:
        HeadwayError: there is no such folder with a headway.json, or it cannot be written.
    """
    path = user_path(model) / "headway.json"
    if not path.is_file():
        raise HeadwayError(
            f"{model} is not a folder that Headway saved, so nothing can be stored in it. Save the model to a folder "
            "first: headway.tasks.load(MODEL).save(FOLDER)."
        )
    if not processes().is_main:
        return
    folder = path.parent
    info = {**read_info(folder), STORED_AS: rules.to_json()}
    file = rules.none_of_these and rules.none_of_these.file
    if distance is not None and distance.file == file:
        with atomic_file(folder / distance.file, overwrite=True) as unfinished:
            unfinished.write_bytes(distance.content)
    with atomic_file(path, overwrite=True) as unfinished:
        _write_text(unfinished, json.dumps(info, indent=2, ensure_ascii=False) + "\n")
    for other in folder.iterdir():
        if TextDistance.is_name(other.name) and other.name != file:
            other.unlink(missing_ok=True)
    card = folder / "README.md"
    if card.is_file() and (text := card.read_text(encoding="utf-8")) != (new := with_rules(text, rules)):
        with atomic_file(card, overwrite=True) as unfinished:
            _write_text(unfinished, new)


def name_base(model: str) -> dict[str, str]:
    """The model that training started from, as in headway.json: without its path on this machine."""
    if model in BUILT_IN:
        return {"base": model, "base_from": "built-in"}
    if model.startswith("random weights"):
        return {"base": model, "base_from": "scratch"}
    if parts := parts_of(model):
        return {"base": JOINED.join(name_base(part)["base"] for part in parts), "base_from": "two models"}
    path = user_path(model)
    return (
        {"base": path.resolve().name, "base_from": "folder"} if path.exists() else {"base": model, "base_from": "hub"}
    )


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
