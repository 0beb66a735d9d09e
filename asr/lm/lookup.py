"""Compiled look-ups in a stored language model: the next word of a sentence.

What was said before is a *state*: the longest n-gram at its end that some n-gram of the model goes on from. So texts
that end alike for the model have the same state, and a word costs the same however long the text is. -1 is the state
before anything was said, 1 that at the beginning of a sentence.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from asr.compiler import jit

NOTHING = -1  # the state of no words


class Children(NamedTuple):
    """Where the continuations of each context begin: as they are for words, in steps from a block's for the rest."""

    of_word: np.ndarray  # uint32 (words + 1,)
    block: np.ndarray  # uint32 (blocks,)
    step: np.ndarray  # uint16 (longer contexts + 1, or none)


class LmArrays(NamedTuple):
    """A language model as compiled code sees it.

    N-grams that others go on from are *contexts*; the rest are *leaves*, and have no back-off weight. Context w is the
    word w, then come the contexts of two words, and so on. An n-gram's continuations lie side by side, sorted by word:
    one stretch of contexts, one of leaves. The word of an n-gram is stored as its lower 16 bits; those above lie
    in one byte with the code of its probability.
    """

    prob: np.ndarray  # uint8 (words,): code of a word's log probability
    context_word: np.ndarray  # uint16 (longer contexts,)
    context_prob: np.ndarray  # uint8 (longer contexts,)
    backoff: np.ndarray  # uint8 (contexts,): code of its back-off weight
    leaf_word: np.ndarray  # uint16 (leaves,)
    leaf_prob: np.ndarray  # uint8 (leaves,)
    contexts: Children  # continuations that are contexts, counted from the first longer context
    leaves: Children
    starts: np.ndarray  # int64 (order,): where the contexts of each length begin, and how many contexts there are
    bits: np.ndarray  # int64 (3,): of a probability's code; of a place in a block of contexts' children; of leaves'
    prob_codes: np.ndarray  # float32 (order, 256)
    backoff_codes: np.ndarray  # float32 (order, 256)


# Nothing here allocates, so the runtime that would count references to the arrays is left out.
_jit = jit(_nrt=False, forceinline=True)


@_jit
def _begin(children: Children, words: int, bits: int, context: int) -> int:
    """Where the continuations of a context begin, which is where those of the context before it end."""
    if context < words:
        return np.int64(children.of_word[context])
    at = context - words
    return np.int64(children.block[at >> bits]) + np.int64(children.step[at])


@_jit
def _end(children: Children, words: int, bits: int, context: int) -> int:
    if context < words:
        return np.int64(children.of_word[context + 1])
    return _begin(children, words, bits, context + 1)


@_jit
def _search(low_bits: np.ndarray, high_bits: np.ndarray, shift: int, low: int, high: int, word: int) -> int:
    """The place of a word among those from low to high, or -1."""
    while low < high:
        middle = (low + high) >> 1
        found = np.int64(low_bits[middle]) | (np.int64(high_bits[middle]) >> shift) << 16
        if found < word:
            low = middle + 1
        elif found > word:
            high = middle
        else:
            return middle
    return -1


@_jit
def _longer(lm: LmArrays, context: int, word: int) -> int:
    """The context that a word makes after another one, or -1."""
    words = len(lm.prob)
    if context >= words and context - words >= len(lm.contexts.step) - 1:
        return -1
    bits = lm.bits[1]
    low, high = _begin(lm.contexts, words, bits, context), _end(lm.contexts, words, bits, context)
    found = _search(lm.context_word, lm.context_prob, lm.bits[0], low, high, word)
    return found + words if found >= 0 else -1


@_jit
def _leaf(lm: LmArrays, context: int, word: int) -> int:
    """The leaf that a word makes after a context, or -1."""
    words = len(lm.prob)
    if context >= words and context - words >= len(lm.leaves.step) - 1:
        return -1
    bits = lm.bits[2]
    low, high = _begin(lm.leaves, words, bits, context), _end(lm.leaves, words, bits, context)
    return _search(lm.leaf_word, lm.leaf_prob, lm.bits[0], low, high, word)


@_jit
def _length(lm: LmArrays, context: int) -> int:
    """Words of a context."""
    length = 1
    while length < len(lm.starts) - 1 and context >= lm.starts[length]:
        length += 1
    return length


@_jit
def _last(lm: LmArrays, context: int) -> int:
    """The last word of a context."""
    at = context - len(lm.prob)
    if at < 0:
        return context
    return np.int64(lm.context_word[at]) | (np.int64(lm.context_prob[at]) >> lm.bits[0]) << 16


@_jit
def _parent(lm: LmArrays, context: int, length: int) -> int:
    """The context without its last word."""
    words = len(lm.prob)
    low, high = lm.starts[length - 2], lm.starts[length - 1]  # the last that begins at or before it
    while high - low > 1:
        middle = (low + high) >> 1
        if _begin(lm.contexts, words, lm.bits[1], middle) <= context - words:
            low = middle
        else:
            high = middle
    return low


@_jit
def shorten(lm: LmArrays, state: int) -> int:
    """The state without its oldest words: the next shorter one that the model has."""
    length = _length(lm, state)
    if length == 1:
        return NOTHING
    if length == 2:
        return _last(lm, state)
    for dropped in range(1, length):
        found = NOTHING
        for place in range(dropped, length):  # of the word that comes next
            ancestor = state
            for up in range(length, place + 1, -1):
                ancestor = _parent(lm, ancestor, up)
            word = _last(lm, ancestor)
            found = word if place == dropped else _longer(lm, found, word)
            if found < 0:
                break
        if found >= 0:
            return found
    return NOTHING


@_jit
def score(lm: LmArrays, state: int, word: int) -> float:
    """Natural log of P(word | what was said before)."""
    total = 0.0
    mask = (1 << lm.bits[0]) - 1
    while state >= 0:
        length = _length(lm, state)
        found = _leaf(lm, state, word)
        if found >= 0:
            return total + lm.prob_codes[length, lm.leaf_prob[found] & mask]
        found = _longer(lm, state, word)
        if found >= 0:
            return total + lm.prob_codes[length, lm.context_prob[found - len(lm.prob)] & mask]
        total += lm.backoff_codes[length - 1, lm.backoff[state]]
        state = shorten(lm, state)
    return total + lm.prob_codes[0, lm.prob[word]]


@_jit
def advance(lm: LmArrays, state: int, word: int) -> int:
    """The state after one more word."""
    while state >= 0:
        found = _longer(lm, state, word)
        if found >= 0:
            return found
        state = shorten(lm, state)
    return word


@_jit
def score_and_advance(lm: LmArrays, state: int, word: int) -> Any:
    """What `score` and `advance` say, in less time than both."""
    total, done = 0.0, False
    mask = (1 << lm.bits[0]) - 1
    while state >= 0:
        length = _length(lm, state)
        found = _longer(lm, state, word)
        if found >= 0:
            if not done:
                total += lm.prob_codes[length, lm.context_prob[found - len(lm.prob)] & mask]
            return total, found
        if not done:
            leaf = _leaf(lm, state, word)
            if leaf >= 0:
                total += lm.prob_codes[length, lm.leaf_prob[leaf] & mask]
                done = True
            else:
                total += lm.backoff_codes[length - 1, lm.backoff[state]]
        state = shorten(lm, state)
    if not done:
        total += lm.prob_codes[0, lm.prob[word]]
    return total, np.int64(word)


@_jit
def state_of(lm: LmArrays, history: np.ndarray) -> int:
    """The state after words, oldest first; -1 are places not filled yet."""
    state = NOTHING
    for word in history:
        if word >= 0:
            state = advance(lm, state, word)
    return state


@_jit
def score_word(lm: LmArrays, history: np.ndarray, word: int) -> float:
    """Natural log of P(word | history); of the history, oldest first, -1 are places not filled yet."""
    return score(lm, state_of(lm, history), word)


@_jit
def score_known(lm: LmArrays, ids: np.ndarray) -> float:
    """Natural log of the probability of all words of a sentence but the first and the unknown ones."""
    total = 0.0
    state = np.int64(ids[0])
    for word in ids[1:]:
        added, state = score_and_advance(lm, state, np.int64(word))
        if word != 0:
            total += added
    return total
