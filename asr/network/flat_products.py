"""Products of a few rows with many weights, these laid out as the machine multiplies them fastest.

For models that stand beside the network, which have matrices of several shapes: those lie end to end in one array, and
compiled code finds its way by numbers. On x86 they are packed as in `packed_weights`; elsewhere they are as they come,
and LLVM makes of plain loops what the machine has. Either way sums are exact.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from asr.compiler import inner
from asr.network.packed_kernel import products
from asr.network.packed_weights import DEPTH, PANEL, STRIP, available, pack_matrix
from asr.network.quantized_kernel import view

Array = np.ndarray[Any, Any]

# Without the runtime, which would count references to every array at every call.
_inner = inner(_nrt=False)


def lay_out(matrix: Array, packed: bool | None = None) -> tuple[Array, Array]:
    """A matrix ``(…, rows, columns)`` int8 for `sums`, and what its sums begin at, int32.

    ``packed`` is for tests; by default it depends on the machine. Packed weights, of a number of columns that
    `DEPTH` divides, have two dimensions, so that they are another kind of argument to compiled code.
    """
    if available() if packed is None else packed:
        panels = pack_matrix(matrix)
        return panels.weight.reshape(-1, STRIP * DEPTH), panels.begin.ravel()
    return matrix.ravel(), np.zeros(0, np.int32)


def no_weights() -> Array:
    """No weights, of the kind that `lay_out` makes here."""
    return lay_out(np.zeros((0, DEPTH), np.int8))[0]


@_inner
def sums(weights, begin, first, first_begin, rows, columns, x, out):  # type: ignore[no-untyped-def]
    """Exact sums ``(n, padded(rows))`` of ``x``, int8 ``(n, columns)``, with the rows of weights from one on.

    ``first`` and ``first_begin`` say where those begin in ``weights``, counted in bytes, and in ``begin``.
    """
    if weights.ndim == 2:  # decided when it is compiled
        panels = (rows + PANEL - 1) // PANEL
        packed = view(weights, first, (panels, PANEL // STRIP, columns // DEPTH, STRIP, DEPTH))
        products(packed, view(begin, first_begin, (panels, PANEL)), x, out)
    else:
        for n in range(x.shape[0]):
            for j in range(rows):
                row, total = first + j * columns, np.int32(0)
                for i in range(columns):
                    # The casts keep Numba from widening to 64 bits; LLVM makes one multiply-add of pairs of it.
                    total = np.int32(total + np.int32(np.int32(weights[row + i]) * np.int32(x[n, i])))
                out[n, j] = total


@_inner
def vector(weights, first, columns, row, out):  # type: ignore[no-untyped-def]
    """A row of a matrix that begins at ``first``."""
    if weights.ndim == 2:
        within = row % PANEL
        at = (first + (row - within) * columns) // (STRIP * DEPTH) + within // STRIP * (columns // DEPTH)
        for i in range(columns):
            out[i] = weights[at + i // DEPTH, within % STRIP * DEPTH + i % DEPTH]
    else:
        for i in range(columns):
            out[i] = weights[first + row * columns + i]
