"""What `headway doctor` finds out: packages, the limits of containers, devices, folders and the Hub."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from fake_hub import FakeHub
from headway.core.doctor import devices, machine, packages, storage
from headway.core.doctor.machine import Machine
from huggingface_hub import constants

GB = 10**9
MACHINE = Machine("Linux", "a processor", 8, 8, 8, 16 * GB, None, 12 * GB)


@pytest.fixture
def hub(tmp_path: Path):
    with FakeHub() as hub, hub.used_here(tmp_path / "home"):
        yield hub


def test_the_packages_of_this_installation_are_those_that_headway_needs():
    assert [one for one in packages.package_problems() if one.level == "error"] == []
    assert packages.versions()["torch"] == torch.__version__


def test_a_missing_and_an_outdated_package_are_errors_with_the_command_that_installs_them(monkeypatch):
    needed = [
        "torch<2.14,>=2.10",
        "scipy>=1.11",
        "numpy>=1.26",
        'gradio<7,>=6.0; extra == "ui"',
        'mido; extra == "music"',
    ]
    installed = {"torch": "2.9.1", "numpy": "2.4.0", "gradio": "5.0"}
    monkeypatch.setattr(packages, "requires", lambda _: needed)
    monkeypatch.setattr(packages, "installed_version", installed.get)
    assert [one.to_json() for one in packages.package_problems()] == [
        {
            "level": "error",
            "message": "torch 2.9.1 is installed, and Headway needs <2.14,>=2.10.",
            "solution": 'pip install "torch<2.14,>=2.10"',
        },
        {"level": "error", "message": "The package scipy is not installed.", "solution": 'pip install "scipy>=1.11"'},
        {
            "level": "warning",
            "message": "gradio 5.0 is installed, and Headway needs <7,>=6.0.",
            "solution": 'pip install "gradio<7,>=6.0"',
        },
    ]


def test_an_extra_that_is_installed_in_part_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "rouge_score", None)
    assert packages.missing_of_extras()["text"] == ["rouge_score"]
    problem = next(one for one in packages.package_problems() if "extra text" in one.message)
    assert (problem.level, problem.solution) == ("warning", 'pip install "headway[text]"')


def test_the_memory_of_a_container_is_read_with_both_versions_of_control_groups(tmp_path: Path):
    membership = tmp_path / "cgroup"
    second = tmp_path / "second"
    (second / "outer" / "inner").mkdir(parents=True)
    (second / "outer" / "memory.max").write_text("2000000000\n")
    (second / "outer" / "memory.current").write_text("500000000\n")
    (second / "outer" / "inner" / "memory.max").write_text("max\n")
    membership.write_text("0::/outer/inner\n")
    assert list(machine.memory_of_groups(second, membership)) == [(2 * GB, GB // 2)]

    first = tmp_path / "first"
    (first / "memory").mkdir(parents=True)  # a container sees its own group at the top
    (first / "memory" / "memory.limit_in_bytes").write_text("1000000000\n")
    (first / "memory" / "memory.usage_in_bytes").write_text("250000000\n")
    membership.write_text("5:cpu,cpuacct:/docker/0123\n4:memory:/docker/0123\n")
    assert list(machine.memory_of_groups(first, membership)) == [(GB, GB // 4)]
    assert list(machine.memory_of_groups(first, tmp_path / "none")) == []


def test_the_memory_that_is_available_is_what_the_container_has_left(monkeypatch):
    monkeypatch.setattr(machine, "memory_of_groups", lambda: iter([(3 * GB, 2 * GB), (2**63 - 4096, 0)]))
    found = machine.this_machine()
    assert found.memory_limit == 3 * GB
    assert found.available_memory <= GB
    assert 1 <= found.usable_cores <= found.cores


def test_too_many_threads_and_too_little_memory_are_problems():
    assert list(machine.machine_problems(MACHINE)) == []
    (threads,) = machine.machine_problems(replace(MACHINE, usable_cores=2))
    assert "8 threads" in threads.message
    assert "2 of 8 cores" in threads.message
    assert "OMP_NUM_THREADS" in threads.solution
    (memory,) = machine.machine_problems(replace(MACHINE, memory_limit=GB, available_memory=GB // 2))
    assert "Only 0.5 GB of memory is available (the container grants 1.0 GB)" in memory.message


def test_the_cpu_is_a_device_with_its_number_formats():
    cpu = devices.devices()[0]
    assert (cpu.name, cpu.fp32, cpu.fp16) == ("cpu", "fast", "no")
    assert cpu.auto == ("bf16" if cpu.bf16 == "fast" else "fp32")
    assert all(f"{flag} " in cpu.details for flag in ("AVX-512 BF16", "AMX", "oneDNN"))


def simulate_gpu(monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int]) -> None:
    """Makes torch report one NVIDIA GPU."""
    properties = SimpleNamespace(name="A GPU", major=capability[0], minor=capability[1], total_memory=24 * GB)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device("cuda"))
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 1)
    monkeypatch.setattr(torch.version, "cuda", "12.8")
    for name, value in {
        "is_available": True, "device_count": 1, "get_device_capability": capability, "get_device_name": "A GPU",
        "get_device_properties": properties, "get_arch_list": ["sm_75", "sm_90", "compute_90"],
        "is_bf16_supported": capability >= (8, 0),
    }.items():  # fmt: skip
        monkeypatch.setattr(torch.cuda, name, lambda *_, value=value, **__: value)
    monkeypatch.setattr(torch.cuda, "device", lambda _: storage.tempfile.TemporaryDirectory())  # any `with` block


@pytest.mark.parametrize(("capability", "bf16", "auto"), [((9, 0), "fast", "bf16"), ((7, 5), "no", "fp16")])
def test_a_gpu_is_a_device_with_its_compute_capability(monkeypatch, capability, bf16, auto):
    simulate_gpu(monkeypatch, capability)
    gpu = devices.devices()[1]
    assert (gpu.name, gpu.title, gpu.memory, gpu.bf16, gpu.auto) == ("cuda:0", "A GPU", 24 * GB, bf16, auto)
    assert gpu.details == f"compute capability {capability[0]}.{capability[1]}, CUDA 12.8"
    assert list(devices.device_problems()) == []


def test_a_gpu_that_is_too_old_for_torch_is_a_problem(monkeypatch):
    simulate_gpu(monkeypatch, (6, 1))
    (problem,) = devices.device_problems()
    assert "cuda:0 (A GPU) has compute capability 6.1" in problem.message
    assert "supports 7.5 and later" in problem.message


@pytest.mark.parametrize(
    ("cuda", "message"), [(None, "has no support for CUDA"), ("12.8", "torch for CUDA 12.8 finds no GPU")]
)
def test_a_driver_without_a_usable_gpu_is_a_problem(monkeypatch, cuda, message):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", cuda)
    monkeypatch.setattr(devices.shutil, "which", lambda _: "/usr/bin/nvidia-smi")
    (problem,) = devices.device_problems()
    assert message in problem.message
    monkeypatch.setattr(devices.shutil, "which", lambda _: None)
    assert list(devices.device_problems()) == []


def test_folders_that_cannot_be_written_or_are_almost_full_are_problems(tmp_path: Path, monkeypatch):
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "file" / "hub"))
    found = storage.folders()
    assert len(found) == 4
    (problem,) = [one for one in storage.folder_problems(found) if "file" in one.message]
    assert problem.level == "warning"
    assert f"{tmp_path / 'file' / 'hub'} (models of the Hub)" in problem.message
    assert "HF_HUB_CACHE" in problem.solution
    full = [replace(one, free=GB, error=None) for one in found]
    assert len(list(storage.folder_problems(full))) == 4
    temporary = replace(full[2], error="Read-only file system")
    assert [one.level for one in storage.folder_problems([temporary])] == ["error"]


def test_a_folder_that_does_not_exist_yet_has_the_free_space_of_the_one_above(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "later" / "hub"))
    models = storage.folders()[0]
    assert models.error is None
    assert models.free is not None
    assert not (tmp_path / "later").exists()


def test_the_hub_says_whose_token_this_machine_has(hub, monkeypatch):
    assert (storage.ask_hub().state, storage.ask_hub().token) == ("reachable", "none")
    hub.users["hf_secret"] = "someone"
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    found = storage.ask_hub()
    assert (found.state, found.token, found.user) == ("reachable", "accepted", "someone")
    assert list(storage.hub_problems(found)) == []
    monkeypatch.setenv("HF_TOKEN", "hf_other")
    (problem,) = storage.hub_problems(storage.ask_hub())
    assert "refuses the token" in problem.message
    assert "hf_other" not in problem.message


def test_a_hub_that_does_not_answer_is_a_problem_within_seconds(hub):
    hub.status = 503
    (problem,) = storage.hub_problems(storage.ask_hub())
    assert "answers with the status 503" in problem.message
    hub.stop()
    found = storage.ask_hub(timeout=1)
    assert (found.state, found.url) == ("unreachable", hub.url)
    hub.start()


@pytest.mark.parametrize("answer", ["<html>Log in to the network</html>", "[]", "{}"])
def test_a_proxy_that_answers_in_place_of_the_hub_is_a_problem(hub, monkeypatch, answer):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    response = SimpleNamespace(status_code=200, json=lambda: json.loads(answer))
    session = SimpleNamespace(get=lambda *_, **__: response)
    monkeypatch.setattr("huggingface_hub.get_session", lambda: session)
    (problem,) = storage.hub_problems(storage.ask_hub())
    assert "another server answers, perhaps a proxy's login page" in problem.message


def test_the_hub_is_not_asked_in_offline_mode(hub, monkeypatch):
    with monkeypatch.context() as now:  # ends before that of the hub, which restores the value
        now.setattr(constants, "HF_HUB_OFFLINE", True)
        assert storage.ask_hub().state == "offline"
    assert hub.requests == []
