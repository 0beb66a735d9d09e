"""What a model of punctuation knows of each word before it learns: its number, its ending, its usual capitals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from asr.train.marked_text import WordForms
from asr.written.punctuation import NO_PRIOR, PRIOR_SCALE, Punctuation, ending_number

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class WordTable:
    """What the network is told of each word, by its number among `WordForms`."""

    words: Sequence[str]  # that are listed in the model, most frequent first
    stored: Array  # int8: of each of these its prior for a capital, as the file has it
    forms: Mapping[str, str]  # words with capitals elsewhere than at the start
    numbers: Array  # int64, of each word of the texts: its vector, or how many vectors there are if it has none
    endings: Array  # int64: the vector of its ending
    priors: Array  # float32: log odds of a capital; NaN where that is not known

    @classmethod
    def counted(cls, forms: WordForms, counts: np.ndarray, words: int, listed: int, endings: int) -> WordTable:
        """Of texts.

        Args:
            forms: the texts' words.
            counts: how often each occurs in what is trained on.
            words: the most frequent ones, which have vectors of their own.
            listed: so many have a prior for capitals.
            endings: vectors of words' last letters.
        """
        order = np.argsort(-counts, kind="stable")[:listed]
        order = order[counts[order] > 1]
        capital = np.zeros(len(forms.words))
        best: dict[int, tuple[int, str]] = {}
        for (number, form), count in forms.forms.items():
            capital[number] += count
            if count > best.get(number, (0, ""))[0]:
                best[number] = (count, form)
        small = np.array([forms.small[number] for number in range(len(forms.words))], dtype=np.float64)
        stored = stored_priors(small[order], capital[order])
        odd: dict[str, str] = {}
        for number, prior in zip(order.tolist(), stored.tolist(), strict=True):
            if prior < 0:
                continue  # a word that has its capitals in headings
            form = best.get(number, (0, ""))[1]
            if form.isascii() and form.lower() == forms.words[number] and form != form.capitalize():
                odd[forms.words[number]] = form
        return cls._of([forms.words[number] for number in order], stored, odd, forms, words, endings)

    @classmethod
    def of_model(cls, model: Punctuation, forms: WordForms) -> WordTable:
        """Of a model that is trained on: what it knows of the texts' words, and it lists no others."""
        ranks = model.stored["ranks"]
        words, stored = [""] * len(ranks), np.empty(len(ranks), np.int8)
        stored[ranks] = model.stored["priors"]
        for word, rank in zip(model.words, ranks.tolist(), strict=True):
            words[rank] = word
        return cls._of(words, stored, model.forms, forms, len(model.stored["words"]), len(model.stored["endings"]))

    @classmethod
    def _of(
        cls, words: Sequence[str], stored: Array, odd: Mapping[str, str], forms: WordForms, vectors: int, endings: int
    ) -> WordTable:
        vectors = min(vectors, len(words))
        ranks = {word: rank for rank, word in enumerate(words)}
        at = np.array([ranks.get(word, -1) for word in forms.words], dtype=np.int64)
        known = (at >= 0) & (stored[at] != NO_PRIOR)
        return cls(
            words,
            stored,
            odd,
            np.where((at < 0) | (at >= vectors), vectors, at),
            np.array([ending_number(word, endings) for word in forms.words], dtype=np.int64),
            np.where(known, stored[at] / PRIOR_SCALE, np.nan).astype(np.float32),
        )


def stored_priors(small: Array, capital: Array) -> Array:
    """Log odds of a capital, int8, of counts in print; `NO_PRIOR` where a word was seen less than twice."""
    odds = np.log((capital + 0.3) / (small + 0.3)) * PRIOR_SCALE
    return np.where(small + capital < 2, NO_PRIOR, np.clip(np.rint(odds), -127, 127)).astype(np.int8)
