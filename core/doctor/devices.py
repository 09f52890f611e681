"""The devices that torch can compute on, and the number formats that each supports."""

import re
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch

from .. import cpu
from ..device import has_fast_bf16
from ..training.devices import training_precision
from .problems import Problem

FAST, SLOW, NO = "fast", "slow", "no"


@dataclass(frozen=True)
class Device:
    """A device with its number formats: fast, slow (supported, but not faster than fp32) or no."""

    name: str  # cpu, cuda:0, ...
    title: str
    memory: int | None  # bytes; None: that of the machine
    fp32: str
    bf16: str
    fp16: str
    int8: str
    auto: str  # the precision of training with --precision auto
    details: str

    def to_json(self) -> dict[str, Any]:
        """The fields."""
        return asdict(self)


def devices() -> list[Device]:
    """The CPU and all accelerators."""
    accelerator = torch.accelerator.current_accelerator()
    count = torch.accelerator.device_count() if accelerator else 0
    kind = accelerator.type if accelerator else ""
    found = {"cuda": _cuda, "mps": _mps, "xpu": _xpu}
    return [_cpu(), *(found[kind](torch.device(kind, i)) for i in range(count) if kind in found)]


def _cpu() -> Device:
    flags = {
        "AVX-512": cpu.has_avx512(),
        "AVX-512 BF16": torch.cpu._is_avx512_bf16_supported(),
        "AVX-512 VNNI": torch.cpu._is_vnni_supported(),
        "AMX": cpu.has_amx(),
        "oneDNN": cpu.has_onednn(),
    }
    device = torch.device("cpu")
    details = ", ".join(f"{name} {'yes' if has else 'no'}" for name, has in flags.items())
    bf16, int8, auto = has_fast_bf16(device), cpu.has_fast_int8(), training_precision("auto", device)
    return Device("cpu", "CPU", None, FAST, _speed(bf16), NO, _speed(int8), auto, details)


def _cuda(device: torch.device) -> Device:
    properties = torch.cuda.get_device_properties(device)
    with torch.cuda.device(device):  # is_bf16_supported asks about the current one
        bf16, auto = has_fast_bf16(device), training_precision("auto", device)
    version = f"ROCm {torch.version.hip}" if torch.version.hip else f"CUDA {torch.version.cuda}"
    details = f"compute capability {properties.major}.{properties.minor}, {version}"
    name, memory = properties.name, properties.total_memory
    return Device(str(device), name, memory, FAST, FAST if bf16 else NO, FAST, NO, auto, details)


def _mps(device: torch.device) -> Device:
    auto, memory = training_precision("auto", device), torch.mps.recommended_max_memory()
    return Device("mps", "Apple GPU", memory, FAST, SLOW, SLOW, NO, auto, "Metal")


def _xpu(device: torch.device) -> Device:
    properties = torch.xpu.get_device_properties(device)
    name, memory, auto = properties.name, properties.total_memory, training_precision("auto", device)
    return Device(str(device), name, memory, FAST, SLOW, SLOW, NO, auto, f"driver {properties.driver_version}")


def _speed(fast: bool) -> str:
    return FAST if fast else SLOW


def device_problems() -> Iterator[Problem]:
    """GPUs that this torch cannot use."""
    if not torch.cuda.is_available():
        if shutil.which("nvidia-smi") is None:
            return
        if torch.version.cuda is None:
            message = f"This machine has an NVIDIA driver, but torch {torch.__version__} has no support for CUDA."
            yield Problem("warning", message, "Install torch for CUDA: https://pytorch.org/get-started/locally/")
        else:
            message = f"This machine has an NVIDIA driver, but torch for CUDA {torch.version.cuda} finds no GPU."
            solution = (
                "Run nvidia-smi. Without a GPU there, start the container with --gpus all or check the driver; with "
                "one, check CUDA_VISIBLE_DEVICES, or update the driver (https://pytorch.org/get-started/locally/)."
            )
            yield Problem("warning", message, solution)
        return
    if torch.version.hip:
        return
    # sm_90a is a variant of 9.0; compute_90 is code that newer GPUs translate.
    supported = [int(digits) for one in torch.cuda.get_arch_list() for digits in re.findall(r"^sm_(\d+)", one)]
    for i in range(torch.cuda.device_count()):
        major, minor = torch.cuda.get_device_capability(i)
        if supported and major * 10 + minor < min(supported):
            yield Problem(
                "warning",
                f"cuda:{i} ({torch.cuda.get_device_name(i)}) has compute capability {major}.{minor}, and torch "
                f"{torch.__version__} supports {min(supported) / 10:.1f} and later.",
                "Use --device cpu, or a build of torch for older GPUs: https://pytorch.org/get-started/locally/",
            )
