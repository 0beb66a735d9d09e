"""From an n-gram table to the arrays of the stored model, and back."""

from __future__ import annotations

import numpy as np

from asr.errors import ModelError
from asr.lm.lookup import Children, LmArrays
from asr.lm.table import SPECIAL, NgramTable, Order

_BLOCK_BITS = 6
_MOST_STEP = (1 << 16) - 1
_MOST_HIGH_BITS = 4
_NO_WEIGHT = 1e-6  # a back-off weight so near to 1 need not be stored
_BINS = 4096
_LLOYD_STEPS = 30


def high_bits(words: int) -> int:
    """Bits of a word's id beyond 16."""
    return max(0, (words - 1).bit_length() - 16)


def pack(table: NgramTable) -> LmArrays:
    """The arrays of a model.

    Raises:
        ModelError: for a vocabulary of more than a million words.
    """
    order, words = len(table.orders), len(table.words)
    if high_bits(words) > _MOST_HIGH_BITS:
        raise ModelError(f"{words} words in the vocabulary, at most {1 << (16 + _MOST_HIGH_BITS)} are possible")
    code_bits = 8 - high_bits(words)
    prob_codes, backoff_codes = (np.zeros((order, 256), dtype=np.float32) for _ in range(2))
    is_context = _contexts(table)
    backoffs, low, high, leaf_low, leaf_high = [], [], [], [], []
    for k, level in enumerate(table.orders):
        # the sentence start has no real probability and would only take a value away
        real = np.delete(level.log_prob, 1) if k == 0 and words > len(SPECIAL) else level.log_prob
        prob_codes[k] = _choose_values(real, 256 if k == 0 else 1 << code_bits)
        codes = _nearest(level.log_prob, prob_codes[k])
        if k == 0:
            prob = codes
        else:
            packed = codes | (level.word >> 16 << code_bits).astype(np.uint8)
            here = is_context[k]
            low.append(level.word[here].astype(np.uint16))
            high.append(packed[here])
            leaf_low.append(level.word[~here].astype(np.uint16))
            leaf_high.append(packed[~here])
        if k < max(1, order - 1):
            weights = level.backoff[is_context[k]]
            backoff_codes[k] = _choose_values(weights, 256)
            backoffs.append(_nearest(weights, backoff_codes[k]))
    contexts, leaves, bits = _children(table, is_context)
    lengths = [np.count_nonzero(mask) for mask in is_context[: max(1, order - 1)]]
    return LmArrays(
        prob=prob,
        context_word=_join(low, np.uint16),
        context_prob=_join(high, np.uint8),
        backoff=_join(backoffs, np.uint8),
        leaf_word=_join(leaf_low, np.uint16),
        leaf_prob=_join(leaf_high, np.uint8),
        contexts=contexts,
        leaves=leaves,
        starts=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        bits=np.array([code_bits, *bits], dtype=np.int64),
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


def _children(table: NgramTable, is_context: list[np.ndarray]) -> tuple[Children, Children, tuple[int, int]]:
    """Where the continuations of each context begin: contexts, leaves, and how many bits a block has of each."""
    made, found_bits = [], []
    for leaves in (False, True):
        per_context: list[np.ndarray] = []
        for k in range(1, len(table.orders)):
            wanted = ~is_context[k] if leaves else is_context[k]
            every = np.bincount(table.orders[k].context[wanted], minlength=len(is_context[k - 1]))
            per_context.append(every[is_context[k - 1]])
        if not leaves:
            per_context = per_context[:-1]  # the longest n-grams are leaves
        words = len(table.words)
        counts = np.concatenate([np.zeros(0, dtype=np.int64), *per_context])
        counts = np.concatenate([counts, np.zeros(max(0, words - len(counts)), dtype=np.int64)])
        ends = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        longer, bits = ends[words:], _BLOCK_BITS
        block, step = np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
        if len(longer) > 1:
            while True:
                block = longer[:: 1 << bits]
                step = longer - np.repeat(block, 1 << bits)[: len(longer)]
                if step.max() <= _MOST_STEP:
                    break
                bits -= 1
        made.append(Children(ends[: words + 1].astype(np.uint32), block.astype(np.uint32), step.astype(np.uint16)))
        found_bits.append(bits)
    return made[0], made[1], (found_bits[0], found_bits[1])


def unpack(lm: LmArrays, words: tuple[str, ...]) -> NgramTable:
    """The table that a model was packed from, its values rounded."""
    order, mask = len(lm.prob_codes), (1 << int(lm.bits[0])) - 1
    zeros = np.zeros(len(words), dtype=np.int64)
    weights = lm.backoff_codes[0, lm.backoff[: len(words)]].astype(np.float64)
    orders = [Order(zeros, np.arange(len(words)), lm.prob_codes[0, lm.prob].astype(np.float64), weights)]
    ends = [_ends(children, int(bits)) for children, bits in zip((lm.contexts, lm.leaves), lm.bits[1:], strict=True)]
    place = np.arange(len(words))  # of each context of the order below among its n-grams
    for k in range(1, order):
        begin, end = int(lm.starts[k - 1]), int(lm.starts[k])
        context, word, high, node = [], [], [], []
        for kind, low_bits, high_bits_ in ((0, lm.context_word, lm.context_prob), (1, lm.leaf_word, lm.leaf_prob)):
            if len(ends[kind]) <= end:
                continue
            bounds = ends[kind][begin : end + 1]
            here = slice(int(bounds[0]), int(bounds[-1]))
            context.append(np.repeat(place, np.diff(bounds)))
            high.append(high_bits_[here])
            word.append(low_bits[here].astype(np.int64) | (high[-1].astype(np.int64) >> int(lm.bits[0]) << 16))
            node.append(np.arange(here.start, here.stop) + len(words) if kind == 0 else np.full(len(word[-1]), -1))
        contexts, last, nodes = (np.concatenate(parts).astype(np.int64) for parts in (context, word, node))
        codes = np.concatenate(high) & mask
        rank = np.lexsort((last, contexts))
        contexts, last, codes, nodes = contexts[rank], last[rank], codes[rank], nodes[rank]
        inner = nodes >= 0
        weights = np.zeros(len(last))
        weights[inner] = lm.backoff_codes[min(k, order - 1), lm.backoff[nodes[inner]]]
        orders.append(Order(contexts, last, lm.prob_codes[k, codes].astype(np.float64), weights))
        place = np.flatnonzero(inner)
    return NgramTable(words, tuple(orders))


def _ends(children: Children, bits: int) -> np.ndarray:
    """Where the continuations of each context begin, and the last ones end."""
    ends = children.of_word.astype(np.int64)
    if not len(children.step):
        return ends
    longer = np.repeat(children.block.astype(np.int64), 1 << bits)[: len(children.step)] + children.step
    return np.concatenate([ends[:-1], longer])


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
    return np.minimum(np.searchsorted(bounds, values), np.searchsorted(chosen, chosen[-1])).astype(np.uint8)
