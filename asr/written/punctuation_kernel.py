"""The arithmetic of the model of punctuation for one word: integer sums, as in `asr.network.quantized_kernel`."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from asr.array_table import Array
from asr.compiler import entry
from asr.network.integers import factor_type, row_scales
from asr.network.quantized_kernel import normalize, product, to_integers, update_cell
from asr.network.quantized_weights import CELL_CODES, Linear, Norm, constant

if TYPE_CHECKING:
    from asr.written.punctuation import Punctuation

_LSTM = CELL_CODES["lstm"]


class MarkWeights(NamedTuple):
    """The parameters, for compiled code; constants. Those of layers lie end to end."""

    window: Linear
    inputs: Linear
    memory: Linear
    out: Linear
    norm: Norm
    last_norm: Norm


class MarkStep(NamedTuple):
    """What one word's decision reads and writes."""

    words: Array  # float32 (columns of `window`,): the word and those after it
    hidden: Array  # float32 (layers, units), changed in place
    cell: Array  # float32 (layers, units), changed in place
    scores: Array  # float32 (outputs,), written
    floats: Array  # float32 (10 * units,): room
    integers: Array  # (most columns,), of `factor_type`: room


def weights_of(model: Punctuation) -> MarkWeights:
    """A model's parameters."""

    def floats(name: str) -> Array:
        return np.array(model.stored[name])  # in a file they may begin anywhere

    def linear(name: str, bias: Array) -> Linear:
        return Linear(model.stored[name], row_scales(floats(f"{name}.peaks")), bias)

    weights: MarkWeights = constant(
        MarkWeights(
            linear("window", floats("window.bias")),
            linear("cell.input", floats("cell.bias")),
            linear("cell.memory", np.zeros(len(model.stored["cell.memory"]), np.float32)),
            linear("out", floats("out.bias")),
            Norm(*floats("norm")),
            Norm(*floats("last_norm")),
        )
    )
    return weights


def make_step(weights: MarkWeights) -> MarkStep:
    """At the beginning of a stream."""
    (units, columns), outputs = weights.window.weight.shape, len(weights.out.bias)
    layers = len(weights.norm.weight) // units
    return MarkStep(
        words=np.zeros(columns, np.float32),
        hidden=np.zeros((layers, units), np.float32),
        cell=np.zeros((layers, units), np.float32),
        scores=np.zeros(outputs, np.float32),
        floats=np.zeros(10 * units, np.float32),
        integers=np.zeros(max(columns, units), factor_type()),
    )


@entry
def decide(w: MarkWeights, s: MarkStep) -> None:
    """Work out a word's scores; hidden and cell state go on."""
    layers, units = s.hidden.shape
    z, normed = s.floats[:units], s.floats[units : 2 * units]
    by_input, by_memory = s.floats[2 * units : 6 * units], s.floats[6 * units : 10 * units]
    window, vector = s.integers[: len(s.words)], s.integers[:units]
    scale = to_integers(s.words, window)
    product(w.window.weight, w.window.scale, w.window.bias, window, scale, z)
    for layer in range(layers):
        own, gates = slice(layer * units, (layer + 1) * units), slice(4 * layer * units, 4 * (layer + 1) * units)
        hidden = s.hidden[layer]
        normalize(z, w.norm.weight[own], w.norm.bias[own], normed)
        scale = to_integers(normed, vector)
        product(w.inputs.weight[gates], w.inputs.scale[gates], w.inputs.bias[gates], vector, scale, by_input)
        scale = to_integers(hidden, vector)
        product(w.memory.weight[gates], w.memory.scale[gates], w.memory.bias[gates], vector, scale, by_memory)
        update_cell(_LSTM, by_input, by_memory, hidden, s.cell[layer])
        for i in range(units):
            z[i] += hidden[i]
    normalize(z, w.last_norm.weight, w.last_norm.bias, normed)
    scale = to_integers(normed, vector)
    product(w.out.weight, w.out.scale, w.out.bias, vector, scale, s.scores)
