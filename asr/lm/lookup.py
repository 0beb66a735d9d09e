"""Compiled look-ups in a stored language model: the next letter of a word, the next word of a sentence."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from asr.compiler import jit


class LmArrays(NamedTuple):
    """A language model as compiled code sees it.

    Two tries. The spelling trie's nodes are letters, its root node 0, the children of a node side by
    side. The n-gram trie's nodes are n-grams: node w is the word w, then come all n-grams of two words,
    and so on, the children of a node (its continuations) side by side and sorted by word.
    """

    letter: np.ndarray  # uint8 (nodes,): the letter that leads to a spelling node
    first_letter: np.ndarray  # uint32 (nodes + 1,): where a spelling node's children begin
    spelt: np.ndarray  # uint32 (nodes,): the word that ends here, or 0
    ahead: np.ndarray  # uint8 (nodes,): code of the likeliest word at or below here
    word: np.ndarray  # uint16 or uint32 (n-grams,): an n-gram's last word
    prob: np.ndarray  # uint8 (n-grams,): code of its log probability
    backoff: np.ndarray  # uint8 (n-grams but the longest,): code of its back-off weight
    first: np.ndarray  # uint32 (n-grams but the longest, + 1): where an n-gram's children begin
    starts: np.ndarray  # int64 (order + 1,): where the n-grams of each length begin
    prob_codes: np.ndarray  # float32 (order, 256)
    backoff_codes: np.ndarray  # float32 (order, 256)


# Nothing here allocates, so the runtime that would count references to the arrays is left out.
_jit = jit(_nrt=False, forceinline=True)


@_jit
def spell(lm: LmArrays, node: int, letter: int) -> int:
    """The spelling node one letter on, or -1."""
    for child in range(np.int64(lm.first_letter[node]), np.int64(lm.first_letter[node + 1])):
        if lm.letter[child] == letter:
            return child
    return -1


@_jit
def continuation(lm: LmArrays, node: int, word: int) -> Any:
    """The n-gram that a word makes after another one, or -1."""
    if node >= len(lm.first) - 1:
        return -1
    low, high = np.int64(lm.first[node]), np.int64(lm.first[node + 1])
    while low < high:
        middle = (low + high) >> 1
        if lm.word[middle] < word:
            low = middle + 1
        else:
            high = middle
    if low < np.int64(lm.first[node + 1]) and lm.word[low] == word:
        return low
    return -1


@_jit
def score_word(lm: LmArrays, history: np.ndarray, word: int) -> float:
    """Natural log of P(word | history); of the history, oldest first, -1 are places not filled yet."""
    total = 0.0
    for begin in range(len(history)):
        if history[begin] < 0:
            continue
        node = int(history[begin])
        for i in range(begin + 1, len(history)):
            node = continuation(lm, node, history[i])
            if node < 0:
                break
        if node < 0:
            continue  # a context never seen has no weight to pay
        found = continuation(lm, node, word)
        level = len(history) - begin
        if found >= 0:
            return total + lm.prob_codes[level, lm.prob[found]]
        if node < len(lm.backoff):
            total += lm.backoff_codes[level - 1, lm.backoff[node]]
    return total + lm.prob_codes[0, lm.prob[word]]


@_jit
def score_known(lm: LmArrays, ids: np.ndarray, order: int) -> float:
    """Natural log of the probability of all words of a sentence but the first and the unknown ones."""
    total = 0.0
    for at in range(1, len(ids)):
        if ids[at] != 0:
            total += score_word(lm, ids[max(0, at - order + 1) : at], ids[at])
    return total
