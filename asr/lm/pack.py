"""From an n-gram table to the arrays of the stored model, and back."""

from __future__ import annotations

import numpy as np

from asr.errors import ModelError
from asr.lm.lookup import GRAMS_A_RANK, WORD_BITS, LmArrays
from asr.lm.table import SPECIAL, NgramTable, Order

_BLOCK_BITS = 6
_MOST_STEP = (1 << 16) - 1
_MOST_HIGH_BITS = 4
_LOW = (1 << WORD_BITS) - 1
_NO_WEIGHT = 1e-6  # a back-off weight so near to 1 need not be stored
_BINS = 4096
_LLOYD_STEPS = 30


def high_bits(words: int) -> int:
    """Bits of a word's id beyond 16."""
    return max(0, (words - 1).bit_length() - WORD_BITS)


def pack(table: NgramTable) -> LmArrays:
    """The arrays of a model.

    Raises:
        ModelError: for a vocabulary of more than a million words.
    """
    order, words = len(table.orders), len(table.words)
    if high_bits(words) > _MOST_HIGH_BITS:
        raise ModelError(f"{words} words in the vocabulary, at most {1 << (WORD_BITS + _MOST_HIGH_BITS)} are possible")
    code_bits = 8 - high_bits(words)
    prob_codes, backoff_codes = (np.zeros((order, 256), dtype=np.float32) for _ in range(2))
    # the sentence start has no real probability and would only take a value away
    unigrams = table.orders[0].log_prob
    prob_codes[0] = _choose_values(np.delete(unigrams, 1) if words > len(SPECIAL) else unigrams, 256)
    low, high, inner, weights, per_context = (list[np.ndarray]() for _ in range(5))
    place = np.arange(words)  # of each n-gram of the order below, in the order of the file
    is_context = _contexts(table)
    for k in range(1, order):
        level, below = table.orders[k], is_context[k - 1]
        rank = np.lexsort((level.word, level.word & _LOW, place[level.context]))
        prob_codes[k] = _choose_values(level.log_prob, 1 << code_bits)
        codes = _nearest(level.log_prob[rank], prob_codes[k])
        low.append((level.word[rank] & _LOW).astype(np.uint16))
        high.append(codes | (level.word[rank] >> WORD_BITS << code_bits).astype(np.uint8))
        children = np.zeros(len(below), dtype=np.int64)
        children[place] = np.bincount(level.context, minlength=len(below))
        per_context.append(children[inner[-1]] if inner else children)
        inner.append(is_context[k][rank])
        weights.append(level.backoff[rank])
        place = np.empty(len(level), dtype=np.int64)
        place[rank] = np.arange(len(level))
    backoffs = []
    for k, backoff in enumerate([table.orders[0].backoff, *(w[i] for w, i in zip(weights, inner, strict=True))]):
        if len(backoff):
            backoff_codes[k] = _choose_values(backoff, 256)
            backoffs.append(_nearest(backoff, backoff_codes[k]))
    shorter = _join(inner[:-1], np.bool_)
    after_word, block, step, block_bits = _offsets(per_context, words)
    return LmArrays(
        prob=_nearest(unigrams, prob_codes[0]),
        low=_join(low, np.uint16),
        high=_join(high, np.uint8),
        inner=_to_bits(shorter),
        rank=_ranks(shorter),
        backoff=_join(backoffs, np.uint8),
        after_word=after_word,
        block=block,
        step=step,
        starts=np.concatenate([[0], np.cumsum([len(level) for level in table.orders[1:]])]).astype(np.int64),
        bits=np.array([code_bits, block_bits], dtype=np.int64),
        prob_codes=prob_codes,
        backoff_codes=backoff_codes,
    )


def _contexts(table: NgramTable) -> list[np.ndarray]:
    """Per order, which n-grams others go on from, or have a back-off weight; all words do."""
    masks = [np.ones(len(table.words), dtype=bool)]
    for k in range(1, len(table.orders)):
        mask = np.abs(table.orders[k].backoff) > _NO_WEIGHT
        if k + 1 < len(table.orders):
            mask[table.orders[k + 1].context] = True
        else:
            mask[:] = False
        masks.append(mask)
    return masks


def _offsets(per_context: list[np.ndarray], words: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """Where the continuations begin, of words and of other contexts; of these blocks and steps, and a block's bits."""
    counts = _join(per_context, np.int64)
    counts = np.concatenate([counts, np.zeros(max(0, words - len(counts)), dtype=np.int64)])
    begin = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    after_word, others = begin[: words + 1], begin[words:]
    for bits in range(_BLOCK_BITS, -1, -1):
        block = others[:: 1 << bits]
        step = others - np.repeat(block, 1 << bits)[: len(others)]
        if step.max() <= _MOST_STEP:
            break
    return after_word.astype(np.uint32), block.astype(np.uint32), step.astype(np.uint16), bits


def _to_bits(mask: np.ndarray) -> np.ndarray:
    padded = np.zeros(-(-len(mask) // 64) * 64, dtype=np.bool_)
    padded[: len(mask)] = mask
    return np.packbits(padded, bitorder="little").view("<u8").astype(np.uint64)


def _ranks(mask: np.ndarray) -> np.ndarray:
    before = np.concatenate([[0], np.cumsum(mask)])
    return before[: max(1, len(mask)) : GRAMS_A_RANK].astype(np.uint32)


def unpack(lm: LmArrays, words: tuple[str, ...]) -> NgramTable:
    """The table that a model was packed from, its values rounded."""
    code_bits = int(lm.bits[0])
    inner = np.unpackbits(lm.inner.astype("<u8").view(np.uint8), bitorder="little").astype(np.bool_)
    begin = find_begins(lm)
    weights = lm.backoff_codes[0, lm.backoff[: len(words)]].astype(np.float64)
    context = np.zeros(len(words), dtype=np.int64)
    orders = [Order(context, np.arange(len(words)), lm.prob_codes[0, lm.prob].astype(np.float64), weights)]
    place = np.arange(len(words))  # of each context of the order below among its n-grams
    first = 0  # the first of these contexts
    for k in range(1, len(lm.prob_codes)):
        here = slice(int(lm.starts[k - 1]), int(lm.starts[k]))
        bounds = begin[first : first + len(place) + 1]
        context = np.repeat(place, np.diff(bounds))
        high = lm.high[here].astype(np.int64)
        word = lm.low[here].astype(np.int64) | high >> code_bits << WORD_BITS
        log_prob = lm.prob_codes[k, high & ((1 << code_bits) - 1)].astype(np.float64)
        first += len(place)
        weights = np.zeros(len(word))
        place = np.zeros(0, dtype=np.int64)
        if k + 1 < len(lm.prob_codes):
            place = np.flatnonzero(inner[here])
            weights[place] = lm.backoff_codes[k, lm.backoff[first : first + len(place)]]
        rank = np.lexsort((word, context))
        orders.append(Order(context[rank], word[rank], log_prob[rank], weights[rank]))
        moved = np.empty(len(rank), dtype=np.int64)
        moved[rank] = np.arange(len(rank))
        place = moved[place]
    return NgramTable(words, tuple(orders))


def find_begins(lm: LmArrays) -> np.ndarray:
    """Where the continuations of each context begin, and the last ones end; int64 (contexts + 1,)."""
    others = np.repeat(lm.block.astype(np.int64), 1 << int(lm.bits[1]))[: len(lm.step)] + lm.step
    return np.concatenate([lm.after_word[:-1].astype(np.int64), others])


def _join(parts: list[np.ndarray], dtype: type) -> np.ndarray:
    return np.concatenate([np.zeros(0, dtype=dtype), *parts]).astype(dtype)


def _choose_values(values: np.ndarray, most: int) -> np.ndarray:
    """At most so many values, ascending, that others are best rounded to (Lloyd's method); float32 (256,)."""
    chosen = np.zeros(256, dtype=np.float32)
    if not len(values):
        return chosen
    different = np.unique(values)
    if len(different) > most:
        counts, edges = np.histogram(values, _BINS)
        middles = (edges[:-1] + edges[1:]) / 2
        ends = np.concatenate([[0.0], np.cumsum(counts)])
        sums = np.concatenate([[0.0], np.cumsum(counts * middles)])
        # where values are dense steps are small, but not as much smaller as there are more of them
        density = np.cumsum(np.cbrt(counts))
        different = np.interp((np.arange(most) + 0.5) / most * density[-1], density, middles)
        for _ in range(_LLOYD_STEPS):
            bounds = np.searchsorted(middles, (different[:-1] + different[1:]) / 2)
            low, high = np.concatenate([[0], bounds]), np.concatenate([bounds, [_BINS]])
            inside = ends[high] - ends[low]
            mean = (sums[high] - sums[low]) / np.maximum(inside, 1)
            different = np.sort(np.where(inside > 0, mean, different))
    chosen[: len(different)] = different
    chosen[len(different) :] = different[-1]
    return chosen


def _nearest(values: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """The code of each value."""
    bounds = (chosen[:-1].astype(np.float64) + chosen[1:]) / 2
    codes = np.minimum(np.searchsorted(bounds, values), np.searchsorted(chosen, chosen[-1]))
    return np.asarray(codes, dtype=np.uint8)
