"""The recurrent language model's arithmetic: its memory after one more word, and how likely a word is.

Integer sums and plain loops, as in `asr.network.quantized_kernel`. What has been worked out for a memory is kept with
it: the vectors that come out of it, and the sums of probabilities that were asked for. Every call of a function is
compiled into the one that calls it, so there are few.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from asr.compiler import inner
from asr.network.integers import factor_type
from asr.network.quantized_kernel import exp, normalize, sigmoid, tanh, to_integers
from asr.search.second_lm import (
    BANDS,
    FROM_INPUT,
    FROM_MEMORY,
    INPUTS,
    NAMES,
    OTHERS,
    OUTPUTS,
    WORDS,
    SecondArrays,
    SecondOpinion,
)

# Without the runtime, which would count references to every array at every call: more work than the search.
_inner = inner(_nrt=False)

_ROWS, _COLUMNS = 2, 3  # in `SecondArrays.shapes`


class Memories(NamedTuple):
    """What the model remembers after some texts, a row each, and working memory."""

    model: SecondArrays
    ids: np.ndarray  # int32 (words of the search,): the model's numbers for them
    rest: np.ndarray  # float64 (1,): see `SecondOpinion`
    cell: np.ndarray  # float32 (rows, units)
    hidden: np.ndarray  # (rows, units), of `factor_type`: times its scale
    hidden_scale: np.ndarray  # float32 (rows,)
    out: np.ndarray  # (rows, BANDS, widest), of `factor_type`: what comes out for each band, times its scale
    out_scale: np.ndarray  # float32 (rows, BANDS)
    shares: np.ndarray  # float32 (rows, BANDS): scores of the second and third band in the first sum
    sums: np.ndarray  # float64 (rows, BANDS): log of the sums; infinity if not asked for yet
    taken: np.ndarray  # uint8 (rows,)
    vector: np.ndarray  # float32 (units,)
    integers: np.ndarray  # (units,), of `factor_type`
    gates: np.ndarray  # float32 (2, 4 * units): by the input, by the memory
    scores: np.ndarray  # float32 (words of the largest band, or the width of its vectors,)


def make_memories(opinion: SecondOpinion | None, rows: int) -> Memories:
    """Room for so many memories; without a model, the same arrays with nothing in them."""
    none = np.zeros(0, np.float32)
    shapes = np.zeros((len(NAMES), 4), np.int64)
    model = SecondArrays(np.zeros(0, np.int8), none, none, shapes, np.zeros((4, 0), np.float32))
    ids, rest = np.zeros(0, np.int32), 0.0
    if opinion is not None:
        model, ids, rest = opinion.model.arrays, opinion.ids, opinion.rest
    else:
        rows = 0
    units, words = model.norms.shape[1], model.shapes[WORDS : WORDS + BANDS]
    return Memories(
        model,
        ids,
        np.array([rest]),
        cell=np.zeros((rows, units), np.float32),
        hidden=np.zeros((rows, units), factor_type()),
        hidden_scale=np.zeros(rows, np.float32),
        out=np.zeros((rows, BANDS, words[:, _COLUMNS].max()), factor_type()),
        out_scale=np.zeros((rows, BANDS), np.float32),
        shares=np.zeros((rows, BANDS), np.float32),
        sums=np.zeros((rows, BANDS)),
        taken=np.zeros(rows, np.uint8),
        vector=np.zeros(units, np.float32),
        integers=np.zeros(units, factor_type()),
        gates=np.zeros((2, 4 * units), np.float32),
        scores=np.zeros(words[:, _ROWS:].max(), np.float32),
    )


@_inner
def _product(model, matrix, x, x_scale, out):  # type: ignore[no-untyped-def]
    """``out = scale * x_scale * (matrix @ x) + bias``; the sums are exact."""
    first, first_row, rows, columns = model.shapes[matrix]
    for j in range(rows):
        row = model.weights[first + j * columns : first + (j + 1) * columns]
        total = np.int32(0)
        for i in range(len(row)):
            # The casts keep Numba from widening to 64 bits; LLVM makes one multiply-add of pairs of it.
            total = np.int32(total + np.int32(np.int32(row[i]) * np.int32(x[i])))
        out[j] = np.float32(total) * (model.scale[first_row + j] * x_scale) + model.bias[first_row + j]


@_inner
def _band_of(model, word):  # type: ignore[no-untyped-def]
    """A word's band, and its number there."""
    band = np.int64(0)
    while word >= model.shapes[WORDS + band, _ROWS]:
        word -= model.shapes[WORDS + band, _ROWS]
        band += 1
    return band, word


@_inner
def remember(m, before, row, number):  # type: ignore[no-untyped-def]
    """Write into ``row`` what the model remembers of the text of row ``before`` and a word after it.

    Before -1 there is nothing.
    """
    model, units, x, integers = m.model, len(m.vector), m.vector, m.integers
    gates, more = m.gates[0], m.gates[1]
    band, word = _band_of(model, number)
    first, first_row, _, width = model.shapes[WORDS + band]
    for i in range(width):
        integers[i] = np.int8(model.weights[first + word * width + i])
    scale = model.scale[first_row + word]
    # The word's vector, then the gates by it, then by the memory, then what comes out for the other bands and for each
    # band: one call serves all of these products.
    for part in range(4 + BANDS):
        matrix, out = np.int64(INPUTS) + band, x
        if part == 1:
            matrix, out = np.int64(FROM_INPUT), gates
        elif part == 2:
            matrix, out = np.int64(FROM_MEMORY), more
        elif part == 3:
            matrix, out = np.int64(OTHERS), m.scores
        elif part > 3:
            matrix, out = np.int64(OUTPUTS) + part - 4, m.scores
        if part == 2 and before < 0:
            for i in range(4 * units):
                more[i] = np.float32(0.0)
        else:
            _product(model, matrix, integers, scale, out)
        if part == 0:
            normalize(x, model.norms[0], model.norms[1], gates[:units])
            scale = to_integers(gates[:units], integers)
        elif part == 1 and before >= 0:
            for i in range(units):
                integers[i] = m.hidden[before, i]
            scale = m.hidden_scale[before]
        elif part == 2:
            for i in range(units):
                old = m.cell[before, i] if before >= 0 else np.float32(0.0)
                old *= sigmoid(gates[units + i] + more[units + i])
                m.cell[row, i] = old + sigmoid(gates[i] + more[i]) * tanh(gates[2 * units + i] + more[2 * units + i])
            for i in range(units):
                # Gates are not needed any more: their place takes the output.
                gates[i] = sigmoid(gates[3 * units + i] + more[3 * units + i]) * tanh(m.cell[row, i])
                x[i] += gates[i]
            m.hidden_scale[row] = to_integers(gates[:units], m.hidden[row])
            normalize(x, model.norms[2], model.norms[3], gates[:units])
            scale = to_integers(gates[:units], integers)
        elif part == 3:
            for k in range(1, BANDS):
                m.shares[row, k] = m.scores[k - 1]
        elif part > 3:
            k = part - 4
            m.out_scale[row, k] = to_integers(m.scores[: model.shapes[WORDS + k, _COLUMNS]], m.out[row, k])
            m.sums[row, k] = math.inf


@_inner
def _log_sum(m, row, band):  # type: ignore[no-untyped-def]
    """Log of the sum of probabilities that a band's words share."""
    scores = m.scores[: m.model.shapes[WORDS + band, _ROWS]]
    _product(m.model, WORDS + band, m.out[row, band], m.out_scale[row, band], scores)
    top = np.float32(-1e30)
    for i in range(len(scores)):
        top = max(top, scores[i])
    total = np.float32(0.0)
    for i in range(len(scores)):
        total += exp(max(scores[i] - top, np.float32(-80.0)))
    whole = np.float64(top) + math.log(np.float64(total))
    if band == 0:
        for k in range(1, BANDS):
            share = np.float64(m.shares[row, k])
            more, less = max(whole, share), min(whole, share)
            whole = more + math.log1p(math.exp(less - more))
    return whole


@_inner
def chance(m, row, number):  # type: ignore[no-untyped-def]
    """Log probability of a word after the text of a row."""
    model = m.model
    band, word = _band_of(model, number)
    for k in range(BANDS):
        if (k == 0 or k == band) and m.sums[row, k] == math.inf:
            m.sums[row, k] = _log_sum(m, row, np.int64(k))
    first, first_row, _, width = model.shapes[WORDS + band]
    total = np.int32(0)
    for i in range(width):
        weight = np.int32(model.weights[first + word * width + i])
        total = np.int32(total + np.int32(weight * np.int32(m.out[row, band, i])))
    scale, bias = model.scale[first_row + word], model.bias[first_row + word]
    score = np.float64(np.float32(total) * (scale * m.out_scale[row, band]) + bias) - m.sums[row, band]
    return score if band == 0 else score + np.float64(m.shares[row, band]) - m.sums[row, 0]
