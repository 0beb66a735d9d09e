"""What the C library does with freed memory: kept, it need not be asked for and cleared anew.

These are glibc's settings; on other systems the functions do nothing.
"""

from __future__ import annotations

import ctypes
import sys
from typing import Any

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -2, -3, -4  # `mallopt`'s names
_ALL = -1  # of `_TRIM_THRESHOLD`: nothing is given back
_TRAINING_PAD = 256 << 20  # bytes asked for at a time
_LARGEST_MMAP_THRESHOLD = 32 << 20  # bytes: the largest that it allows


def keep_all() -> None:
    """Keep all that is freed, for training on text: each step frees what the next one needs, and asked for anew that
    would take a quarter of the time."""
    _set({_MMAP_MAX: 0, _TRIM_THRESHOLD: _ALL, _TOP_PAD: _TRAINING_PAD})


def keep_some(most_bytes: int) -> None:
    """Keep freed memory up to so much, that of large arrays too."""
    _set({_TRIM_THRESHOLD: most_bytes, _MMAP_THRESHOLD: _LARGEST_MMAP_THRESHOLD})


def give_back() -> None:
    """Return what is free. What batches of one length leave does not always fit those of the next: within two hours of
    training that grew to 12 GB."""
    trim = _function("malloc_trim")
    if trim is not None:
        trim(0)


def _set(options: dict[int, int]) -> None:
    mallopt = _function("mallopt")
    if mallopt is not None:
        for name, value in options.items():
            mallopt(name, value)


def _function(name: str) -> Any:
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None
