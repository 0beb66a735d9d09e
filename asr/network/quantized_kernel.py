"""The 8-bit network's arithmetic, and the whole of it for any CPU: vector by vector.

Written for LLVM's vectoriser: plain loops over contiguous rows, no fast-math, so that the order of every float
operation, and with it every bit, is what is written here. For rows of many streams at once, see `quantized_batch`.
"""

from __future__ import annotations

import numpy as np

from asr.compiler import jit
from asr.network.quantized_weights import INPUT_PEAK
from asr.network.shape import MEMORY_FRAMES

_EPSILON = 1e-5  # of layer normalisation, as in torch


@jit(inline="always")
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


@jit(inline="always")
def sigmoid(x):  # type: ignore[no-untyped-def]
    x = np.float32(-30.0) if x < np.float32(-30.0) else x
    x = np.float32(30.0) if x > np.float32(30.0) else x
    return np.float32(1.0) / (np.float32(1.0) + exp(-x))


@jit(inline="always")
def tanh(x):  # type: ignore[no-untyped-def]
    x = np.float32(-15.0) if x < np.float32(-15.0) else x
    x = np.float32(15.0) if x > np.float32(15.0) else x
    return np.float32(1.0) - np.float32(2.0) / (np.float32(1.0) + exp(np.float32(2.0) * x))


@jit()
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


@jit()
def _product(weight, scale, bias, x, x_scale, out):  # type: ignore[no-untyped-def]
    """``out = scale * x_scale * (weight @ x) + bias``; the sums are exact."""
    for j in range(weight.shape[0]):
        total = np.int32(0)
        for i in range(weight.shape[1]):
            # The casts keep Numba from widening to 64 bits; LLVM makes one multiply-add of pairs of it.
            total = np.int32(total + np.int32(np.int32(weight[j, i]) * np.int32(x[i])))
        out[j] = np.float32(total) * (scale[j] * x_scale) + bias[j]


@jit()
def normalize(x, weight, bias, out):  # type: ignore[no-untyped-def]
    """Layer normalisation."""
    count = np.float32(x.shape[0])
    mean = np.float32(0.0)
    for i in range(x.shape[0]):
        mean += x[i]
    mean /= count
    variance = np.float32(0.0)
    for i in range(x.shape[0]):
        variance += (x[i] - mean) * (x[i] - mean)
    inverse = np.float32(1.0) / np.sqrt(variance / count + np.float32(_EPSILON))
    for i in range(x.shape[0]):
        out[i] = (x[i] - mean) * inverse * weight[i] + bias[i]


@jit()
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


@jit()
def copy_rows(source, target, start):  # type: ignore[no-untyped-def]
    """``target[start : start + len(source)] = source``, which takes a second and a half longer to compile."""
    for i in range(len(source)):
        for j in range(source.shape[1]):
            target[start + i, j] = source[i, j]


@jit()
def _first_convolutions(frames, mean, count, past, scale, conv1, conv2, integers, z):  # type: ignore[no-untyped-def]
    """Normalise one stream's frames, ``(T, mels)``, and reduce them to steps, into ``z``, ``(T / 3, width)``."""
    length, mels = frames.shape
    channels = conv1.weight.shape[0]
    history = past.shape[0]
    x = np.empty((history + length, mels), np.float32)
    y = np.empty((length, channels), np.float32)
    copy_rows(past, x, 0)
    for t in range(length):
        count[0] = min(count[0] + np.float32(1.0), np.float32(MEMORY_FRAMES))
        for i in range(mels):
            mean[i] += (frames[t, i] - mean[i]) / count[0]
            x[history + t, i] = (frames[t, i] - mean[i]) * scale[i]
    copy_rows(x[length:], past, 0)
    for t in range(length):
        window = integers[: 3 * mels]
        s = to_integers(x[t : t + 3].reshape(3 * mels), window)
        _product(conv1.weight, conv1.scale, conv1.bias, window, s, y[t])
        for i in range(channels):
            y[t, i] = max(y[t, i], np.float32(0.0))
    for t in range(length // 3):
        window = integers[: 3 * channels]
        s = to_integers(y[3 * t : 3 * t + 3].reshape(3 * channels), window)
        _product(conv2.weight, conv2.scale, conv2.bias, window, s, z[t])


@jit()
def _block(norm_weight, norm_bias, weight, scale, bias, delay, past, integers, z):  # type: ignore[no-untyped-def]
    """One convolution block of one stream, in place on ``z``, ``(S, width)``."""
    steps, width = z.shape
    history = past.shape[0]
    x = np.empty((history + steps, width), np.float32)
    normed = np.empty((history + steps, width), np.float32)
    out = np.empty(width, np.float32)
    copy_rows(past, x, 0)
    copy_rows(z, x, history)
    copy_rows(x[steps:], past, 0)
    for t in range(history + steps):
        normalize(x[t], norm_weight, norm_bias, normed[t])
    window = integers[: (history + 1) * width]
    for t in range(steps):
        s = to_integers(normed[t : t + history + 1].reshape((history + 1) * width), window)
        _product(weight, scale, bias, window, s, out)
        for i in range(width):
            z[t, i] = x[history + t - delay, i] + max(out[i], np.float32(0.0))


@jit()
def advance(  # type: ignore[no-untyped-def]
    frames,
    mean,
    count,
    past,
    steps_past,
    h,
    c,
    logits,
    scale,
    conv1,
    conv2,
    blocks,
    delays,
    inputs,
    memory,
    norm,
    output,
    code,
):
    """The whole network for a batch, its state updated in place; layers outermost, so that a layer's weights
    stay in the CPU's cache while all streams pass through them."""
    batch, length, mels = frames.shape
    steps, layers, width = length // 3, h.shape[1], h.shape[2]
    channels = conv1.weight.shape[0]
    z = np.empty((batch, steps, width), np.float32)
    integers = np.empty(max(3 * mels, 3 * channels, (steps_past.shape[2] + 1) * width), np.int16)
    vector = integers[:width]
    normed = np.empty(width, np.float32)
    gx = np.empty(inputs.bias.shape[1], np.float32)
    gh = np.empty(inputs.bias.shape[1], np.float32)

    for b in range(batch):
        _first_convolutions(frames[b], mean[b], count[b], past[b], scale, conv1, conv2, integers, z[b])
    for k in range(steps_past.shape[1]):
        for b in range(batch):
            _block(
                blocks.norm_weight[k], blocks.norm_bias[k], blocks.weight[k], blocks.scale[k], blocks.bias[k],
                delays[k], steps_past[b, k], integers, z[b],
            )  # fmt: skip
    for layer in range(layers):
        for b in range(batch):
            for t in range(steps):
                normalize(z[b, t], inputs.norm_weight[layer], inputs.norm_bias[layer], normed)
                s = to_integers(normed, vector)
                _product(inputs.weight[layer], inputs.scale[layer], inputs.bias[layer], vector, s, gx)
                s = to_integers(h[b, layer], vector)
                _product(memory.weight[layer], memory.scale[layer], memory.bias[layer], vector, s, gh)
                update_cell(code, gx, gh, h[b, layer], c[b, layer])
                for i in range(width):
                    z[b, t, i] += h[b, layer, i]
    for b in range(batch):
        for t in range(steps):
            normalize(z[b, t], norm[0], norm[1], normed)
            s = to_integers(normed, vector)
            _product(output.weight, output.scale, output.bias, vector, s, logits[b, t])
