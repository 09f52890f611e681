"""A model as it should be for inference on a CPU: linear layers whose weights are packed once, activations fused.

`nn.Linear` lays its weights out anew for oneDNN's kernels at every call, which for a few rows takes longer than the
product itself. Here they are laid out once, in fp32 or bf16. The norms and what is added from layer to layer stay in
fp32. Where a processor or device lacks the operator, the plain layer does the work. Training never sees any of this.

Shapes: T rows, C inputs, N outputs.
"""

import copy
from typing import Literal, cast

import torch
from torch import Tensor, nn

from .errors import HeadwayError
from .heads import Network
from .layers import ACTIVATIONS, FeedForward

Precision = Literal["fp32", "bf16"]
PRECISIONS = ("fp32", "bf16")
# Names of the fused activations: (oneDNN's, its algorithm).
FUSED = {"gelu": ("gelu", "none"), "gelu_tanh": ("gelu", "tanh"), "relu": ("relu", "")}
ROWS = 256  # that the layout of packed weights is chosen for; it serves fewer and more rows as well


def ready(network: Network, precision: str = "fp32") -> Network:
    """The network for inference; it shares what is not packed with the one given, which stays as it is.

    Args:
        network: in eval mode.
        precision: fp32, the same numbers but for the order of sums; or bf16, faster and a little less exact.

    Raises:
        HeadwayError: there is no such precision.
    """
    if precision not in PRECISIONS:
        raise HeadwayError(f"--precision {precision}: say {' or '.join(PRECISIONS)}.")
    if next(network.parameters()).device.type == "cpu":
        return cast("Network", _ready(network, cast("Precision", precision)))
    return network if precision == "fp32" else copy.deepcopy(network).to(torch.bfloat16)


def _ready(module: nn.Module, precision: Precision) -> nn.Module:
    """A shallow copy of a module with packed layers in place of its linear ones."""
    if isinstance(module, nn.Linear):
        return _packed(module, "none", precision)
    made = copy.copy(module)
    made._modules = {name: None if part is None else _ready(part, precision) for name, part in module._modules.items()}
    if isinstance(module, FeedForward) and isinstance(made, FeedForward):
        name = next(name for name, function in ACTIVATIONS.items() if function is module.activation)
        if name in FUSED:
            made.up = cast("nn.Linear", _packed(module.up, name, precision))
            made.activation = nn.Identity()
    return made


def _packed(linear: nn.Linear, activation: str, precision: Precision) -> nn.Module:
    if torch.backends.mkldnn.is_available():
        return PackedLinear(linear, activation, torch.bfloat16 if precision == "bf16" else torch.float32)
    return linear if activation == "none" else nn.Sequential(linear, _Activation(activation))


class _Activation(nn.Module):
    """An activation as a module."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.function = ACTIVATIONS[name]

    def forward(self, x: Tensor) -> Tensor:
        """Any shape -> the same."""
        return self.function(x)


class PackedLinear(nn.Module):
    """A linear layer whose weights lie as oneDNN reads them, with an activation behind it.

    Args:
        linear: whose weights it takes.
        activation: a key of FUSED, or "none".
        dtype: fp32 or bf16, of the weights and the outputs; inputs are brought to it.
    """

    def __init__(self, linear: nn.Linear, activation: str, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype
        self.attribute, self.algorithm = FUSED.get(activation, ("none", ""))
        weight = linear.weight.detach().to(dtype)
        self.weight = torch.ops.mkldnn._reorder_linear_weight(weight, ROWS)
        self.bias = None if linear.bias is None else linear.bias.detach().to(dtype)
        self.in_features, self.out_features = linear.in_features, linear.out_features

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) -> (..., N) in the layer's dtype."""
        return torch.ops.mkldnn._linear_pointwise(
            x.to(self.dtype), self.weight, self.bias, self.attribute, [], self.algorithm
        )
