"""The states of the random number generators that training draws from: the CPU's and the device's."""

from collections.abc import Mapping

import torch
from torch import Tensor


def random_states(device: torch.device) -> dict[str, Tensor]:
    """The states of this process, on the CPU; reading them does not wait for the device."""
    states = {"cpu": torch.get_rng_state()}
    if device.type not in ("cpu", "meta"):
        states["device"] = torch.get_device_module(device).get_rng_state()
    return states


def set_random_states(device: torch.device, states: Mapping[str, Tensor]) -> None:
    """Restores what `random_states` returned; a state that is missing is not changed."""
    if "cpu" in states:
        torch.set_rng_state(states["cpu"])
    if "device" in states:
        torch.get_device_module(device).set_rng_state(states["device"])
