"""AdamW for devices whose fused optimizer ignores `grad_scale` and `found_inf`: MPS in torch 2.10 to 2.12.

Without them the mean over the labels, clipping and the guard against gradients that are not finite would have no
effect, with no error (https://github.com/pytorch/pytorch/pull/186360).
"""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW


class GuardedAdamW(AdamW):
    """AdamW in plain operators that reads `grad_scale` and `found_inf` as torch's fused kernels do on a GPU.

    Nothing waits for the device. The state has the names and shapes of torch's.
    """

    def __init__(self, params: Any, **options: Any) -> None:
        super().__init__(params, capturable=True, **options)  # capturable: a loaded state's step is on the device
        self._step_supports_amp_scaling = True  # GradScaler leaves the check to `step`

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Updates the parameters that have gradients, or none if `found_inf` is 1."""
        assert closure is None
        scale, found_inf = getattr(self, "grad_scale", None), getattr(self, "found_inf", None)
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, parameter.grad, group, scale, found_inf)

    def _update(
        self, parameter: Tensor, grad: Tensor, group: dict[str, Any], scale: Tensor | None, found_inf: Tensor | None
    ) -> None:
        state, (beta1, beta2), rate = self.state[parameter], group["betas"], group["lr"]
        if not state:
            state["step"] = torch.zeros((), device=parameter.device)
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
        grad = grad if scale is None else grad / scale
        taken = torch.ones_like(state["step"])
        if found_inf is not None:
            taken = 1 - found_inf
            grad = torch.where(found_inf > 0, 0.0, grad)  # times zero, a number that is not finite stays so
        state["step"] += taken
        mean = state["exp_avg"].lerp_(grad, (1 - beta1) * taken)
        square = state["exp_avg_sq"].lerp_(grad * grad, (1 - beta2) * taken)
        # 1 - beta ** step, which loses half of its digits in fp32 if it is computed as written.
        steps = state["step"].clamp(min=1)
        correction1, correction2 = (-torch.expm1(steps * math.log(beta)) if beta else 1.0 for beta in (beta1, beta2))
        denominator = (square / correction2).sqrt_().add_(group["eps"])
        parameter.mul_(1 - rate * group["weight_decay"] * taken)
        parameter.sub_(mean / denominator * (rate * taken / correction1))


def fused_reads_scale(device: torch.device) -> bool:
    """Whether torch's fused AdamW divides by `grad_scale` and skips the update if `found_inf` is 1; tried once."""
    parameter = nn.Parameter(torch.ones(2, device=device))
    parameter.grad = torch.ones_like(parameter)
    optimizer: Any = AdamW([parameter], lr=0.5, betas=(0.5, 0.5), fused=True)
    optimizer.grad_scale = torch.full((), 2.0, device=device)
    optimizer.found_inf = torch.ones((), device=device)
    optimizer.step()
    skipped = bool((parameter == 1).all())
    optimizer.found_inf = torch.zeros((), device=device)
    optimizer.step()
    return skipped and bool((optimizer.state[parameter]["exp_avg"] == 0.25).all())
