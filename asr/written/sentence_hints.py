"""What n-grams say of where sentences end: hints that the model of punctuation reads beside each word.

A language model that has read far more text knows how sentences end and how they begin. Of a word and the two before it
come three numbers, natural logarithms:

- the probability that a sentence ends before the word;
- how much likelier the word is as a sentence's first than going on with the words before;
- how much likelier it is as a sentence's second, if the word before it was the first.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from asr.compiler import entry, inner, jit
from asr.lm.lookup import LmArrays, advance, score

HINTS = 3
WORDS_READ = 3  # the word and the two before it
NO_WORD = -1  # in place of a word where nothing is known of what was said before
_SCALE = np.float32(0.25)  # of all hints, for a network
_BEGIN, _END = 1, 2  # of a sentence: words of the language model
_COMMON_END = 4.0  # added to the first hint, which is -4 where an end is as likely as usual


@inner(_nrt=False)
def hint(lm: LmArrays, first: int, second: int, word: int, hints: Any) -> None:
    """The hints of a word.

    Args:
        lm: the language model.
        first: the word before the word before, or `NO_WORD`; as all words, its number in the language model.
        second: the word before, or `NO_WORD`, and then all hints are zero.
        word: the word itself.
        hints: float32 ``(HINTS,)``, written.
    """
    if second < 0:
        for i in range(HINTS):
            hints[i] = 0
        return
    before = np.int64(second) if first < 0 else advance(lm, np.int64(first), np.int64(second))
    goes_on = score(lm, before, np.int64(word))
    hints[0] = _SCALE * (score(lm, before, np.int64(_END)) + _COMMON_END)
    hints[1] = _SCALE * (score(lm, np.int64(_BEGIN), np.int64(word)) - goes_on)
    hints[2] = _SCALE * (score(lm, advance(lm, np.int64(_BEGIN), np.int64(second)), np.int64(word)) - goes_on)


@entry
def hint_word(lm: LmArrays, words: Any, hints: Any) -> None:
    """The hints of the last of some words, int64 ``(WORDS_READ,)``."""
    hint(lm, words[0], words[1], words[2], hints)


@jit(_nrt=False)
def hint_lines(lm: LmArrays, words: Any, follows: Any, hints: Any) -> None:
    """The hints of lines of text, to train on.

    Args:
        lm: the language model.
        words: int64 ``(length, lines)``.
        follows: bool, as many: whether a word comes after the one before it in the line.
        hints: float32 ``(length, lines, HINTS)``, written.
    """
    for line in range(words.shape[1]):
        first, second = np.int64(NO_WORD), np.int64(NO_WORD)
        for at in range(words.shape[0]):
            if not follows[at, line]:
                first, second = np.int64(NO_WORD), np.int64(NO_WORD)
            hint(lm, first, second, words[at, line], hints[at, line])
            first, second = second, words[at, line]
