"""A network's weights in 8-bit integers, with one scale per output unit, laid out for the kernels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from asr.errors import ModelError
from asr.network.integers import PEAK, quantize_rows, row_scales
from asr.network.model import BLOCK_TAPS, AcousticModel

INPUT_PEAK = 127  # of the 8-bit activations that meet these weights
_LONGEST_SUM = (2**31 - 1) // (PEAK * INPUT_PEAK)
_CELL_CODES = {"lstm": 0, "gru": 1, "rnn": 2}

Array = np.ndarray[Any, Any]


class Linear(NamedTuple):
    """A quantised matrix product: ``y = scale * (weight @ x) + bias``."""

    weight: Array  # (outputs, inputs) int8
    scale: Array  # (outputs,) float32
    bias: Array  # (outputs,) float32


class Normed(NamedTuple):
    """Layer normalisations and the products after them, each part stacked over the layers."""

    norm_weight: Array  # (layers, width)
    norm_bias: Array
    weight: Array  # (layers, outputs, inputs) int8
    scale: Array  # (layers, outputs)
    bias: Array


class Memory(NamedTuple):
    """The products with the hidden state, stacked over the layers."""

    weight: Array  # (layers, gates * width, width) int8
    scale: Array  # (layers, gates * width)
    bias: Array


class QuantizedWeights(NamedTuple):
    """What the kernels read; constants only."""

    scale: Array  # (mels,) float32, of the normalised input
    conv1: Linear
    conv2: Linear
    blocks: Normed
    delays: Array  # (blocks,) int64
    inputs: Normed
    memory: Memory
    norm: tuple[Array, Array]  # weight and bias of the last normalisation
    output: Linear
    letters: Linear  # the output without the word pieces
    cell_code: int  # 0 lstm, 1 gru, 2 rnn


def quantize(model: AcousticModel) -> QuantizedWeights:
    """The weights of a network. Raises ModelError if it is so wide that 32 bits cannot hold a sum."""
    options = model.options
    longest = max(3 * options.mels, 3 * options.conv_width, BLOCK_TAPS * options.width)
    if longest > _LONGEST_SUM:
        raise ModelError(
            f"the 8-bit kernel cannot add {longest} products, only {_LONGEST_SUM}: load with precision='float32'"
        )
    output = _quantize(model.output.weight, model.output.bias)
    return QuantizedWeights(
        scale=_array(model.scale),
        # Taps of a convolution are laid out as the frames are in memory: (outputs, taps * channels).
        conv1=_quantize(_taps_last(model.conv1.weight), model.conv1.bias),
        conv2=_quantize(_taps_last(model.conv2.weight), model.conv2.bias),
        blocks=Normed(
            _stacked([norm.weight for norm in model.block_norms], options.width),
            _stacked([norm.bias for norm in model.block_norms], options.width),
            *_stacked_linear([(block.weight, block.bias) for block in model.blocks], BLOCK_TAPS * options.width),
        ),
        delays=np.array(options.block_delays, dtype=np.int64),
        inputs=Normed(
            _stacked([norm.weight for norm in model.norms], options.width),
            _stacked([norm.bias for norm in model.norms], options.width),
            *_stacked_linear([(cell.weight_ih_l0, cell.bias_ih_l0) for cell in model.cells], options.width),
        ),
        memory=Memory(*_stacked_linear([(cell.weight_hh_l0, cell.bias_hh_l0) for cell in model.cells], options.width)),
        norm=(_array(model.norm.weight), _array(model.norm.bias)),
        output=output,
        letters=Linear(*(part[: options.tokens] for part in output)),
        cell_code=_CELL_CODES[options.cell],
    )


def _array(value: object) -> Array:
    assert isinstance(value, Tensor)
    return np.ascontiguousarray(value.detach().float().numpy())


def _taps_last(weight: Tensor) -> Tensor:
    """A convolution's weight ``(outputs, channels, taps)`` as ``(outputs, taps * channels)``."""
    return weight.permute(0, 2, 1).flatten(1)


def _quantize(weight: object, bias: object) -> Linear:
    integers, peaks = quantize_rows(_array(weight))
    return Linear(integers, row_scales(peaks), _array(bias))


def _stacked(values: Sequence[object], width: int) -> Array:
    return np.stack([_array(value) for value in values]) if values else np.zeros((0, width), np.float32)


def _stacked_linear(layers: Sequence[tuple[object, object]], inputs: int) -> tuple[Array, Array, Array]:
    if not layers:
        return np.zeros((0, 1, inputs), np.int8), np.zeros((0, 1), np.float32), np.zeros((0, 1), np.float32)
    parts = [_quantize(weight, bias) for weight, bias in layers]
    return np.stack([p.weight for p in parts]), np.stack([p.scale for p in parts]), np.stack([p.bias for p in parts])
