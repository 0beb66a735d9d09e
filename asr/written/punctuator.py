"""Runs the model of punctuation over one stream's words, as many at a time as are settled.

What is decided of a word rests on the words before it, the word, and as many after it as the model reads; it is decided
once. The memory goes on from utterance to utterance: a pause in the middle of a sentence need not end it.
"""

from __future__ import annotations

import copy
from collections import deque
from itertools import islice
from typing import Any, NamedTuple

import numpy as np

from asr.array_table import ArrayTable
from asr.written.punctuation import (
    MARKS,
    NEW_UTTERANCE,
    PAUSES_S,
    SHIFTS,
    UNKNOWN_PAUSE,
    Punctuation,
)
from asr.written.punctuation_kernel import MarkStep, decide, make_step
from asr.written.sentence_hints import HINTS, NO_WORD, WORDS_READ, hint_word

Array = np.ndarray[Any, Any]


class Decision(NamedTuple):
    """What is written with a word."""

    mark: str  # what follows it, one of `MARKS`
    capital: bool  # whether it has one of its own, wherever it stands


def pause_kind(pause_s: float) -> int:
    """The kind of a pause between two words."""
    return 1 + sum(pause_s > edge_s for edge_s in PAUSES_S)


class Punctuator:
    """Marks and capitals for one stream. Belongs to one caller."""

    def __init__(self, model: Punctuation) -> None:
        self._model = model
        self._waiting: deque[Array] = deque()  # what is known of words that are not decided yet
        self._first = True  # whether the next word begins an utterance
        self._words = model.lookahead + 1  # that are read at once
        self._step = ArrayTable(make_step(model.weights.fields, self._words * len(model.stored["nothing"])))
        self._unknown = model.width + 2 + UNKNOWN_PAUSE  # where a word says that the pause before it is not known
        self._spoken = np.full(WORDS_READ, NO_WORD, np.int64)  # the last words, as the language model numbers them

    def copy(self) -> Punctuator:
        """One that goes on from here by itself."""
        other = copy.copy(self)
        other._waiting, other._spoken = self._waiting.copy(), self._spoken.copy()
        other._step = ArrayTable(MarkStep(*(part.copy() for part in self._step.fields)))
        return other

    def accept(self, word: str, pause_s: float | None) -> None:
        """Take a word of the utterance, and the pause before it if that is known."""
        kind = NEW_UTTERANCE if self._first else UNKNOWN_PAUSE if pause_s is None else pause_kind(pause_s)
        self._first = False
        self._waiting.append(self._look_up(word, kind))

    def decide(self, over: bool) -> list[Decision]:
        """What is settled by the words taken so far; ``over`` says that the utterance has ended with them."""
        ahead = 0 if over else self._model.lookahead
        decisions = []
        while len(self._waiting) > ahead:
            decisions.append(self._next())
            self._waiting.popleft()
        if over:
            self._first = True
        return decisions

    def forget(self) -> None:
        """The utterance has ended without its last words."""
        if self._waiting:
            self._spoken[:] = NO_WORD
        self._waiting.clear()
        self._first = True

    def _look_up(self, word: str, pause: int) -> Array:
        model = self._model
        known, number = model.describe(word)
        row = known.copy()
        row[model.width + 2 + pause] = 1.0
        if model.reads_hints and model.lm is not None:
            self._spoken[:-1] = self._spoken[1:]
            self._spoken[-1] = number
            hint_word(model.lm_table, self._spoken, row[-HINTS:])
        return row

    def _next(self) -> Decision:
        """Decide the first word that waits."""
        step: MarkStep = self._step.fields
        rows = [*islice(self._waiting, self._words)]
        rows += [self._model.stored["nothing"]] * (self._words - len(rows))
        np.concatenate(rows, out=step.words[: self._words * len(rows[0])])
        decide(self._model.weights, self._step)
        scores = step.scores
        if len(self._waiting) > 1 and self._waiting[1][self._unknown]:
            scores = scores + self._model.stored[SHIFTS]
        *marks, capital = scores.tolist()
        return Decision(MARKS[marks.index(max(marks))], capital > 0)
