"""What a model of punctuation knows of each word before it learns: its number, its ending, its usual capitals."""

from __future__ import annotations

from typing import Any

import numpy as np

from asr.train.marked_text import WordForms
from asr.written.punctuation import NO_PRIOR, PRIOR_SCALE, ending_number

Array = np.ndarray[Any, Any]


class WordTable:
    """What the network is told of each word, by its number among `WordForms`.

    Args:
        forms: the words.
        counts: how often each occurs in what is trained on.
        words: the most frequent ones, which have vectors of their own.
        listed: so many have a prior for capitals.
        endings: vectors of words' last letters.
    """

    def __init__(self, forms: WordForms, counts: np.ndarray, words: int, listed: int, endings: int) -> None:
        order = np.argsort(-counts, kind="stable")[:listed]
        order = order[counts[order] > 1]
        self.words = [forms.words[number] for number in order]
        self.numbers = np.full(len(forms.words), words, dtype=np.int64)
        self.numbers[order[:words]] = np.arange(min(len(order), words))
        self.endings = np.array([ending_number(word, endings) for word in forms.words], dtype=np.int64)
        capital = np.zeros(len(forms.words))
        best: dict[int, tuple[int, str]] = {}
        for (number, form), count in forms.forms.items():
            capital[number] += count
            if count > best.get(number, (0, ""))[0]:
                best[number] = (count, form)
        small = np.array([forms.small[number] for number in range(len(forms.words))], dtype=np.float64)
        self.stored = stored_priors(small[order], capital[order])
        self.priors = np.full(len(forms.words), np.nan, dtype=np.float32)
        self.priors[order] = np.where(self.stored == NO_PRIOR, np.nan, self.stored / PRIOR_SCALE)
        self.forms = {}
        for number, prior in zip(order.tolist(), self.stored.tolist(), strict=True):
            if prior < 0:
                continue  # a word that has its capitals in headings
            form = best.get(number, (0, ""))[1]
            if form.isascii() and form.lower() == forms.words[number] and form != form.capitalize():
                self.forms[forms.words[number]] = form


def stored_priors(small: Array, capital: Array) -> Array:
    """Log odds of a capital, int8, of counts in print; `NO_PRIOR` where a word was seen less than twice."""
    odds = np.log((capital + 0.3) / (small + 0.3)) * PRIOR_SCALE
    return np.where(small + capital < 2, NO_PRIOR, np.clip(np.rint(odds), -127, 127)).astype(np.int8)
