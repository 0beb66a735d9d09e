"""All ways of saying a text, as CTC's steps: the graph that a numerator sums over.

A state is a phoneme of one pronunciation, or the optional blank before, after or between two. State 0 is the blank
before the text and the last state the blank after it; a path begins in state 0 or in one that follows it, and ends in
the last state or in one that it follows. Every state may follow itself; the others that it may follow are listed, and
all lie before it. Between two phonemes of the same kind the blank is not optional.

Words meet in a blank that all their pronunciations share, so a text of n words with two pronunciations each has n times
as many states, not 2 ** n. A reading that two different choices of pronunciations spell counts twice.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from asr.errors import DataError

Pronunciation = tuple[int, ...]
Word = tuple[Pronunciation, ...]


@dataclass(frozen=True, eq=False)
class PhoneGraph:
    """See above; made by `of`.

    Attributes:
        labels: ``(states,)`` int32, a state's token: 0 is blank.
        starts: ``(states + 1,)`` int32, where a state's predecessors begin in ``predecessors``.
        predecessors: int32, in ascending order for each state.
        words: the words' pronunciations.
        word_states: ``(words,)`` int32, the first state of each word.
    """

    labels: NDArray[np.int32]
    starts: NDArray[np.int32]
    predecessors: NDArray[np.int32]
    words: tuple[Word, ...]
    word_states: NDArray[np.int32]

    @classmethod
    def of(cls, words: Sequence[Word]) -> PhoneGraph:
        """The graph of a text.

        Args:
            words: for each word its pronunciations, each a tuple of phoneme ids from 1.

        Raises:
            DataError: a word without a pronunciation, a pronunciation without phonemes, or an id below 1.
        """
        labels, counts, predecessors = [0], [0], list[int]()
        blank = 0  # the blank before the next word
        ends = list[tuple[int, int]]()  # state and phoneme of the ends of the word before
        word_states = []
        for word in words:
            parts = _parts(word)
            here = len(labels)
            word_states.append(here)
            last = []
            for part in parts:
                before = [state for state, phone in ends if phone != part.first]
                predecessors.append(blank)
                predecessors += before
                counts.append(1 + len(before))
                base = len(labels)
                labels += part.labels
                counts += part.counts
                predecessors += [base + offset for offset in part.predecessors]
                last.append((len(labels) - 1, part.labels[-1]))
            ends = last
            blank = len(labels)
            labels.append(0)
            counts.append(len(ends))
            predecessors += [state for state, _ in ends]
        starts = np.zeros(len(labels) + 1, np.int32)
        np.cumsum(counts, out=starts[1:])
        as_int32 = functools.partial(np.array, dtype=np.int32)
        return cls(as_int32(labels), starts, as_int32(predecessors), tuple(words), as_int32(word_states))

    @property
    def ends(self) -> list[int]:
        """The states that a path may end in."""
        return [len(self.labels) - 1, *self.predecessors[self.starts[-2] :]]

    def choice(self, state: int) -> tuple[int, int]:
        """Which word a phoneme's state belongs to, and which of its pronunciations."""
        word = int(np.searchsorted(self.word_states, state, "right")) - 1
        left = state - int(self.word_states[word])
        for number, pronunciation in enumerate(self.words[word]):
            left -= 2 * len(pronunciation) - 1
            if left < 0:
                return word, number
        raise ValueError("a blank between words belongs to none")


@dataclass(frozen=True)
class _Part:
    """A pronunciation's states, from its first phoneme to its last."""

    first: int
    labels: list[int]
    counts: list[int]  # of predecessors, without the first state's
    predecessors: list[int]  # counted from the first state


@functools.lru_cache(maxsize=200_000)
def _parts(word: Word) -> tuple[_Part, ...]:
    if not word:
        raise DataError("a word of the text has no pronunciation: give it one, or leave the line out")
    return tuple(_part(pronunciation) for pronunciation in word)


def _part(pronunciation: Pronunciation) -> _Part:
    if not pronunciation or min(pronunciation) < 1:
        raise DataError(f"a pronunciation is phoneme ids from 1, at least one: not {pronunciation}")
    labels, counts, predecessors = [pronunciation[0]], list[int](), list[int]()
    for before, phone in itertools.pairwise(pronunciation):
        at = len(labels)
        direct = [at - 1] if phone != before else []
        labels += [0, phone]
        predecessors += [at - 1, *direct, at]
        counts += [1, 1 + len(direct)]
    return _Part(pronunciation[0], labels, counts, predecessors)
