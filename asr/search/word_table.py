"""The table by which the word search finds equal hypotheses: open addressing by hashes of words and place.

A slot holds the filling's number times 2^24, plus the index of a hypothesis or, from `beam` on, a candidate; so that
it need not be emptied.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from asr.compiler import inner
from asr.search.word_state import Search

# Without the runtime, which would count references to every array at every call: more work than the search.
_inner = inner(_nrt=False)


@_inner
def mix(key: np.uint64, value: int) -> np.uint64:
    """Hash of a key and one more number (the mixing step of SplitMix64)."""
    mixed = (key ^ np.uint64(value + 2)) * np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


@_inner
def where_key(place: int, hot: int, token: int) -> Any:
    """Place, hot words' state and token as one number."""
    return ((np.int64(place) + 1) << 32) ^ (np.int64(hot) << 9) ^ (np.int64(token) + 1)


@_inner
def clear_table(s: Search) -> None:
    s.stamp[0] += 1


@_inner
def find_slot(s: Search, key: np.uint64) -> Any:
    """The slot of a key that is in the table, or the empty one that it would take."""
    mask = np.uint64(len(s.slots) - 1)
    at = key & mask
    beam = len(s.hypotheses)
    while (s.slots[at] >> 24) == s.stamp[0]:
        entry = s.slots[at] & 0xFFFFFF
        found = s.hypotheses.key[entry] if entry < beam else s.candidates.key[entry - beam]
        if found == key:
            return at
        at = (at + np.uint64(1)) & mask
    return at


@_inner
def entry_at(s: Search, slot: int) -> Any:
    """What a slot holds, or -1."""
    return np.int64(s.slots[slot] & 0xFFFFFF) if (s.slots[slot] >> 24) == s.stamp[0] else np.int64(-1)


@_inner
def fill_slot(s: Search, slot: int, entry: int) -> None:
    s.slots[slot] = (s.stamp[0] << 24) | entry
