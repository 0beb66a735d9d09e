"""Counting the n-grams of a long text in bounded memory: sorted 64-bit keys, rare n-grams dropped at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from asr.compiler import jit
from asr.errors import DataError
from asr.lm.table import find_keys

_KEY_BITS = 63


@dataclass(frozen=True)
class Counts:
    """The n-grams of one length that were kept, sorted as in `asr.lm.table`. One row an n-gram."""

    context: np.ndarray  # int64
    word: np.ndarray  # int64
    raw: np.ndarray  # int64: how often it occurs
    seen: tuple[int, int, int, int]  # how many different n-grams occur once, twice, three and four times, kept or not

    def __len__(self) -> int:
        return len(self.word)

    def keep(self, mask: np.ndarray, context: np.ndarray) -> Counts:
        """The rows of a mask, with new context indices."""
        return Counts(context[mask], self.word[mask], self.raw[mask], self.seen)


def count_ngrams(text: np.ndarray, size: int, least: tuple[int, ...]) -> list[Counts]:
    """Count the n-grams that lie within sentences.

    Args:
        text: word ids, sentences between 1 and 2.
        size: of the vocabulary.
        least: per order, how often an n-gram must occur to be kept; must not fall. Of n-grams that hold the
            unknown word only the word itself is kept.
    """
    order = len(least)
    bits = max(1, (size - 1).bit_length())
    if (order - 1) * bits > _KEY_BITS:
        raise DataError(f"{order}-grams over {size} words are too many: choose a lower order or fewer words")
    raw = np.bincount(text, minlength=size)
    levels = [Counts(np.zeros(size, dtype=np.int64), np.arange(size), raw, _seen(raw))]
    below = np.arange(size)  # packed keys of the level below
    for n in range(2, order + 1):
        free = _KEY_BITS - (n - 1) * bits  # of the first word, so much fits into a key
        parts = max(1, -(-size >> min(free, bits)))
        kept_keys, kept_context, kept_raw, seen = [], [], [], np.zeros(5, dtype=np.int64)
        for part in range(parts):
            keys = np.empty(len(text), dtype=np.int64)
            keys = keys[: _pack(text, n, bits, part, min(free, bits), keys)]
            keys.sort()
            counts = np.empty(len(keys), dtype=np.int32)
            kept = _distinct(keys, counts, max(1, least[n - 1]), seen)
            keys, counts = keys[:kept].copy(), counts[:kept].astype(np.int64)
            whole = (keys >> bits) + (part << (free + (n - 2) * bits) if parts > 1 else 0)
            kept_context.append(find_keys(below, whole))
            kept_keys.append(keys + (part << (free + (n - 1) * bits)) if n < order else keys)
            kept_raw.append(counts)
        keys = np.concatenate(kept_keys)
        one, two, three, four = seen[1:].tolist()
        words = keys & ((1 << bits) - 1)
        levels.append(Counts(np.concatenate(kept_context), words, np.concatenate(kept_raw), (one, two, three, four)))
        below = keys
    return levels


def find_suffixes(levels: list[Counts], size: int) -> list[np.ndarray]:
    """Per order and n-gram, the index of its last n-1 words in the order below (0 for unigrams), or -1."""
    found = [np.zeros(len(levels[0]), dtype=np.int64)]
    for k, level in enumerate(levels[1:], 1):
        suffix = level.word
        if k > 1:
            below = levels[k - 1]
            suffix = find_keys(below.context * size + below.word, found[-1][level.context] * size + level.word)
        found.append(suffix)
    return found


def _seen(raw: np.ndarray) -> tuple[int, int, int, int]:
    one, two, three, four = (int((raw[3:] == c).sum()) for c in (1, 2, 3, 4))
    return one, two, three, four


@jit()
def _pack(text: np.ndarray, n: int, bits: int, part: int, free: int, keys: np.ndarray) -> int:
    """Keys of the n-grams whose first word is of a part; how many."""
    found = 0
    length = 0  # of the stretch without unknown words or sentence bounds that ends here
    key = np.int64(0)
    mask = (np.int64(1) << np.int64((n - 1) * bits)) - 1
    low = (np.int64(1) << np.int64(free)) - 1
    for at in range(len(text)):
        word = np.int64(text[at])
        if word == 1:
            length = 0
        # the first word goes in without what names the part
        if length >= n - 1 and word != 0:
            first = np.int64(text[at - n + 1])
            if first >> free == part:
                keys[found] = ((first & low) << np.int64((n - 1) * bits)) | ((key << np.int64(bits)) & mask) | word
                found += 1
        key = ((key << np.int64(bits)) | word) & (mask >> np.int64(bits))
        length = 0 if word == 0 or word == 2 else length + 1
    return found


@jit()
def _distinct(keys: np.ndarray, counts: np.ndarray, least: int, seen: np.ndarray) -> int:
    """Move the different ones of sorted keys that come often enough to the front, with their counts; how many."""
    kept, at = 0, 0
    while at < len(keys):
        end = at + 1
        while end < len(keys) and keys[end] == keys[at]:
            end += 1
        count = end - at
        if count <= 4:
            seen[count] += 1
        if count >= least:
            keys[kept], counts[kept] = keys[at], count
            kept += 1
        at = end
    return kept
