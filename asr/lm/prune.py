"""Pruning of an n-gram model to a size, by how little each n-gram is missed.

After A. Stolcke, "Entropy-based pruning of backoff language models" (DARPA workshop, 1998), with two differences: how
often a context comes up is taken from its count in the text, since Kneser-Ney's shorter n-grams do not say it; and
what is left is estimated again, in a few rounds, so that short n-grams stand in for the long ones that went.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from asr.errors import DataError
from asr.lm.counting import Counts, find_suffixes
from asr.lm.estimate import smooth
from asr.lm.table import NgramTable

_LEAST = 1e-9  # probability that is always left to back off to
_SEARCH_STEPS = 40
# Bytes that a model takes, from how many n-grams it has of each order and how many of these have continuations.
Size = Callable[[tuple[int, ...], tuple[int, ...]], int]


def prune(
    table: NgramTable, levels: list[Counts], size: Size, most_bytes: int, rounds: int = 3
) -> tuple[NgramTable, list[Counts]]:
    """Drop the n-grams that are missed least until the model fits.

    Args:
        table: the model, estimated from ``levels``.
        levels: the counts of its n-grams, per order.
        size: says how many bytes a model takes.
        most_bytes: what it may take.
        rounds: in how many rounds n-grams are dropped, each followed by estimating those left.

    Returns:
        The smaller model, and the counts that it is made from.
    """
    start = _measure(size, _everything(table))
    if start <= most_bytes:
        return table, levels
    for index in range(rounds):
        # each round takes the same share of what is there, so that the last ones are small and well judged
        allowed = int(most_bytes * (start / most_bytes) ** ((rounds - 1 - index) / rounds))
        levels = _drop(table, levels, size, allowed)
        table = smooth(levels, table.words)
    return table, levels


def _everything(table: NgramTable) -> tuple[list[np.ndarray], list[np.ndarray]]:
    return [np.ones(n, dtype=bool) for n in table.counts], [order.context for order in table.orders]


def _measure(size: Size, kept: tuple[list[np.ndarray], list[np.ndarray]]) -> int:
    masks, contexts = kept
    inner = [
        int(np.count_nonzero(np.bincount(context[mask], minlength=1)))
        for mask, context in zip(masks[1:], contexts[1:], strict=True)
    ]
    return size(tuple(int(np.count_nonzero(mask)) for mask in masks), (*inner, 0))


def _drop(table: NgramTable, levels: list[Counts], size: Size, most_bytes: int) -> list[Counts]:
    """The counts of the n-grams that stay."""
    contexts = [level.context for level in levels]
    suffixes = find_suffixes(levels, len(table.words))
    losses = [_losses(table, levels, suffixes, k) for k in range(1, len(levels))]

    def masks(threshold: float) -> list[np.ndarray]:
        """Those that are missed enough, and the contexts and suffixes of those that stay."""
        kept = [np.ones(len(levels[0]), dtype=bool), *(loss >= threshold for loss in losses)]
        for k in range(len(levels) - 1, 1, -1):
            kept[k - 1][contexts[k][kept[k]]] = True
            kept[k - 1][suffixes[k][kept[k]]] = True
        return kept

    if _measure(size, (masks(np.inf), contexts)) > most_bytes:
        raise DataError(f"{most_bytes} bytes do not hold the words alone: allow more, or fewer words")
    positive = np.concatenate([loss[loss > 0] for loss in losses]) if losses else np.zeros(0)
    low, high = np.log(1e-30), float(np.log(positive.max())) + 1e-6 if len(positive) else 0.0
    if len(positive):
        low = float(np.log(positive.min())) - 1e-6
    for _ in range(_SEARCH_STEPS):
        middle = (low + high) / 2
        needed = _measure(size, (masks(np.exp(middle)), contexts))
        if needed > most_bytes:
            low = middle
        else:
            high = middle
            if needed > 0.999 * most_bytes:
                break
    kept = masks(np.exp(high))
    fewer = [levels[0]]
    for k in range(1, len(levels)):
        renumbered = np.cumsum(kept[k - 1]) - 1
        fewer.append(levels[k].keep(kept[k], renumbered[contexts[k]]))
    return fewer


def _losses(table: NgramTable, levels: list[Counts], suffixes: list[np.ndarray], k: int) -> np.ndarray:
    """For each n-gram of an order, the relative entropy that dropping it alone would cost."""
    order, below = table.orders[k], table.orders[k - 1]
    often = levels[k - 1].raw / levels[0].raw.sum()
    own = np.exp(order.log_prob)
    shorter = np.exp(below.log_prob[suffixes[k]])
    left = np.maximum(1 - np.bincount(order.context, own, len(below)), _LEAST)[order.context]
    shorter_left = np.maximum(1 - np.bincount(order.context, shorter, len(below)), _LEAST)[order.context]
    weight = np.log(left / shorter_left)
    grown = np.log((left + own) / (shorter_left + shorter))
    change = own * (np.log(shorter) + grown - order.log_prob) + left * (grown - weight)
    return np.asarray(-often[order.context] * change)
