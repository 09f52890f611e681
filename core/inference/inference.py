"""A model as it should be for inference on a CPU: linear layers whose weights are packed once, activations fused.

`nn.Linear` lays its weights out anew for oneDNN's kernels at every call, which for a few rows takes longer than the
product itself. Here they are laid out once, in fp32, bf16 or int8. The norms and what is added from layer to layer
stay in fp32. Where a processor or device lacks the operator, the plain layer does the work. Training never sees any of
this.

In int8 each output channel's weights have a scale of their own, and so has each row of the inputs, found as it comes
in (dynamic quantisation, as of Dettmers et al. 2022, section 3.1, https://arxiv.org/abs/2208.07339, without the
outliers taken apart).

Shapes: T rows, C inputs, N outputs.
"""

import copy
import warnings
from collections.abc import Callable
from functools import partial
from typing import Literal, TypeVar, cast

import torch
from torch import Tensor, nn

from ..checkpoints.checkpoint import Checkpoint, fill
from ..checkpoints.weight_conversion import Weights
from ..cpu import has_amx, keep_freed_memory, use_available_cores
from ..errors import HeadwayError
from ..models.gpt2 import GPT2
from ..models.heads import Network
from ..models.layers import ACTIVATIONS, FeedForward, pad_rows

Precision = Literal["fp32", "bf16", "int8"]
PRECISIONS = ("fp32", "bf16", "int8")
# Names of the fused activations: (oneDNN's, its algorithm).
FUSED = {"gelu": ("gelu", "none"), "gelu_tanh": ("gelu", "tanh"), "relu": ("relu", "")}
ROWS = 256  # that the layout of packed weights is chosen for; it serves fewer and more rows as well
SMALLEST = 1e-12  # scale: a row of zeros stays one
INT8_ROWS = 512  # at once: what is computed between two products then stays in the processor's cache


def prepare_for_inference(network: Network, precision: str = "fp32", weights: Weights | None = None) -> Network:
    """The network for inference; it shares what is not packed with the one given, which stays as it is.

    On the CPU the process has as many threads as cores afterwards, and keeps what memory it frees (cores.py).

    Args:
        network: in eval mode.
        precision: fp32, the same numbers but for the order of sums; bf16, faster and a little less exact; or int8,
            a quarter of the memory and less exact still.
        weights: of a network that has none yet (`load_checkpoint(..., filled=False)`), on the CPU. Each is read,
            packed and let go, so that memory holds the packed ones and no more; embeddings stay in the file, of which
            the rows that texts ask for are read.

    Raises:
        HeadwayError: there is no such precision, or a file of weights is not the one any more that was opened.
    """
    if precision not in PRECISIONS:
        raise HeadwayError(f"--precision {precision}: say {', '.join(PRECISIONS[:-1])} or {PRECISIONS[-1]}.")
    if weights is not None or next(network.parameters()).device.type == "cpu":
        use_available_cores()
        pack = partial(_packed, precision=cast("Precision", precision))
        row_by_row = isinstance(network.backbone, GPT2)  # of a text that is continued there is one row at a time
        if precision == "fp32" and row_by_row and has_amx():
            pack = RowLinear
        if precision == "int8" and not row_by_row and torch.backends.mkldnn.is_available() and has_amx():
            pack = TiledInt8Linear
        made = cast("Network", _ready(network, pack, weights))
        keep_freed_memory()  # not before: what packing the first model frees is as large as its weights
        return made
    if precision == "int8":
        raise HeadwayError("--precision int8 is for the CPU. Say bf16 on an accelerator.")
    return network if precision == "fp32" else copy.deepcopy(network).to(torch.bfloat16)


def load_for_inference(checkpoint: Checkpoint, precision: str, device: torch.device) -> Network:
    """The network of a checkpoint whose weights are still in their files, for inference on a device.

    Raises:
        HeadwayError: as `prepare_for_inference`.
    """
    if device.type == "cpu":
        return prepare_for_inference(checkpoint.network, precision, checkpoint.weights)
    fill(checkpoint.network, checkpoint.weights)
    return prepare_for_inference(cast("Network", checkpoint.network.to(device)), precision)


Pack = Callable[[nn.Linear, str], nn.Module]  # from a linear layer and the activation behind it


def _ready(module: nn.Module, pack: Pack, weights: Weights | None, path: str = "") -> nn.Module:
    """A shallow copy of a module with packed layers in place of its linear ones.

    Args:
        module: a part of the network.
        pack: makes the packed layers.
        weights: where the module has none itself.
        path: what the names of the module's weights begin with.
    """
    if isinstance(module, nn.Linear):
        return pack(_filled(module, weights, path), "none")
    if isinstance(module, nn.Dropout):
        return nn.Identity()
    if isinstance(module, nn.Embedding):
        return module if weights is None else MappedEmbedding(weights[f"{path}weight"].mapped())
    made = _filled(module, weights, path)
    made._modules = dict(module._modules)
    fused = set()
    if isinstance(module, FeedForward) and isinstance(made, FeedForward):
        name = next(name for name, function in ACTIVATIONS.items() if function is module.activation)
        if name in FUSED:
            made.up = cast("nn.Linear", pack(_filled(module.up, weights, f"{path}up."), name))
            made.activation = nn.Identity()
            fused = {"up"}
    # The last first: a matrix over the vocabulary is read while there is little else yet.
    for name, part in reversed(module._modules.items()):
        if part is not None and name not in fused:
            made._modules[name] = _ready(part, pack, weights, f"{path}{name}.")
    in_parts = isinstance(made, FeedForward) and isinstance(made.up, Int8Linear | TiledInt8Linear)
    return _InParts(made) if in_parts else made


Module = TypeVar("Module", bound=nn.Module)


def _filled(module: Module, weights: Weights | None, path: str) -> Module:
    """A shallow copy of a module, with parameters of its own where it has none."""
    made, read = copy.copy(module), {}
    if weights is not None:
        for name, parameter in module._parameters.items():
            if parameter is not None:
                stored = weights[f"{path}{name}"]
                packed_at_once = isinstance(module, nn.Linear) and name == "weight"
                read[name] = nn.Parameter(stored.peek() if packed_at_once else stored.read(), requires_grad=False)
        made._parameters = {**module._parameters, **read}
    return made


class MappedEmbedding(nn.Embedding):
    """An embedding whose table stays in its file, in the file's precision.

    Args:
        table: (V, C), mapped from the file.
    """

    def __init__(self, table: Tensor) -> None:
        super().__init__(len(table), table.shape[1], _weight=table, _freeze=True)

    def forward(self, input: Tensor) -> Tensor:
        """Ids of any shape -> their vectors in fp32, (..., C)."""
        return super().forward(input).float()


def _packed(linear: nn.Linear, activation: str, precision: Precision) -> nn.Module:
    if (
        precision == "int8"
        and "fbgemm" in torch.backends.quantized.supported_engines
        and torch.cpu._is_vnni_supported()
    ):
        return Int8Linear(linear, activation)
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
        rows = pad_rows(x.to(self.dtype)) if x.dim() == 2 else x.to(self.dtype)
        y = torch.ops.mkldnn._linear_pointwise(rows, self.weight, self.bias, self.attribute, [], self.algorithm)
        return y[: len(x)]


class RowLinear(nn.Module):
    """A linear layer with its matrix as (inputs, outputs), with an activation behind it: fast for one row.

    One row is a product of a matrix and a vector, and takes as long as it takes to read the matrix: on an Intel Xeon
    with tiles (AMX), whose memory gives 25 to 35 GB/s, in this layout at 33 GB/s and as oneDNN lays it at 21. For 2 to
    64 rows it is slower there, by a tenth on average, and for more than that it is not. On an AMD EPYC (Zen 5) it is
    the other way round, 23 GB/s against 44, and for 8 rows 12 against 38.

    Args:
        linear: whose weights it takes.
        activation: a key of ACTIVATIONS, or "none".
    """

    def __init__(self, linear: nn.Linear, activation: str) -> None:
        super().__init__()
        self.weight = linear.weight.detach().t().contiguous()
        self.bias = None if linear.bias is None else linear.bias.detach()
        self.activation = None if activation == "none" else ACTIVATIONS[activation]

    def forward(self, x: Tensor) -> Tensor:
        """(T, C) -> (T, N)."""
        y = x @ self.weight if self.bias is None else torch.addmm(self.bias, x, self.weight)
        return y if self.activation is None else self.activation(y)


def _round_weights(linear: nn.Linear) -> tuple[Tensor, Tensor]:
    """The weights in 8 bits (N, C), and what each output channel's are multiplied by (N,)."""
    weight = linear.weight.detach().float()
    scale, rounded = torch.empty(len(weight)), torch.empty(weight.shape, dtype=torch.int8)
    for some in torch.arange(len(weight)).split(INT8_ROWS):  # what is in between is four times as large
        rows = weight[some[0] : some[-1] + 1]
        scale[some] = (rows.abs().amax(dim=1) / 127).clamp_min(SMALLEST)
        rounded[some] = (rows / scale[some, None]).round().to(torch.int8)
    return rounded, scale


class Int8Linear(nn.Module):
    """A linear layer whose weights are kept in 8 bits, with an activation behind it.

    Args:
        linear: whose weights it takes.
        activation: a key of ACTIVATIONS, or "none".
    """

    def __init__(self, linear: nn.Linear, activation: str) -> None:
        super().__init__()
        rounded, scale = _round_weights(linear)
        with warnings.catch_warnings():  # of a later torch, which pyproject.toml leaves out
            warnings.filterwarnings("ignore", message=".*quantized tensor creation functions", category=UserWarning)
            zeros = torch.zeros(len(scale), dtype=torch.long)
            made = torch._make_per_channel_quantized_tensor  # pyright: ignore[reportPrivateImportUsage]
            quantized = made(rounded, scale.double(), zeros, 0)
        self.weight = torch.ops.quantized.linear_prepack(quantized, None)
        self.bias = None if linear.bias is None else linear.bias.detach().float()
        self.activation = None if activation == "none" else ACTIVATIONS[activation]
        self.in_features, self.out_features = linear.in_features, linear.out_features

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) -> (..., N) in fp32."""
        rows = x.numel() // self.in_features
        if rows == 1:
            y = torch.ops.quantized.linear_dynamic(x, self.weight)
            y = y if self.bias is None else y.add_(self.bias)
        else:
            # The operator has one scale for all that it is given: rows that all reach 1 share it well.
            scale = x.abs().amax(dim=-1, keepdim=True).clamp_min_(SMALLEST)
            y = torch.ops.quantized.linear_dynamic(x / scale, self.weight)
            y = y.mul_(scale) if self.bias is None else torch.addcmul(self.bias, y, scale)
        return y if self.activation is None else self.activation(y)


class TiledInt8Linear(nn.Module):
    """The same by oneDNN, which has the processor's tiles multiply matrices of 8 bits (AMX).

    For 64 rows and more it takes a half to two thirds of the time of the other; for one row, twice as much.

    Args:
        linear: whose weights it takes.
        activation: a key of ACTIVATIONS, or "none".
    """

    def __init__(self, linear: nn.Linear, activation: str) -> None:
        super().__init__()
        rounded, self.scale = _round_weights(linear)
        self.weight = torch.ops.onednn.qlinear_prepack(rounded, None)
        self.zeros = torch.zeros(len(self.scale), dtype=torch.long)
        self.bias = None if linear.bias is None else linear.bias.detach().float()
        self.activation = None if activation == "none" else ACTIVATIONS[activation]

    def forward(self, x: Tensor) -> Tensor:
        """(T, C) -> (T, N) in fp32."""
        rows = pad_rows(x)
        scale = rows.abs().amax(dim=-1, keepdim=True).clamp_min_(SMALLEST).mul_(1 / 127)
        rounded = (rows / scale).round_().to(torch.int8)
        y = torch.ops.onednn.qlinear_pointwise(
            rounded, 1.0, 0, self.weight, self.scale, self.zeros, None, 1.0, 0, torch.float32, "none", [], ""
        )
        y = y.mul_(scale) if self.bias is None else torch.addcmul(self.bias, y, scale)
        return (y if self.activation is None else self.activation(y))[: len(x)]


class _InParts(nn.Module):
    """A layer on some rows at a time."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        """(T, C) -> (T, N)."""
        if len(x) <= INT8_ROWS:
            return self.layer(x)
        return torch.cat([self.layer(part) for part in x.split(INT8_ROWS)])
