"""Two processes compute the same as one."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import launch_worker
import pytest
import torch
from headway.core.training.distributed import Processes, broadcast_object, gather_in_order, processes, shard
from headway.core.training.training_events import Step
from launch_worker import launch_each
from train_worker import DISTRIBUTED, RUNS, Data, run_with_33_examples, without_timings

pytestmark = pytest.mark.posix

LAUNCHERS = {
    "torchrun": ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"],
    # Without --multi_gpu, processes are started through MPI only; without a GPU they use the CPU.
    "accelerate launch": [
        "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes=2", "--num_machines=1",
        "--main_process_port=0", "--mixed_precision=no", "--dynamo_backend=no",
    ],
}  # fmt: skip


@pytest.fixture(autouse=True)
def one_thread():
    """One thread is faster for such small models, above all on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def launch(launcher: list[str], work: list[str], folder: Path) -> list[dict]:
    """The reports of two processes that run `compare` of launch_worker.py, after other work."""
    folder.mkdir(exist_ok=True)
    command = [sys.executable, *launcher, launch_worker.__file__, "launched", *work, "compare", str(folder)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return json.loads((folder / "report.json").read_text())


@pytest.fixture(scope="module")
def launched(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[dict], Path]:
    """The reports of a launch in which a process was killed at first, and its folder."""
    folder = tmp_path_factory.mktemp("distributed")
    return launch([*LAUNCHERS["torchrun"], "--max-restarts=1", "--monitor-interval=0.1"], ["restart"], folder), folder


@pytest.fixture(scope="module")
def reports(launched: tuple[list[dict], Path]) -> list[dict]:
    return launched[0]


@pytest.mark.parametrize("name", RUNS)
def test_two_processes_give_the_loss_curve_and_predictions_of_one(reports: list[dict], name: str):
    check_against_one_process(reports, name)


@pytest.mark.slow
def test_accelerate_launch_gives_the_loss_curve_of_one_process(tmp_path: Path):
    check_against_one_process(launch(LAUNCHERS["accelerate launch"], [], tmp_path), "plain")


def check_against_one_process(reports: list[dict], name: str) -> None:
    one, two = ({key: found for key, found in report.items() if key != "memory full"} for report in reports)
    assert one == two  # both processes get the same events and all predictions
    report = reports[0]
    assert report[f"{name} processes"] == 2
    held_out = Data(21, seed=1)
    *_, (_, network) = seen = list(run_with_33_examples(**RUNS[name], evaluate=held_out.evaluate))
    events = [without_timings(event) for event, _ in seen[1:-1]]
    assert [event["event"] for event in report[name]] == [event["event"] for event in events]
    for theirs, ours in zip(report[name], events, strict=True):
        if ours["event"] == "step":
            assert theirs["tokens"] == ours["tokens"]
            assert theirs["loss"] == pytest.approx(ours["loss"], abs=1e-4)
            assert theirs["grad_norm"] == pytest.approx(ours["grad_norm"], rel=1e-3)
        else:
            assert theirs["metrics"] == pytest.approx(ours["metrics"], abs=1e-4)
    predictions = torch.tensor(held_out.predict(network))
    assert torch.allclose(torch.tensor(report[f"{name} predictions"]), predictions, atol=1e-4)


def test_a_process_whose_memory_is_full_repeats_the_step_and_the_others_wait(reports: list[dict]):
    for report in reports:
        steps = [one for one in report["memory full"] if one["event"] == "step"]
        notes = [one["note"] for one in report["memory full"] if one["event"] == "note"]
        assert len(notes) == 1  # of about 28 tokens of a process to at most 20
        assert "the memory was full" in notes[0]
        expected = [one for one in report["plain"] if one["event"] == "step"]
        assert [one["loss"] for one in steps] == pytest.approx([one["loss"] for one in expected], abs=1e-4)


def test_two_processes_resume_bit_for_bit(reports: list[dict]):
    assert [report["resumed equals uninterrupted"] for report in reports] == [True, True]


def test_a_run_of_two_processes_can_be_resumed_by_three(tmp_path: Path):
    before, after = launch_each("train", [2, 3], tmp_path)
    for report in before:  # the clock and the stop request of the main process count
        assert (report["resumed_from"], report["notes"], report["saved"]) == (None, [], [4, 5])
    note = "the number of processes was 2 and is 3: dropout draws other random numbers from here on"
    for report in after:
        assert (report["resumed_from"], report["notes"]) == (5, [note])
    assert len({report["random"] for report in after}) == 3
    config = replace(DISTRIBUTED, max_steps=6)
    uninterrupted = [event for event, _ in run_with_33_examples(config) if isinstance(event, Step)]
    losses = before[0]["losses"] | after[0]["losses"]
    assert [losses[str(event.step)] for event in uninterrupted] == pytest.approx(
        [event.loss for event in uninterrupted], abs=1e-4
    )


def test_a_launcher_restarts_a_run_in_which_a_process_was_killed(launched: tuple[list[dict], Path]):
    config = replace(DISTRIBUTED, max_steps=6)
    uninterrupted = [event.loss for event, _ in run_with_33_examples(config) if isinstance(event, Step)]
    for rank in range(2):
        report = json.loads((launched[1] / f"restart-{rank}.json").read_text())
        assert report["resumed_from"] == 4
        assert report["losses"] == pytest.approx(uninterrupted[4:], abs=1e-4)


def test_a_network_can_be_trained_twice(reports: list[dict]):
    assert [event["step"] for event in reports[0]["again"]] == list(range(1, 11))


def test_the_last_batch_of_an_epoch_is_a_single_example():
    sizes = [len(batch) for batch in DISTRIBUTED.sampler(Data(33).lengths).epoch(0)]
    assert sizes == [8, 8, 8, 8, 1]


def test_a_single_process_is_a_launch_of_one(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert processes() == Processes(rank=0, world_size=1)
    assert processes().is_main
    assert shard(["a", "b", "c"]) == ["a", "b", "c"]
    assert gather_in_order({2: "c", 0: "a", 1: "b"}) == ["a", "b", "c"]
    assert broadcast_object("value") == "value"


def test_sharding_and_gathering_in_one_process_does_not_import_accelerate():
    code = (
        "import sys; from headway.core.training.distributed import gather_in_order, shard;"
        "assert gather_in_order(dict(enumerate(shard([1, 2])))) == [1, 2]; assert 'accelerate' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_build_of_torch_without_distributed_is_a_single_process():
    code = """
import sys, torch
for name in ("Store", "PrefixStore", "TCPStore", "ProcessGroup", "init_process_group"):
    delattr(torch.distributed, name)
torch.distributed.is_available = lambda: False
sys.modules["torch.distributed.rendezvous"] = None
from headway.core.training.distributed import Processes, broadcast_object, on_main, processes
from headway.core.training.failures import failing_together
from headway.core.training.training import fit
from headway.core.training.turns import in_turns
assert processes() == Processes()
with failing_together():
    assert on_main(lambda: broadcast_object(3)) == 3
"""
    subprocess.run([sys.executable, "-c", code], check=True)
