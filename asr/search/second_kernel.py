"""The recurrent language model's arithmetic: its memory after one more word, and how likely a word is.

Integer sums and plain loops, as in `asr.network.quantized_kernel`. What has been worked out for a memory is kept with
it: the vectors that come out of it, and the sums of probabilities that were asked for.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from asr.compiler import inner
from asr.network.quantized_kernel import exp, sigmoid, tanh
from asr.search.second_lm import BANDS, Band, Matrix, SecondArrays, SecondOpinion

# Without the runtime, which would count references to every array at every call: more work than the search.
_inner = inner(_nrt=False)

_INPUT_PEAK = np.float32(127)
_EPSILON = np.float32(1e-5)  # of layer normalisation, as in torch


class Memories(NamedTuple):
    """What the model remembers after some texts, a row each, and working memory."""

    model: SecondArrays
    ids: np.ndarray  # int32 (words of the search,): the model's numbers for them
    rest: np.ndarray  # float64 (1,): see `SecondOpinion`
    cell: np.ndarray  # float32 (rows, units)
    hidden: np.ndarray  # int16 (rows, units): times its scale
    hidden_scale: np.ndarray  # float32 (rows,)
    first: np.ndarray  # int16 (rows, width of the first band): what comes out for it, times its scale
    second: np.ndarray  # int16 (rows, width)
    third: np.ndarray  # int16 (rows, width)
    out_scale: np.ndarray  # float32 (rows, BANDS)
    band_scores: np.ndarray  # float32 (rows, BANDS): of the second and third, in the first sum
    sums: np.ndarray  # float64 (rows, BANDS): log of the sums; positive infinity if not asked for yet
    taken: np.ndarray  # uint8 (rows,)
    vector: np.ndarray  # float32 (units,)
    integers: np.ndarray  # int16 (units,)
    from_input: np.ndarray  # float32 (4 * units,)
    from_memory: np.ndarray  # float32 (4 * units,)
    scores: np.ndarray  # float32 (words of the largest band, or the width of its vectors,)


def make_memories(opinion: SecondOpinion | None, rows: int) -> Memories:
    """Room for so many memories; without a model, the same arrays with nothing in them."""
    if opinion is None:
        none = Matrix(np.zeros((0, 0), np.int8), np.zeros(0, np.float32), np.zeros(0, np.float32))
        band = Band(none, none, none)
        model = SecondArrays(band, band, band, none, _rows(2, 0), _rows(2, 0), none, none)
        ids, rest, rows = np.zeros(0, np.int32), 0.0, 0
    else:
        model, ids, rest = opinion.model.arrays, opinion.ids, opinion.rest
    units = model.norm.shape[1]
    bands = (model.first, model.second, model.third)
    outs = [np.zeros((rows, band.words.weight.shape[1]), np.int16) for band in bands]
    return Memories(
        model,
        ids,
        np.array([rest]),
        cell=_rows(rows, units),
        hidden=np.zeros((rows, units), np.int16),
        hidden_scale=np.zeros(rows, np.float32),
        first=outs[0],
        second=outs[1],
        third=outs[2],
        out_scale=_rows(rows, BANDS),
        band_scores=_rows(rows, BANDS),
        sums=np.zeros((rows, BANDS)),
        taken=np.zeros(rows, np.uint8),
        vector=np.zeros(units, np.float32),
        integers=np.zeros(units, np.int16),
        from_input=np.zeros(4 * units, np.float32),
        from_memory=np.zeros(4 * units, np.float32),
        scores=np.zeros(max(max(band.words.weight.shape) for band in bands), np.float32),
    )


def _rows(count: int, width: int) -> np.ndarray:
    return np.zeros((count, width), np.float32)


@_inner
def _product(weight, scale, bias, x, x_scale, out):  # type: ignore[no-untyped-def]
    """``out = scale * x_scale * (weight @ x) + bias``; the sums are exact."""
    for j in range(weight.shape[0]):
        total = np.int32(0)
        for i in range(weight.shape[1]):
            # The casts keep Numba from widening to 64 bits; LLVM makes one multiply-add of pairs of it.
            total = np.int32(total + np.int32(np.int32(weight[j, i]) * np.int32(x[i])))
        out[j] = np.float32(total) * (scale[j] * x_scale) + bias[j]


@_inner
def _to_integers(x, out):  # type: ignore[no-untyped-def]
    """Quantise a vector into ``out``; return its scale."""
    peak = np.float32(1e-12)
    for i in range(x.shape[0]):
        peak = max(peak, abs(x[i]))
    inverse = _INPUT_PEAK / peak
    for i in range(out.shape[0]):
        out[i] = np.int16(np.rint(x[i] * inverse))
    return peak / _INPUT_PEAK


@_inner
def _normalise(x, norm, out):  # type: ignore[no-untyped-def]
    """Layer normalisation."""
    count = np.float32(x.shape[0])
    mean = np.float32(0.0)
    for i in range(x.shape[0]):
        mean += x[i]
    mean /= count
    variance = np.float32(0.0)
    for i in range(x.shape[0]):
        variance += (x[i] - mean) * (x[i] - mean)
    inverse = np.float32(1.0) / np.float32(math.sqrt(variance / count + _EPSILON))
    for i in range(x.shape[0]):
        out[i] = (x[i] - mean) * inverse * norm[0, i] + norm[1, i]


@_inner
def _embed(words, inputs, word, m):  # type: ignore[no-untyped-def]
    """A word's vector, as wide as the LSTM, into ``m.vector``."""
    width = words.weight.shape[1]
    for i in range(width):
        m.integers[i] = np.int16(words.weight[word, i])
    _product(inputs.weight, inputs.scale, inputs.bias, m.integers[:width], words.scale[word], m.vector)


@_inner
def _out(outputs, m, scale, out):  # type: ignore[no-untyped-def]
    """A band's vector of the layer's output, which stands in ``m.integers``; return its scale."""
    width = len(outputs.scale)
    _product(outputs.weight, outputs.scale, outputs.bias, m.integers, scale, m.scores[:width])
    return _to_integers(m.scores[:width], out)


@_inner
def remember(m, before, row, word):  # type: ignore[no-untyped-def]
    """Write into ``row`` what the model remembers of the text of row ``before`` and a word after it.

    Before -1 there is nothing.
    """
    model, units = m.model, len(m.vector)
    near, far = len(model.first.words.scale), len(model.first.words.scale) + len(model.second.words.scale)
    if word < near:
        _embed(model.first.words, model.first.inputs, word, m)
    elif word < far:
        _embed(model.second.words, model.second.inputs, word - near, m)
    else:
        _embed(model.third.words, model.third.inputs, word - far, m)
    _normalise(m.vector, model.norm, m.from_memory)
    scale = _to_integers(m.from_memory[:units], m.integers)
    layer = model.from_input
    _product(layer.weight, layer.scale, layer.bias, m.integers, scale, m.from_input)
    if before >= 0:
        layer = model.from_memory
        _product(layer.weight, layer.scale, layer.bias, m.hidden[before], m.hidden_scale[before], m.from_memory)
    else:
        for i in range(4 * units):
            m.from_memory[i] = np.float32(0.0)
    gates, more = m.from_input, m.from_memory
    for i in range(units):
        old = m.cell[before, i] if before >= 0 else np.float32(0.0)
        kept = sigmoid(gates[units + i] + more[units + i]) * old
        m.cell[row, i] = kept + sigmoid(gates[i] + more[i]) * tanh(gates[2 * units + i] + more[2 * units + i])
    for i in range(units):
        # Gates are not needed any more: their place takes the output.
        gates[i] = sigmoid(gates[3 * units + i] + more[3 * units + i]) * tanh(m.cell[row, i])
        m.vector[i] += gates[i]
    m.hidden_scale[row] = _to_integers(gates[:units], m.hidden[row])
    _normalise(m.vector, model.last_norm, gates)
    scale = _to_integers(gates[:units], m.integers)
    bands = model.bands
    _product(bands.weight, bands.scale, bands.bias, m.integers, scale, m.band_scores[row, 1:])
    m.out_scale[row, 0] = _out(model.first.outputs, m, scale, m.first[row])
    m.out_scale[row, 1] = _out(model.second.outputs, m, scale, m.second[row])
    m.out_scale[row, 2] = _out(model.third.outputs, m, scale, m.third[row])
    for k in range(3):
        m.sums[row, k] = math.inf


@_inner
def _log_sum(words, out, out_scale, more, m):  # type: ignore[no-untyped-def]
    """Log of the sum over a band's words, and what is ``more`` in that sum."""
    count = len(words.scale)
    scores = m.scores[:count]
    _product(words.weight, words.scale, words.bias, out, out_scale, scores)
    top = np.float32(-1e30)
    for i in range(count):
        top = max(top, scores[i])
    for k in range(len(more)):
        top = max(top, more[k])
    total = np.float32(0.0)
    for i in range(count):
        total += exp(max(scores[i] - top, np.float32(-80.0)))
    for k in range(len(more)):
        total += exp(max(more[k] - top, np.float32(-80.0)))
    return np.float64(top) + math.log(np.float64(total))


@_inner
def _score(words, out, out_scale, word):  # type: ignore[no-untyped-def]
    """One word's score before the sum."""
    total = np.int32(0)
    for i in range(len(out)):
        total = np.int32(total + np.int32(np.int32(words.weight[word, i]) * np.int32(out[i])))
    return np.float64(np.float32(total) * (words.scale[word] * out_scale) + words.bias[word])


@_inner
def chance(m, row, word):  # type: ignore[no-untyped-def]
    """Log probability of a word after the text of a row."""
    model, sums, scale = m.model, m.sums[row], m.out_scale[row]
    near, far = len(model.first.words.scale), len(model.first.words.scale) + len(model.second.words.scale)
    if sums[0] == math.inf:
        sums[0] = _log_sum(model.first.words, m.first[row], scale[0], m.band_scores[row, 1:], m)
    if word < near:
        return _score(model.first.words, m.first[row], scale[0], word) - sums[0]
    if word < far:
        if sums[1] == math.inf:
            sums[1] = _log_sum(model.second.words, m.second[row], scale[1], m.band_scores[row, :0], m)
        own = _score(model.second.words, m.second[row], scale[1], word - near) - sums[1]
        return own + np.float64(m.band_scores[row, 1]) - sums[0]
    if sums[2] == math.inf:
        sums[2] = _log_sum(model.third.words, m.third[row], scale[2], m.band_scores[row, :0], m)
    own = _score(model.third.words, m.third[row], scale[2], word - far) - sums[2]
    return own + np.float64(m.band_scores[row, 2]) - sums[0]
