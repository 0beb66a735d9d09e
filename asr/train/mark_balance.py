"""How ready a model of punctuation should be to set each mark: so that as many are missed as are set in vain.

A network that is trained on surprise sets a mark where it is likelier than not, which finds few of the rare ones. What
is added to a mark's score here is what gives it the best F1.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from asr.train.marked_text import CAPITAL, UNSAID
from asr.written.punctuation import MARKS, OUTPUTS

_STEPS = np.arange(-1.5, 2.01, 0.1)
_ROUNDS = 3  # each mark's choice changes what is best for the others


def balance(scores: np.ndarray, marks: np.ndarray, capitals: np.ndarray) -> Tensor:
    """What to add to the scores, ``(OUTPUTS,)``.

    Args:
        scores: ``(n, OUTPUTS)``.
        marks: ``(n,)``; -1 where there is nothing to learn.
        capitals: ``(n,)``.
    """
    added = np.zeros(OUTPUTS, dtype=np.float32)
    here = marks >= 0
    judged, wanted = scores[here][:, : len(MARKS)], marks[here]
    for _ in range(_ROUNDS):
        for mark in range(1, len(MARKS)):
            others = judged + added[: len(MARKS)]
            others[:, mark] = -np.inf
            margin = judged[:, mark] - others.max(axis=1)
            added[mark] = _best(margin, wanted == mark)
    said = capitals != UNSAID
    added[-1] = _best(scores[said][:, -1], capitals[said] == CAPITAL)
    return torch.from_numpy(added)


def _best(margin: np.ndarray, wanted: np.ndarray) -> float:
    f1 = [
        2 * (wanted & (margin + step > 0)).sum() / max(1, wanted.sum() + (margin + step > 0).sum()) for step in _STEPS
    ]
    return float(_STEPS[int(np.argmax(f1))])
