"""The Muon optimiser where the processor has no products of bfloat16.

`torch.optim.Muon` makes each matrix's update orthogonal in bfloat16, whose products PyTorch works out one number after
another on x86 without AVX-512: most of a training step's time went there. This one does the same sums in float32, with
the same options and the same state, so that checkpoints fit either.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from asr.train.bfloat16 import has_bfloat16

_SCALING = "match_rms_adamw"


def make_muon(parameters: Sequence[Tensor], **options: Any) -> torch.optim.Muon:
    """`torch.optim.Muon`, or the one here for parameters on a processor that needs it.

    Scaled so that its updates are as large as AdamW's: one learning rate serves both.
    """
    slow = any(not has_bfloat16(parameter.device) for parameter in parameters)
    return (FloatMuon if slow else torch.optim.Muon)(parameters, adjust_lr_fn=_SCALING, **options)


class FloatMuon(torch.optim.Muon):
    """Muon in float32, its updates scaled as `_SCALING` says."""

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Take one step. A closure is not for it."""
        for group in self.param_groups:
            rate, momentum = group["lr"], group["momentum"]
            for parameter in group["params"]:
                gradient = parameter.grad
                if gradient is None:
                    continue
                state = self.state[parameter]
                if "momentum_buffer" not in state:
                    state["momentum_buffer"] = torch.zeros_like(gradient)
                mean = state["momentum_buffer"]
                mean.lerp_(gradient, 1 - momentum)
                update = gradient.lerp(mean, momentum) if group["nesterov"] else mean
                update = orthogonal(update, group["ns_coefficients"], group["ns_steps"], group["eps"])
                parameter.mul_(1 - rate * group["weight_decay"])
                parameter.add_(update, alpha=-rate * 0.2 * max(parameter.shape) ** 0.5)


def orthogonal(matrix: Tensor, coefficients: tuple[float, float, float], steps: int, least: float) -> Tensor:
    """About the nearest matrix whose rows or columns, whichever are fewer, are orthonormal: so many steps of
    Newton's and Schulz's iteration, of a polynomial of the fifth degree."""
    a, b, c = coefficients
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = x / x.norm().clamp(min=least)  # no singular value is above one
    for _ in range(steps):
        products = x @ x.T
        x = torch.addmm(x, torch.addmm(products, products, products, beta=b, alpha=c), x, beta=a)
    return x.T if tall else x
