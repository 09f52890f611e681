"""The device and the precision of a training run, as an accelerator of accelerate.

https://huggingface.co/docs/accelerate/package_reference/accelerator
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from ..cpu import use_available_cores
from ..device import check_device, has_fast_bf16
from ..errors import HeadwayError
from .distributed import close_group_at_exit, processes, wants_cpu
from .training_config import TrainConfig

if TYPE_CHECKING:
    from accelerate import Accelerator

# Gradients are sums here, larger than the means for which torch starts with a scale of 2 ** 16.
FP16_INITIAL_SCALE = 2.0**11


def accelerator_for(config: TrainConfig, tracker_folder: Path | None) -> "Accelerator":
    """An accelerator for the device and precision of `config` under the current launcher.

    Args:
        config: the options of the run.
        tracker_folder: folder of trackers that write files.

    Raises:
        HeadwayError: the device, the precision, a tracker or the launcher's kind of parallelism is not available.
    """
    from accelerate import Accelerator, PartialState
    from accelerate.state import AcceleratorState, GradientState
    from accelerate.utils import GradientAccumulationPlugin, GradScalerKwargs

    _check_trackers(config.trackers)
    # Accelerate keeps one global state and refuses another precision, so it is reset.
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()
    check_device(config.device)
    if ":" in config.device:
        torch.accelerator.set_device_index(int(config.device.partition(":")[2]))
    several = processes().is_distributed
    device = torch.device(str(PartialState(cpu=wants_cpu(config.device)).device))
    close_group_at_exit()
    if several and device.type == "mps":
        raise HeadwayError("Several processes cannot train on one Apple GPU. Use one process, or --device cpu.")
    if device.type == "cpu":
        use_available_cores()
    precision = training_precision(config.precision, device)
    accelerator = Accelerator(
        cpu=wants_cpu(config.device),
        mixed_precision={"fp32": "no"}.get(precision, precision),
        # One step: training_step.py accumulates by labels.
        gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=1),
        kwargs_handlers=[GradScalerKwargs(init_scale=FP16_INITIAL_SCALE)] if precision == "fp16" else None,
        log_with=list(config.trackers) or None,
        project_dir=tracker_folder if config.trackers else None,
    )
    kind = str(accelerator.distributed_type.value)
    if kind != "NO" and not kind.startswith("MULTI_"):
        raise HeadwayError(
            f"The launcher asks for {kind}, but training is data-parallel only. Launch it without that setting."
        )
    if config.trackers:
        options = {
            name: value if isinstance(value, int | float) else str(value) for name, value in asdict(config).items()
        }
        accelerator.init_trackers("headway", config=options)
    return accelerator


def _check_trackers(trackers: tuple[str, ...]) -> None:
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS, LoggerType, get_available_trackers

    missing = {str(name) for name in LoggerType} - {str(name) for name in get_available_trackers()}
    installed = LOGGER_TYPE_TO_CLASS.keys() - missing  # users may register their own
    for tracker in trackers:
        if tracker not in installed:
            known = ", ".join(sorted(installed)) or "none"
            raise HeadwayError(
                f"trackers={tracker!r} is not installed (installed: {known}). Install its package first."
            )


@contextmanager
def fast_products(device: torch.device, precision: str) -> Iterator[None]:
    """Lets the fp32 products of training in bf16 or fp16 use TensorFloat-32 on a GPU until the `with` block ends.

    These are the few that autocast leaves in fp32. A run in fp32 is computed in fp32. The setting is global to the
    process, so it is restored. https://docs.pytorch.org/docs/stable/notes/cuda.html#tensorfloat-32-tf32
    """
    if device.type != "cuda" or precision == "fp32":
        yield
        return
    products = torch.backends.cuda.matmul  # torch.set_float32_matmul_precision warns in some versions
    before, products.fp32_precision = products.fp32_precision, "tf32"
    try:
        yield
    finally:
        products.fp32_precision = before


def training_precision(precision: str, device: torch.device) -> str:
    """fp32, bf16 or fp16; for `auto`, the fastest one of the device.

    Raises:
        HeadwayError: the device does not support the precision.
    """
    if device.type == "cpu":
        if precision == "fp16":
            raise HeadwayError("precision='fp16' needs a GPU. On the CPU use bf16 or fp32, or auto.")
        return ("bf16" if has_fast_bf16(device) else "fp32") if precision == "auto" else precision
    if device.type == "cuda":
        has_bf16 = has_fast_bf16(device)
        if precision == "bf16" and not has_bf16:
            raise HeadwayError("precision='bf16' is not supported by this GPU. Use fp16 or fp32, or auto.")
        return ("bf16" if has_bf16 else "fp16") if precision == "auto" else precision
    return "fp32" if precision == "auto" else precision
