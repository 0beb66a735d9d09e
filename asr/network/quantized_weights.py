"""A network's weights in 8-bit integers, with one scale per output unit, laid out for the kernels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from asr.errors import ModelError
from asr.network.integers import PEAK, row_scales
from asr.network.shape import BLOCK_TAPS, ModelOptions
from asr.network.weights import Array, Weights, integers_of

INPUT_PEAK = 127  # of the 8-bit activations that meet these weights
_LONGEST_SUM = (2**31 - 1) // (PEAK * INPUT_PEAK)
CELL_CODES = {"lstm": 0, "gru": 1, "rnn": 2}


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


class Norm(NamedTuple):
    """A layer normalisation."""

    weight: Array  # (width,)
    bias: Array


class QuantizedWeights(NamedTuple):
    """What the kernels read; constants only."""

    scale: Array  # (mels,) float32, of the normalised input
    conv1: Linear
    conv2: Linear
    blocks: Normed
    delays: Array  # (blocks,) int64
    stack: Normed  # one, or none: of the steps that the recurrent layers take as one, laid end to end
    inputs: Normed
    memory: Memory
    norm: Norm  # the last one
    output: Linear  # of the tokens, for one step after another, then of the word pieces
    cell_code: int  # 0 lstm, 1 gru, 2 rnn
    stacked: int  # steps that the recurrent layers take as one
    tokens: int


def quantize(options: ModelOptions, weights: Weights) -> QuantizedWeights:
    """The kernels' weights of a network. Raises ModelError if it is so wide that 32 bits cannot hold a sum."""
    stacked = range(options.stacked > 1)
    longest = max(3 * options.mels, 3 * options.conv_width, max(BLOCK_TAPS, options.stacked) * options.width)
    if longest > _LONGEST_SUM:
        raise ModelError(
            f"the 8-bit kernel cannot add {longest} products, only {_LONGEST_SUM}: load with precision='float32'"
        )
    blocks, layers, width = range(options.blocks), range(options.layers), options.width

    def linear(name: str, suffix: str = "") -> Linear:
        integers, peaks = integers_of(weights, f"{name}.weight{suffix}")
        if integers.ndim == 3:  # a convolution's (outputs, channels, taps): as the frames are in memory, taps first
            integers = np.ascontiguousarray(integers.transpose(0, 2, 1)).reshape(len(integers), -1)
        return Linear(integers, row_scales(peaks), weights[f"{name}.bias{suffix}"])

    def normed(norms: Sequence[str], linears: Sequence[Linear], inputs: int) -> Normed:
        found = ([weights[f"{norm}.{part}"] for norm in norms] for part in ("weight", "bias"))
        weight, bias = (_stacked(parts, width) for parts in found)
        return Normed(weight, bias, *_stacked_linear(linears, inputs))

    found = QuantizedWeights(
        scale=weights["scale"],
        conv1=linear("conv1"),
        conv2=linear("conv2"),
        blocks=normed(
            [f"block_norms.{i}" for i in blocks], [linear(f"blocks.{i}") for i in blocks], BLOCK_TAPS * width
        ),
        delays=np.array(options.block_delays, dtype=np.int64),
        stack=normed(["stack_norm" for _ in stacked], [linear("stack") for _ in stacked], options.stacked * width),
        inputs=normed([f"norms.{i}" for i in layers], [linear(f"cells.{i}", "_ih_l0") for i in layers], width),
        memory=Memory(*_stacked_linear([linear(f"cells.{i}", "_hh_l0") for i in layers], width)),
        norm=Norm(weights["norm.weight"], weights["norm.bias"]),
        output=linear("output"),
        cell_code=CELL_CODES[options.cell],
        stacked=options.stacked,
        tokens=options.tokens,
    )
    return QuantizedWeights(*map(constant, found))


def constant(part: Any) -> Any:
    """The same arrays, not to be written to: whatever their origin, compiled code then sees one type."""
    if isinstance(part, tuple):
        return type(part)(*map(constant, part))
    if isinstance(part, np.ndarray):
        part = np.ascontiguousarray(part).view()
        part.flags.writeable = False
    return part


def _stacked(values: Sequence[Array], width: int) -> Array:
    return np.stack(values) if values else np.zeros((0, width), np.float32)


def _stacked_linear(layers: Sequence[Linear], inputs: int) -> tuple[Array, Array, Array]:
    if not layers:
        return np.zeros((0, 1, inputs), np.int8), np.zeros((0, 1), np.float32), np.zeros((0, 1), np.float32)
    return np.stack([p.weight for p in layers]), np.stack([p.scale for p in layers]), np.stack([p.bias for p in layers])
