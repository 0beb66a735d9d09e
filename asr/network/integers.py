"""Rows of a matrix in 8-bit integers: how recognition multiplies weights, and how a model folder keeps them.

A row is ``integers / 127 * peak``, its peak the largest of its absolute values, or more where rows are coarse. Rows
that are written out again in float32 become the very same integers and peaks when they are quantised once more, unless
they are coarse.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from asr.library import machine

PEAK = 127  # the largest integer, that stands for a row's peak
_LEAST = 1e-12  # peak of a row of zeros

Array = np.ndarray[Any, Any]


@cache
def factor_type() -> type[np.int8] | type[np.int16]:
    """How kernels keep the 8-bit integers that they multiply weights with: as this kind of machine is fastest.

    x86 multiplies 16 bits and adds pairs of products at once; AArch64 multiplies bytes, and may add four at once.
    """
    return np.int8 if machine() == "aarch64" else np.int16


def quantize_rows(values: Array) -> tuple[Array, Array]:
    """Of ``(rows, …)`` float32 the integers, int8 of the same shape, and the rows' peaks, ``(rows,)`` float32."""
    return _rounded(values, np.abs(values.reshape(len(values), -1)).max(axis=1))


def coarse_rows(values: Array, step: float) -> tuple[Array, Array]:
    """As `quantize_rows`, but in integers so small that they deflate well: a step is so much of a row's deviation.

    The peaks are what the largest integer would stand for, and no value need reach them.
    """
    flat = values.reshape(len(values), -1)
    steps = np.maximum(flat.std(axis=1) * step, np.abs(flat).max(axis=1) / PEAK)
    return _rounded(values, steps * PEAK)


def _rounded(values: Array, peaks: Array) -> tuple[Array, Array]:
    peaks = np.maximum(peaks, _LEAST).astype(np.float32)
    flat = values.reshape(len(values), -1)
    return np.rint(flat / row_scales(peaks)[:, None]).astype(np.int8).reshape(values.shape), peaks


def row_scales(peaks: Array) -> Array:
    """What one stands for in each row."""
    return (peaks / PEAK).astype(np.float32)


def widen_rows(integers: Array, peaks: Array) -> Array:
    """The values that integers stand for, float32."""
    shape = (-1, *[1] * (integers.ndim - 1))
    return integers.astype(np.float32) / np.float32(PEAK) * peaks.astype(np.float32).reshape(shape)
