"""An n-gram model as plain arrays: what estimation and the ARPA reader make, and the stored model is packed from.

The n-grams of each order are sorted by (index of their first n-1 words, last word), so the n-grams that
share a context lie side by side: the arrays are a trie, and an n-gram's index names it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from asr.errors import DataError

UNKNOWN, START, END = "<unk>", "<s>", "</s>"
SPECIAL = (UNKNOWN, START, END)  # words 0, 1 and 2 of every vocabulary


@dataclass(frozen=True)
class Order:
    """The n-grams of one length. All arrays have one row an n-gram."""

    context: np.ndarray  # int64: index of the first n-1 words in the order below (0 for unigrams)
    word: np.ndarray  # int64: the last word
    log_prob: np.ndarray  # float64, natural log of P(word | context)
    backoff: np.ndarray  # float64, natural log of the weight that this n-gram as a context gives to shorter ones

    def __len__(self) -> int:
        return len(self.word)

    def keep(self, mask: np.ndarray, context: np.ndarray | None = None) -> Order:
        """The rows of a mask, with new context indices if the order below changed."""
        contexts = self.context if context is None else context
        return Order(contexts[mask], self.word[mask], self.log_prob[mask], self.backoff[mask])


@dataclass(frozen=True)
class NgramTable:
    """A back-off n-gram model. Every n-gram's context is itself an n-gram of the order below."""

    words: tuple[str, ...]
    orders: tuple[Order, ...]  # unigrams first; unigram i is word i

    def __post_init__(self) -> None:
        if self.words[: len(SPECIAL)] != SPECIAL:
            raise DataError(f"a vocabulary must begin with {', '.join(SPECIAL)}")

    @property
    def counts(self) -> tuple[int, ...]:
        return tuple(len(order) for order in self.orders)

    def find(self, level: int, context: np.ndarray, word: np.ndarray) -> np.ndarray:
        """Index of each n-gram (context, word) among those of ``level + 1`` words, or -1."""
        if level == 0:
            return word
        order = self.orders[level]
        keys = order.context * len(self.words) + order.word
        return find_keys(keys, context * len(self.words) + word, (context >= 0) & (word >= 0))

    def index(self, grams: np.ndarray) -> np.ndarray:
        """Index of each n-gram among those of its length, or -1. ``grams``: ``(N, n)`` word ids."""
        at = grams[:, 0]
        for level in range(1, grams.shape[1]):
            at = self.find(level, at, grams[:, level])
        return at

    def score(self, grams: np.ndarray) -> np.ndarray:
        """Natural log of P(last word | words before it), backing off as needed. ``grams``: ``(N, n)`` word ids."""
        n = grams.shape[1]
        if n == 1:
            unigrams: np.ndarray = self.orders[0].log_prob[grams[:, 0]]
            return unigrams
        if n > len(self.orders):
            return self.score(grams[:, 1:])
        result = np.empty(len(grams))
        at = self.index(grams)
        found = at >= 0
        result[found] = self.orders[n - 1].log_prob[at[found]]
        if not found.all():
            rest = grams[~found]
            context = self.index(rest[:, :-1])
            shorter = self.score(rest[:, 1:])
            seen = context >= 0  # a context never seen has no weight to pay
            shorter[seen] += self.orders[n - 2].backoff[context[seen]]
            result[~found] = shorter
        return result

    def suffixes(self, level: int) -> np.ndarray:
        """For each n-gram of ``level + 1`` words, the index of its last ``level`` words in the order below, or -1."""
        suffix = np.zeros(len(self.orders[0]), dtype=np.int64)
        for k in range(1, level + 1):
            order = self.orders[k]
            suffix = self.find(k - 1, suffix[order.context], order.word)
        return suffix


def find_keys(keys: np.ndarray, wanted: np.ndarray, valid: np.ndarray | None = None) -> np.ndarray:
    """Where each wanted key is in an ascending array, or -1."""
    if not len(keys):
        return np.full(len(wanted), -1, dtype=np.int64)
    at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    found = keys[at] == wanted
    if valid is not None:
        found &= valid
    return np.where(found, at, -1)
