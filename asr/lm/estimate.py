"""Estimation of an n-gram model from text: modified Kneser-Ney smoothing, of all n-grams or of those kept.

After R. Kneser, H. Ney, "Improved backing-off for m-gram language modeling" (ICASSP 1995) and S. F. Chen, J. Goodman,
"An empirical study of smoothing techniques for language modeling" (Harvard TR-10-98, 1998), interpolated. There a
shorter n-gram counts how many different words it follows: that is what the longer ones leave to it, if each of them
is kept and gives up one discount. Here it counts just what they leave: a discount where the longer n-gram is kept,
all its occurrences where it is not. So a model that is estimated anew from the n-grams that pruning kept expects
each word as often as the text has it (compare V. Siivola, T. Hirsimaki, S. Virpioja, "On growing and pruning
Kneser-Ney smoothed n-gram models", IEEE TASLP 2007).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

import numpy as np

from asr.errors import DataError
from asr.lm.counting import Counts, count_ngrams, find_suffixes
from asr.lm.table import SPECIAL, NgramTable, Order

_NEVER = -99.0  # natural log of the probability of a sentence start, which is never predicted
_LEAST = 1e-9  # share of its words that a context always leaves to shorter ones
# When a text is too small or too odd for discounts to be estimated from it.
_FALLBACK_DISCOUNTS = (0.5, 1.0, 1.5)


def choose_vocabulary(counts: Counter[str], size: int) -> tuple[str, ...]:
    """The ``size`` most frequent words, after the three special ones; ties in the order of the alphabet."""
    ranked = sorted((word for word in counts if word not in SPECIAL), key=lambda word: (-counts[word], word))
    return SPECIAL + tuple(ranked[:size])


def encode(sentences: Iterable[list[str]], words: tuple[str, ...]) -> np.ndarray:
    """Sentences as one int32 array of word ids, each between a start and an end."""
    ids = {word: index for index, word in enumerate(words)}

    def flat() -> Iterator[int]:
        for sentence in sentences:
            if sentence:
                yield 1
                for word in sentence:
                    yield ids.get(word, 0)
                yield 2

    return np.fromiter(flat(), dtype=np.int32)


def estimate(
    text: np.ndarray, words: tuple[str, ...], order: int, least: tuple[int, ...] | None = None
) -> tuple[NgramTable, list[Counts]]:
    """Estimate a model.

    Args:
        text: word ids, as from `encode`.
        words: the vocabulary.
        order: longest n-gram, 1 to 6; over many words, fewer.
        least: per order, how often an n-gram must occur to be in the model; once, if not given.

    Returns:
        The model, and the counts that it is made from, for `asr.lm.prune`.
    """
    if not 1 <= order <= 6:
        raise DataError(f"order {order}: choose 1 to 6")
    if not len(text):
        raise DataError("no words in the text: nothing to estimate a language model from")
    levels = count_ngrams(text, len(words), least or (1,) * order)
    return smooth(levels, words), levels


def smooth(levels: list[Counts], words: tuple[str, ...]) -> NgramTable:
    """The model of the n-grams that were kept.

    Args:
        levels: per order. The first and the last n-1 words of each n-gram are kept n-grams as well.
        words: the vocabulary.
    """
    suffixes = find_suffixes(levels, len(words))
    own, totals = _share_out(levels, suffixes)
    orders: list[Order] = []
    lower = np.full(1, 1.0 / (len(words) - 1))  # every word but the sentence start
    for k, level in enumerate(levels):
        mine = np.bincount(level.context, own[k], len(totals[k]))
        with np.errstate(invalid="ignore", divide="ignore"):
            share = np.where(totals[k] > 0, 1 - mine / totals[k], 1.0)  # that a context leaves to shorter ones
            share = np.clip(share, _LEAST, 1.0)
            probability = np.where(own[k] > 0, own[k] / totals[k][level.context], 0.0)
        probability += share[level.context] * lower[suffixes[k]]
        if k:
            below = orders[-1]
            orders[-1] = Order(below.context, below.word, below.log_prob, np.log(share))
        else:
            probability[1] = np.exp(_NEVER)
        orders.append(Order(level.context, level.word, np.log(probability), np.zeros(len(probability))))
        lower = probability
    return NgramTable(words, tuple(orders))


def _share_out(levels: list[Counts], suffixes: list[np.ndarray]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """From the longest n-grams down: what each n-gram keeps for itself, and how much came to each context."""
    own = [np.zeros(0)] * len(levels)
    totals = [np.zeros(0)] * len(levels)
    here = levels[-1].raw.astype(np.float64)
    left: np.ndarray = np.zeros(0)  # what the longer n-grams kept, so that it does not come to a context here
    for k in range(len(levels) - 1, -1, -1):
        level = levels[k]
        if k == 0:
            here[1] = 0.0  # a sentence start is given, never predicted
        own[k] = np.maximum(here - np.interp(here, [0, 1, 2, 3], [0.0, *_discounts(level.seen)]), 0.0)
        if k == 0:
            totals[0] = np.array([here.sum()])
            break
        below = levels[k - 1]
        totals[k] = below.raw.astype(np.float64)
        if len(left):
            totals[k] -= left
        here = np.asarray(np.maximum(below.raw - np.bincount(suffixes[k], own[k], len(below)), 0.0), dtype=np.float64)
        if k > 1:
            left = np.bincount(below.context[suffixes[k]], own[k], len(levels[k - 2]))
    return own, totals


def _discounts(seen: tuple[int, int, int, int]) -> tuple[float, float, float]:
    """What to take off an n-gram seen once, twice, and more often."""
    n1, n2, n3, n4 = seen
    if min(n1, n2, n3) == 0:
        return _FALLBACK_DISCOUNTS
    y = n1 / (n1 + 2 * n2)
    found = 1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3
    if any(not 0 < discount <= c for c, discount in zip((1, 2, 3), found, strict=True)):
        return _FALLBACK_DISCOUNTS
    return found
