"""What a run of training leaves on the disk, so that it can be killed at any moment and go on as if nothing was.

    log.jsonl                  one line of JSON a step and an evaluation
    checkpoint-000120/         everything that goes on from step 120: weights, optimizer, random states, progress
    best-000080.safetensors    the best weights so far

Only safetensors and JSON. Everything appears under its name when it is whole (folders.py), and what a checkpoint
replaces is deleted after that.
"""

import json
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from ..atomic_files import atomic_file, atomic_folder, disk_errors
from ..errors import HeadwayError
from .distributed import barrier, broadcast_object, broadcast_tensors, gather_in_order, processes

Metrics = dict[str, float]
# What a run writes, whole or not yet; a person's copy of it under a name of its own is none of these.
OURS = re.compile(r"checkpoint-\d+|best-\d+\.safetensors|\.(checkpoint|best)-\d.*\.(new|old)")


@dataclass
class Progress:
    """How far a run has come: all that it knows besides tensors."""

    step: int = 0  # optimizer steps done
    epoch: int = 0  # the epoch under way, from 0
    position: int = 0  # steps done in that epoch
    loss_sum: float = 0.0
    labels: int = 0
    tokens: int = 0
    seconds: float = 0.0  # of training alone
    skipped: int = 0  # steps in a row that fp16's scaler left out
    evaluations_since_best: int = 0
    best_step: int | None = None
    best_metrics: Metrics | None = None
    last_metrics: Metrics | None = None
    log_bytes: int = 0


class Log:
    """The run's log.jsonl, written line by line; nothing at all without a path."""

    def __init__(self, path: Path | None, keep_bytes: int = 0) -> None:
        self.path = path
        if path is not None:
            with disk_errors(path):
                path.parent.mkdir(parents=True, exist_ok=True)
                self.file = path.open("ab", buffering=0)
                self.file.truncate(min(keep_bytes, path.stat().st_size))

    def append(self, record: Mapping[str, Any]) -> None:
        """Adds one line."""
        if self.path is not None:
            line = memoryview(json.dumps(record, allow_nan=False).encode() + b"\n")
            with disk_errors(self.path):
                while line:  # a disk that is nearly full takes a part
                    line = line[self.file.write(line) :]

    def sync(self) -> int:
        """Brings the log to the disk; returns its size in bytes."""
        if self.path is None:
            return 0
        with disk_errors(self.path):
            os.fsync(self.file.fileno())
        return os.fstat(self.file.fileno()).st_size

    def close(self) -> None:
        """Nothing can be added afterwards."""
        if self.path is not None:
            self.file.close()


def weights_of(network: nn.Module) -> dict[str, Tensor]:
    """Every parameter and buffer by name; a tensor that is used in two places appears once."""
    return {**dict(network.named_parameters()), **dict(network.named_buffers())}


def write_tensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Writes a safetensors file.

    Raises:
        OSError: the disk is full, or the like.
    """
    try:
        save_file({name: tensor.detach().contiguous() for name, tensor in tensors.items()}, path)
    except SafetensorError as error:  # it has the system's error number in its text alone
        number = re.search(r"\(os error (\d+)\)", str(error))
        if number is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from error


def load_weights(network: nn.Module, path: Path) -> None:
    """Gives the network of every process the weights that the main process finds at `path`.

    Raises:
        HeadwayError: the file is damaged, or of another model.
    """
    ours = weights_of(network)
    if processes().main:
        stored = _read_tensors(path)
        if {name: tensor.shape for name, tensor in stored.items()} != {name: t.shape for name, t in ours.items()}:
            raise HeadwayError(f"{path} is of another model. Start from that model, or start anew with --overwrite.")
        copy_tensors(stored, ours)
    broadcast_tensors(tensor.detach() for tensor in ours.values())


def _read_tensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, FileNotFoundError) as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> HeadwayError:
    return HeadwayError(f"{path} is damaged ({error}). Start the run anew with --overwrite.")


@torch.no_grad()
def copy_tensors(source: Mapping[str, Tensor], destination: Mapping[str, Tensor]) -> None:
    """Overwrites each tensor of `destination` with that of the same name."""
    for name, tensor in destination.items():
        tensor.copy_(source[name])


def best_path(run_folder: Path, step: int) -> Path:
    """Where the weights of an evaluation that was the best so far are kept."""
    return run_folder / f"best-{step:06d}.safetensors"


def save_best(run_folder: Path, network: nn.Module, step: int) -> None:
    """Keeps the weights of `step`, beside those that the last checkpoint knows as the best."""
    with atomic_file(best_path(run_folder, step), overwrite=True) as path:
        write_tensors(weights_of(network), path)


def newest_checkpoint(run_folder: Path) -> Path | None:
    """The checkpoint to go on from, if there is one."""
    found = [path for path in run_folder.glob("checkpoint-*") if re.fullmatch(r"checkpoint-\d+", path.name)]
    return max(found, key=lambda path: int(path.name.split("-")[1]), default=None)


def refuse_used(run_folder: Path) -> None:
    """Raises HeadwayError if a run has begun in this folder."""
    if newest_checkpoint(run_folder) or (run_folder / "log.jsonl").exists():
        raise HeadwayError(
            f"{run_folder} holds a run already. Go on with it with --resume, choose another --output, "
            "or say --overwrite to start anew."
        )


def remove_stale(run_folder: Path, checkpoint: Path | None, best_step: int | None) -> None:
    """Deletes what stands in no relation to `checkpoint`: older ones, other weights, leftovers of a killed process."""
    keep = {checkpoint, best_path(run_folder, best_step) if best_step is not None else None}
    for path in run_folder.iterdir() if run_folder.is_dir() else ():
        if OURS.fullmatch(path.name) and path not in keep:
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def save_checkpoint(
    run_folder: Path,
    network: nn.Module,
    optimizer: Optimizer,
    scaler: torch.amp.GradScaler | None,
    progress: Progress,
    settings: Mapping[str, Any],
) -> Path:
    """Writes a checkpoint, then deletes the one it replaces; every process calls this, the main one writes.

    Raises:
        HeadwayError: the disk is full or may not be written; the checkpoint before is untouched.
    """
    folder = run_folder / f"checkpoint-{progress.step:06d}"
    random_states = gather_in_order({processes().rank: _random_states(network)})
    if processes().main:
        with atomic_folder(folder) as new:
            write_tensors(weights_of(network), new / "weights.safetensors")
            write_tensors(_optimizer_tensors(network, optimizer), new / "optimizer.safetensors")
            write_tensors(
                {
                    f"{rank}.{kind}": state
                    for rank, states in enumerate(random_states)
                    for kind, state in states.items()
                },
                new / "random.safetensors",
            )
            state = {
                "progress": asdict(progress),
                "settings": settings,
                "scaler": scaler.state_dict() if scaler else None,
            }
            (new / "state.json").write_text(json.dumps(state, indent=1), encoding="utf-8")
        remove_stale(run_folder, folder, progress.best_step)
    barrier()
    return folder


def read_state(folder: Path, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Reads a checkpoint's state.json.

    Raises:
        HeadwayError: it was made with other settings or other data (the message names each), or it is damaged.
    """
    try:
        state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
        then = state["settings"]
    except (ValueError, KeyError, FileNotFoundError) as error:
        raise _damaged(folder / "state.json", error) from error
    now = json.loads(json.dumps(settings))
    changed = [
        f"{name} was {then.get(name)!r} and is {now.get(name)!r}"
        for name in [*now, *(then.keys() - now.keys())]
        if then.get(name) != now.get(name)
    ]
    if changed:
        raise HeadwayError(
            f"{folder} cannot be resumed with other settings or data: {'; '.join(changed)}. "
            "Resume with what the run was started with, or start anew with --overwrite."
        )
    return state


def load_checkpoint(
    folder: Path,
    state: Mapping[str, Any],
    network: nn.Module,
    optimizer: Optimizer,
    scaler: torch.amp.GradScaler | None,
) -> Progress:
    """Puts network, optimizer, scaler and random states of every process back to where they were.

    Args:
        folder: a checkpoint; the main process reads it, the others need not see it.
        state: what `read_state` made of it.
        network: of the same shapes, on the device it trains on.
        optimizer: over the network's parameters; it has not made a step yet.
        scaler: fp16's.

    Raises:
        HeadwayError: a file is damaged, or of another model.
    """
    load_weights(network, folder / "weights.safetensors")
    main = processes().main
    stored = _read_tensors(folder / "optimizer.safetensors") if main else {}
    stepped = set(broadcast_object([name.removeprefix("step.") for name in stored if name.startswith("step.")]))
    for name, parameter in network.named_parameters():
        if name in stepped:
            optimizer.state[parameter] = {
                "step": torch.zeros((), device=parameter.device),
                "exp_avg": torch.zeros_like(parameter, memory_format=torch.preserve_format),
                "exp_avg_sq": torch.zeros_like(parameter, memory_format=torch.preserve_format),
            }
    ours = _optimizer_tensors(network, optimizer)
    if main:
        copy_tensors(stored, ours)
    broadcast_tensors(ours.values())
    if scaler is not None:
        scaler.load_state_dict(state["scaler"])
    random_states = broadcast_object(_read_tensors(folder / "random.safetensors") if main else {})
    _set_random_states(network, {name.split(".")[1]: t for name, t in random_states.items() if _is_ours(name)})
    return Progress(**state["progress"])


def _is_ours(name: str) -> bool:
    return int(name.split(".")[0]) == processes().rank


def _optimizer_tensors(network: nn.Module, optimizer: Optimizer) -> dict[str, Tensor]:
    return {
        f"{kind}.{name}": tensor
        for name, parameter in network.named_parameters()
        for kind, tensor in optimizer.state.get(parameter, {}).items()
    }


def _random_states(network: nn.Module) -> dict[str, Tensor]:
    device = next(network.parameters()).device
    states = {"cpu": torch.get_rng_state()}
    if device.type != "cpu":
        states["device"] = torch.get_device_module(device).get_rng_state()
    return states


def _set_random_states(network: nn.Module, states: Mapping[str, Tensor]) -> None:
    device = next(network.parameters()).device
    torch.set_rng_state(states["cpu"])
    if device.type != "cpu":
        torch.get_device_module(device).set_rng_state(states["device"])
