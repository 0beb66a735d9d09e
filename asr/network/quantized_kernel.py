"""The 8-bit network's arithmetic, and the whole of it for any CPU: vector by vector.

Written for LLVM's vectoriser: plain loops over contiguous rows, no fast-math, so that the order of every float
operation, and with it every bit, is what is written here. For rows of many streams at once, see `packed_kernel`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from asr.compiler import Deferred, entry, inner
from asr.network.integers import factor_type
from asr.network.quantized_weights import INPUT_PEAK, QuantizedWeights
from asr.network.shape import FRAME_REDUCTION, MEMORY_FRAMES
from asr.network.state import StreamState
from asr.network.vectors import LANES, add, load, multiply, spread, subtract, total
from asr.network.weights import Array

_EPSILON = 1e-5  # of layer normalisation, as in torch

# Nothing here allocates, so the runtime that would count references to the arrays is left out.
view: Any = Deferred("asr.array_types", "make_view")
_inner, _inlined = inner(_nrt=False), inner(_nrt=False, inline="always")


class Step(NamedTuple):
    """What a step of the network reads and writes: `StreamState`'s arrays, changed in place, and working memory."""

    frames: Array  # (B, T, mels)
    mean: Array
    heard: Array  # its count
    past: Array  # the state's frames
    steps_past: Array  # the state's steps
    h: Array
    c: Array
    logits: Array  # (B, T / 3, outputs), written
    floats: Array  # float32 (n,)
    integers: Array  # (n,), of `factor_type`


def make_step(frames: Array, state: StreamState, logits: Array, conv_width: int) -> Step:
    """A step of the network, with as much working memory as it needs."""
    (batch, length, mels), width = frames.shape, state.h.shape[2]
    steps = length // FRAME_REDUCTION
    before, history = state.frames.shape[1], state.steps.shape[2]
    floats = (
        batch * steps * width  # the steps
        + max((before + length) * mels + length * conv_width, 2 * (history + steps) * width + width)
        + width + 2 * 4 * width
    )  # fmt: skip
    integers = max(FRAME_REDUCTION * max(mels, conv_width), (history + 1) * width)
    room = np.empty(floats, np.float32), np.empty(integers, factor_type())
    return Step(np.ascontiguousarray(frames), *state.arrays(), logits, *room)


@_inlined
def exp(x):  # type: ignore[no-untyped-def]
    """exp for |x| <= 87 in float32: 2**n times a polynomial. Vectorises, unlike a library call."""
    n = np.floor(x * np.float32(1.44269504) + np.float32(0.5))
    r = x - n * np.float32(0.693359375) + n * np.float32(2.12194440e-4)
    p = np.float32(1.9875691500e-4)
    p = p * r + np.float32(1.3981999507e-3)
    p = p * r + np.float32(8.3334519073e-3)
    p = p * r + np.float32(4.1665795894e-2)
    p = p * r + np.float32(1.6666665459e-1)
    p = p * r + np.float32(5.0000001201e-1)
    p = p * r * r + r + np.float32(1.0)
    return p * np.int32((np.int32(n) + np.int32(127)) << np.int32(23)).view(np.float32)


@_inlined
def sigmoid(x):  # type: ignore[no-untyped-def]
    x = np.float32(-30.0) if x < np.float32(-30.0) else x
    x = np.float32(30.0) if x > np.float32(30.0) else x
    return np.float32(1.0) / (np.float32(1.0) + exp(-x))


@_inlined
def tanh(x):  # type: ignore[no-untyped-def]
    x = np.float32(-15.0) if x < np.float32(-15.0) else x
    x = np.float32(15.0) if x > np.float32(15.0) else x
    return np.float32(1.0) - np.float32(2.0) / (np.float32(1.0) + exp(np.float32(2.0) * x))


@_inner
def to_integers(x, out):  # type: ignore[no-untyped-def]
    """Quantise a vector into ``out``, integers of 8 bits or more; return its scale."""
    # Without its sign, a float's bits are ordered as its value is: a loop over integers is vectorised, one over
    # floats is not.
    bits = x.view(np.int32)
    highest = np.int32(0)
    for i in range(x.shape[0]):
        highest = max(highest, np.int32(bits[i] & np.int32(0x7FFFFFFF)))
    peak = max(np.int32(highest).view(np.float32), np.float32(1e-12))
    inverse = np.float32(INPUT_PEAK) / peak
    for i in range(x.shape[0]):
        out[i] = np.int8(np.rint(x[i] * inverse))
    return peak / np.float32(INPUT_PEAK)


@_inner
def product(weight, scale, bias, x, x_scale, out):  # type: ignore[no-untyped-def]
    """``out = scale * x_scale * (weight @ x) + bias``; the sums are exact."""
    for j in range(weight.shape[0]):
        total = np.int32(0)
        for i in range(weight.shape[1]):
            # The casts keep Numba from widening to 64 bits; LLVM makes one multiply-add of pairs of it.
            total = np.int32(total + np.int32(np.int32(weight[j, i]) * np.int32(x[i])))
        out[j] = np.float32(total) * (scale[j] * x_scale) + bias[j]


@_inner
def normalize(x, weight, bias, out):  # type: ignore[no-untyped-def]
    """Layer normalisation."""
    count = np.float32(x.shape[0])
    mean = _sum(x, np.float32(0.0), False) / count
    variance = _sum(x, mean, True) / count
    inverse = np.float32(1.0) / np.sqrt(variance + np.float32(_EPSILON))
    for i in range(x.shape[0]):
        out[i] = (x[i] - mean) * inverse * weight[i] + bias[i]


@_inner
def _sum(x, mean, squared):  # type: ignore[no-untyped-def]
    """The sum of differences from a mean, or of their squares: of each lane of vectors, then of the lanes."""
    middle, lanes = spread(mean), spread(np.float32(0.0))
    whole = x.shape[0] // LANES * LANES
    for i in range(0, whole, LANES):
        apart = subtract(load(x, i), middle)
        lanes = add(lanes, multiply(apart, apart) if squared else apart)
    found = total(lanes)
    for i in range(whole, x.shape[0]):
        apart_too = x[i] - mean
        found += apart_too * apart_too if squared else apart_too
    return found


@_inner
def update_cell(code, gx, gh, h, c):  # type: ignore[no-untyped-def]
    """Update ``h`` and ``c`` in place from the gates' input and memory parts; gate order as in torch."""
    n = h.shape[0]
    if code == 0:  # lstm: input, forget, candidate, output
        for i in range(n):
            c[i] = sigmoid(gx[n + i] + gh[n + i]) * c[i] + sigmoid(gx[i] + gh[i]) * tanh(gx[2 * n + i] + gh[2 * n + i])
        for i in range(n):
            h[i] = sigmoid(gx[3 * n + i] + gh[3 * n + i]) * tanh(c[i])
    elif code == 1:  # gru: reset, update, candidate
        for i in range(n):
            new = tanh(gx[2 * n + i] + sigmoid(gx[i] + gh[i]) * gh[2 * n + i])
            update = sigmoid(gx[n + i] + gh[n + i])
            h[i] = (np.float32(1.0) - update) * new + update * h[i]
    else:
        for i in range(n):
            h[i] = tanh(gx[i] + gh[i])


@_inner
def copy_rows(source, target, start):  # type: ignore[no-untyped-def]
    """``target[start : start + len(source)] = source``, which takes a second and a half longer to compile."""
    for i in range(len(source)):
        for j in range(source.shape[1]):
            target[start + i, j] = source[i, j]


@_inner
def normal_frames(frames, mean, count, past, scale, x):  # type: ignore[no-untyped-def]
    """Normalise one stream's frames, ``(T, mels)``, into ``x`` behind those that the first convolution still needs."""
    length, mels = frames.shape
    history = past.shape[0]
    copy_rows(past, x, 0)
    for t in range(length):
        count[0] = min(count[0] + np.float32(1.0), np.float32(MEMORY_FRAMES))
        for i in range(mels):
            mean[i] += (frames[t, i] - mean[i]) / count[0]
            x[history + t, i] = (frames[t, i] - mean[i]) * scale[i]
    copy_rows(x[length:], past, 0)


@_inner
def normal_steps(z, past, norm_weight, norm_bias, x, normed):  # type: ignore[no-untyped-def]
    """A block's inputs, ``(S, width)``, into ``x`` behind those that it still needs, and normalised into ``normed``."""
    steps = z.shape[0]
    history = past.shape[0]
    copy_rows(past, x, 0)
    copy_rows(z, x, history)
    copy_rows(x[steps:], past, 0)
    for t in range(history + steps):
        normalize(x[t], norm_weight, norm_bias, normed[t])


@_inner
def _first_convolutions(frames, mean, count, past, w, floats, integers, z):  # type: ignore[no-untyped-def]
    """Normalise one stream's frames and reduce them to steps, into ``z``, ``(T / 3, width)``."""
    length, mels = frames.shape
    channels = w.conv1.weight.shape[0]
    rows = past.shape[0] + length
    x = view(floats, 0, (rows, mels))
    y = view(floats, rows * mels, (length, channels))
    normal_frames(frames, mean, count, past, w.scale, x)
    for t in range(length):
        window = integers[: 3 * mels]
        s = to_integers(view(x, t * mels, (3 * mels,)), window)
        product(w.conv1.weight, w.conv1.scale, w.conv1.bias, window, s, y[t])
        for i in range(channels):
            y[t, i] = max(y[t, i], np.float32(0.0))
    for t in range(length // 3):
        window = integers[: 3 * channels]
        s = to_integers(view(y, 3 * t * channels, (3 * channels,)), window)
        product(w.conv2.weight, w.conv2.scale, w.conv2.bias, window, s, z[t])


@_inner
def _block(k, w, past, floats, integers, z):  # type: ignore[no-untyped-def]
    """One convolution block of one stream, in place on ``z``, ``(S, width)``."""
    steps, width = z.shape
    history = past.shape[0]
    rows = history + steps
    x = view(floats, 0, (rows, width))
    normed = view(floats, rows * width, (rows, width))
    out = floats[2 * rows * width : (2 * rows + 1) * width]
    normal_steps(z, past, w.blocks.norm_weight[k], w.blocks.norm_bias[k], x, normed)
    window = integers[: (history + 1) * width]
    for t in range(steps):
        s = to_integers(view(normed, t * width, ((history + 1) * width,)), window)
        product(w.blocks.weight[k], w.blocks.scale[k], w.blocks.bias[k], window, s, out)
        for i in range(width):
            z[t, i] = x[history + t - w.delays[k], i] + max(out[i], np.float32(0.0))


@_inner
def stacked_step(pair, out, x):  # type: ignore[no-untyped-def]
    """One step ``(width,)`` of several that lie end to end: their mean and a product. ``x`` may be the first."""
    width = x.shape[0]
    count = pair.shape[0] // width
    for i in range(width):
        total = pair[i]
        for k in range(1, count):
            total += pair[k * width + i]
        x[i] = total / np.float32(count) + out[i]


@_inner
def _stack(w, z, rest, integers, x):  # type: ignore[no-untyped-def]
    """Steps ``z``, ``(B, S, width)``, several as one, into ``x``, which begins where they do."""
    batch, turns, width = x.shape
    size = w.stacked * width
    normed, out, vector = rest[:size], rest[size : size + width], integers[:size]
    for b in range(batch):
        for t in range(turns):
            pair = view(z, (b * turns + t) * size, (size,))
            normalize(pair, w.stack.norm_weight[0], w.stack.norm_bias[0], normed)
            scale = to_integers(normed, vector)
            product(w.stack.weight[0], w.stack.scale[0], w.stack.bias[0], vector, scale, out)
            stacked_step(pair, out, x[b, t])


@_inner
def _outputs(w, first, count, vector, scale, out):  # type: ignore[no-untyped-def]
    """So many outputs from one on."""
    end = first + count
    product(w.output.weight[first:end], w.output.scale[first:end], w.output.bias[first:end], vector, scale, out)


@entry
def advance(w: QuantizedWeights, s: Step) -> None:
    """The whole network for a batch, its state updated in place; layers outermost, so that a layer's weights
    stay in the CPU's cache while all streams pass through them.
    Of the outputs, as many are worked out as there are logits."""
    batch, length = s.frames.shape[0], s.frames.shape[1]
    steps, layers, width = length // 3, s.h.shape[1], s.h.shape[2]
    turns = steps // w.stacked  # of the recurrent layers
    integers = s.integers
    vector = integers[:width]
    z = view(s.floats, 0, (batch, steps, width))
    rest = s.floats[batch * steps * width :]
    gates = w.inputs.bias.shape[1]
    normed, gx, gh = rest[:width], rest[width : width + gates], rest[width + gates : width + 2 * gates]
    for b in range(batch):
        _first_convolutions(s.frames[b], s.mean[b], s.heard[b], s.past[b], w, rest, integers, z[b])
    for k in range(s.steps_past.shape[1]):
        for b in range(batch):
            _block(k, w, s.steps_past[b, k], rest, integers, z[b])
    x = view(s.floats, 0, (batch, turns, width))
    if w.stacked > 1:
        _stack(w, z, rest, integers, x)
    for layer in range(layers):
        for b in range(batch):
            for t in range(turns):
                normalize(x[b, t], w.inputs.norm_weight[layer], w.inputs.norm_bias[layer], normed)
                scale = to_integers(normed, vector)
                product(w.inputs.weight[layer], w.inputs.scale[layer], w.inputs.bias[layer], vector, scale, gx)
                scale = to_integers(s.h[b, layer], vector)
                product(w.memory.weight[layer], w.memory.scale[layer], w.memory.bias[layer], vector, scale, gh)
                update_cell(w.cell_code, gx, gh, s.h[b, layer], s.c[b, layer])
                for i in range(width):
                    x[b, t, i] += s.h[b, layer, i]
    tokens, pieces = w.tokens, s.logits.shape[2] - w.tokens
    for b in range(batch):
        for t in range(turns):
            normalize(x[b, t], w.norm.weight, w.norm.bias, normed)
            scale = to_integers(normed, vector)
            for k in range(w.stacked):
                row = s.logits[b, t * w.stacked + k]
                _outputs(w, k * tokens, tokens, vector, scale, row[:tokens])
                if pieces > 0:
                    _outputs(w, w.stacked * tokens + k * pieces, pieces, vector, scale, row[tokens:])
