"""Processes that a launcher starts: one group, or one clear message."""

import os
import signal
import socket
import subprocess
import sys
import time

import psutil
import pytest
import torch
from headway.core.errors import HeadwayError, SharedError
from headway.core.training import distributed as ours
from headway.core.training.devices import accelerator_for
from headway.core.training.launch import LAUNCHERS, REFUSED, join_launch, launch_rank, local_rank
from headway.core.training.training_config import TrainConfig
from headway.ui.cli import main
from torch import distributed

pytestmark = pytest.mark.posix

OURS = (*LAUNCHERS[0].__dict__.values(), "MASTER_ADDR", "MASTER_PORT", "ENVIRONMENT")
ADDRESS = {"MASTER_ADDR": "localhost", "MASTER_PORT": "29500"}
COMMANDS = {
    "train": ["train", "text-classification", "--data", "data.csv", "--output", "model"],
    "predict": ["predict", "model", "--data", "data.csv"],
    "evaluate": ["evaluate", "model", "--data", "data.csv"],
    "embed": ["embed", "model", "--data", "data.csv", "--output", "vectors.npy"],
}


def srun(rank: int, size: int) -> dict[str, str]:
    """The variables of a task of srun."""
    numbers = {"PROCID": rank, "LOCALID": rank, "NTASKS": size, "STEP_NUM_TASKS": size, "STEP_ID": 0, "JOB_ID": 7}
    return {f"SLURM_{name}": str(number) for name, number in numbers.items()}


def mpirun(rank: int, size: int) -> dict[str, str]:
    """The variables of a process of Open MPI."""
    numbers = {"RANK": rank, "SIZE": size, "LOCAL_RANK": rank, "LOCAL_SIZE": size}
    return {f"OMPI_COMM_WORLD_{name}": str(number) for name, number in numbers.items()}


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch):
    """Without the variables of any launcher, also after the test."""
    foreign = [name for name in os.environ if name.startswith(("SLURM_", "OMPI_", "PMI_", "MV2_", "ACCELERATE_"))]
    for name in (*OURS, *foreign):
        monkeypatch.setenv(name, "")  # so that what the test sets is removed
        monkeypatch.delenv(name)


def use(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


def start(code: str, *arguments: str, variables: dict[str, str]) -> "subprocess.Popen[str]":
    environment = {**os.environ, **variables, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.Popen(
        [sys.executable, "-W", "error", *([code] if code.startswith("-") else ["-c", code]), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )


def free_port() -> str:
    return str(distributed.TCPStore("localhost", 0, is_master=True, wait_for_workers=False).port)


def test_four_processes_of_srun_without_an_address_end_with_one_message():
    command = COMMANDS["train"]
    processes = [start("-mheadway.ui.cli", *command, variables=srun(rank, 4)) for rank in range(4)]
    outputs = [process.communicate() for process in processes]
    assert [process.returncode for process in processes] == [2, 2, 2, 2]
    assert [output for output, _ in outputs] == [""] * 4
    assert [message for _, message in outputs[1:]] == ["", "", ""]
    message = outputs[0][1]
    assert message.startswith("headway: 4 processes were started by srun, but cannot find one another")
    assert message.count("\n") == 1
    assert "MASTER_ADDR and MASTER_PORT are not set" in message
    assert "srun --ntasks-per-node=1 torchrun" in message


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("launcher", [srun, mpirun])
def test_every_command_that_shares_work_refuses_such_processes(monkeypatch, capsys, launcher, command: str):
    use(monkeypatch, launcher(0, 2))
    assert main(COMMANDS[command]) == 2
    assert launcher.__name__ in (message := capsys.readouterr().err)
    assert message.count("MASTER_ADDR") >= 1
    use(monkeypatch, launcher(1, 2))
    assert main(COMMANDS[command]) == 2
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("launcher", [srun, mpirun])
def test_with_an_address_they_are_a_launch(monkeypatch, launcher):
    use(monkeypatch, launcher(3, 4) | ADDRESS)
    assert join_launch()
    assert [os.environ[name] for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK")] == ["3", "4", "3"]
    assert (launch_rank(), local_rank()) == (3, 3)


def test_intel_mpi_and_mpich_are_recognized(monkeypatch):
    use(monkeypatch, {"PMI_RANK": "1", "PMI_SIZE": "2", "MPI_LOCALRANKID": "0", **ADDRESS})
    assert join_launch()
    assert (launch_rank(), local_rank()) == (1, 0)


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"SLURM_PROCID": "0", "SLURM_NTASKS": "4", "ENVIRONMENT": "BATCH"},  # the script of an sbatch job
        srun(0, 1),
        srun(0, 4) | {"SLURM_STEP_NUM_TASKS": "1", "SLURM_STEP_ID": "4294967290"},  # salloc's interactive step
        srun(2, 4) | {"WORLD_SIZE": "1"},
        mpirun(0, 1),
        {"RANK": "0", "WORLD_SIZE": "1"},
    ],
)
def test_a_single_process_is_no_launch(monkeypatch, variables: dict[str, str]):
    use(monkeypatch, variables)
    assert not join_launch()
    assert launch_rank() == 0


def test_a_world_size_without_a_rank_is_refused(monkeypatch):
    use(monkeypatch, {"WORLD_SIZE": "2", **ADDRESS})
    with pytest.raises(SharedError, match="RANK is not set"):
        join_launch()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"RANK": "5"}, "RANK='5' in the environment is not a number from 0 to 1"),
        ({"RANK": "-1"}, "RANK='-1'"),
        ({"RANK": "x"}, "RANK='x'"),
        ({"MASTER_PORT": "abc"}, "MASTER_PORT='abc' in the environment is not a number from 0 to 65535"),
        ({"MASTER_PORT": "70000"}, "MASTER_PORT='70000'"),
    ],
)
def test_an_impossible_rank_or_port_is_refused_by_the_process_that_has_it(monkeypatch, capsys, changes, message):
    use(monkeypatch, {"RANK": "1", "WORLD_SIZE": "2", **ADDRESS, **changes})
    assert main(COMMANDS["predict"]) == 2
    assert message in (printed := capsys.readouterr().err)
    assert "remove WORLD_SIZE" in printed


def test_an_address_that_is_not_there_ends_with_one_message(monkeypatch):
    with socket.create_server(("localhost", 0)) as taken:
        port = str(taken.getsockname()[1])
        use(monkeypatch, {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "2", **ADDRESS, "MASTER_PORT": port})
        with pytest.raises(HeadwayError, match=f"cannot find one another at localhost:{port} .*MASTER_PORT a port"):
            ours.processes()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_process_that_waits_for_the_others_ends_at_the_first_signal(number: int):
    code = """
import signal
from headway.ui.interrupts import sigterm_interrupts
from headway.core.training.distributed import processes
with sigterm_interrupts():
    print("waits", flush=True)
    processes()
"""
    variables = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "2", **ADDRESS, "MASTER_PORT": free_port()}
    process = start(code, variables=variables)
    assert process.stdout is not None
    assert process.stdout.readline() == "waits\n"
    while not psutil.Process(process.pid).net_connections("tcp"):  # as long as it does not listen
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(number)
    output, messages = process.communicate(timeout=60)
    assert (process.returncode, output, messages) == (-number, "", "")


@pytest.mark.parametrize(("setting", "name"), REFUSED.items())
def test_other_kinds_of_parallelism_are_refused(monkeypatch, capsys, setting: str, name: str):
    use(monkeypatch, {setting: "true", "RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "2", **ADDRESS})
    for command in COMMANDS.values():
        assert main(command) == 2
        assert f"asks for {name}" in (message := capsys.readouterr().err)
        assert "data-parallel" in message
        assert "torchrun" in message
    with pytest.raises(HeadwayError, match=name):
        accelerator_for(TrainConfig(device="cpu"), None)


def test_a_machine_with_gpus_exchanges_tensors_on_the_cpu_with_gloo(monkeypatch):
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda *_: torch.device("cuda"))
    monkeypatch.setattr(distributed, "is_backend_available", lambda name: name == "nccl")
    assert ours._backend() == "cpu:gloo,cuda:nccl"
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda *_: torch.device("mps"))
    assert ours._backend() == "gloo"


TRAIN = """
import atexit, sys, torch
atexit.register(lambda: print("open" if torch.distributed.is_initialized() else "closed"))  # the last to run
if "gpu" in sys.argv:  # a machine with a GPU
    torch.cuda.is_available = torch.accelerator.is_available = lambda *_: True
    torch.accelerator.current_accelerator = lambda *_: torch.device("cuda")
from headway.core.training.distributed import broadcast_object, processes
from headway.core.training.training_config import TrainConfig
from headway.core.training.devices import accelerator_for
config = TrainConfig(device="cpu", precision="fp32")
group = processes()
accelerator = accelerator_for(config, None)
total = torch.ones(3) * (group.rank + 1)
torch.distributed.all_reduce(total)
assert broadcast_object(group.rank) == 0
print(accelerator.device.type, group.rank, group.world_size, total.tolist(), torch.distributed.get_backend())
if "error" in sys.argv:
    raise SystemExit("an error")
"""


def run_two(*arguments: str) -> list[tuple[str, str, int]]:
    """The output, the messages and the exit code of two tasks of srun that run TRAIN."""
    address = {**ADDRESS, "MASTER_PORT": free_port()}
    started = [start(TRAIN, *arguments, variables=srun(rank, 2) | address) for rank in range(2)]
    return [(*process.communicate(timeout=60), process.returncode) for process in started]


@pytest.mark.parametrize("machine", ["cpu", "gpu"])
def test_two_processes_of_srun_form_one_group_on_the_cpu(machine: str):
    for rank, (output, messages, code) in enumerate(run_two(machine)):
        assert (messages, code) == ("", 0)
        assert output == f"cpu {rank} 2 [3.0, 3.0, 3.0] gloo\nclosed\n"


def test_the_groups_are_closed_after_an_error():
    for output, messages, code in run_two("cpu", "error"):
        assert (output.splitlines()[-1], messages, code) == ("closed", "an error\n", 1)


def test_a_launcher_that_starts_one_process_leaves_no_open_group():
    variables = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", **ADDRESS, "MASTER_PORT": free_port()}
    process = start(TRAIN, variables=variables)
    output, messages = process.communicate(timeout=60)
    assert (messages, process.returncode) == ("", 0)
    assert output == "cpu 0 1 [1.0, 1.0, 1.0] gloo\nclosed\n"
