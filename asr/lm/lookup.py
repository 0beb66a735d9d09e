"""Compiled look-ups in a stored language model: the next word of a sentence.

What was said before is a *state*: the longest n-gram at its end that some n-gram of the model goes on from. So texts
that end alike for the model have the same state, and a word costs the same however long the text is. Before anything
was said the state is `NOTHING`; at the beginning of a sentence it is 1, as after each word it may be that word's id.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from asr.compiler import jit

NOTHING = -1  # the state of no words
GRAMS_A_RANK = 256  # n-grams that share an entry of `LmArrays.rank`
WORD_BITS = 16  # of a word's id that are stored by themselves


class LmArrays(NamedTuple):
    """A language model as compiled code sees it.

    An n-gram of two or more words is a *gram*, named by its index: first come all of two words, then all of three.
    Grams of the same first words, the continuations of a *context*, lie side by side. Words are contexts, and so are
    the grams that others go on from or that have a back-off weight: context w is word w, then come the
    grams among the contexts in their order.
    """

    prob: np.ndarray  # uint8 (words,): code of a word's log probability
    low: np.ndarray  # uint16 (grams,): lower bits of a gram's last word; continuations are sorted by them
    high: np.ndarray  # uint8 (grams,): code of its log probability, above that the upper bits of the word
    inner: np.ndarray  # uint64 (grams but the longest / 64,): whether they are contexts, a bit each
    rank: np.ndarray  # uint32 (grams but the longest / 256,): how many contexts come before among the grams
    backoff: np.ndarray  # uint8 (contexts,): code of a context's back-off weight
    after_word: np.ndarray  # uint32 (words + 1,): where the continuations of each word begin
    block: np.ndarray  # uint32: where those of each block of other contexts begin
    step: np.ndarray  # uint16 (contexts - words + 1,): where those of each such context begin, counted from the block's
    starts: np.ndarray  # int64 (order,): where the grams of each length begin, from two words, and how many there are
    bits: np.ndarray  # int64 (2,): of a probability's code; of a context's place in its block
    prob_codes: np.ndarray  # float32 (order, 256)
    backoff_codes: np.ndarray  # float32 (order, 256)


# Nothing here allocates, so the runtime that would count references to the arrays is left out.
_jit = jit(_nrt=False)


@_jit
def _ones(bits: Any) -> Any:
    """How many bits of 64 are set."""
    bits -= (bits >> np.uint64(1)) & np.uint64(0x5555555555555555)
    bits = (bits & np.uint64(0x3333333333333333)) + ((bits >> np.uint64(2)) & np.uint64(0x3333333333333333))
    bits = (bits + (bits >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return np.int64((bits * np.uint64(0x0101010101010101)) >> np.uint64(56))


@_jit
def _is_context(lm: LmArrays, gram: int) -> Any:
    at = gram >> 6
    return at < len(lm.inner) and (lm.inner[at] >> np.uint64(gram & 63)) & np.uint64(1) != 0


@_jit
def _contexts_before(lm: LmArrays, gram: int) -> Any:
    """How many grams before one are contexts."""
    block = gram // GRAMS_A_RANK
    total = np.int64(lm.rank[block])
    for at in range(block * (GRAMS_A_RANK // 64), gram >> 6):
        total += _ones(lm.inner[at])
    rest = gram & 63
    if rest:
        total += _ones(lm.inner[gram >> 6] << np.uint64(64 - rest))
    return total


@_jit
def _begin(lm: LmArrays, other: int) -> Any:
    """Where the continuations of a context that is no single word begin; those of the one before end there."""
    return np.int64(lm.block[other >> lm.bits[1]]) + np.int64(lm.step[other])


@_jit
def _find(lm: LmArrays, low: int, high: int, word: int) -> Any:
    """The gram between low and high that ends with a word, or -1."""
    wanted = word & ((1 << WORD_BITS) - 1)
    end = high
    while low < high:
        middle = (low + high) >> 1
        if np.int64(lm.low[middle]) < wanted:
            low = middle + 1
        else:
            high = middle
    upper = word >> WORD_BITS
    while low < end and np.int64(lm.low[low]) == wanted:
        if np.int64(lm.high[low]) >> lm.bits[0] == upper:
            return low
        low += 1
    return np.int64(-1)


@_jit
def _length(lm: LmArrays, state: int) -> Any:
    """Words of a state."""
    gram = state - len(lm.prob)
    length = 1
    while length < len(lm.starts) and gram >= lm.starts[length - 1]:
        length += 1
    return length


@_jit
def _last(lm: LmArrays, state: int) -> Any:
    """The last word of a state."""
    gram = state - len(lm.prob)
    if gram < 0:
        return np.int64(state)
    return np.int64(lm.low[gram]) | (np.int64(lm.high[gram]) >> lm.bits[0]) << WORD_BITS


@_jit
def _look(lm: LmArrays, state: int, word: int) -> Any:
    """The gram that a word makes after a state, or -1, and the code of the state's back-off weight."""
    words = len(lm.prob)
    context = state
    if state < words:
        low, high = np.int64(lm.after_word[state]), np.int64(lm.after_word[state + 1])
    else:
        other = _contexts_before(lm, state - words)
        low, high = _begin(lm, other), _begin(lm, other + 1)
        context = words + other
    return _find(lm, low, high, word), lm.backoff[context]


@_jit
def _parent(lm: LmArrays, state: int, length: int) -> Any:
    """The state without its last word."""
    words = len(lm.prob)
    gram = state - words
    if length == 2:
        low, high = 0, words
        while high - low > 1:  # the last word that begins at or before it
            middle = (low + high) >> 1
            if lm.after_word[middle] <= gram:
                low = middle
            else:
                high = middle
        return np.int64(low)
    low, high = lm.starts[length - 3], lm.starts[length - 2]  # grams of one word less
    while high - low > 1:
        middle = (low + high) >> 1
        other = _contexts_before(lm, middle)
        if _begin(lm, other) <= gram:
            low = middle
        else:
            high = middle
    return np.int64(low) + words


@_jit
def shorten(lm: LmArrays, state: int) -> Any:
    """The state without its oldest words: the next shorter one that the model has."""
    length = _length(lm, state)
    if length == 1:
        return np.int64(NOTHING)
    if length == 2:
        return _last(lm, state)
    for dropped in range(1, length):
        found = np.int64(NOTHING)
        for place in range(dropped, length):  # of the word that comes next
            ancestor = np.int64(state)
            for up in range(length, place + 1, -1):
                ancestor = _parent(lm, ancestor, up)
            word = _last(lm, ancestor)
            found = word if place == dropped else _follow(lm, found, word)
            if found < 0:
                break
        if found >= 0:
            return found
    return np.int64(NOTHING)


@_jit
def _follow(lm: LmArrays, state: int, word: int) -> Any:
    """The state that a word makes together with all of another one, or -1."""
    gram, _ = _look(lm, state, word)
    return gram + len(lm.prob) if gram >= 0 and _is_context(lm, gram) else np.int64(NOTHING)


@_jit
def score(lm: LmArrays, state: int, word: int) -> float:
    """Natural log of P(word | what was said before)."""
    total = 0.0
    while state >= 0:
        length = _length(lm, state)
        gram, weight = _look(lm, state, word)
        if gram >= 0:
            return total + lm.prob_codes[length, lm.high[gram] & ((1 << lm.bits[0]) - 1)]
        total += lm.backoff_codes[length - 1, weight]
        state = shorten(lm, state)
    return total + lm.prob_codes[0, lm.prob[word]]


@_jit
def advance(lm: LmArrays, state: int, word: int) -> Any:
    """The state after one more word."""
    longest = len(lm.starts)
    while state >= 0:
        if _length(lm, state) < longest - 1:  # continuations of the longest contexts are none
            found = _follow(lm, state, word)
            if found >= 0:
                return found
        state = shorten(lm, state)
    return np.int64(word)


@_jit
def score_and_advance(lm: LmArrays, state: int, word: int) -> Any:
    """What `score` and `advance` say, in less time than both."""
    total, done = 0.0, False
    words = len(lm.prob)
    while state >= 0:
        length = _length(lm, state)
        gram, weight = _look(lm, state, word)
        if gram >= 0:
            if not done:
                total += lm.prob_codes[length, lm.high[gram] & ((1 << lm.bits[0]) - 1)]
                done = True
            if _is_context(lm, gram):
                return total, gram + words
        elif not done:
            total += lm.backoff_codes[length - 1, weight]
        state = shorten(lm, state)
    if not done:
        total += lm.prob_codes[0, lm.prob[word]]
    return total, np.int64(word)


@_jit
def state_of(lm: LmArrays, history: np.ndarray) -> Any:
    """The state after words, oldest first; -1 are places not filled yet."""
    state = np.int64(NOTHING)
    for word in history:
        if word >= 0:
            state = advance(lm, state, np.int64(word))
    return state


@_jit
def score_word(lm: LmArrays, history: np.ndarray, word: int) -> float:
    """Natural log of P(word | history); of the history, oldest first, -1 are places not filled yet."""
    result: float = score(lm, state_of(lm, history), word)
    return result


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
