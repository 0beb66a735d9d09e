"""How readily marks and capitals are set: shifts of their scores at which precision and recall balance best.

A network that is trained to be surprised least sets too few of the rare marks: where a comma has one chance in three
and so has a full stop, it sets nothing. Where the pauses are known there are few such places, and in recognised speech
what is doubtful is often a word that was misheard: so the shifts are for words alone.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from asr.train.marked_text import CAPITAL, SMALL
from asr.train.punctuation_score import Hits
from asr.written.punctuation import MARKS, OUTPUTS

Array = np.ndarray[Any, Any]

_SHIFTS = np.arange(-1.0, 2.05, 0.1, dtype=np.float32)  # that are tried
_ROUNDS = 3  # over the marks: where one is set another is not


def f1(is_set: Array, here: Array) -> float:
    """Of places where something was set and where it belongs, both bool."""
    return Hits(int((is_set & here).sum()), int(here.sum()), int(is_set.sum())).f1


def best_shifts(scores: Array, marks: Array, capitals: Array) -> Array:
    """What to add to the scores, float32 ``(OUTPUTS,)``, so that the F1 of marks and capitals are highest.

    Args:
        scores: float32 ``(places, OUTPUTS)``, as the network gives them.
        marks: int ``(places,)``: what belongs there; less than zero where nobody knows.
        capitals: int ``(places,)``: as `asr.train.marked_text` has them.
    """
    shifts = np.zeros(OUTPUTS, np.float32)
    known = marks >= 0
    at_marks, marks = scores[known, : len(MARKS)], marks[known]

    def quality() -> float:
        chosen = (at_marks + shifts[: len(MARKS)]).argmax(axis=1)
        return sum(f1(chosen == mark, marks == mark) for mark in range(1, len(MARKS)))

    for _ in range(_ROUNDS):
        for mark in range(1, len(MARKS)):
            found = []
            for shift in _SHIFTS:
                shifts[mark] = shift
                found.append(quality())
            shifts[mark] = _SHIFTS[int(np.argmax(found))]
    said = (capitals == SMALL) | (capitals == CAPITAL)
    own, here = scores[said, -1], capitals[said] == CAPITAL
    shifts[-1] = _SHIFTS[int(np.argmax([f1(own + shift > 0, here) for shift in _SHIFTS]))]
    return shifts
