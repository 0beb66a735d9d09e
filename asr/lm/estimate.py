"""Estimation of an n-gram model from text: interpolated modified Kneser-Ney.

After S. F. Chen and J. Goodman, "An empirical study of smoothing techniques for language modeling"
(Harvard TR-10-98, 1998), section 3; the counting of n-grams that begin a sentence as in K. Heafield et
al., "Scalable modified Kneser-Ney language model estimation" (ACL 2013).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from asr.errors import DataError
from asr.lm.table import SPECIAL, UNKNOWN, NgramTable, Order
from asr.normalize import normalize

_DIGITS = re.compile(r"\S*\d\S*")
_NEVER = -99.0  # natural log of the probability of a sentence start, which is never predicted
# When a text is too small or too odd for discounts to be estimated from it.
_FALLBACK_DISCOUNTS = (0.5, 1.0, 1.5)


@dataclass(frozen=True)
class Counts:
    """The n-grams of one length in a text, sorted as in `asr.lm.table`."""

    context: np.ndarray  # int64
    word: np.ndarray  # int64
    raw: np.ndarray  # int64: how often it occurs
    suffix: np.ndarray  # int64: index of its last n-1 words in the order below


def sentence_words(line: str) -> list[str]:
    """The words of a line of text as they are spoken. What holds a digit becomes one unknown word."""
    if not any(char.isdigit() for char in line):
        return normalize(line).split()
    words: list[str] = []
    for index, part in enumerate(_DIGITS.split(line)):
        words += [UNKNOWN] * (index > 0) + normalize(part).split()
    return words


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


def estimate(text: np.ndarray, words: tuple[str, ...], order: int) -> tuple[NgramTable, list[np.ndarray]]:
    """Estimate a model.

    Args:
        text: word ids, as from `encode`.
        words: the vocabulary.
        order: longest n-gram, 1 to 6.

    Returns:
        The model, and the raw counts of each order's n-grams, which `asr.lm.prune` weighs them by.
    """
    if not 1 <= order <= 6:
        raise DataError(f"order {order}: choose 1 to 6")
    if not len(text):
        raise DataError("no words in the text: nothing to estimate a language model from")
    levels = _count(text, len(words), order)
    adjusted = [_adjust(levels, k) for k in range(order)]
    orders: list[Order] = []
    lower = np.full(1, 1.0 / (len(words) - 1))  # every word but the sentence start
    for k, (level, counts) in enumerate(zip(levels, adjusted, strict=True)):
        discounts = _discounts(counts, level.word if k == 0 else None)
        contexts = len(levels[k - 1].word) if k else 1
        total = np.bincount(level.context, counts, contexts)
        discount = np.array([0.0, *discounts])[np.minimum(counts, 3)]
        freed = np.bincount(level.context, discount, contexts)
        with np.errstate(invalid="ignore", divide="ignore"):
            share = np.where(total > 0, freed / total, 1.0)  # that a context leaves to shorter ones
            own = np.where(counts > 0, (counts - discount) / total[level.context], 0.0)
        probability = own + share[level.context] * lower[level.suffix]
        if k:
            below = orders[-1]
            orders[-1] = Order(below.context, below.word, below.log_prob, np.log(np.maximum(share, 1e-30)))
        else:
            probability[1] = np.exp(_NEVER)
        orders.append(Order(level.context, level.word, np.log(probability), np.zeros(len(probability))))
        lower = probability
    return NgramTable(words, tuple(orders)), [level.raw for level in levels]


def _count(text: np.ndarray, size: int, order: int) -> list[Counts]:
    """Count all n-grams that lie within sentences."""
    at = text.astype(np.int64)  # index of the n-gram that begins at each position, or -1
    raw = np.bincount(at, minlength=size)
    none = np.zeros(size, dtype=np.int64)
    levels = [Counts(none, np.arange(size), raw, none)]
    for n in range(2, order + 1):
        starts = np.flatnonzero((at[: len(text) - n + 1] >= 0) & (text[n - 2 : len(text) - 1] != 2))
        keys, first, inverse, raw = np.unique(
            at[starts] * size + text[starts + n - 1], return_index=True, return_inverse=True, return_counts=True
        )
        suffix = at[starts[first] + 1]
        at = np.full(len(text), -1, dtype=np.int64)
        at[starts] = inverse
        levels.append(Counts(keys // size, keys % size, raw, suffix))
    return levels


def _adjust(levels: list[Counts], k: int) -> np.ndarray:
    """Kneser-Ney counts: of how many different words an n-gram follows, unless it is of the longest or
    begins a sentence, where nothing comes before it."""
    raw = levels[k].raw
    if k == 0:
        raw = np.where(levels[0].word == 1, 0, raw)  # a sentence start is given, never predicted
    if k == len(levels) - 1:
        return raw
    first = levels[0].word
    for level in levels[1 : k + 1]:
        first = first[level.context]
    return np.where(first == 1, raw, np.bincount(levels[k + 1].suffix, minlength=len(raw)))


def _discounts(counts: np.ndarray, unigrams: np.ndarray | None) -> tuple[float, float, float]:
    """What to take off an n-gram seen once, twice, and more often."""
    if unigrams is not None:
        counts = counts[unigrams > 0]
    n1, n2, n3, n4 = (int((counts == c).sum()) for c in (1, 2, 3, 4))
    if min(n1, n2, n3) == 0:
        return _FALLBACK_DISCOUNTS
    y = n1 / (n1 + 2 * n2)
    found = 1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3
    if any(not 0 < discount <= c for c, discount in zip((1, 2, 3), found, strict=True)):
        return _FALLBACK_DISCOUNTS
    return found
