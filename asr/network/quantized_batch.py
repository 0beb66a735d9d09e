"""The 8-bit network for many streams at once: the kernel's arithmetic with a matrix library's speed.

`quantized_kernel` multiplies vector by vector, in code for any CPU. Here the rows of all streams go through one integer
matrix product: our own for AVX-512 VNNI (`vnni`, for a single stream too), else `torch._int_mm`, which uses AMX, where
torch is installed.
Its sums are exact integers too, and between the products stands the other kernel's own arithmetic, so every stream's
result is the same in every bit as from that.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from asr.compiler import jit
from asr.network import vnni
from asr.network.quantized_kernel import copy_rows, normalize, to_integers, update_cell
from asr.network.quantized_weights import QuantizedWeights
from asr.network.shape import MEMORY_FRAMES
from asr.network.weights import Array

_Product = Callable[[Array], Array]  # rows (n, inputs) int8 to exact sums (n, outputs or more) int32
_LEAST_BATCH = 2  # below this many streams the other kernel is faster than torch's product
_TILE_ROWS = 16


_checked: bool | None = None


def _works() -> bool:
    """Whether torch is there, has the product, and it is exact. The function is not part of its public interface."""
    global _checked
    if _checked is None:
        try:
            import torch

            x = torch.tensor([[-64, 63, 127, -128], [127, 127, 127, 127]] * 4, dtype=torch.int8)
            _checked = bool((torch._int_mm(x, x[:4].t()) == x.int() @ x[:4].int().t()).all())
        except (ImportError, AttributeError, RuntimeError, NotImplementedError):
            _checked = False
    return _checked


class BatchKernel:
    """The weights, laid out for matrix products. Holds only constants."""

    def __init__(self, weights: QuantizedWeights) -> None:
        self._weights = weights
        inputs = (weights.conv1, weights.conv2, weights.blocks, weights.inputs, weights.memory, weights.output)
        self._fits = all(part.weight.shape[-1] % vnni.DEPTH == 0 for part in inputs)
        self._conv1 = _product(weights.conv1.weight)
        self._conv2 = _product(weights.conv2.weight)
        self._blocks = [_product(weight) for weight in weights.blocks.weight]
        self._inputs = [_product(weight) for weight in weights.inputs.weight]
        self._memory = [_product(weight) for weight in weights.memory.weight]
        self._output = _product(weights.output.weight)
        self._letters = _product(weights.letters.weight)

    def is_faster(self, batch: int) -> bool:
        """Whether this way is open on this machine and worth it for so many streams."""
        return (self._fits and vnni.available()) or (batch >= _LEAST_BATCH and _works())

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
        """As `quantized_kernel.advance`: the state is updated in place, the logits are written."""
        m = self._weights
        batch, length, mels = frames.shape
        steps, layers, width = length // 3, h.shape[1], h.shape[2]
        channels = m.conv1.weight.shape[0]
        rows = _Rows(batch * length, 3 * mels)
        _first_rows(frames, mean, count, past, m.scale, rows.values, rows.scale)
        y = np.empty((batch * length, channels), np.float32)
        _finish(rows.times(self._conv1), m.conv1.scale, m.conv1.bias, rows.scale, y)
        rows = _Rows(batch * steps, 3 * channels)
        _rectified_rows(y.reshape(batch * steps, 3 * channels), rows.values, rows.scale)
        z = np.empty((batch * steps, width), np.float32)
        _finish(rows.times(self._conv2), m.conv2.scale, m.conv2.bias, rows.scale, z)
        z = z.reshape(batch, steps, width)
        history = steps_past.shape[2]
        rows = _Rows(batch * steps, (history + 1) * width)
        x = np.empty((batch, history + steps, width), np.float32)
        for k, weight in enumerate(self._blocks):
            b = m.blocks
            before = np.ascontiguousarray(steps_past[:, k])
            _block_rows(b.norm_weight[k], b.norm_bias[k], before, z, x, rows.values, rows.scale)
            steps_past[:, k] = x[:, steps:]
            _add_block(x, rows.times(weight), b.scale[k], b.bias[k], rows.scale, m.delays[k], z)
        rows, turn = _Rows(batch * steps, width), _Rows(batch, width)
        for layer in range(layers):
            i, mem = m.inputs, m.memory
            _normed_rows(z, i.norm_weight[layer], i.norm_bias[layer], rows.values, rows.scale)
            gx = rows.times(self._inputs[layer])
            # Rows of one layer side by side: loops over them are compiled for that.
            hidden, cell = np.ascontiguousarray(h[:, layer]), np.ascontiguousarray(c[:, layer])
            for t in range(steps):
                _rows_of(hidden, turn.values, turn.scale)
                gh = turn.times(self._memory[layer])
                _turn_cells(
                    m.cell_code,
                    gx, i.scale[layer], i.bias[layer], rows.scale,
                    gh, mem.scale[layer], mem.bias[layer], turn.scale,
                    hidden, cell, z, t,
                )  # fmt: skip
            h[:, layer], c[:, layer] = hidden, cell
        _normed_rows(z, m.norm[0], m.norm[1], rows.values, rows.scale)
        written = logits.reshape(batch * steps, -1)
        whole = written.shape[1] == len(m.output.weight)
        output, turned = (m.output, self._output) if whole else (m.letters, self._letters)
        _finish(rows.times(turned), output.scale, output.bias, rows.scale, written)


class _Rows:
    """Quantised rows: ``scale * values``."""

    def __init__(self, count: int, width: int) -> None:
        self._count = count
        # torch's product is fastest with whole tiles; what stands in the rows beyond is not used.
        tile = 1 if vnni.available() else _TILE_ROWS
        self._padded = np.zeros((-(-count // tile) * tile, width), np.int8)
        self.values = self._padded[:count]
        self.scale = np.empty(count, np.float32)

    def times(self, product: _Product) -> Array:
        """Exact sums, ``(count, outputs or more)`` int32."""
        return product(self._padded)[: self._count]


def _product(weight: Array) -> _Product:
    """What multiplies rows by a weight ``(outputs, inputs)`` int8."""
    if vnni.available() and weight.shape[1] % vnni.DEPTH == 0:
        return vnni.Product(weight)
    turned: Any = None

    def multiply(rows: Array) -> Array:
        nonlocal turned
        import torch  # many streams at once bring it in, where it is installed: a single one does not need it

        if turned is None:
            turned = torch.from_numpy(np.ascontiguousarray(weight)).t()
        sums: Array = torch._int_mm(torch.from_numpy(rows), turned).numpy()
        return sums

    return multiply


@jit()
def _rows_of(x, values, scale):  # type: ignore[no-untyped-def]
    for n in range(x.shape[0]):
        scale[n] = to_integers(x[n], values[n])


@jit()
def _rectified_rows(x, values, scale):  # type: ignore[no-untyped-def]
    for n in range(x.shape[0]):
        for i in range(x.shape[1]):
            x[n, i] = max(x[n, i], np.float32(0.0))
        scale[n] = to_integers(x[n], values[n])


@jit()
def _finish(total, scale, bias, x_scale, out):  # type: ignore[no-untyped-def]
    """As the end of `quantized_kernel._product`."""
    for n in range(total.shape[0]):
        _scaled(total[n], scale, bias, x_scale[n], out[n])


@jit()
def _scaled(total, scale, bias, x_scale, out):  # type: ignore[no-untyped-def]
    for j in range(scale.shape[0]):  # there may be more sums
        out[j] = np.float32(total[j]) * (scale[j] * x_scale) + bias[j]


@jit()
def _first_rows(frames, mean, count, past, scale, values, row_scale):  # type: ignore[no-untyped-def]
    """As the beginning of `quantized_kernel._first_convolutions`."""
    batch, length, mels = frames.shape
    history = past.shape[1]
    x = np.empty((history + length, mels), np.float32)
    for b in range(batch):
        copy_rows(past[b], x, 0)
        for t in range(length):
            count[b, 0] = min(count[b, 0] + np.float32(1.0), np.float32(MEMORY_FRAMES))
            for i in range(mels):
                mean[b, i] += (frames[b, t, i] - mean[b, i]) / count[b, 0]
                x[history + t, i] = (frames[b, t, i] - mean[b, i]) * scale[i]
        copy_rows(x[length:], past[b], 0)
        for t in range(length):
            n = b * length + t
            row_scale[n] = to_integers(x[t : t + 3].reshape(3 * mels), values[n])


@jit()
def _block_rows(norm_weight, norm_bias, past, z, x, values, row_scale):  # type: ignore[no-untyped-def]
    """As the beginning of `quantized_kernel._block`."""
    batch, steps, width = z.shape
    history = past.shape[1]
    normed = np.empty((history + steps, width), np.float32)
    for b in range(batch):
        copy_rows(past[b], x[b], 0)
        copy_rows(z[b], x[b], history)
        for t in range(history + steps):
            normalize(x[b, t], norm_weight, norm_bias, normed[t])
        for t in range(steps):
            n = b * steps + t
            row_scale[n] = to_integers(normed[t : t + history + 1].reshape((history + 1) * width), values[n])


@jit()
def _add_block(x, total, scale, bias, x_scale, delay, z):  # type: ignore[no-untyped-def]
    """As the end of `quantized_kernel._block`."""
    batch, steps, width = z.shape
    history = x.shape[1] - steps
    out = np.empty(width, np.float32)
    for b in range(batch):
        for t in range(steps):
            n = b * steps + t
            _scaled(total[n], scale, bias, x_scale[n], out)
            for i in range(width):
                z[b, t, i] = x[b, history + t - delay, i] + max(out[i], np.float32(0.0))


@jit()
def _normed_rows(z, norm_weight, norm_bias, values, row_scale):  # type: ignore[no-untyped-def]
    batch, steps, width = z.shape
    normed = np.empty(width, np.float32)
    for b in range(batch):
        for t in range(steps):
            n = b * steps + t
            normalize(z[b, t], norm_weight, norm_bias, normed)
            row_scale[n] = to_integers(normed, values[n])


@jit()
def _turn_cells(  # type: ignore[no-untyped-def]
    code, x_total, x_scale, x_bias, x_row_scale, h_total, h_scale, h_bias, h_row_scale, h, c, z, t
):
    """One step of one layer for all streams, and its residual."""
    batch, steps, width = z.shape
    gx = np.empty(x_scale.shape[0], np.float32)
    gh = np.empty(h_scale.shape[0], np.float32)
    for b in range(batch):
        n = b * steps + t
        _scaled(x_total[n], x_scale, x_bias, x_row_scale[n], gx)
        _scaled(h_total[b], h_scale, h_bias, h_row_scale[b], gh)
        update_cell(code, gx, gh, h[b], c[b])
        for i in range(width):
            z[b, t, i] += h[b, i]
