"""Spoken words as the rules of the written form see them: a window that knows what has not been said yet.

A rule decides about the words at one place. It looks at words before and after it through `Words`, which raises
`Undecided` when it asks for a word that is still to come. So a decision rests on known words alone, and what was
written once is written so for good, however the words arrive.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

LONGEST = 24  # words from a place on that a rule may look at


class Undecided(Exception):
    """What is written here depends on a word that has not been heard yet."""


class Piece(NamedTuple):
    """A written token and how many spoken words it stands for."""

    text: str
    words: int


Pieces = list[Piece]


class Words:
    """Words around a place; positions count from the utterance's start. Outside the utterance all words are empty."""

    def __init__(self, words: Sequence[str], at: int, over: bool) -> None:
        """``over`` says that no words will follow."""
        self._words = words
        self._end = at + LONGEST
        self._over = over

    def __getitem__(self, at: int) -> str:
        if at < 0 or at >= self._end:
            return ""
        if at < len(self._words):
            return self._words[at]
        if self._over:
            return ""
        raise Undecided

    def follows(self, at: int, *phrase: str) -> bool:
        """Whether these words stand at a place."""
        return all(self[at + k] == word for k, word in enumerate(phrase))


def spread(texts: Sequence[str], words: int) -> Pieces:
    """Pieces for texts that a stretch of words is written as together: a word each, the last one has the rest."""
    last = len(texts) - 1
    return [Piece(text, 1 if k < last else words - last) for k, text in enumerate(texts)]


def word_set(text: str) -> frozenset[str]:
    """The words of a text."""
    return frozenset(text.split())
