"""A run that was killed at any moment resumes bit for bit."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import safetensors.torch
import torch
import train_worker
from full_disk import file_size_limit
from headway.core.errors import HeadwayError
from headway.core.training import checkpoint_record, training_state
from headway.core.training.training import fit
from headway.core.training.training_config import TrainConfig
from headway.core.training.training_events import Event, Finished, Saved, Started, Step
from train_worker import ALBERT, KILLS, Data, tiny_bert, weights

pytestmark = pytest.mark.posix

CONFIG = TrainConfig(epochs=2, batch_size=8, learning_rate=3e-3, precision="fp32", device="cpu", save_steps=3)


@pytest.fixture(autouse=True)
def one_thread():
    """One thread is faster for such small models, above all on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with every run of KILLS, killed and resumed."""
    folder = tmp_path_factory.mktemp("kills")
    command = [sys.executable, "-W", "error", train_worker.__file__, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize("name", [name for name in KILLS if name != "uninterrupted"])
def test_a_killed_run_ends_like_an_uninterrupted_one(runs: Path, name: str):
    uninterrupted, killed = runs / "uninterrupted", runs / name.replace(" ", "-")
    ours = json.loads((killed / "report.json").read_text())
    theirs = json.loads((uninterrupted / "report.json").read_text())
    checkpoint = KILLS[name][1]
    assert ours["resumed_from"] == checkpoint
    assert ours["steps"] == list(range((checkpoint or 0) + 1, 15))
    assert ours["finished"] == theirs["finished"]
    assert (killed / "weights.safetensors").read_bytes() == (uninterrupted / "weights.safetensors").read_bytes()
    assert (killed / "run" / "log.jsonl").read_bytes() == (uninterrupted / "run" / "log.jsonl").read_bytes()
    files = [
        {str(path.relative_to(place)) for path in (place / "run").rglob("*")} for place in (killed, uninterrupted)
    ]
    assert files[0] == files[1]


def test_the_runs_restore_their_best_weights_and_log_every_step(runs: Path):
    finished = json.loads((runs / "uninterrupted" / "report.json").read_text())["finished"]
    assert finished["best_step"] < 14  # not the last evaluation
    log = (runs / "uninterrupted" / "run" / "log.jsonl").read_text().splitlines()
    assert [json.loads(line)["event"] for line in log].count("step") == 14


def test_a_checkpoint_contains_only_safetensors_and_json(runs: Path):
    folder = runs / "uninterrupted" / "run" / "checkpoint-000014"
    assert {path.name for path in folder.iterdir()} == {
        "weights.safetensors", "optimizer.safetensors", "random.safetensors", "state.json",
    }  # fmt: skip
    for path in folder.glob("*.safetensors"):
        assert safetensors.torch.load_file(path)


def events(
    folder: Path | None, config: TrainConfig, changes: Mapping[str, Any] = MappingProxyType({}), **options: object
) -> Iterator[tuple[Event, torch.nn.Module]]:
    """A run with dropout over 56 examples, of a model with changes to its configuration."""
    data, network = Data(56), tiny_bert(dropout=0.2, **changes)
    for event in fit(
        network, config.sampler(data.lengths), data.collate, data.loss, config, run_folder=folder, **options
    ):
        yield event, network


def stop_after(step: int, folder: Path, config: TrainConfig, **options: object) -> None:
    """Stops reading the events of a run after `step`."""
    run = events(folder, config, **options)
    for event, _ in run:
        if isinstance(event, Step) and event.step == step:
            run.close()


@pytest.mark.parametrize(
    "changes",
    [
        {"precision": "bf16"},
        {"gradient_accumulation_steps": 2, "save_steps": 1},
        {"batch_tokens": 40},
        {"schedule": "cosine", "max_steps": 12},
    ],
    ids=str,
)
def test_a_stopped_run_resumes_bit_for_bit(tmp_path: Path, changes: dict):
    config = replace(CONFIG, **changes)
    *_, (finished, uninterrupted) = events(tmp_path / "uninterrupted", config)
    stop_after(5, tmp_path / "interrupted", config)
    *_, (also_finished, resumed) = seen = list(events(tmp_path / "interrupted", config, resume=True))
    assert seen[0][0].resumed_from in (3, 4)
    assert isinstance(finished, Finished)
    assert also_finished.train_loss == finished.train_loss
    theirs = weights(uninterrupted)
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in weights(resumed).items())
    assert (tmp_path / "interrupted/log.jsonl").read_bytes() == (tmp_path / "uninterrupted/log.jsonl").read_bytes()


def test_a_model_with_shared_layers_resumes_bit_for_bit_and_stores_them_once(tmp_path: Path):
    *_, (_, uninterrupted) = events(tmp_path / "uninterrupted", CONFIG, ALBERT)
    stop_after(5, tmp_path / "interrupted", CONFIG, changes=ALBERT)
    *_, (_, resumed) = events(tmp_path / "interrupted", CONFIG, ALBERT, resume=True)
    first, second = resumed.backbone.blocks
    assert all(one is other for one, other in zip(first.parameters(), second.parameters(), strict=True))
    theirs = weights(uninterrupted)
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in weights(resumed).items())
    stored = safetensors.torch.load_file(tmp_path / "interrupted/checkpoint-000014/weights.safetensors")
    assert sum(tensor.numel() for tensor in stored.values()) == sum(one.numel() for one in resumed.parameters())


def test_the_random_state_before_a_run_has_no_effect(tmp_path: Path):
    *_, (_, once) = events(None, CONFIG)
    torch.manual_seed(99)
    *_, (_, again) = events(None, CONFIG)
    theirs = weights(once)
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in weights(again).items())


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"learning_rate": 1e-3}, "learning_rate was 0.003 and is 0.001"),
        ({"seed": 1}, "seed was 0 and is 1"),
        ({"batch_size": 4}, "batch_size was 8 and is 4"),
        ({"precision": "bf16"}, "precision was 'fp32' and is 'bf16'.* Resume with --precision fp32"),
        ({"epochs": 3}, "epochs was 2 and is 3"),
    ],
)
def test_a_checkpoint_of_other_settings_is_refused(tmp_path: Path, changes: dict, named: str):
    stop_after(4, tmp_path, CONFIG)
    with pytest.raises(HeadwayError, match=named):
        next(events(tmp_path, replace(CONFIG, **changes), resume=True))
    assert (tmp_path / "checkpoint-000003").is_dir()


def test_a_run_can_be_resumed_with_other_tokens_at_once(tmp_path: Path):
    stop_after(4, tmp_path, CONFIG)
    seen = list(events(tmp_path, replace(CONFIG, tokens_at_once=20), resume=True))
    assert seen[0][0].resumed_from == 3
    assert isinstance(seen[-1][0], Finished)


def test_a_run_can_be_resumed_with_other_intervals_between_checkpoints(tmp_path: Path):
    stop_after(4, tmp_path, CONFIG)
    seen = list(events(tmp_path, replace(CONFIG, save_steps=5, save_minutes=None), resume=True))
    assert seen[0][0].resumed_from == 3
    assert [event.step for event, _ in seen if isinstance(event, Saved)] == [5, 10, 14]


def test_checkpoints_are_saved_by_the_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    config = replace(CONFIG, epochs=1, save_steps=None)
    assert config.save_minutes == 10
    *_, (_, uninterrupted) = events(tmp_path / "uninterrupted", config)
    minutes = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: 60 * minutes)
    saved = []
    run = events(tmp_path / "run", config)
    for event, _ in run:
        if isinstance(event, Step):
            minutes += 4
            if event.step == 5:
                run.close()  # killed
        if isinstance(event, Saved):
            saved.append(event.step)
    assert saved == [4]  # of an epoch of 7 steps: the first one that ends more than 10 minutes after the start
    *_, (_, resumed) = seen = list(events(tmp_path / "run", config, resume=True))
    assert seen[0][0].resumed_from == 4
    theirs = weights(uninterrupted)
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in weights(resumed).items())
    minutes = 0.0
    without = []
    for event, _ in events(tmp_path / "without", replace(config, save_minutes=None)):
        minutes += 60
        if isinstance(event, Saved):
            without.append(event.step)
    assert without == [7]


def test_a_copy_of_a_checkpoint_under_another_name_is_kept(tmp_path: Path):
    stop_after(4, tmp_path, CONFIG)
    backup = tmp_path / "checkpoint-000003-backup"
    shutil.copytree(tmp_path / "checkpoint-000003", backup)
    before = {path.name: path.read_bytes() for path in backup.iterdir()}
    list(events(tmp_path, CONFIG, resume=True))
    assert not (tmp_path / "checkpoint-000003").exists()
    assert {path.name: path.read_bytes() for path in backup.iterdir()} == before


def test_a_checkpoint_of_other_data_is_refused(tmp_path: Path):
    stop_after(4, tmp_path, CONFIG, data_fingerprint="these labels")
    with pytest.raises(HeadwayError, match="training data was"):
        next(events(tmp_path, CONFIG, resume=True, data_fingerprint="those labels"))
    other, network = Data(56, seed=1), tiny_bert()
    with pytest.raises(HeadwayError, match="training data was"):
        next(
            fit(
                network,
                CONFIG.sampler(other.lengths),
                other.collate,
                other.loss,
                CONFIG,
                run_folder=tmp_path,
                resume=True,
            )
        )


def test_a_checkpoint_of_another_model_is_refused(tmp_path: Path):
    stop_after(4, tmp_path, CONFIG)
    data, network = Data(56), tiny_bert()
    network.head.classifier = torch.nn.Linear(32, 3)
    with pytest.raises(HeadwayError, match="another model"):
        next(
            fit(
                network,
                CONFIG.sampler(data.lengths),
                data.collate,
                data.loss,
                CONFIG,
                run_folder=tmp_path,
                resume=True,
            )
        )


@pytest.mark.parametrize("name", ["weights.safetensors", "optimizer.safetensors", "random.safetensors", "state.json"])
def test_a_damaged_checkpoint_is_named(tmp_path: Path, name: str):
    stop_after(4, tmp_path, CONFIG)
    file = tmp_path / "checkpoint-000003" / name
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(HeadwayError, match=f"{name} is damaged"):
        next(events(tmp_path, CONFIG, resume=True))


@pytest.mark.parametrize("name", ["weights.safetensors", "optimizer.safetensors", "random.safetensors", "state.json"])
def test_a_checkpoint_with_a_flipped_bit_is_named(tmp_path: Path, name: str):
    stop_after(4, tmp_path, CONFIG)
    file = tmp_path / "checkpoint-000003" / name
    content = bytearray(file.read_bytes())
    at = content.index(b'"position": ') + 12 if name == "state.json" else len(content) - 50
    content[at] ^= 1  # another digit, another weight
    file.write_bytes(content)
    with pytest.raises(HeadwayError, match=f"{name} is damaged .*checksum"):
        next(events(tmp_path, CONFIG, resume=True))


def test_best_weights_with_a_flipped_bit_are_named(tmp_path: Path):
    held_out = Data(20, seed=1)
    run = events(tmp_path, CONFIG, evaluate=held_out.evaluate)
    while not isinstance(event := next(run)[0], Saved) or event.step < 14:
        pass
    (best,) = tmp_path.glob("best-*")
    best.write_bytes(best.read_bytes()[:-1] + b"\x00")
    with pytest.raises(HeadwayError, match=r"best-\d+\.safetensors is damaged .*checksum"):
        next(run)


@pytest.mark.parametrize("content", ['{"settings": []}', "[]", "[" * 5000, '{"crc32": 1}', "null"])
def test_a_state_of_another_form_is_damaged(tmp_path: Path, content: str):
    stop_after(4, tmp_path, CONFIG)
    (tmp_path / "checkpoint-000003/state.json").write_text(content)
    with pytest.raises(HeadwayError, match=r"state\.json is damaged"):
        next(events(tmp_path, CONFIG, resume=True))


def rewrite_state(folder: Path, **changes: object) -> None:
    """Changes a state.json, with the checksum of its new content."""
    record = json.loads((folder / "state.json").read_text())
    del record["crc32"]
    for name, value in changes.items():
        record[name] = record[name] | value if isinstance(value, dict) else value
    record["crc32"] = checkpoint_record._checksum(record)
    (folder / "state.json").write_text(json.dumps(record))


@pytest.mark.parametrize(
    "changes",
    [{"format": 2}, {"progress": {"field_of_the_future": 1}}, {"progress": []}, {"settings": None}, {"scaler": 1}],
    ids=str,
)
def test_a_state_of_another_version_is_refused(tmp_path: Path, changes: dict):
    stop_after(4, tmp_path, CONFIG)
    rewrite_state(tmp_path / "checkpoint-000003", **changes)
    with pytest.raises(HeadwayError, match=r"state\.json was written by another version .* --overwrite"):
        next(events(tmp_path, CONFIG, resume=True))


def test_a_state_of_the_version_before_the_format_had_a_number_is_read(tmp_path: Path):
    stop_after(4, tmp_path, CONFIG)
    rewrite_state(tmp_path / "checkpoint-000003", format=None, settings={"save_steps": 3})
    assert next(events(tmp_path, CONFIG, resume=True))[0].resumed_from == 3


@pytest.mark.parametrize("kind", ["step", "exp_avg", "exp_avg_sq"])
def test_an_optimizer_without_a_tensor_is_refused(tmp_path: Path, kind: str):
    stop_after(4, tmp_path, CONFIG)
    path = tmp_path / "checkpoint-000003/optimizer.safetensors"
    tensors = safetensors.torch.load_file(path)
    del tensors[next(name for name in tensors if name.startswith(f"{kind}."))]
    training_state.write_tensors(tensors, path)
    with pytest.raises(HeadwayError, match=r"optimizer\.safetensors belongs to another model"):
        next(events(tmp_path, CONFIG, resume=True))


def test_a_run_can_be_resumed_on_a_device_of_another_kind(tmp_path: Path):
    stop_after(4, tmp_path, CONFIG)
    rewrite_state(tmp_path / "checkpoint-000003", settings={"device": "cuda"})
    seen = list(events(tmp_path, CONFIG, resume=True))
    assert seen[0][0].resumed_from == 3
    assert seen[0][0].notes == ("the device was cuda and is cpu: dropout draws other random numbers from here on",)
    assert isinstance(seen[-1][0], Finished)


def test_a_checkpoint_without_its_state_is_none(tmp_path: Path):
    """A process was killed while it deleted the folder of the run."""
    stop_after(4, tmp_path, CONFIG)
    (tmp_path / "checkpoint-000003/state.json").unlink()
    (started, _), *_, (finished, _) = events(tmp_path, CONFIG, resume=True)
    assert (started.resumed_from, finished.steps) == (None, 14)


def test_a_folder_with_a_run_is_not_overwritten(tmp_path: Path):
    stop_after(4, tmp_path, CONFIG)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(HeadwayError, match="--resume"):
        next(events(tmp_path, CONFIG))
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_resuming_without_a_checkpoint_starts_a_run(tmp_path: Path):
    started, _ = next(events(tmp_path / "new", CONFIG, resume=True))
    assert isinstance(started, Started)
    assert started.resumed_from is None


def test_resuming_a_finished_run_finishes_at_once(tmp_path: Path):
    *_, (finished, network) = events(tmp_path, CONFIG)
    (started, _), (again, same) = events(tmp_path, CONFIG, resume=True)
    assert started.resumed_from == 14
    assert again == finished
    assert all(torch.equal(tensor, weights(network)[name]) for name, tensor in weights(same).items())


def test_a_keyboard_interrupt_keeps_the_last_checkpoint(tmp_path: Path):
    data, network = Data(56), tiny_bert()
    calls = []

    def interrupted(*args):
        calls.append(args)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return data.collate(*args)

    with pytest.raises(KeyboardInterrupt):
        list(fit(network, CONFIG.sampler(data.lengths), interrupted, data.loss, CONFIG, run_folder=tmp_path))
    assert [path.name for path in tmp_path.glob("*checkpoint*")] == ["checkpoint-000003"]
    *_, (finished, _) = events(tmp_path, CONFIG, resume=True)
    assert finished.steps == 14


def test_a_full_disk_is_reported_and_keeps_the_last_checkpoint(tmp_path: Path):
    run = events(tmp_path, CONFIG)
    while not isinstance(next(run)[0], Saved):
        pass
    before = {path.name: path.read_bytes() for path in (tmp_path / "checkpoint-000003").iterdir()}
    with file_size_limit(20_000), pytest.raises(HeadwayError, match="disk is full"):
        list(run)
    assert {path.name: path.read_bytes() for path in (tmp_path / "checkpoint-000003").iterdir()} == before
    assert {path.name for path in tmp_path.iterdir()} == {"checkpoint-000003", "log.jsonl"}
    *_, (finished, _) = events(tmp_path, CONFIG, resume=True)
    assert finished.steps == 14


def test_a_disk_that_is_too_full_for_the_log_is_reported(tmp_path: Path):
    run = events(tmp_path, CONFIG)
    next(run)
    with file_size_limit(100), pytest.raises(HeadwayError, match=r"log\.jsonl: the disk is full"):
        list(run)
    *_, (finished, _) = events(tmp_path, CONFIG, resume=True)  # the incomplete line is removed
    assert finished.steps == 14
    assert all(json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines())
