"""Sums and orders of log probabilities, for every search."""

from __future__ import annotations

import math

import numpy as np

from asr.compiler import inner

# Without the runtime, which would count references to every array at every call: more work than the search.
_inner = inner(_nrt=False)

NEVER = -math.inf


@_inner
def log_add(a: float, b: float) -> float:
    if a < b:
        a, b = b, a
    if b == NEVER or a - b > 40:  # no digit of a would change
        return a
    return a + math.log1p(math.exp(b - a))


@_inner
def nth_greatest(values: np.ndarray, count: int, n: int) -> float:
    """The n-th greatest of the first ``count`` values, n >= 1, which are left in another order (quickselect)."""
    low, high, wanted = 0, count - 1, n - 1
    while low < high:
        pivot = values[(low + high) >> 1]
        i, j = low, high
        while i <= j:
            while values[i] > pivot:
                i += 1
            while values[j] < pivot:
                j -= 1
            if i <= j:
                values[i], values[j] = values[j], values[i]
                i += 1
                j -= 1
        if wanted <= j:
            high = j
        elif wanted >= i:
            low = i
        else:
            return values[wanted]
    return values[wanted]
