"""Linear layers for inference on a CPU, whose weights are packed once and whose activation is fused.

`nn.Linear` copies its weights into the layout of oneDNN's kernels at every call, which for a few rows takes longer
than the product itself. The layers here copy them once.

In int8 every output channel has a scale, and so has every row of the inputs, computed as it arrives (dynamic
quantization as in Dettmers et al. 2022, section 3.1, https://arxiv.org/abs/2208.07339, without separate outliers).

T rows, C inputs, N outputs.
"""

import warnings

import torch
from torch import Tensor, nn

from ..models.layers import ACTIVATIONS, pad_rows

# Activations that oneDNN fuses: our name -> (oneDNN's name, its algorithm).
FUSED = {"gelu": ("gelu", "none"), "gelu_tanh": ("gelu", "tanh"), "relu": ("relu", "")}
FUNCTIONS = {**ACTIVATIONS, "none": lambda x: x}
LAYOUT_ROWS = 256  # the number of rows that oneDNN optimizes its layout for; it serves all other numbers as well
MIN_SCALE = 1e-12  # so that rows of zeros do not divide by zero
CHUNK_ROWS = 512  # rows per step: what is computed between two products stays in the processor's cache


class PackedLinear(nn.Module):
    """A linear layer with its weights in oneDNN's layout, and an activation.

    Args:
        linear: the layer whose weights it takes.
        activation: a key of FUSED, or "none".
        dtype: fp32 or bf16, of weights and outputs; inputs are converted to it.
    """

    def __init__(self, linear: nn.Linear, activation: str, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype
        self.attribute, self.algorithm = FUSED.get(activation, ("none", ""))
        weight = linear.weight.detach().to(dtype)
        self.weight = torch.ops.mkldnn._reorder_linear_weight(weight, LAYOUT_ROWS)
        self.bias = None if linear.bias is None else linear.bias.detach().to(dtype)

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) -> (..., N) in the layer's dtype."""
        rows = pad_rows(x.to(self.dtype)) if x.dim() == 2 else x.to(self.dtype)
        y = torch.ops.mkldnn._linear_pointwise(rows, self.weight, self.bias, self.attribute, [], self.algorithm)
        return y[: len(x)]


class RowLinear(nn.Module):
    """A linear layer that is fast for a single row: its matrix is stored as (C, N).

    A single row takes as long as reading the matrix. On an Intel Xeon with AMX, whose memory delivers 25 to 35 GB/s,
    this layout is read at 33 GB/s and oneDNN's at 21; for 2 to 64 rows it is slower by a tenth on average, for more
    rows it is not. On an AMD EPYC (Zen 5) it is the other way round: 23 GB/s against 44, and 12 against 38 for 8 rows.

    Args:
        linear: the layer whose weights it takes.
        activation: a key of ACTIVATIONS, or "none".
    """

    def __init__(self, linear: nn.Linear, activation: str) -> None:
        super().__init__()
        self.weight = linear.weight.detach().t().contiguous()
        self.bias = None if linear.bias is None else linear.bias.detach()
        self.activation = FUNCTIONS[activation]

    def forward(self, x: Tensor) -> Tensor:
        """(T, C) -> (T, N)."""
        return self.activation(x @ self.weight if self.bias is None else torch.addmm(self.bias, x, self.weight))


class Int8Linear(nn.Module):
    """A linear layer with 8-bit weights by fbgemm, and an activation.

    Args:
        linear: the layer whose weights it takes.
        activation: a key of ACTIVATIONS, or "none".
    """

    def __init__(self, linear: nn.Linear, activation: str) -> None:
        super().__init__()
        weight, scale = quantize_weights(linear)
        with warnings.catch_warnings():  # from a later torch than pyproject.toml allows
            warnings.filterwarnings("ignore", message=".*quantized tensor creation functions", category=UserWarning)
            zeros = torch.zeros(len(scale), dtype=torch.long)
            make_quantized = torch._make_per_channel_quantized_tensor  # pyright: ignore[reportPrivateImportUsage]
            quantized = make_quantized(weight, scale.double(), zeros, 0)
        self.weight = torch.ops.quantized.linear_prepack(quantized, None)
        self.bias = None if linear.bias is None else linear.bias.detach().float()
        self.activation = FUNCTIONS[activation]
        self.in_features = linear.in_features

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) -> (..., N) in fp32."""
        rows = x.numel() // self.in_features
        if rows == 1:
            y = torch.ops.quantized.linear_dynamic(x, self.weight)
            y = y if self.bias is None else y.add_(self.bias)
        else:
            # The operator has one scale for all rows: it suits rows whose largest number is 1 each.
            scale = x.abs().amax(dim=-1, keepdim=True).clamp_min_(MIN_SCALE)
            y = torch.ops.quantized.linear_dynamic(x / scale, self.weight)
            y = _unscale(y, scale, self.bias)
        return self.activation(y)


class TiledInt8Linear(nn.Module):
    """A linear layer with 8-bit weights by oneDNN, which uses AMX, and an activation.

    Compared with Int8Linear it takes 1/2 to 2/3 of the time for 64 rows and more, and twice the time for one row.

    Args:
        linear: the layer whose weights it takes.
        activation: a key of ACTIVATIONS, or "none".
    """

    def __init__(self, linear: nn.Linear, activation: str) -> None:
        super().__init__()
        weight, self.scale = quantize_weights(linear)
        self.weight = torch.ops.onednn.qlinear_prepack(weight, None)
        self.zeros = torch.zeros(len(self.scale), dtype=torch.long)
        self.bias = None if linear.bias is None else linear.bias.detach().float()
        self.activation = FUNCTIONS[activation]

    def forward(self, x: Tensor) -> Tensor:
        """(T, C) -> (T, N) in fp32."""
        rows = pad_rows(x)
        scale = rows.abs().amax(dim=-1, keepdim=True).clamp_min_(MIN_SCALE).mul_(1 / 127)
        rounded = (rows / scale).round_().to(torch.int8)
        y = torch.ops.onednn.qlinear_pointwise(
            rounded, 1.0, 0, self.weight, self.scale, self.zeros, None, 1.0, 0, torch.float32, "none", [], ""
        )
        return self.activation(_unscale(y, scale, self.bias))[: len(x)]


def quantize_weights(linear: nn.Linear) -> tuple[Tensor, Tensor]:
    """The weights as int8 (N, C), and the scale of each output channel (N,)."""
    weight = linear.weight.detach().float()
    scale, rounded = torch.empty(len(weight)), torch.empty(weight.shape, dtype=torch.int8)
    for start in range(0, len(weight), CHUNK_ROWS):  # in steps: fp32 takes four times the memory
        rows = slice(start, start + CHUNK_ROWS)
        scale[rows] = (weight[rows].abs().amax(dim=1) / 127).clamp_min(MIN_SCALE)
        rounded[rows] = (weight[rows] / scale[rows, None]).round().to(torch.int8)
    return rounded, scale


def _unscale(y: Tensor, scale: Tensor, bias: Tensor | None) -> Tensor:
    """Multiplies each row of a product by its scale and adds the bias."""
    return y.mul_(scale) if bias is None else torch.addcmul(bias, y, scale)


class ChunkedLayer(nn.Module):
    """Applies a layer to CHUNK_ROWS rows at a time."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        """(T, C) -> (T, N)."""
        if len(x) <= CHUNK_ROWS:
            return self.layer(x)
        return torch.cat([self.layer(part) for part in x.split(CHUNK_ROWS)])
