"""state.json of a checkpoint: the progress of the run, and the settings and the data that it must be resumed with."""

import hashlib
import json
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import HeadwayError
from .training_config import TrainConfig

if TYPE_CHECKING:
    from ..models.packing import TokenLengths

Metrics = dict[str, float]

FORMAT = 1  # of state.json
# Options that the result of a run does not depend on; that of the effort depends on the epochs.
WITHOUT_EFFECT = ("trackers", "effort", "checkpoint_activations", "tokens_at_once", "save_steps", "save_minutes")
# Settings that only random numbers depend on, such as those of dropout -> their name in a note.
RANDOM_ONLY = {"processes": "number of processes", "device": "device"}
CHANGED = "its content does not match its checksum"
LENGTHS_AT_ONCE = 65_536  # written as text together


@dataclass
class Progress:
    """How far a run has come: its state apart from tensors. The field names are those of state.json."""

    step: int = 0  # completed optimizer steps
    epoch: int = 0  # current epoch, from 0
    position: int = 0  # completed steps of that epoch
    loss_sum: float = 0.0
    labels: int = 0
    tokens: int = 0
    seconds: float = 0.0  # training time only
    skipped: int = 0  # consecutive steps that fp16's scaler skipped
    evaluations_since_best: int = 0
    best_step: int | None = None
    best_metrics: Metrics | None = None
    last_metrics: Metrics | None = None
    log_bytes: int = 0


@dataclass(frozen=True)
class CheckpointRecord:
    """The content of state.json."""

    progress: Progress
    settings: Mapping[str, Any]
    scaler: dict[str, Any] | None = None  # of fp16
    notes: tuple[str, ...] = ()  # on settings that differ, but may

    def write(self, folder: Path) -> None:
        """Writes state.json to a folder."""
        record = {
            "format": FORMAT,
            "progress": asdict(self.progress),
            "settings": dict(self.settings),
            "scaler": self.scaler,
        }
        record["crc32"] = _checksum(record)
        (folder / "state.json").write_text(json.dumps(record, indent=1), encoding="utf-8")


def run_settings(config: TrainConfig, lengths: "TokenLengths", data: str, **more: Any) -> dict[str, Any]:
    """What a checkpoint must have been made with to be resumed, apart from RANDOM_ONLY.

    Args:
        config: the options of the run.
        lengths: number of tokens of each example.
        data: identifies the data.
        **more: the precision, the type of the device and the number of processes.
    """
    ignored = (*WITHOUT_EFFECT, "device", "precision")
    return {
        **{name: value for name, value in asdict(config).items() if name not in ignored},
        **more,
        "examples": len(lengths),
        "training data": _fingerprint(data, lengths),
    }


def read_record(folder: Path, settings: Mapping[str, Any]) -> CheckpointRecord:
    """Reads a checkpoint's state.json.

    Raises:
        HeadwayError: the file is damaged or of another version, or the checkpoint was made with other settings or
            other data; the message names each difference.
    """
    path = folder / "state.json"
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if record.pop("crc32") != _checksum(record):
            raise damaged(path, CHANGED)
        version, progress, then, scaler = (record.get(name) for name in ("format", "progress", "settings", "scaler"))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OSError) as error:
        raise damaged(path, error) from error
    names = {field.name for field in fields(Progress)}
    known = version in (None, FORMAT) and isinstance(progress, dict) and progress.keys() == names
    if not known or not isinstance(then, dict) or not isinstance(scaler, dict | None):
        raise HeadwayError(
            f"{path} was written by another version of Headway. Resume with that version, or start again with "
            "--overwrite."
        )
    notes = _compare(folder, then, json.loads(json.dumps(settings)))
    return CheckpointRecord(Progress(**progress), then, scaler, notes)


def _compare(folder: Path, then: Mapping[str, Any], now: Mapping[str, Any]) -> tuple[str, ...]:
    """Notes on the settings that may differ; refuses other differences."""
    names = [name for name in dict.fromkeys([*now, *then]) if name not in WITHOUT_EFFECT]
    changed = {name: (then.get(name), now.get(name)) for name in names if then.get(name) != now.get(name)}
    refused = [
        f"{name} was {before!r} and is {after!r}"
        for name, (before, after) in changed.items()
        if name not in RANDOM_ONLY
    ]
    if refused:
        same = f"--precision {then.get('precision')} and " if "precision" in changed else ""
        raise HeadwayError(
            f"{folder} cannot be resumed with other settings or data: {'; '.join(refused)}. "
            f"Resume with {same}the settings and data of that run, or start again with --overwrite."
        )
    return tuple(
        f"the {RANDOM_ONLY[name]} was {before} and is {after}: dropout draws other random numbers from here on"
        for name, (before, after) in changed.items()
    )


def damaged(path: Path, error: object) -> HeadwayError:
    """The error for a file of a checkpoint that cannot be read."""
    return HeadwayError(f"{path} is damaged ({error}). Start the run again with --overwrite.")


def _checksum(record: Mapping[str, Any]) -> str:
    """CRC-32 of the content of state.json."""
    return f"{zlib.crc32(json.dumps(record, sort_keys=True).encode()):08x}"


def _fingerprint(data: str, lengths: "TokenLengths") -> str:
    """The first 16 hex digits of the SHA-256 of a list in JSON: the data's own fingerprint, then the lengths."""
    digest = hashlib.sha256(f"[{json.dumps(data)}".encode())
    for start in range(0, len(lengths), LENGTHS_AT_ONCE):
        digest.update("".join(f", {length}" for length in lengths[start : start + LENGTHS_AT_ONCE]).encode())
    digest.update(b"]")
    return digest.hexdigest()[:16]
