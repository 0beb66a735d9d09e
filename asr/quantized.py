"""The acoustic model in 8-bit integers: what recognition runs.

Same call as `asr.model.AcousticModel`, same state, about a quarter of the time for a single stream.
Weights are 8-bit with one scale per output unit, activations 8-bit with one scale per vector, sums
exact 32-bit integers, and everything between them plain float32 in a fixed order. So a stream's result
does not depend, in any bit, on which other streams are advanced in the same call: a guarantee that
floating-point matrix libraries do not give, and the reason for a kernel of our own.

For many streams at once `asr.quantized_batch` does the same sums with a matrix library.

Compiled by Numba at first use and cached on disk; it releases the GIL while it runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from asr.compiler import jit
from asr.errors import ModelError
from asr.integers import PEAK, quantize_rows, row_scales
from asr.model import BLOCK_TAPS, FRAME_REDUCTION, MEMORY_FRAMES, AcousticModel, ModelOptions, ModelState

_INPUT_PEAK = 127
_LONGEST_SUM = (2**31 - 1) // (PEAK * _INPUT_PEAK)
_EPSILON = 1e-5  # of layer normalisation, as in torch
_CELL_CODES = {"lstm": 0, "gru": 1, "rnn": 2}

Array = np.ndarray[Any, Any]


class _Linear(NamedTuple):
    """A quantised matrix product: ``y = scale * (weight @ x) + bias``."""

    weight: Array  # (outputs, inputs) int8
    scale: Array  # (outputs,) float32
    bias: Array  # (outputs,) float32


class _Normed(NamedTuple):
    """Layer normalisations and the products after them, each part stacked over the layers."""

    norm_weight: Array  # (layers, width)
    norm_bias: Array
    weight: Array  # (layers, outputs, inputs) int8
    scale: Array  # (layers, outputs)
    bias: Array


class _Memory(NamedTuple):
    """The products with the hidden state, stacked over the layers."""

    weight: Array  # (layers, gates * width, width) int8
    scale: Array  # (layers, gates * width)
    bias: Array


class QuantizedModel:
    """``logits, state = model(frames, state)``, as `AcousticModel`, for recognition only.

    Holds only constants: any number of threads may call it at once.
    """

    def __init__(self, model: AcousticModel) -> None:
        from asr.quantized_batch import BatchKernel

        options = model.options
        longest = max(3 * options.mels, 3 * options.conv_width, BLOCK_TAPS * options.width)
        if longest > _LONGEST_SUM:
            raise ModelError(
                f"the 8-bit kernel cannot add {longest} products, only {_LONGEST_SUM}: load with precision='float32'"
            )
        self.options: ModelOptions = options
        self._initial = model.initial_state
        self._scale = _array(model.scale)
        # Taps of a convolution are laid out as the frames are in memory: (outputs, taps * channels).
        self._conv1 = _quantize(_taps_last(model.conv1.weight), model.conv1.bias)
        self._conv2 = _quantize(_taps_last(model.conv2.weight), model.conv2.bias)
        self._blocks = _Normed(
            _stacked([norm.weight for norm in model.block_norms], options.width),
            _stacked([norm.bias for norm in model.block_norms], options.width),
            *_stacked_linear([(block.weight, block.bias) for block in model.blocks], BLOCK_TAPS * options.width),
        )
        self._delays = np.array(options.block_delays, dtype=np.int64)
        self._inputs = _Normed(
            _stacked([norm.weight for norm in model.norms], options.width),
            _stacked([norm.bias for norm in model.norms], options.width),
            *_stacked_linear([(cell.weight_ih_l0, cell.bias_ih_l0) for cell in model.cells], options.width),
        )
        self._memory = _Memory(
            *_stacked_linear([(cell.weight_hh_l0, cell.bias_hh_l0) for cell in model.cells], options.width)
        )
        self._norm = (_array(model.norm.weight), _array(model.norm.bias))
        self._output = _quantize(model.output.weight, model.output.bias)
        self._letters = _Linear(*(part[: options.tokens] for part in self._output))
        self.cell_code = _CELL_CODES[options.cell]
        self._batch = BatchKernel(self)

    def initial_state(self, batch: int = 1) -> ModelState:
        """See `AcousticModel.initial_state`."""
        return self._initial(batch)

    def __call__(self, frames: Tensor, state: ModelState, pieces: bool = True) -> tuple[Tensor, ModelState]:
        """See `AcousticModel.forward`. Without pieces, no time is spent on them."""
        from asr.quantized_batch import is_faster

        if frames.shape[1] % FRAME_REDUCTION:
            raise ValueError(f"frames must come in multiples of {FRAME_REDUCTION}, not {frames.shape[1]}")
        batch, steps = frames.shape[0], frames.shape[1] // FRAME_REDUCTION
        after = ModelState(*(part.clone(memory_format=torch.contiguous_format) for part in state.tensors()))
        output = self._output if pieces else self._letters
        logits = torch.empty(batch, steps, len(output.weight))
        if is_faster(batch):
            arrays = (frames.contiguous(), *after.tensors(), logits)
            self._batch.advance(*(array.numpy() for array in arrays))
            return logits, after
        _advance(
            frames.contiguous().numpy(),
            *(part.numpy() for part in after.tensors()),
            logits.numpy(),
            self._scale,
            self._conv1,
            self._conv2,
            self._blocks,
            self._delays,
            self._inputs,
            self._memory,
            self._norm,
            output,
            self.cell_code,
        )
        return logits, after


def _array(value: object) -> Array:
    assert isinstance(value, Tensor)
    return np.ascontiguousarray(value.detach().float().numpy())


def _taps_last(weight: Tensor) -> Tensor:
    """A convolution's weight ``(outputs, channels, taps)`` as ``(outputs, taps * channels)``."""
    return weight.permute(0, 2, 1).flatten(1)


def _quantize(weight: object, bias: object) -> _Linear:
    integers, peaks = quantize_rows(_array(weight))
    return _Linear(integers, row_scales(peaks), _array(bias))


def _stacked(values: Sequence[object], width: int) -> Array:
    return np.stack([_array(value) for value in values]) if values else np.zeros((0, width), np.float32)


def _stacked_linear(layers: Sequence[tuple[object, object]], inputs: int) -> tuple[Array, Array, Array]:
    if not layers:
        return np.zeros((0, 1, inputs), np.int8), np.zeros((0, 1), np.float32), np.zeros((0, 1), np.float32)
    parts = [_quantize(weight, bias) for weight, bias in layers]
    return np.stack([p.weight for p in parts]), np.stack([p.scale for p in parts]), np.stack([p.bias for p in parts])


# --- The kernel. Written for LLVM's vectoriser: plain loops over contiguous rows, no fast-math, so that
# the order of every float operation, and with it every bit, is what is written here. ---


@jit(inline="always")
def _exp(x):  # type: ignore[no-untyped-def]
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
def _sigmoid(x):  # type: ignore[no-untyped-def]
    x = np.float32(-30.0) if x < np.float32(-30.0) else x
    x = np.float32(30.0) if x > np.float32(30.0) else x
    return np.float32(1.0) / (np.float32(1.0) + _exp(-x))


@jit(inline="always")
def _tanh(x):  # type: ignore[no-untyped-def]
    x = np.float32(-15.0) if x < np.float32(-15.0) else x
    x = np.float32(15.0) if x > np.float32(15.0) else x
    return np.float32(1.0) - np.float32(2.0) / (np.float32(1.0) + _exp(np.float32(2.0) * x))


@jit()
def _to_integers(x, out):  # type: ignore[no-untyped-def]
    """Quantise a vector into ``out``, integers of 8 bits or more; return its scale."""
    # Without its sign, a float's bits are ordered as its value is: a loop over integers is vectorised, one over
    # floats is not.
    bits = x.view(np.int32)
    highest = np.int32(0)
    for i in range(x.shape[0]):
        highest = max(highest, np.int32(bits[i] & np.int32(0x7FFFFFFF)))
    peak = max(np.int32(highest).view(np.float32), np.float32(1e-12))
    inverse = np.float32(_INPUT_PEAK) / peak
    for i in range(x.shape[0]):
        out[i] = np.int8(np.rint(x[i] * inverse))
    return peak / np.float32(_INPUT_PEAK)


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
def _normalize(x, weight, bias, out):  # type: ignore[no-untyped-def]
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
def _cell(code, gx, gh, h, c):  # type: ignore[no-untyped-def]
    """Update ``h`` and ``c`` in place from the gates' input and memory parts; gate order as in torch."""
    n = h.shape[0]
    if code == 0:  # lstm: input, forget, candidate, output
        for i in range(n):
            c[i] = _sigmoid(gx[n + i] + gh[n + i]) * c[i] + _sigmoid(gx[i] + gh[i]) * _tanh(
                gx[2 * n + i] + gh[2 * n + i]
            )
        for i in range(n):
            h[i] = _sigmoid(gx[3 * n + i] + gh[3 * n + i]) * _tanh(c[i])
    elif code == 1:  # gru: reset, update, candidate
        for i in range(n):
            new = _tanh(gx[2 * n + i] + _sigmoid(gx[i] + gh[i]) * gh[2 * n + i])
            update = _sigmoid(gx[n + i] + gh[n + i])
            h[i] = (np.float32(1.0) - update) * new + update * h[i]
    else:
        for i in range(n):
            h[i] = _tanh(gx[i] + gh[i])


@jit()
def _copy_rows(source, target, start):  # type: ignore[no-untyped-def]
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
    _copy_rows(past, x, 0)
    for t in range(length):
        count[0] = min(count[0] + np.float32(1.0), np.float32(MEMORY_FRAMES))
        for i in range(mels):
            mean[i] += (frames[t, i] - mean[i]) / count[0]
            x[history + t, i] = (frames[t, i] - mean[i]) * scale[i]
    _copy_rows(x[length:], past, 0)
    for t in range(length):
        window = integers[: 3 * mels]
        s = _to_integers(x[t : t + 3].reshape(3 * mels), window)
        _product(conv1.weight, conv1.scale, conv1.bias, window, s, y[t])
        for i in range(channels):
            y[t, i] = max(y[t, i], np.float32(0.0))
    for t in range(length // 3):
        window = integers[: 3 * channels]
        s = _to_integers(y[3 * t : 3 * t + 3].reshape(3 * channels), window)
        _product(conv2.weight, conv2.scale, conv2.bias, window, s, z[t])


@jit()
def _block(norm_weight, norm_bias, weight, scale, bias, delay, past, integers, z):  # type: ignore[no-untyped-def]
    """One convolution block of one stream, in place on ``z``, ``(S, width)``."""
    steps, width = z.shape
    history = past.shape[0]
    x = np.empty((history + steps, width), np.float32)
    normed = np.empty((history + steps, width), np.float32)
    out = np.empty(width, np.float32)
    _copy_rows(past, x, 0)
    _copy_rows(z, x, history)
    _copy_rows(x[steps:], past, 0)
    for t in range(history + steps):
        _normalize(x[t], norm_weight, norm_bias, normed[t])
    window = integers[: (history + 1) * width]
    for t in range(steps):
        s = _to_integers(normed[t : t + history + 1].reshape((history + 1) * width), window)
        _product(weight, scale, bias, window, s, out)
        for i in range(width):
            z[t, i] = x[history + t - delay, i] + max(out[i], np.float32(0.0))


@jit()
def _advance(  # type: ignore[no-untyped-def]
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
                _normalize(z[b, t], inputs.norm_weight[layer], inputs.norm_bias[layer], normed)
                s = _to_integers(normed, vector)
                _product(inputs.weight[layer], inputs.scale[layer], inputs.bias[layer], vector, s, gx)
                s = _to_integers(h[b, layer], vector)
                _product(memory.weight[layer], memory.scale[layer], memory.bias[layer], vector, s, gh)
                _cell(code, gx, gh, h[b, layer], c[b, layer])
                for i in range(width):
                    z[b, t, i] += h[b, layer, i]
    for b in range(batch):
        for t in range(steps):
            _normalize(z[b, t], norm[0], norm[1], normed)
            s = _to_integers(normed, vector)
            _product(output.weight, output.scale, output.bias, vector, s, logits[b, t])
