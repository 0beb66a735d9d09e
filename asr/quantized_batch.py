"""The 8-bit network for many streams at once: the kernel's arithmetic with a matrix library's speed.

`asr.quantized` multiplies vector by vector, which is best for one stream. Here the rows of all streams go through
one integer matrix product (`torch._int_mm`: AMX or VNNI where the CPU has them). Activations have 14 bits and that
product takes 8, so each is split into two, of which the products are added: exact integers again, so every stream's
result is the same in every bit as from the other kernel. Between the products stands that kernel's own arithmetic.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numba import njit
from torch import Tensor

from asr.model import MEMORY_FRAMES
from asr.quantized import _INPUT_PEAK, Array, QuantizedModel, _cell, _normalize

_LEAST_BATCH = 4  # below this many streams the other kernel is faster


def is_faster(batch: int) -> bool:
    """Whether this way is open on this machine and worth it for so many streams."""
    return batch >= _LEAST_BATCH and _works()


_checked: bool | None = None


def _works() -> bool:
    """Whether torch has the product and it is exact. The function is not part of its public interface."""
    global _checked
    if _checked is None:
        x = torch.tensor([[-64, 63, 127, -128], [127, 127, 127, 127]] * 4, dtype=torch.int8)
        try:
            _checked = bool((torch._int_mm(x, x[:4].t()) == x.int() @ x[:4].int().t()).all())
        except (AttributeError, RuntimeError, NotImplementedError):
            _checked = False
    return _checked


class BatchKernel:
    """The weights of a `QuantizedModel`, laid out for matrix products. Holds only constants."""

    def __init__(self, model: QuantizedModel) -> None:
        self._model = model
        self._conv1 = _turned(model._conv1.weight)
        self._conv2 = _turned(model._conv2.weight)
        self._blocks = [_turned(weight) for weight in model._blocks.weight]
        self._inputs = [_turned(weight) for weight in model._inputs.weight]
        self._memory = [_turned(weight) for weight in model._memory.weight]
        self._output = _turned(model._output.weight)

    def advance(
        self,
        frames: Array,
        mean: Array,
        count: Array,
        past: Array,
        steps_past: Array,
        h: Array,
        c: Array,
        logits: Array,
    ) -> None:
        """As `asr.quantized._advance`: the state is updated in place, the logits are written."""
        m = self._model
        batch, length, mels = frames.shape
        steps, layers, width = length // 3, h.shape[1], h.shape[2]
        channels = m._conv1.weight.shape[0]
        rows = _Rows(batch * length, 3 * mels)
        _first_rows(frames, mean, count, past, m._scale, rows.high, rows.low, rows.scale)
        y = np.empty((batch * length, channels), np.float32)
        _finish(rows.times(self._conv1), m._conv1.scale, m._conv1.bias, rows.scale, y)
        _rectify(y)
        rows = _Rows(batch * steps, 3 * channels)
        _split_rows(y.reshape(batch * steps, 3 * channels), rows.high, rows.low, rows.scale)
        z = np.empty((batch * steps, width), np.float32)
        _finish(rows.times(self._conv2), m._conv2.scale, m._conv2.bias, rows.scale, z)
        z = z.reshape(batch, steps, width)
        out = np.empty((batch * steps, width), np.float32)
        for k, weight in enumerate(self._blocks):
            history = steps_past.shape[2]
            rows = _Rows(batch * steps, (history + 1) * width)
            x = np.empty((batch, history + steps, width), np.float32)
            b = m._blocks
            _block_rows(b.norm_weight[k], b.norm_bias[k], steps_past[:, k], z, x, rows.high, rows.low, rows.scale)
            _finish(rows.times(weight), b.scale[k], b.bias[k], rows.scale, out)
            _add_block(x, out, m._delays[k], z)
        rows, turn = _Rows(batch * steps, width), _Rows(batch, width)
        gates = m._inputs.bias.shape[1]
        gx, gh = np.empty((batch * steps, gates), np.float32), np.empty((batch, gates), np.float32)
        code = m.cell_code
        for layer in range(layers):
            i, mem = m._inputs, m._memory
            _normed_rows(z, i.norm_weight[layer], i.norm_bias[layer], rows.high, rows.low, rows.scale)
            _finish(rows.times(self._inputs[layer]), i.scale[layer], i.bias[layer], rows.scale, gx)
            for t in range(steps):
                _split_rows(h[:, layer], turn.high, turn.low, turn.scale)
                _finish(turn.times(self._memory[layer]), mem.scale[layer], mem.bias[layer], turn.scale, gh)
                _turn_cells(code, gx, gh, h[:, layer], c[:, layer], z, t)
        _normed_rows(z, m._norm[0], m._norm[1], rows.high, rows.low, rows.scale)
        _finish(
            rows.times(self._output), m._output.scale, m._output.bias, rows.scale, logits.reshape(batch * steps, -1)
        )


class _Rows:
    """Quantised rows: ``scale * (128 * high + low)``."""

    def __init__(self, count: int, width: int) -> None:
        self.high, self.low = np.empty((count, width), np.int8), np.empty((count, width), np.int8)
        self.scale = np.empty(count, np.float32)

    def times(self, weight: Tensor) -> Array:
        """Exact sums, ``(count, outputs)`` int32."""
        total = torch._int_mm(torch.from_numpy(self.high), weight)
        total *= 128
        total += torch._int_mm(torch.from_numpy(self.low), weight)
        sums: Array = total.numpy()
        return sums


def _turned(weight: Array) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(weight)).t()


_jit: Any = njit(nogil=True, cache=True, error_model="numpy")


@_jit
def _split(x, high, low):  # type: ignore[no-untyped-def]
    """As `asr.quantized._to_integers`, the 14 bits in two parts."""
    peak = np.float32(1e-12)
    for i in range(x.shape[0]):
        peak = max(peak, abs(x[i]))
    inverse = np.float32(_INPUT_PEAK) / peak
    for i in range(x.shape[0]):
        value = np.int16(np.rint(x[i] * inverse))
        high[i] = np.int8(value >> np.int16(7))
        low[i] = np.int8(value & np.int16(127))
    return peak / np.float32(_INPUT_PEAK)


@_jit
def _split_rows(x, high, low, scale):  # type: ignore[no-untyped-def]
    for n in range(x.shape[0]):
        scale[n] = _split(x[n], high[n], low[n])


@_jit
def _finish(total, scale, bias, x_scale, out):  # type: ignore[no-untyped-def]
    """As the end of `asr.quantized._product`."""
    for n in range(total.shape[0]):
        for j in range(total.shape[1]):
            out[n, j] = np.float32(total[n, j]) * (scale[j] * x_scale[n]) + bias[j]


@_jit
def _rectify(y):  # type: ignore[no-untyped-def]
    for n in range(y.shape[0]):
        for i in range(y.shape[1]):
            y[n, i] = max(y[n, i], np.float32(0.0))


@_jit
def _first_rows(frames, mean, count, past, scale, high, low, row_scale):  # type: ignore[no-untyped-def]
    """As the beginning of `asr.quantized._first_convolutions`."""
    batch, length, mels = frames.shape
    history = past.shape[1]
    x = np.empty((history + length, mels), np.float32)
    for b in range(batch):
        x[:history] = past[b]
        for t in range(length):
            count[b, 0] = min(count[b, 0] + np.float32(1.0), np.float32(MEMORY_FRAMES))
            for i in range(mels):
                mean[b, i] += (frames[b, t, i] - mean[b, i]) / count[b, 0]
                x[history + t, i] = (frames[b, t, i] - mean[b, i]) * scale[i]
        past[b] = x[length:]
        for t in range(length):
            n = b * length + t
            row_scale[n] = _split(x[t : t + 3].reshape(3 * mels), high[n], low[n])


@_jit
def _block_rows(norm_weight, norm_bias, past, z, x, high, low, row_scale):  # type: ignore[no-untyped-def]
    """As the beginning of `asr.quantized._block`."""
    batch, steps, width = z.shape
    history = past.shape[1]
    normed = np.empty((history + steps, width), np.float32)
    for b in range(batch):
        x[b, :history] = past[b]
        x[b, history:] = z[b]
        past[b] = x[b, steps:]
        for t in range(history + steps):
            _normalize(x[b, t], norm_weight, norm_bias, normed[t])
        for t in range(steps):
            n = b * steps + t
            row_scale[n] = _split(normed[t : t + history + 1].reshape((history + 1) * width), high[n], low[n])


@_jit
def _add_block(x, out, delay, z):  # type: ignore[no-untyped-def]
    """As the end of `asr.quantized._block`."""
    batch, steps, width = z.shape
    history = x.shape[1] - steps
    for b in range(batch):
        for t in range(steps):
            for i in range(width):
                z[b, t, i] = x[b, history + t - delay, i] + max(out[b * steps + t, i], np.float32(0.0))


@_jit
def _normed_rows(z, norm_weight, norm_bias, high, low, row_scale):  # type: ignore[no-untyped-def]
    batch, steps, width = z.shape
    normed = np.empty(width, np.float32)
    for b in range(batch):
        for t in range(steps):
            n = b * steps + t
            _normalize(z[b, t], norm_weight, norm_bias, normed)
            row_scale[n] = _split(normed, high[n], low[n])


@_jit
def _turn_cells(code, gx, gh, h, c, z, t):  # type: ignore[no-untyped-def]
    """One step of one layer for all streams, and its residual."""
    batch, steps, width = z.shape
    for b in range(batch):
        _cell(code, gx[b * steps + t], gh[b], h[b], c[b])
        for i in range(width):
            z[b, t, i] += h[b, i]
