"""What a training run writes, so that it can be killed at any moment and resumed bit for bit.

    log.jsonl                  one line of JSON per step and evaluation
    checkpoint-000120/         the state after step 120: weights, optimizer, random states, progress
    best-000080.safetensors    the best weights so far

Only safetensors and JSON, each with a checksum of its content (CRC-32). A file or folder gets its name when it is
complete (atomic_files.py); what a checkpoint replaces is deleted afterwards.
"""

import json
import os
import re
import shutil
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from ..atomic_files import atomic_file, atomic_folder, disk_errors
from ..errors import HeadwayError
from .checkpoint_record import CHANGED, CheckpointRecord, Progress, damaged
from .distributed import broadcast_tensors, gather_in_order, on_main, processes
from .random_states import random_states, set_random_states
from .training_inputs import derive_seed

# What a run writes, complete or not; a copy that the user made under another name does not match.
RUN_FILES = re.compile(r"checkpoint-\d+|best-\d+\.safetensors|\.(checkpoint|best)-\d.*\.(new|old)")


@dataclass
class TrainingState:
    """Everything that changes in a run."""

    network: nn.Module
    optimizer: Optimizer
    scaler: torch.amp.GradScaler | None  # of fp16
    progress: Progress = field(default_factory=Progress)


class Log:
    """The run's log.jsonl, written line by line; without a path nothing is written."""

    def __init__(self, path: Path | None, keep_bytes: int = 0) -> None:
        self.path = path
        if path is not None:
            with disk_errors(path):
                path.parent.mkdir(parents=True, exist_ok=True)
                self.file = path.open("ab", buffering=0)
                self.file.truncate(min(keep_bytes, path.stat().st_size))

    def append(self, record: Mapping[str, Any]) -> None:
        """Adds a line."""
        if self.path is not None:
            line = memoryview(json.dumps(record, allow_nan=False).encode() + b"\n")
            with disk_errors(self.path):
                while line:  # a disk that is nearly full accepts a part
                    line = line[self.file.write(line) :]

    def sync(self) -> int:
        """Flushes the log to the disk and returns its size in bytes."""
        if self.path is None:
            return 0
        with disk_errors(self.path):
            os.fsync(self.file.fileno())
        return os.fstat(self.file.fileno()).st_size

    def close(self) -> None:
        """Closes the file."""
        if self.path is not None:
            self.file.close()


def weights_of(network: nn.Module) -> dict[str, Tensor]:
    """Every parameter and buffer by name; a tied tensor appears once."""
    return {**dict(network.named_parameters()), **dict(network.named_buffers())}


def write_tensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Writes a safetensors file with a checksum of its tensors.

    Raises:
        OSError: the file cannot be written, for example because the disk is full.
    """
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    try:
        save_file(plain, path, {"crc32": _checksum(plain)})
    except SafetensorError as error:  # its text is the only place with the system's error number
        number = re.search(r"\(os error (\d+)\)", str(error))
        if number is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from error


def load_weights(network: nn.Module, path: Path) -> None:
    """Loads the weights at `path` into the network of every process; only the main process reads the file.

    Raises:
        HeadwayError: the file is damaged, or belongs to another model.
    """
    current = weights_of(network)

    on_main(lambda: _copy_stored(path, _read_tensors(path), current))
    broadcast_tensors(tensor.detach() for tensor in current.values())


def _copy_stored(path: Path, stored: Mapping[str, Tensor], current: Mapping[str, Tensor]) -> None:
    """Overwrites tensors with those of a file, which must have the same names and shapes."""
    if {name: tensor.shape for name, tensor in stored.items()} != {name: t.shape for name, t in current.items()}:
        raise HeadwayError(
            f"{path} belongs to another model. Resume with the model of that run, or start again with --overwrite."
        )
    copy_tensors(stored, current)


def _read_tensors(path: Path) -> dict[str, Tensor]:
    """Reads a file of `write_tensors`.

    Raises:
        HeadwayError: it is missing, incomplete, or not as it was written.
    """
    try:
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no dict
            stored = (file.metadata() or {}).get("crc32")
    except (SafetensorError, OSError) as error:
        raise damaged(path, error) from error
    if stored != _checksum(tensors):
        raise damaged(path, CHANGED)
    return tensors


def _checksum(tensors: Mapping[str, Tensor]) -> str:
    """CRC-32 of the names, types, shapes and contents of tensors on the CPU."""
    value = 0
    for name, tensor in sorted(tensors.items()):
        value = zlib.crc32(f"{name} {tensor.dtype} {list(tensor.shape)}".encode(), value)
        value = zlib.crc32(tensor.reshape(-1).view(torch.uint8).numpy().data, value)
    return f"{value:08x}"


@torch.no_grad()
def copy_tensors(source: Mapping[str, Tensor], destination: Mapping[str, Tensor]) -> None:
    """Overwrites each tensor of `destination` with the one of the same name in `source`."""
    for name, tensor in destination.items():
        tensor.copy_(source[name])


def best_path(run_folder: Path, step: int) -> Path:
    """The file of the best weights, if `step` is the step of the best evaluation."""
    return run_folder / f"best-{step:06d}.safetensors"


def save_best(run_folder: Path, network: nn.Module, step: int) -> None:
    """Saves the weights of `step`, beside the best weights that the last checkpoint refers to."""
    with atomic_file(best_path(run_folder, step), overwrite=True) as path:
        write_tensors(weights_of(network), path)


def newest_checkpoint(run_folder: Path) -> Path | None:
    """The checkpoint to resume from, if there is one."""
    found = [
        path
        for path in run_folder.glob("checkpoint-*")
        if re.fullmatch(r"checkpoint-\d+", path.name) and (path / "state.json").exists()  # otherwise half deleted
    ]
    return max(found, key=lambda path: int(path.name.split("-")[1]), default=None)


def refuse_started(run_folder: Path) -> None:
    """Raises HeadwayError if the folder contains a run."""
    if newest_checkpoint(run_folder) or (run_folder / "log.jsonl").exists():
        raise HeadwayError(
            f"{run_folder} already contains a run. Use --resume to continue it, --overwrite to start again, "
            "or choose another --output."
        )


def remove_stale(run_folder: Path, checkpoint: Path | None, best_step: int | None) -> None:
    """Deletes other checkpoints, other best weights and the incomplete files of a killed process."""
    keep = {checkpoint, best_path(run_folder, best_step) if best_step is not None else None}
    for path in run_folder.iterdir() if run_folder.is_dir() else ():
        if RUN_FILES.fullmatch(path.name) and path not in keep:
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def save_training_state(run_folder: Path, state: TrainingState, settings: Mapping[str, Any]) -> Path:
    """Writes a checkpoint, then deletes the one it replaces; all processes call this, the main process writes.

    Args:
        run_folder: the run's folder.
        state: what is saved.
        settings: what the run must be resumed with, as plain JSON types.

    Returns:
        The folder of the checkpoint.

    Raises:
        HeadwayError: the disk is full or cannot be written; the previous checkpoint is unchanged.
    """
    progress = state.progress
    folder = run_folder / f"checkpoint-{progress.step:06d}"
    by_rank = gather_in_order({processes().rank: random_states(_device_of(state.network))})
    record = CheckpointRecord(progress, settings, state.scaler.state_dict() if state.scaler else None)

    def save() -> None:
        by_name = {f"{rank}.{kind}": t for rank, states in enumerate(by_rank) for kind, t in states.items()}
        with atomic_folder(folder) as new:
            write_tensors(weights_of(state.network), new / "weights.safetensors")
            write_tensors(_optimizer_tensors(state.network, state.optimizer), new / "optimizer.safetensors")
            write_tensors(by_name, new / "random.safetensors")
            record.write(new)
        remove_stale(run_folder, folder, progress.best_step)

    on_main(save)
    return folder


def load_training_state(folder: Path, record: CheckpointRecord, state: TrainingState) -> None:
    """Restores network, optimizer, scaler, progress and the random states of all processes.

    A process that the interrupted run did not have, or a device of another kind, gets a new random state.

    Args:
        folder: a checkpoint; only the main process reads it.
        record: its state.json, from `read_record`.
        state: overwritten. The network has the shapes of the checkpoint and is on its device; the optimizer has not
            made a step.

    Raises:
        HeadwayError: a file is damaged, or belongs to another model.
    """
    network, optimizer = state.network, state.optimizer
    load_weights(network, folder / "weights.safetensors")
    path, stored = folder / "optimizer.safetensors", dict[str, Tensor]()

    def read() -> list[str]:
        stored.update(_read_tensors(path))
        return [name.removeprefix("step.") for name in stored if name.startswith("step.")]

    updated = set(on_main(read))
    for name, parameter in network.named_parameters():
        if name in updated:
            optimizer.state[parameter] = {
                "step": torch.zeros((), device=parameter.device),
                "exp_avg": torch.zeros_like(parameter, memory_format=torch.preserve_format),
                "exp_avg_sq": torch.zeros_like(parameter, memory_format=torch.preserve_format),
            }
    current = _optimizer_tensors(network, optimizer)
    on_main(lambda: _copy_stored(path, stored, current))
    broadcast_tensors(current.values())
    if state.scaler is not None and record.scaler is not None:
        state.scaler.load_state_dict(record.scaler)
    by_name = on_main(lambda: _read_tensors(folder / "random.safetensors"))
    _restore_random_states(_device_of(network), by_name, record)
    state.progress = record.progress


def _device_of(network: nn.Module) -> torch.device:
    return next(network.parameters()).device


def _optimizer_tensors(network: nn.Module, optimizer: Optimizer) -> dict[str, Tensor]:
    return {
        f"{kind}.{name}": tensor
        for name, parameter in network.named_parameters()
        for kind, tensor in optimizer.state.get(parameter, {}).items()
    }


def _restore_random_states(device: torch.device, by_name: Mapping[str, Tensor], record: CheckpointRecord) -> None:
    """Restores this process's random states from those of all processes, named RANK.KIND; seeds missing ones."""
    rank = processes().rank
    torch.manual_seed(derive_seed(record.settings["seed"], rank, record.progress.step))
    kinds = ("cpu", "device") if record.settings["device"] == device.type else ("cpu",)
    set_random_states(device, {kind: by_name[name] for kind in kinds if (name := f"{rank}.{kind}") in by_name})
