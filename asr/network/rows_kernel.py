"""The 8-bit network around its products, for the rows of many streams at once: `quantized_kernel`'s arithmetic.

A row is what one product of one stream takes. Between the products, all rows are quantised or scaled back.
"""

from __future__ import annotations

import numpy as np

from asr.compiler import jit
from asr.network.quantized_kernel import (
    normal_frames,
    normal_steps,
    normalize,
    stacked_step,
    to_integers,
    update_cell,
    view,
)

# Nothing here allocates, so the runtime that would count references to the arrays is left out.
_jit = jit(_nrt=False)


@_jit
def hidden_rows(h, layer, values, scale):  # type: ignore[no-untyped-def]
    """Quantise a layer's hidden states."""
    for b in range(h.shape[0]):
        # Not of ``h[:, layer]``, whose rows LLVM would not know to be contiguous.
        scale[b] = to_integers(h[b, layer], values[b])


@_jit
def rectified_rows(x, values, scale):  # type: ignore[no-untyped-def]
    """Quantise rows after a ReLU."""
    for n in range(x.shape[0]):
        for i in range(x.shape[1]):
            x[n, i] = max(x[n, i], np.float32(0.0))
        scale[n] = to_integers(x[n], values[n])


@_jit
def normed_rows(z, norm_weight, norm_bias, normed, values, scale):  # type: ignore[no-untyped-def]
    """Quantise the steps of all streams, ``(B, S, width)``, after a layer normalisation."""
    batch, steps, _ = z.shape
    for b in range(batch):
        for t in range(steps):
            n = b * steps + t
            normalize(z[b, t], norm_weight, norm_bias, normed)
            scale[n] = to_integers(normed, values[n])


@_jit
def first_rows(frames, mean, count, past, scale, x, values, row_scale):  # type: ignore[no-untyped-def]
    """The rows of the first convolution; ``x`` is room for a stream's frames."""
    batch, length, mels = frames.shape
    for b in range(batch):
        normal_frames(frames[b], mean[b], count[b], past[b], scale, x)
        for t in range(length):
            n = b * length + t
            row_scale[n] = to_integers(view(x, t * mels, (3 * mels,)), values[n])


@_jit
def block_rows(k, norm_weight, norm_bias, past, z, x, normed, values, row_scale):  # type: ignore[no-untyped-def]
    """The rows of block ``k``; ``normed`` is room for a stream's steps, ``x`` for all, which `add_block` reads."""
    batch, steps, width = z.shape
    history = past.shape[2]
    for b in range(batch):
        normal_steps(z[b], past[b, k], norm_weight, norm_bias, x[b], normed)
        for t in range(steps):
            n = b * steps + t
            row_scale[n] = to_integers(view(normed, t * width, ((history + 1) * width,)), values[n])


@_jit
def add_block(x, total, scale, bias, x_scale, delay, out, z):  # type: ignore[no-untyped-def]
    """A block's end: scale the sums back, and add them to the steps of ``delay`` before; ``out`` is room for a row."""
    batch, steps, width = z.shape
    history = x.shape[1] - steps
    for b in range(batch):
        for t in range(steps):
            n = b * steps + t
            _scaled(total[n], scale, bias, x_scale[n], out)
            for i in range(width):
                z[b, t, i] = x[b, history + t - delay, i] + max(out[i], np.float32(0.0))


@_jit
def stack_rows(steps, norm_weight, norm_bias, normed, values, row_scale):  # type: ignore[no-untyped-def]
    """Quantise several steps as one row, after a layer normalisation; ``steps`` has them end to end."""
    for n in range(steps.shape[0]):
        normalize(steps[n], norm_weight, norm_bias, normed)
        row_scale[n] = to_integers(normed, values[n])


@_jit
def add_stack(steps, total, scale, bias, x_scale, out, x):  # type: ignore[no-untyped-def]
    """What `stack_rows` was for: the steps' mean and the product, into rows that begin where the steps do."""
    for n in range(steps.shape[0]):
        _scaled(total[n], scale, bias, x_scale[n], out)
        stacked_step(steps[n], out, x[n])


@_jit
def finish_outputs(total, scale, bias, x_scale, tokens, out):  # type: ignore[no-untyped-def]
    """Scale the outputs' sums back into ``(n, stacked, outputs)``: tokens of all steps come first, then pieces."""
    stacked, outputs = out.shape[1], out.shape[2]
    pieces = outputs - tokens
    for n in range(out.shape[0]):
        for k in range(stacked):
            first = k * tokens
            for j in range(tokens):
                out[n, k, j] = np.float32(total[n, first + j]) * (scale[first + j] * x_scale[n]) + bias[first + j]
            first = stacked * tokens + k * pieces - tokens
            for j in range(tokens, outputs):
                out[n, k, j] = np.float32(total[n, first + j]) * (scale[first + j] * x_scale[n]) + bias[first + j]


@_jit
def finish(total, scale, bias, x_scale, out):  # type: ignore[no-untyped-def]
    """Scale rows of sums back; there may be more of them than outputs."""
    for n in range(total.shape[0]):
        _scaled(total[n], scale, bias, x_scale[n], out[n])


@_jit
def _scaled(total, scale, bias, x_scale, out):  # type: ignore[no-untyped-def]
    for j in range(out.shape[0]):
        out[j] = np.float32(total[j]) * (scale[j] * x_scale) + bias[j]


@_jit
def turn_cells(  # type: ignore[no-untyped-def]
    code, layer, x_total, x_scale, x_bias, x_row_scale, h_total, h_scale, h_bias, h_row_scale, h, c, gates, z, t
):
    """One step of one layer for all streams, and its residual; ``gates`` is room for two rows."""
    batch, steps, width = z.shape  # its own: each may be several of the network's
    gx, gh = gates[0], gates[1]
    for b in range(batch):
        n = b * steps + t
        _scaled(x_total[n], x_scale, x_bias, x_row_scale[n], gx)
        _scaled(h_total[b], h_scale, h_bias, h_row_scale[b], gh)
        update_cell(code, gx, gh, h[b, layer], c[b, layer])
        for i in range(width):
            z[b, t, i] += h[b, layer, i]
