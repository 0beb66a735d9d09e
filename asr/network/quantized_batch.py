"""The 8-bit network for many streams at once where torch's integer product is fast: on processors with AMX.

`quantized_kernel` multiplies vector by vector, in code for any CPU. Here the rows of all streams go through
`torch._int_mm`, which uses AMX, where torch is installed. Its sums are exact integers too, and between the products
stands the other kernel's own arithmetic, so every stream's result is the same in every bit as from that.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from asr.network.quantized_weights import QuantizedWeights
from asr.network.rows_kernel import (
    add_block,
    block_rows,
    finish,
    first_rows,
    hidden_rows,
    normed_rows,
    rectified_rows,
    turn_cells,
)
from asr.network.weights import Array

_TILE_ROWS = 16

_checked: bool | None = None


def works() -> bool:
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
    """The weights, laid out for torch's product. Holds only constants."""

    def __init__(self, weights: QuantizedWeights) -> None:
        self._weights = weights
        self._conv1 = _Product(weights.conv1.weight)
        self._conv2 = _Product(weights.conv2.weight)
        self._blocks = [_Product(weight) for weight in weights.blocks.weight]
        self._inputs = [_Product(weight) for weight in weights.inputs.weight]
        self._memory = [_Product(weight) for weight in weights.memory.weight]
        self._output = _Product(weights.output.weight)

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
        channels, gates = len(m.conv1.bias), m.inputs.bias.shape[1]
        rows = _Rows(batch * length, 3 * mels)
        x = np.empty((past.shape[1] + length, mels), np.float32)
        first_rows(frames, mean, count, past, m.scale, x, rows.values, rows.scale)
        y = np.empty((batch * length, channels), np.float32)
        finish(rows.times(self._conv1), m.conv1.scale, m.conv1.bias, rows.scale, y)
        rows = _Rows(batch * steps, 3 * channels)
        rectified_rows(y.reshape(batch * steps, 3 * channels), rows.values, rows.scale)
        z = np.empty((batch * steps, width), np.float32)
        finish(rows.times(self._conv2), m.conv2.scale, m.conv2.bias, rows.scale, z)
        z = z.reshape(batch, steps, width)
        history = steps_past.shape[2]
        rows = _Rows(batch * steps, (history + 1) * width)
        x = np.empty((batch, history + steps, width), np.float32)
        normed, row = np.empty((history + steps, width), np.float32), np.empty(width, np.float32)
        for k, weight in enumerate(self._blocks):
            b = m.blocks
            block_rows(k, b.norm_weight[k], b.norm_bias[k], steps_past, z, x, normed, rows.values, rows.scale)
            add_block(x, rows.times(weight), b.scale[k], b.bias[k], rows.scale, m.delays[k], row, z)
        rows, turn = _Rows(batch * steps, width), _Rows(batch, width)
        both = np.empty((2, gates), np.float32)
        for layer in range(layers):
            i, mem = m.inputs, m.memory
            normed_rows(z, i.norm_weight[layer], i.norm_bias[layer], row, rows.values, rows.scale)
            gx = rows.times(self._inputs[layer])
            for t in range(steps):
                hidden_rows(h, layer, turn.values, turn.scale)
                gh = turn.times(self._memory[layer])
                turn_cells(
                    m.cell_code, layer,
                    gx, i.scale[layer], i.bias[layer], rows.scale,
                    gh, mem.scale[layer], mem.bias[layer], turn.scale,
                    h, c, both, z, t,
                )  # fmt: skip
        normed_rows(z, m.norm.weight, m.norm.bias, row, rows.values, rows.scale)
        finish(rows.times(self._output), m.output.scale, m.output.bias, rows.scale, logits.reshape(batch * steps, -1))


class _Rows:
    """Quantised rows: ``scale * values``."""

    def __init__(self, count: int, width: int) -> None:
        self._count = count
        # torch's product is fastest with whole tiles; what stands in the rows beyond is not used.
        self._padded = np.zeros((-(-count // _TILE_ROWS) * _TILE_ROWS, width), np.int8)
        self.values = self._padded[:count]
        self.scale = np.empty(count, np.float32)

    def times(self, product: _Product) -> Array:
        """Exact sums, ``(count, outputs)`` int32."""
        return product(self._padded)[: self._count]


class _Product:
    """What multiplies rows by a weight ``(outputs, inputs)`` int8."""

    def __init__(self, weight: Array) -> None:
        self._weight = weight
        self._turned: Any = None

    def __call__(self, rows: Array) -> Array:
        import torch  # many streams at once bring it in, where it is installed: a single one does not need it

        if self._turned is None:
            # A copy: torch wants arrays that it could write to.
            self._turned = torch.from_numpy(np.array(self._weight)).t()
        sums: Array = torch._int_mm(torch.from_numpy(rows), self._turned).numpy()
        return sums
