"""A phoneme trigram: what the denominator of CTC-CRF weighs a reading with.

Symbol 0, blank elsewhere, stands for "before the first phoneme" in a history. There is no probability of an end:
training lines are cut from longer speech and joined into longer lines, so where they end says nothing about where
sentences do, and a reading's weight is the probability that speech begins with it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from asr.errors import DataError, ModelError
from asr.mapped_arrays import save_arrays

PHONEMES = 39
_FORMAT = "asr-phone-lm-1"


@dataclass(frozen=True, eq=False)
class PhoneLm:
    """A dense trigram.

    Attributes:
        probabilities: ``(symbols, symbols, symbols)`` float32, ``[h1, h2, p]`` is P(p | h1, h2), h2 the last phoneme
            and h1 the one before it. Zero for p = 0; a row adds up to one.
    """

    probabilities: NDArray[np.float32]

    @property
    def symbols(self) -> int:
        """Phonemes and the start."""
        return len(self.probabilities)

    @classmethod
    def estimate(cls, sequence: NDArray[Any], phonemes: int = PHONEMES) -> PhoneLm:
        """The trigram of a text: phoneme ids from 1, with a 0 (or several) between sentences."""
        return cls.from_counts(count_trigrams(sequence, phonemes))

    @classmethod
    def from_counts(cls, counts: NDArray[Any]) -> PhoneLm:
        """The trigram of `count_trigrams`, which may be added up over parts of a text, cut between sentences.

        Interpolated Witten-Bell: what a history gives to the next shorter one grows with the number of different
        phonemes seen after it. With forty symbols nearly all histories are well counted: Kneser-Ney has the same
        perplexity, and needs rare events to learn its discounts from.
        """
        symbols = len(counts)
        trigrams = counts.astype(np.float64)
        if not trigrams.any():
            raise DataError("no phonemes to estimate a phoneme trigram from: the text is empty")
        lower = np.full(symbols, 1 / (symbols - 1))
        lower[0] = 0.0
        for level in (trigrams.sum(axis=(0, 1)), trigrams.sum(axis=0), trigrams):
            seen = level.sum(axis=-1, keepdims=True)
            kinds = (level > 0).sum(axis=-1, keepdims=True)
            weight = np.where(seen > 0, kinds, 1)  # a history never seen leaves all to the shorter one
            lower = (level + weight * lower) / (seen + weight)
        lower /= lower.sum(axis=-1, keepdims=True)
        return cls(lower.astype(np.float32))

    def perplexity(self, sequence: NDArray[Any]) -> float:
        """Per phoneme, of a text as `estimate` takes it."""
        first, second, phone = _histories(sequence, self.symbols - 1)
        if not len(phone):
            raise DataError("no phonemes to measure a perplexity on: the text is empty")
        return float(np.exp(-np.log(self.probabilities[first, second, phone].astype(np.float64)).mean()))

    def save(self, path: Path) -> None:
        """Write it as a safetensors file."""
        save_arrays(path, {"probabilities": self.probabilities}, {"format": json.dumps(_FORMAT)})

    @classmethod
    def load(cls, path: Path) -> PhoneLm:
        """Read what `save` wrote.

        Raises:
            ModelError: it is not there, or something else.
        """
        try:
            with safe_open(path, framework="numpy") as file:
                if (file.metadata() or {}).get("format") != json.dumps(_FORMAT):
                    raise ModelError(f"{path}: no phoneme trigram of this version; make it again")
                table = file.get_tensor("probabilities")
        except (OSError, SafetensorError) as error:
            raise ModelError(f"{path}: cannot be read as a phoneme trigram: {error}") from error
        if table.ndim != 3 or len(set(table.shape)) != 1 or not np.allclose(table.sum(axis=-1), 1, atol=1e-5):
            raise ModelError(f"{path}: a phoneme trigram's rows must add up to one; make it again")
        return cls(table)


def count_trigrams(sequence: NDArray[Any], phonemes: int = PHONEMES) -> NDArray[np.int64]:
    """How often each phoneme follows each history: ``(phonemes + 1,) * 3`` int64. For texts see `PhoneLm.estimate`.

    Raises:
        DataError: an id beyond the phonemes.
    """
    symbols = phonemes + 1
    first, second, phone = _histories(sequence, phonemes)
    flat = np.bincount((first * symbols + second) * symbols + phone, minlength=symbols**3)
    return flat.reshape(symbols, symbols, symbols)


def _histories(sequence: NDArray[Any], phonemes: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """h1, h2 and p for each phoneme of a text."""
    ids = np.asarray(sequence, np.int64).ravel()
    if len(ids) and not 0 <= ids.min() <= ids.max() <= phonemes:
        found = f"{ids.min()} to {ids.max()}"
        raise DataError(f"phoneme ids go from 1 to {phonemes}, with 0 between sentences; found {found}")
    padded = np.concatenate([np.zeros(2, np.int64), ids])
    second = padded[1:-1]
    first = np.where(second > 0, padded[:-2], 0)
    heard = ids > 0
    return first[heard], second[heard], ids[heard]
