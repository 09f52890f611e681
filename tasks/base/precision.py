"""Which arithmetic a model predicts with when nobody says: bf16 where it is fast and changes no figure, else fp32.

Whether it changes a figure is measured once, on the held-out data at the end of training, and kept in headway.json.
"""

from collections.abc import Mapping
from typing import Any

from ...core.cpu import has_fast_bf16
from ...core.inference.inference import PRECISIONS

AUTO = "auto"
CHOICES = (AUTO, *PRECISIONS)
FEWEST_MEASURED = 100  # held-out examples: of fewer, one more or less right says nothing about the precision
MOST_MOVED = 0.001  # of the first figure of `score`, or as a part of it where it is above 1


def worth_measuring(examples: int, device: str) -> bool:
    """Whether bf16 is to be compared with fp32 after training: there is data enough, and it would be of use here."""
    return examples >= FEWEST_MEASURED and device == "cpu" and has_fast_bf16()


def choose_precision(asked: str, info: Mapping[str, Any], device: str) -> str:
    """The precision to predict with.

    Args:
        asked: one of CHOICES; everything but auto is taken as it is.
        info: what headway.json says of the model; nothing is known of one without it.
        device: the kind of device that the model is on.
    """
    if asked != AUTO:
        return asked
    measured = info.get("score_by_precision") or {}
    if device != "cpu" or not has_fast_bf16() or not {"fp32", "bf16"} <= measured.keys():
        return "fp32"
    moved = abs(measured["bf16"] - measured["fp32"])
    return "bf16" if moved <= MOST_MOVED * max(1.0, abs(measured["fp32"])) else "fp32"
