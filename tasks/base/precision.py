"""The precision of predictions: by default bf16 if it is fast here and did not change the score, else fp32.

Whether it changes the score is measured once, on the evaluation data after training, and stored in headway.json.
It counts on the kind of device that trained the model only: on the CPU, norms and sums of layers stay in fp32, on an
accelerator everything is in bf16.
"""

from collections.abc import Mapping
from typing import Any

import torch

from ...core.device import has_fast_bf16
from ...core.inference.inference import PRECISIONS

AUTO = "auto"
PRECISION_CHOICES = (AUTO, *PRECISIONS)
MIN_EXAMPLES = 100  # for the comparison: with fewer, one more or less correct says nothing about the precision
MAX_CHANGE = 0.001  # of the first metric; relative to it if it is above 1


def worth_comparing(num_examples: int, device: torch.device) -> bool:
    """Whether to compare bf16 with fp32 after training: there is enough data, and bf16 is fast on this device."""
    return num_examples >= MIN_EXAMPLES and has_fast_bf16(device)


def choose_precision(precision: str, info: Mapping[str, Any], device: torch.device) -> str:
    """The precision to predict with.

    Args:
        precision: one of PRECISION_CHOICES; only "auto" leaves a choice.
        info: headway.json of the model; empty if it has none.
        device: of the model.
    """
    if precision != AUTO:
        return precision
    scores = info.get("score_by_precision") or {}
    measured_on = str((info.get("training") or {}).get("device", "cpu")).partition(":")[0]
    if measured_on != device.type or not has_fast_bf16(device) or not {"fp32", "bf16"} <= scores.keys():
        return "fp32"
    change = abs(scores["bf16"] - scores["fp32"])
    return "bf16" if change <= MAX_CHANGE * max(1.0, abs(scores["fp32"])) else "fp32"
