"""An accelerator without float64, as Apple's, simulated on the CPU: tensors that say they are on it.

A tensor of the simulated device holds one on the CPU that does the work. Operators refuse float64 and tensors of
different devices; what reads a tensor on the host is counted.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_flatten, tree_map

DEVICE = torch.device("mps")
# Operators that take tensors of the CPU beside those of a device: indices, and copies.
MIXED = {
    "aten::index",
    "aten::index_put",
    "aten::index_put_",
    "aten::_index_put_impl_",
    "aten::copy_",
    "aten::_to_copy",
}
# Operators whose result, or its shape, the host waits for.
READS = {"aten::_local_scalar_dense", "aten::nonzero", "aten::masked_select", "aten::_unique2", "aten::equal"}
reads: list[str] = []  # those that were called
mixed: list[bool] = []  # not empty: inside the accelerator's autocast, which changes nothing here


class NoFloat64(TypeError):
    """The simulated device has no float64."""


class OnDevice(Tensor):
    """A tensor of the simulated device; `held` has its content.

    For torch it is on the meta device, so that code that reads its memory fails.
    """

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> "OnDevice":
        if held.dtype == torch.float64:
            raise NoFloat64("a tensor in float64 on a device that does not have it")
        made = Tensor._make_wrapper_subclass(  # pyright: ignore[reportAttributeAccessIssue]
            cls,
            held.shape,
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device="meta",
            requires_grad=held.requires_grad,
        )
        made.held = held.detach()
        return made

    device = property(lambda _: DEVICE)  # pyright: ignore[reportAssignmentType]
    is_meta = property(lambda _: False)  # pyright: ignore[reportAssignmentType]

    def __repr__(self) -> str:  # pyright: ignore[reportIncompatibleMethodOverride]
        return f"OnDevice({self.held})"

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        if id(self) not in memo:
            memo[id(self)] = like_parameter(self, OnDevice(self.held.clone()))
        return memo[id(self)]

    @classmethod
    def __torch_dispatch__(
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        options = dict(kwargs or {})
        name = func._schema.name
        for one in tree_flatten((args, options))[0]:
            if isinstance(one, Tensor) and not isinstance(one, OnDevice) and one.dim() and name not in MIXED:
                raise RuntimeError(f"{name}: tensors of the CPU and of the device")
        target = options.get("device")
        if target is not None:
            options["device"] = torch.device("cpu")
        found = func(*tree_map(_held, args), **tree_map(_held, options))
        to_cpu = name == "aten::_to_copy" and target == torch.device("cpu")
        from_device = name == "aten::copy_" and not isinstance(args[0], OnDevice)
        by_mask = name == "aten::index" and any(one is not None and one.dtype == torch.bool for one in args[1])
        if to_cpu or from_device or by_mask or name in READS:
            reads.append(name)
        if to_cpu or not isinstance(found, Tensor | tuple | list):
            return found.clone() if to_cpu else found
        if from_device:
            return args[0]
        wrapped = tree_map(lambda one: OnDevice(one) if isinstance(one, Tensor) else one, found)
        return return_and_correct_aliasing(func, args, dict(kwargs or {}), wrapped)


def _held(value: Any) -> Any:
    return value.held if isinstance(value, OnDevice) else value


def like_parameter(old: Tensor, new: Tensor) -> Tensor:
    """A parameter if `old` is one."""
    return nn.Parameter(new, requires_grad=old.requires_grad) if isinstance(old, nn.Parameter) else new


class _Factories(TorchFunctionMode):
    """Creates tensors on the simulated device, and moves them there."""

    makes_meta = False  # whether the caller itself asks for a tensor of the meta device

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        options = dict(kwargs or {})
        if func is Tensor.tolist and isinstance(args[0], OnDevice):
            reads.append("tolist")
            return args[0].held.tolist()
        if torch.device("meta") in options.values():  # a network without weights
            _Factories.makes_meta = True
            try:
                return func(*args, **options)
            finally:
                _Factories.makes_meta = False
        if func in (Tensor.__getitem__, Tensor.__setitem__) and isinstance(args[0], OnDevice):
            args = (args[0], _as_tensors(args[1]), *args[2:])
        asked = [one for one in (*args, *options.values()) if isinstance(one, str | torch.device) and _is_device(one)]
        if not asked or func in (torch.device, torch._C._nn._parse_to):
            return func(*args, **options)
        if args and isinstance(args[0], OnDevice):  # it is there already
            args = tuple(one for one in args if not any(one is a for a in asked))
            options = {name: one for name, one in options.items() if not any(one is a for a in asked)}
            return args[0] if func is Tensor.to and len(args) == 1 and not options else func(*args, **options)
        cpu = torch.device("cpu")
        found = func(
            *(cpu if any(one is a for a in asked) else one for one in args),
            **{name: cpu if any(one is a for a in asked) else one for name, one in options.items()},
        )
        return OnDevice(found.clone()) if isinstance(found, Tensor) else found


def _as_tensors(index: Any) -> Any:
    """An index whose lists are tensors of the CPU; torch would make tensors of the meta device."""
    if isinstance(index, tuple):
        return tuple(map(_as_tensors, index))
    return torch.tensor(list(index)) if isinstance(index, list | range) else index


class _Constants(TorchDispatchMode):
    """Masks and numbers that torch itself creates beside a tensor of the device."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        options = dict(kwargs or {})
        meta = options.get("device") == torch.device("meta")
        if (
            meta
            and not _Factories.makes_meta
            and (func is torch.ops.aten._to_copy.default or not any(isinstance(one, Tensor) for one in args))
        ):
            return OnDevice(func(*args, **{**options, "device": torch.device("cpu")}))
        return func(*args, **options)


def _is_device(value: str | torch.device) -> bool:
    return str(value) in ("mps", "mps:0")


def _move(module: nn.Module, *args: Any, **kwargs: Any) -> nn.Module:
    """`nn.Module.to`, which cannot exchange the kind of a parameter's tensor; tied parameters stay tied."""
    device, dtype, *_ = torch._C._nn._parse_to(*args, **kwargs)
    moved: dict[int, Tensor] = {}
    for part in module.modules():
        for tensors in (part._parameters, part._buffers):
            for name, old in tensors.items():
                if old is not None:
                    if id(old) not in moved:
                        new = old.detach().to(
                            device=device or old.device, dtype=dtype if old.is_floating_point() else None
                        )
                        moved[id(old)] = like_parameter(old, new)
                    tensors[name] = moved[id(old)]
    return module


@contextmanager
def _autocast() -> Iterator[None]:
    mixed.append(True)
    try:
        yield
    finally:
        mixed.pop()


@contextmanager
def simulated_accelerator() -> Iterator[None]:
    """Makes this machine one with an accelerator without float64, until the `with` block ends."""
    reads.clear()
    with pytest.MonkeyPatch.context() as patch, _Factories(), _Constants():
        patch.setattr(torch.accelerator, "is_available", lambda: True)
        patch.setattr(torch.accelerator, "device_count", lambda: 1)
        patch.setattr(torch.accelerator, "current_accelerator", lambda **_: DEVICE)
        patch.setattr(torch.mps, "recommended_max_memory", lambda: 2**34)
        patch.setattr(torch.mps, "current_allocated_memory", lambda: 2**30)
        patch.setattr(nn.Module, "to", _move)
        random = SimpleNamespace(get_rng_state=torch.get_rng_state, set_rng_state=torch.set_rng_state)
        patch.setattr(torch, "get_device_module", lambda _: random)
        # In inference mode torch hands over operators whole, without their parts.
        patch.setattr(
            torch.inference_mode,
            "__enter__",
            lambda mode: setattr(mode, "off", torch.no_grad()) or mode.off.__enter__(),
        )
        patch.setattr(torch.inference_mode, "__exit__", lambda mode, *error: mode.off.__exit__(*error))
        for module in ("core.training.training", "tasks.classification.frozen_training"):
            patch.setattr(f"headway.{module}.accelerator_for", lambda *_: _accelerator())
        yield


def _accelerator() -> Any:
    return SimpleNamespace(
        device=DEVICE,
        mixed_precision="no",
        scaler=None,
        trackers=[],
        autocast=_autocast,
        no_sync=nullcontext,
        backward=lambda loss: loss.backward(),
    )
