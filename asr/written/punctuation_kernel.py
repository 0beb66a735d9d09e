"""The arithmetic of the model of punctuation for one word: integer sums, as in `asr.network.quantized_kernel`."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from asr.array_table import Array
from asr.compiler import entry, inner
from asr.network.flat_products import lay_out, sums
from asr.network.integers import row_scales
from asr.network.packed_weights import DEPTH, PANEL, padded
from asr.network.quantized_kernel import normalize, to_integers, update_cell, view
from asr.network.quantized_weights import CELL_CODES, Norm, constant

if TYPE_CHECKING:
    from asr.written.punctuation import Punctuation

_LSTM = CELL_CODES["lstm"]

# Without the runtime, which would count references to every array at every call.
_inner = inner(_nrt=False)


class Layers(NamedTuple):
    """A matrix of each layer, for compiled code."""

    weight: Array  # int8: see `asr.network.flat_products`
    begin: Array  # int32
    scale: Array  # float32 (layers, rows)
    bias: Array  # float32 (layers, rows)


class MarkWeights(NamedTuple):
    """The parameters, for compiled code; constants. Norms of layers lie end to end."""

    window: Layers  # one of them, as of `out`
    inputs: Layers
    memory: Layers
    out: Layers
    norm: Norm
    last_norm: Norm


class MarkStep(NamedTuple):
    """What one word's decision reads and writes."""

    words: Array  # float32 (columns of `window`,): the word and those after it, then zeros
    hidden: Array  # float32 (layers, units, then zeros), changed in place
    cell: Array  # float32 (layers, units), changed in place
    scores: Array  # float32 (outputs,), written
    z: Array  # float32 (units,): room
    normed: Array  # float32 (units,): room
    gates: Array  # float32 (2, 4 * units): room
    integers: Array  # int8 (most columns,): room
    totals: Array  # int32 (most rows,): room


def weights_of(model: Punctuation) -> MarkWeights:
    """A model's parameters."""

    def floats(name: str) -> Array:
        return np.array(model.stored[name])  # in a file they may begin anywhere

    units = model.units

    def layers(name: str, rows: int, bias: Array) -> Layers:
        matrix = model.stored[name]
        wide = np.pad(matrix, ((0, 0), (0, -matrix.shape[1] % DEPTH))).reshape(-1, rows, columns(matrix.shape[1]))
        scale = row_scales(floats(f"{name}.peaks")).reshape(-1, rows)
        return Layers(*lay_out(wide), scale, bias.reshape(-1, rows))

    weights: MarkWeights = constant(
        MarkWeights(
            layers("window", units, floats("window.bias")),
            layers("cell.input", 4 * units, floats("cell.bias")),
            layers("cell.memory", 4 * units, np.zeros(len(model.stored["cell.memory"]), np.float32)),
            layers("out", len(model.stored["out"]), floats("out.bias")),
            Norm(*floats("norm")),
            Norm(*floats("last_norm")),
        )
    )
    return weights


def columns(count: int) -> int:
    """With how many columns a matrix of so many is kept: what is added is zero."""
    return -(-count // DEPTH) * DEPTH


def make_step(weights: MarkWeights, words: int) -> MarkStep:
    """At the beginning of a stream; ``words`` numbers describe a word and those after it."""
    units, layers, outputs = weights.window.scale.shape[1], len(weights.inputs.scale), weights.out.scale.shape[1]
    wide = columns(words)
    return MarkStep(
        words=np.zeros(wide, np.float32),
        hidden=np.zeros((layers, columns(units)), np.float32),
        cell=np.zeros((layers, units), np.float32),
        scores=np.zeros(outputs, np.float32),
        z=np.zeros(units, np.float32),
        normed=np.zeros(columns(units), np.float32),
        gates=np.zeros((2, 4 * units), np.float32),
        integers=np.zeros(max(wide, columns(units)), np.int8),
        totals=np.zeros(max(padded(4 * units), padded(outputs)), np.int32),
    )


@_inner
def _apply(w, layer, x, s, out):  # type: ignore[no-untyped-def]
    """A layer's matrix times a vector, plus its bias."""
    rows, columns = w.scale.shape[1], x.shape[0]
    integers, totals = view(s.integers, 0, (1, columns)), view(s.totals, 0, (1, (rows + PANEL - 1) // PANEL * PANEL))
    x_scale = to_integers(x, integers[0])
    begin = layer * totals.shape[1]
    first = begin * columns if w.weight.ndim == 2 else layer * rows * columns
    sums(w.weight, w.begin, first, begin, rows, columns, integers, totals)
    for j in range(rows):
        out[j] = np.float32(totals[0, j]) * (w.scale[layer, j] * x_scale) + w.bias[layer, j]


@entry
def decide(w: MarkWeights, s: MarkStep) -> None:
    """Work out a word's scores; hidden and cell state go on."""
    layers, units = s.cell.shape
    z, normed, wide = s.z, s.normed, s.hidden.shape[1]
    _apply(w.window, 0, s.words, s, z)
    for layer in range(layers):
        own = slice(layer * units, (layer + 1) * units)
        hidden = view(s.hidden, layer * wide, (units,))
        normalize(z, w.norm.weight[own], w.norm.bias[own], normed)
        _apply(w.inputs, layer, normed, s, s.gates[0])
        _apply(w.memory, layer, s.hidden[layer], s, s.gates[1])
        update_cell(_LSTM, s.gates[0], s.gates[1], hidden, s.cell[layer])
        for i in range(units):
            z[i] += hidden[i]
    normalize(z, w.last_norm.weight, w.last_norm.bias, normed)
    _apply(w.out, 0, normed, s, s.scores)
