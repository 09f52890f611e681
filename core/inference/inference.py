"""Prepares a model for inference on a CPU: packed linear layers, fused activations, no dropout.

Norms and the residual stream stay in fp32. On an accelerator only the precision changes. Training uses nothing of
this. B batch, T tokens, C hidden.
"""

import copy
from collections.abc import Callable
from functools import partial
from typing import Literal, TypeVar, cast

import torch
from torch import Tensor, nn

from ..checkpoints.checkpoint import Checkpoint, fill
from ..checkpoints.weight_conversion import Weights
from ..cpu import has_amx, has_fast_int8, has_onednn, keep_freed_memory, use_available_cores
from ..errors import HeadwayError
from ..models.bert import Bert
from ..models.heads import Network
from ..models.layers import ACTIVATIONS, FeedForward
from .linears import FUSED, ChunkedLayer, Int8Linear, PackedLinear, RowLinear, TiledInt8Linear

Precision = Literal["fp32", "bf16", "int8"]
PRECISIONS = ("fp32", "bf16", "int8")
# Makes the layer that replaces a linear layer and the activation after it (a key of FUSED, or "none").
Pack = Callable[[nn.Linear, str], nn.Module]
Module = TypeVar("Module", bound=nn.Module)


def prepare_for_inference(network: Network, precision: str = "fp32", weights: Weights | None = None) -> Network:
    """A network for inference. It shares what is not packed with the given one, which is unchanged.

    On the CPU this also limits the process's threads to its cores, and makes it keep freed memory (cpu.py).

    Args:
        network: in eval mode.
        precision: fp32 gives the same numbers except for the order of sums; bf16 is faster and less exact; int8 takes
            a quarter of the memory and is less exact still.
        weights: the weights of a network that has none yet (`load_checkpoint(..., filled=False)`), for the CPU. They
            are read and packed one by one, so that memory holds only packed ones; embeddings stay in the file, and
            only the rows that occur in texts are read.

    Raises:
        HeadwayError: the precision is unknown, or a weight file was replaced after it was opened.
    """
    if precision not in PRECISIONS:
        raise HeadwayError(f"--precision {precision}: say {', '.join(PRECISIONS[:-1])} or {PRECISIONS[-1]}.")
    if weights is not None or next(network.parameters()).device.type == "cpu":
        use_available_cores()
        pack = choose_linear(cast("Precision", precision), generates=not isinstance(network.backbone, Bert))
        prepared = cast("Network", _prepare(network, pack, weights))
        keep_freed_memory()  # only now: packing the first model frees memory of the size of its weights
        return prepared
    if precision == "int8":
        raise HeadwayError("--precision int8 needs a CPU. Use bf16 on an accelerator.")
    return network if precision == "fp32" else _in_bf16(network)


def _in_bf16(network: Network) -> Network:
    """A copy of a network in bf16, made parameter by parameter, so that memory never holds a second one in fp32.

    Kernels sum products, norms and softmax in fp32, but their results are rounded, the residual stream too. The root
    mean square error of the outputs is 1.3 times (built-in models) to 1.8 times (MiniLM) that of the CPU's bf16, where
    norms and the residual stream stay in fp32. A classifier stays in fp32: bf16 has no number between 106 and 106.5.
    """
    halved = {id(one): nn.Parameter(one.detach().bfloat16(), requires_grad=False) for one in network.parameters()}
    copied = copy.deepcopy(network, halved)
    classifier = getattr(network.head, "classifier", None)
    if copied.head is not None and isinstance(classifier, nn.Linear):
        copied.head.classifier = _Fp32Linear(classifier)
    return copied


class _Fp32Linear(nn.Module):
    """A linear layer that computes in fp32 after layers in bf16."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.linear = linear

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) in any precision -> (..., N) in fp32."""
        return self.linear(x.float())


def load_for_inference(checkpoint: Checkpoint, precision: str, device: torch.device) -> Network:
    """The network of a checkpoint whose weights are still in their files, for inference on a device.

    Raises:
        HeadwayError: as `prepare_for_inference`.
    """
    if device.type == "cpu":
        return prepare_for_inference(checkpoint.network, precision, checkpoint.weights)
    fill(checkpoint.network, checkpoint.weights)
    return prepare_for_inference(cast("Network", checkpoint.network.to(device)), precision)


def choose_linear(precision: Precision, *, generates: bool) -> Pack:
    """The fastest linear layer on this processor: the first row that applies.

    | precision | if                                             | layer                   | why                      |
    |-----------|------------------------------------------------|-------------------------|--------------------------|
    | fp32      | the processor has AMX and the model generates  | RowLinear               | 33 GB/s against 21 for   |
    |           |                                                |                         | one row, a token's       |
    | int8      | the processor has AMX, the model only predicts | TiledInt8Linear         | 1/2 to 2/3 of the time   |
    |           |                                                |                         | from 64 rows on          |
    | int8      | the processor has VNNI                         | Int8Linear              | 1/4 of the memory        |
    | bf16      | torch has oneDNN                               | PackedLinear in bf16    | packs the weights once   |
    | any       | torch has oneDNN                               | PackedLinear in fp32    | packs the weights once   |
    | any       | otherwise                                      | nn.Linear               |                          |
    """
    if precision == "fp32" and generates and has_amx():
        return RowLinear
    if precision == "int8" and not generates and has_onednn() and has_amx():
        return TiledInt8Linear
    if precision == "int8" and has_fast_int8():
        return Int8Linear
    if has_onednn():
        return partial(PackedLinear, dtype=torch.bfloat16 if precision == "bf16" else torch.float32)
    return _plain_linear


def _plain_linear(linear: nn.Linear, activation: str) -> nn.Module:
    return linear if activation == "none" else nn.Sequential(linear, _Activation(activation))


class _Activation(nn.Module):
    """An activation as a module."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.function = ACTIVATIONS[name]

    def forward(self, x: Tensor) -> Tensor:
        """Any shape -> the same shape."""
        return self.function(x)


class MappedEmbedding(nn.Embedding):
    """An embedding whose matrix stays in its file, in the file's precision.

    Args:
        matrix: (V, C), mapped from the file.
    """

    def __init__(self, matrix: Tensor) -> None:
        super().__init__(len(matrix), matrix.shape[1], _weight=matrix, _freeze=True)

    def forward(self, input: Tensor) -> Tensor:
        """Ids of any shape -> their vectors in fp32, (..., C)."""
        return super().forward(input).float()


def _prepare(module: nn.Module, pack: Pack, weights: Weights | None, path: str = "") -> nn.Module:
    """A copy of a module with packed linear layers.

    Args:
        module: the network or a part of it.
        pack: makes the packed layers.
        weights: the weights, if the module has none.
        path: the prefix of the module's weights in `weights`.
    """
    if isinstance(module, nn.Linear):
        return pack(_with_weights(module, weights, path), "none")
    if isinstance(module, nn.Dropout):
        return nn.Identity()
    if isinstance(module, nn.Embedding):
        return module if weights is None else MappedEmbedding(weights[f"{path}weight"].mapped())
    prepared = _with_weights(module, weights, path)
    prepared._modules = dict(module._modules)
    done = set()
    if isinstance(module, FeedForward) and isinstance(prepared, FeedForward):
        activation = next(name for name, function in ACTIVATIONS.items() if function is module.activation)
        if activation in FUSED:
            up = _with_weights(module.up, weights, f"{path}up.")
            prepared.up = cast("nn.Linear", pack(up, activation))
            prepared.activation = nn.Identity()
            done = {"up"}
    if isinstance(module, Bert) and module.config.share_layers:
        first = _prepare(module.blocks[0], pack, weights, f"{path}blocks.0.")
        prepared._modules["blocks"] = nn.ModuleList([first] * len(module.blocks))
        done = {"blocks"}
    # From the last to the first: a matrix over the vocabulary is read while memory holds little else.
    for name, part in reversed(module._modules.items()):
        if part is not None and name not in done:
            prepared._modules[name] = _prepare(part, pack, weights, f"{path}{name}.")
    chunked = isinstance(prepared, FeedForward) and isinstance(prepared.up, Int8Linear | TiledInt8Linear)
    return ChunkedLayer(prepared) if chunked else prepared


def _with_weights(module: Module, weights: Weights | None, path: str) -> Module:
    """A shallow copy of a module; its own parameters, without those of its parts, are read if it has none."""
    copied, read = copy.copy(module), {}
    if weights is not None:
        for name, parameter in module._parameters.items():
            if parameter is not None:
                stored = weights[f"{path}{name}"]
                packed_next = isinstance(module, nn.Linear) and name == "weight"
                read[name] = nn.Parameter(stored.peek() if packed_next else stored.read(), requires_grad=False)
        copied._parameters = {**module._parameters, **read}
    return copied
