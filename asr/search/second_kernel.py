"""The recurrent language model's arithmetic: its memory after one more word, and how likely a word is.

Integer sums and plain loops, as in `asr.network.quantized_kernel`. Its weights are more than the nearer caches hold, so
several texts are worked out together: a weight that was read serves all of them. What has been worked out for a memory
is kept with it: the vectors that come out of it, and the sums of probabilities that were asked for. Every call of a
function is compiled into the one that calls it, so there are few.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from asr.compiler import inner
from asr.network.flat_products import no_weights, sums, vector
from asr.network.packed_weights import PANEL
from asr.network.quantized_kernel import exp, normalize, sigmoid, tanh, to_integers, view
from asr.search.second_lm import (
    BANDS,
    COLUMNS,
    FROM_INPUT,
    FROM_MEMORY,
    INPUTS,
    NAMES,
    OTHERS,
    OUTPUTS,
    ROWS,
    WORDS,
    SecondArrays,
    SecondOpinion,
)

# Without the runtime, which would count references to every array at every call: more work than the search.
_inner = inner(_nrt=False)

AT_ONCE = 4  # texts that are worked out together


class SecondWork(NamedTuple):
    """The texts that are being worked out, and room for that."""

    before: np.ndarray  # int64 (AT_ONCE,): the rows of the texts that go on; -1 if nothing was before
    number: np.ndarray  # int64 (AT_ONCE,): the words that they go on with
    node: np.ndarray  # int64 (AT_ONCE,): what the search calls the texts that come of it
    row: np.ndarray  # int64 (AT_ONCE,): where what is worked out goes
    x: np.ndarray  # float32 (AT_ONCE, units)
    gates: np.ndarray  # float32 (2, AT_ONCE, 4 * units): by the input, by the memory
    normed: np.ndarray  # float32 (units,)
    integers: np.ndarray  # int8 (AT_ONCE * units,): rows, times their scales
    scales: np.ndarray  # float32 (AT_ONCE,)
    totals: np.ndarray  # int32: rows of sums
    scores: np.ndarray  # float32 (PANEL,)
    added: np.ndarray  # float32 (AT_ONCE, PANEL)
    tops: np.ndarray  # float32 (AT_ONCE,)


class Memories(NamedTuple):
    """What the model remembers after some texts, a row each."""

    model: SecondArrays
    ids: np.ndarray  # int32 (words of the search,): the model's numbers for them
    rest: np.ndarray  # float64 (1,): see `SecondOpinion`
    cell: np.ndarray  # float32 (rows, units)
    hidden: np.ndarray  # int8 (rows, units): times its scale
    hidden_scale: np.ndarray  # float32 (rows,)
    out: np.ndarray  # int8 (rows, BANDS, widest): what comes out for each band, times its scale
    out_scale: np.ndarray  # float32 (rows, BANDS)
    shares: np.ndarray  # float32 (rows, BANDS): scores of the second and third band in the first sum
    sums: np.ndarray  # float64 (rows, BANDS): log of the sums; infinity if not asked for yet
    taken: np.ndarray  # uint8 (rows - 1,): the last row is for the utterance before
    carried: np.ndarray  # int64 (1,): that row if there was an utterance before, else -1
    work: SecondWork


def make_memories(opinion: SecondOpinion | None, rows: int, work: SecondWork) -> Memories:
    """Room for so many memories, and for that of the utterance before; without a model, the same arrays with nothing in
    them. Others may share ``work``."""
    none = np.zeros(0, np.float32)
    shapes = np.zeros((len(NAMES), 5), np.int64)
    model = SecondArrays(no_weights(), np.zeros(0, np.int32), none, none, shapes, np.zeros((4, 0), np.float32))
    ids, rest, taken = np.zeros(0, np.int32), 0.0, np.zeros(0, np.uint8)
    if opinion is not None:
        model, ids, rest, taken = opinion.model.arrays, opinion.ids, opinion.rest, np.zeros(rows, np.uint8)
    rows = len(taken) + 1
    units, words = model.norms.shape[1], model.shapes[WORDS : WORDS + BANDS]
    return Memories(
        model,
        ids,
        np.array([rest]),
        cell=np.zeros((rows, units), np.float32),
        hidden=np.zeros((rows, units), np.int8),
        hidden_scale=np.zeros(rows, np.float32),
        out=np.zeros((rows, BANDS, words[:, COLUMNS].max()), np.int8),
        out_scale=np.zeros((rows, BANDS), np.float32),
        shares=np.zeros((rows, BANDS), np.float32),
        sums=np.zeros((rows, BANDS)),
        taken=taken,
        carried=np.full(1, -1, np.int64),
        work=work,
    )


def make_work(opinion: SecondOpinion | None) -> SecondWork:
    """Room to work out some texts at once."""
    units = 0 if opinion is None else opinion.model.arrays.norms.shape[1]
    return SecondWork(
        before=np.zeros(AT_ONCE, np.int64),
        number=np.zeros(AT_ONCE, np.int64),
        node=np.zeros(AT_ONCE, np.int64),
        row=np.zeros(AT_ONCE, np.int64),
        x=np.zeros((AT_ONCE, units), np.float32),
        gates=np.zeros((2, AT_ONCE, 4 * units), np.float32),
        normed=np.zeros(units, np.float32),
        integers=np.zeros(AT_ONCE * units, np.int8),
        scales=np.zeros(AT_ONCE, np.float32),
        totals=np.zeros(AT_ONCE * (4 * units + PANEL), np.int32),
        scores=np.zeros(PANEL, np.float32),
        added=np.zeros((AT_ONCE, PANEL), np.float32),
        tops=np.zeros(AT_ONCE, np.float32),
    )


@_inner
def band_of(model, word):  # type: ignore[no-untyped-def]
    """A word's band, and its number there."""
    band = np.int64(0)
    while word >= model.shapes[WORDS + band, ROWS]:
        word -= model.shapes[WORDS + band, ROWS]
        band += 1
    return band, word


@_inner
def remember(m, count):  # type: ignore[no-untyped-def]
    """Work out what the model remembers of the first ``count`` texts that go on."""
    model, w = m.model, m.work
    units, x = w.x.shape[1], w.x
    # The vector of each word, then the gates by it, then by the memory, then what comes out for the other bands and for
    # each band: one call serves all of these products. Words are of different bands, so their vectors come one by one.
    for turn in range(count + 3 + BANDS):
        part, first, rows = max(turn - count, -1), np.int64(0), count
        matrix, out = np.int64(FROM_INPUT), w.gates[0]
        if part < 0:
            first, rows = np.int64(turn), np.int64(1)
            band, word = band_of(model, w.number[turn])
            weights, _, first_row, _, width = model.shapes[WORDS + band]
            vector(model.weights, weights, width, word, w.integers)
            w.scales[turn] = model.scale[first_row + word]
            matrix, out = np.int64(INPUTS) + band, x
        elif part == 1:
            matrix, out = np.int64(FROM_MEMORY), w.gates[1]
        elif part == 2:
            matrix = np.int64(OTHERS)
        elif part > 2:
            matrix = np.int64(OUTPUTS) + part - 3
        begin, begin_sums, first_row, outputs, columns = model.shapes[matrix]
        width = (outputs + PANEL - 1) // PANEL * PANEL
        totals = view(w.totals, 0, (rows, width))
        values = view(w.integers, 0, (rows, columns))
        sums(model.weights, model.begin, begin, begin_sums, outputs, columns, values, totals)
        for k in range(rows):
            for j in range(outputs):
                scale = model.scale[first_row + j] * w.scales[first + k]
                out[first + k, j] = np.float32(totals[k, j]) * scale + model.bias[first_row + j]
        for k in range(count if part >= 0 or turn == count - 1 else 0):
            row, before, gates, more = w.row[k], w.before[k], w.gates[0, k], w.gates[1, k]
            if part < 0:
                normalize(x[k], model.norms[0], model.norms[1], w.normed)
                w.scales[k] = to_integers(w.normed, view(w.integers, k * units, (units,)))
            elif part == 0:  # of nothing nothing is remembered
                for i in range(units):
                    w.integers[k * units + i] = m.hidden[before, i] if before >= 0 else np.int8(0)
                w.scales[k] = m.hidden_scale[before] if before >= 0 else np.float32(0.0)
            elif part == 1:
                for i in range(units):
                    old = m.cell[before, i] if before >= 0 else np.float32(0.0)
                    old *= sigmoid(gates[units + i] + more[units + i])
                    new = sigmoid(gates[i] + more[i]) * tanh(gates[2 * units + i] + more[2 * units + i])
                    m.cell[row, i] = old + new
                for i in range(units):
                    # Gates are not needed any more: their place takes the output.
                    gates[i] = sigmoid(gates[3 * units + i] + more[3 * units + i]) * tanh(m.cell[row, i])
                    x[k, i] += gates[i]
                m.hidden_scale[row] = to_integers(gates[:units], m.hidden[row])
                normalize(x[k], model.norms[2], model.norms[3], w.normed)
                w.scales[k] = to_integers(w.normed, view(w.integers, k * units, (units,)))
            elif part == 2:
                for band in range(1, BANDS):
                    m.shares[row, band] = gates[band - 1]
            else:
                band = part - 3
                m.out_scale[row, band] = to_integers(gates[:outputs], m.out[row, band])
                m.sums[row, band] = math.inf


@_inner
def sum_band(m, band, count):  # type: ignore[no-untyped-def]
    """Work out the log of the sum of probabilities that a band's words share, for the first ``count`` rows to fill."""
    model, w = m.model, m.work
    begin, begin_sums, first_row, words, columns = model.shapes[WORDS + band]
    for k in range(count):
        row = w.row[k]
        for i in range(columns):
            w.integers[k * columns + i] = m.out[row, band, i]
        w.tops[k] = np.float32(-1e30)
        for j in range(PANEL):
            w.added[k, j] = np.float32(0.0)
    values, totals = view(w.integers, 0, (count, columns)), view(w.totals, 0, (count, PANEL))
    for panel in range((words + PANEL - 1) // PANEL):
        done = panel * PANEL
        used = min(words - done, PANEL)
        sums(model.weights, model.begin, begin + done * columns, begin_sums + done, used, columns, values, totals)
        for k in range(count):
            _add(m, k, totals[k], first_row + done, used, m.out_scale[w.row[k], band])
    for k in range(count):
        total = np.float64(0.0)
        for j in range(PANEL):
            total += np.float64(w.added[k, j])
        whole = np.float64(w.tops[k]) + math.log(total)
        if band == 0:
            for other in range(1, BANDS):
                share = np.float64(m.shares[w.row[k], other])
                more, less = max(whole, share), min(whole, share)
                whole = more + math.log1p(math.exp(less - more))
        m.sums[w.row[k], band] = whole


@_inner
def _add(m, k, totals, first_row, used, x_scale):  # type: ignore[no-untyped-def]
    """Add the probabilities of a panel of words, over that of the likeliest word so far, to the text's sums."""
    model, w = m.model, m.work
    scores, added = w.scores, w.added[k]
    for j in range(used):
        scale = model.scale[first_row + j] * x_scale
        scores[j] = np.float32(totals[j]) * scale + model.bias[first_row + j]
    for j in range(used, PANEL):
        scores[j] = np.float32(-1e30)
    # As integers made to be ordered as the floats are: a loop over those is vectorised, one over floats is not.
    bits, highest = scores.view(np.int32), np.int32(-(2**31))
    for j in range(PANEL):
        highest = max(highest, np.int32(bits[j] ^ ((bits[j] >> np.int32(31)) & np.int32(0x7FFFFFFF))))
    top = np.int32(highest ^ ((highest >> np.int32(31)) & np.int32(0x7FFFFFFF))).view(np.float32)
    if top > w.tops[k]:
        fall = exp(max(w.tops[k] - top, np.float32(-80.0)))
        for j in range(PANEL):
            added[j] *= fall
        w.tops[k] = top
    top = w.tops[k]
    for j in range(PANEL):
        added[j] += exp(max(scores[j] - top, np.float32(-80.0)))


@_inner
def chance(m, row, number):  # type: ignore[no-untyped-def]
    """Log probability of a word after the text of a row, whose sums are there: of the first band, and of the word's."""
    model, w = m.model, m.work
    band, word = band_of(model, number)
    first, _, first_row, _, width = model.shapes[WORDS + band]
    vector(model.weights, first, width, word, w.integers)
    total = np.int32(0)
    for i in range(width):
        total = np.int32(total + np.int32(np.int32(w.integers[i]) * np.int32(m.out[row, band, i])))
    scale, bias = model.scale[first_row + word], model.bias[first_row + word]
    score = np.float64(np.float32(total) * (scale * m.out_scale[row, band]) + bias) - m.sums[row, band]
    return score if band == 0 else score + np.float64(m.shares[row, band]) - m.sums[row, 0]
