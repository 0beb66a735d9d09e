"""Pruning of an n-gram model to a size, by how little each n-gram is missed.

After A. Stolcke, "Entropy-based pruning of backoff language models" (DARPA workshop, 1998), with one
difference: how often a context comes up is taken from its count in the text, since Kneser-Ney's
shorter n-grams do not say it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from asr.errors import DataError
from asr.lm.table import NgramTable, Order

_LEAST = 1e-9  # probability that is always left to back off to


def prune(
    table: NgramTable, counts: list[np.ndarray], size: Callable[[tuple[int, ...]], int], most_bytes: int
) -> NgramTable:
    """Drop the n-grams that are missed least until the model fits.

    Args:
        table: the model, in which every n-gram's suffix is there too, as after estimation.
        counts: raw count of each n-gram, per order.
        size: bytes that a model takes, from its number of n-grams of each order.
        most_bytes: what it may take.
    """
    if size(table.counts) <= most_bytes:
        return table
    losses = [_losses(table, counts, k) for k in range(1, len(table.orders))]
    everything = np.sort(np.concatenate(losses)) if losses else np.zeros(0)
    low, high = 0, len(everything)  # how many to drop: too few at low, enough at high
    if size(tuple(int(mask.sum()) for mask in _masks(table, losses, np.inf))) > most_bytes:
        raise DataError(f"{most_bytes} bytes do not hold the words alone: allow more, or fewer words")
    while high - low > max(1, len(everything) // 10_000):
        middle = (low + high) // 2
        kept = _masks(table, losses, everything[middle])
        if size(tuple(int(mask.sum()) for mask in kept)) > most_bytes:
            low = middle
        else:
            high = middle
    threshold = everything[high] if high < len(everything) else np.inf
    return _rebuild(table, _masks(table, losses, threshold))


def _losses(table: NgramTable, counts: list[np.ndarray], k: int) -> np.ndarray:
    """For each n-gram of an order, the relative entropy that dropping it alone would cost."""
    order, below = table.orders[k], table.orders[k - 1]
    often = counts[k - 1] / counts[0].sum()
    own = np.exp(order.log_prob)
    shorter = np.exp(below.log_prob[table.suffixes(k)])
    left = np.maximum(1 - np.bincount(order.context, own, len(below)), _LEAST)[order.context]
    shorter_left = np.maximum(1 - np.bincount(order.context, shorter, len(below)), _LEAST)[order.context]
    weight = np.log(left / shorter_left)
    grown = np.log((left + own) / (shorter_left + shorter))
    change = own * (np.log(shorter) + grown - order.log_prob) + left * (grown - weight)
    return np.asarray(-often[order.context] * change)


def _masks(table: NgramTable, losses: list[np.ndarray], threshold: float) -> list[np.ndarray]:
    """Which n-grams stay: those that are missed enough, and the contexts of those that stay."""
    masks = [np.ones(len(table.orders[0]), dtype=bool)]
    above: np.ndarray | None = None
    kept: list[np.ndarray] = []
    for k in range(len(table.orders) - 1, 0, -1):
        mask = losses[k - 1] >= threshold
        if above is not None:
            mask[table.orders[k + 1].context[above]] = True
        kept.insert(0, mask)
        above = mask
    return masks + kept


def _rebuild(table: NgramTable, masks: list[np.ndarray]) -> NgramTable:
    """The model of the n-grams that stay, with back-off weights that make it sum to one again."""
    orders = [table.orders[0]]
    for k in range(1, len(table.orders)):
        renumbered = np.cumsum(masks[k - 1]) - 1
        orders.append(table.orders[k].keep(masks[k], renumbered[table.orders[k].context]))
    pruned = NgramTable(table.words, tuple(orders))
    for k in range(1, len(orders)):
        order, below = orders[k], orders[k - 1]
        shorter = np.exp(pruned.score(_suffix_words(pruned, k)))
        left = np.maximum(1 - np.bincount(order.context, np.exp(order.log_prob), len(below)), _LEAST)
        shorter_left = np.maximum(1 - np.bincount(order.context, shorter, len(below)), _LEAST)
        children = np.bincount(order.context, minlength=len(below)) > 0
        orders[k - 1] = Order(
            below.context, below.word, below.log_prob, np.where(children, np.log(left / shorter_left), 0.0)
        )
        pruned = NgramTable(table.words, tuple(orders))
    return pruned


def _suffix_words(table: NgramTable, k: int) -> np.ndarray:
    """Word ids of the last k words of each n-gram of k + 1 words, ``(N, k)``."""
    at = np.arange(len(table.orders[k]))
    columns: list[np.ndarray] = []
    for level in range(k, 0, -1):
        columns.insert(0, table.orders[level].word[at])
        at = table.orders[level].context[at]
    return np.stack(columns, axis=1)
