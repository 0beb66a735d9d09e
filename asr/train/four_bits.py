"""Weights of four bits: `[training] four_bits`.

Each row of the layers' matrices, which are nearly all of a network, keeps sixteen different weights, that half a byte
tells apart: a stream then reads half as much memory for every block of audio (`asr.network.packed_weights`). They are
those by which a normal distribution is rounded with the least error (S. P. Lloyd, "Least squares quantization in PCM",
IEEE Transactions on Information Theory 28, 1982), times the row's own size.

A network that was trained without this has a quarter more words wrong at first, and learns to do with it in some hours:
each step is worked out with the rounded weights, and what it teaches is added to those that are not rounded (Y. Bengio,
N. Leonard and A. Courville, "Estimating or propagating gradients through stochastic neurons", 2013).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from asr.network.integers import PEAK
from asr.network.weights import Array

_LEAST = 1e-8  # size of a row of zeros
LARGEST = 2.7326  # level, where a row's weights have a mean square of one
_HALF = (6, 18, 31, 44, 58, 75, 96, PEAK)  # the levels above zero, where the largest is the largest of a byte
LEVELS = torch.tensor([*(-level for level in reversed(_HALF)), *_HALF], dtype=torch.float32)
_NEAREST = LEVELS[torch.bucketize(torch.arange(-PEAK, PEAK + 1).float(), (LEVELS[1:] + LEVELS[:-1]) / 2)]


def is_coarse(name: str, dimensions: int) -> bool:
    """Whether a parameter of `asr.network.model.AcousticModel` is one of the matrices that get four bits."""
    return dimensions == 2 and name.startswith(("blocks.", "cells."))


def rounded_rows(values: Tensor) -> tuple[Tensor, Tensor]:
    """Of ``(rows, columns)`` the levels, whole numbers up to 127 in float32, and what one stands for in each row."""
    unit = values.square().mean(dim=1, keepdim=True).sqrt().clamp_min(_LEAST) * (LARGEST / PEAK)
    nearest = (values / unit).round_().clamp_(-PEAK, PEAK).add_(PEAK).int()
    return _NEAREST.to(values.device)[nearest], unit


@contextmanager
def rounded(model: nn.Module) -> Iterator[None]:
    """The model's weights are rounded within, and afterwards what they were; gradients stay as they are."""
    kept: list[tuple[nn.Parameter, Tensor]] = []
    for name, parameter in model.named_parameters():
        if is_coarse(name, parameter.ndim):
            kept.append((parameter, parameter.data))
            levels, unit = rounded_rows(parameter.data)
            parameter.data = levels.mul_(unit)
    try:
        yield
    finally:
        for parameter, values in kept:
            parameter.data = values


def coarse_arrays(weights: Mapping[str, Array]) -> dict[str, Array]:
    """A network's parameters as a model folder keeps them: matrices of four bits in integers with their rows' peaks."""
    found = dict(weights)
    for name, value in weights.items():
        if is_coarse(name, value.ndim):
            levels, unit = rounded_rows(torch.from_numpy(np.ascontiguousarray(value, np.float32)))
            found[name], found[f"{name}.peaks"] = levels.numpy().astype(np.int8), (unit[:, 0] * PEAK).numpy()
    return found
