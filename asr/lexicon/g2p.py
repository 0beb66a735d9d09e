"""Grapheme to phoneme: how a word that no dictionary has is probably said.

A word is read as a chain of graphones, each a letter with the phonemes that it stands for there: *phone* is p.F, h,
o.OW, n.N, e. Two models say which chain is likely: n-grams of graphones, which know what follows what (after M. Bisani
and H. Ney, "Joint-sequence models for grapheme-to-phoneme conversion", Speech Communication 50, 2008), and a small
bidirectional LSTM over the letters, which sees the whole word. `asr.train.g2p` makes both from a dictionary.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open

from asr.errors import DataError, ModelError
from asr.lexicon.g2p_ngram import MOST_PHONEMES, NgramArrays, fits_together, search
from asr.lexicon.phonemes import IDS, Pronunciation, encode_phonemes
from asr.mapped_arrays import save_arrays

LETTERS = "abcdefghijklmnopqrstuvwxyz'"
SEPARATOR = "."  # between a graphone's letter and its phonemes: x.K.S
SPECIAL = 3  # graphones 0, 1 and 2 are none: unknown, a word's beginning, its end
LONGEST = 64  # letters of a word
_FORMAT = "1"
_BEAM = 32
_AGAIN = "make it again with `asr lexicon train-g2p`, or copy it again"
_NGRAM, _NETWORK = "ngram.", "network."
_DIRECTIONS = ("forward", "backward")
_NAMES = {
    letter: encode_phonemes(name)
    for letter, name in {
        "a": "EY",
        "b": "B IY",
        "c": "S IY",
        "d": "D IY",
        "e": "IY",
        "f": "EH F",
        "g": "JH IY",
        "h": "EY CH",
        "i": "AY",
        "j": "JH EY",
        "k": "K EY",
        "l": "EH L",
        "m": "EH M",
        "n": "EH N",
        "o": "OW",
        "p": "P IY",
        "q": "K Y UW",
        "r": "AA R",
        "s": "EH S",
        "t": "T IY",
        "u": "Y UW",
        "v": "V IY",
        "w": "D AH B AH L Y UW",
        "x": "EH K S",
        "y": "W AY",
        "z": "Z IY",
    }.items()
}


class GraphemeToPhoneme:
    """Pronunciations of any word that is written with the letters a to z and apostrophes."""

    def __init__(
        self,
        graphones: Sequence[str],
        ngrams: NgramArrays,
        network: Mapping[str, np.ndarray] | None = None,
        weights: tuple[float, float] = (1.0, 0.0),
    ) -> None:
        """Put a model together.

        Args:
            graphones: their spellings, from number 3 on.
            ngrams: which follow which.
            network: the LSTM's parameters, matrices in 8 bits: see `_emissions`. None for n-grams alone.
            weights: of the log probabilities of the n-grams and of the network.
        """
        self.graphones, self.ngrams, self.network, self.weights = tuple(graphones), ngrams, network, weights
        self._wide = {} if network is None else _widen(network)
        self._phonemes = np.zeros((SPECIAL + len(graphones), MOST_PHONEMES), dtype=np.uint8)
        by_letter: list[list[int]] = [[] for _ in LETTERS]
        for index, graphone in enumerate(graphones, SPECIAL):
            letter, *phonemes = graphone.split(SEPARATOR)
            if letter not in LETTERS or len(phonemes) > MOST_PHONEMES or any(p not in IDS for p in phonemes):
                raise ModelError(f"{graphone!r} is no graphone: {_AGAIN}")
            by_letter[LETTERS.index(letter)].append(index)
            self._phonemes[index, : len(phonemes)] = [IDS[p] for p in phonemes]
        self._first = np.cumsum([0, *map(len, by_letter)]).astype(np.int32)
        self._by_letter = np.array([index for row in by_letter for index in row], dtype=np.int32)

    def pronounce(self, word: str, count: int = 1) -> list[tuple[Pronunciation, float]]:
        """The likeliest pronunciations of a word, best first, each with its probability among those considered.

        Single letters, and words without a vowel, are spelled out. Raises DataError for a word that has other
        characters than a to z and apostrophes, or no letter.
        """
        letters = check_word(word).replace("'", "")
        spelled = tuple(phoneme for letter in letters for phoneme in _NAMES[letter])
        if len(letters) == 1 or not re.search("[aeiouy]", letters):
            return [(spelled, 1.0)]
        ids = np.array([LETTERS.index(char) for char in word], dtype=np.int32)
        emissions = self._emissions(ids)
        scores, lengths, phonemes = search(
            self.ngrams, emissions, ids, self._first, self._by_letter, self._phonemes, self.weights[0], _BEAM
        )
        if not len(scores):
            return [(spelled, 1.0)]
        total = float(np.logaddexp.reduce(scores))
        best = [i for i in np.argsort(-scores, kind="stable") if lengths[i]][:count]
        found = [(tuple(phonemes[i, : lengths[i]].tolist()), math.exp(float(scores[i]) - total)) for i in best]
        return found or [(spelled, 1.0)]

    def _emissions(self, letters: np.ndarray) -> np.ndarray:
        """The network's weighted log probability of each graphone at each letter, (letters, graphones)."""
        result = np.zeros((len(letters), len(self._phonemes)), dtype=np.float32)
        if not self._wide:
            return result
        hidden = self._wide["embedding"][letters]
        layer = 0
        while f"{layer}.forward.input" in self._wide:
            hidden = np.concatenate([self._lstm(f"{layer}.{way}", hidden) for way in _DIRECTIONS], axis=1)
            layer += 1
        logits = hidden @ self._wide["output"].T + self._wide["output.bias"]
        for at, letter in enumerate(letters):
            own = self._by_letter[self._first[letter] : self._first[letter + 1]]
            chosen = logits[at, own - SPECIAL]
            top = chosen.max(initial=-np.inf)
            result[at, own] = self.weights[1] * (chosen - top - np.log(np.exp(chosen - top).sum()))
        return result

    def _lstm(self, name: str, inputs: np.ndarray) -> np.ndarray:
        """One direction of one layer, gates in torch's order: (letters, values) to (letters, hidden)."""
        back = name.endswith("backward")
        gates = inputs @ self._wide[f"{name}.input"].T + self._wide[f"{name}.bias"]
        recurrent = self._wide[f"{name}.recurrent"].T
        size = len(recurrent)
        hidden, cell = np.zeros(size, dtype=np.float32), np.zeros(size, dtype=np.float32)
        outputs = np.empty((len(inputs), size), dtype=np.float32)
        for at in range(len(inputs) - 1, -1, -1) if back else range(len(inputs)):
            row = gates[at] + hidden @ recurrent
            keep = 1 / (1 + np.exp(-np.delete(row.reshape(4, size), 2, axis=0)))  # input, forget, output
            cell = keep[1] * cell + keep[0] * np.tanh(row[2 * size : 3 * size])
            hidden = keep[2] * np.tanh(cell)
            outputs[at] = hidden
        return outputs

    def save(self, path: Path) -> None:
        arrays = {f"{_NGRAM}{name}": np.ascontiguousarray(a) for name, a in self.ngrams._asdict().items()}
        arrays |= {f"{_NETWORK}{name}": np.ascontiguousarray(a) for name, a in (self.network or {}).items()}
        about = {"format": _FORMAT, "graphones": " ".join(self.graphones), "weights": "{} {}".format(*self.weights)}
        try:
            save_arrays(path, arrays, about)
        except OSError as error:
            raise DataError(f"cannot write {path}: {error}") from error

    @classmethod
    def load(cls, path: Path) -> GraphemeToPhoneme:
        """Read a model. Raises ModelError for a file that is missing, damaged or of another kind."""
        try:
            with safe_open(path, "numpy") as file:
                about = file.metadata() or {}
                if about.get("format") != _FORMAT or "graphones" not in about:
                    raise ModelError(f"{path} is no grapheme-to-phoneme model of format {_FORMAT}: {_AGAIN}")
                arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no iterator)
            ngrams = NgramArrays(**{n.removeprefix(_NGRAM): a for n, a in arrays.items() if n.startswith(_NGRAM)})
            network = {n.removeprefix(_NETWORK): a for n, a in arrays.items() if n.startswith(_NETWORK)}
            first, second = map(float, about["weights"].split())
            graphones = about["graphones"].split(" ")
            if not fits_together(ngrams) or int(ngrams.starts[1]) != SPECIAL + len(graphones):
                raise ModelError(f"{path} is damaged (its parts do not fit together): {_AGAIN}")
            model = cls(graphones, ngrams, network or None, (first, second))
            model._emissions(np.arange(len(LETTERS), dtype=np.int32))  # the network's parts fit together
        except OSError as error:
            raise ModelError(f"cannot read {path}: {error}") from error
        except (SafetensorError, ValueError, TypeError, KeyError, IndexError) as error:
            raise ModelError(f"{path} is no grapheme-to-phoneme model, or damaged ({error}): {_AGAIN}") from error
        return model


def check_word(word: str) -> str:
    """The word, if it can be said. Raises DataError naming the character that is no letter."""
    for char in word:
        if char not in LETTERS:
            raise DataError(f"cannot pronounce {word!r}: {char!r} is none of a to z and the apostrophe. Spell it out")
    if not word.strip("'"):
        raise DataError(f"cannot pronounce {word!r}: it has no letter")
    if len(word) > LONGEST:
        raise DataError(f"cannot pronounce {word[:20]!r}…: it has {len(word)} letters, {LONGEST} are the most")
    return word


def shrink(parameters: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A network's parameters as they are stored: matrices in 8 bits with a scale a row, the rest in half precision."""
    stored = {}
    for name, values in parameters.items():
        if values.ndim == 2:
            scale = np.maximum(np.abs(values).max(axis=1) / 127, 1e-6).astype(np.float16)
            stored[name] = np.clip(np.round(values / scale[:, None].astype(np.float32)), -127, 127).astype(np.int8)
            stored[f"{name}.scale"] = scale
        else:
            stored[name] = values.astype(np.float16)
    return stored


def _widen(stored: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {
        name: values.astype(np.float32) * stored[f"{name}.scale"].astype(np.float32)[:, None]
        if values.ndim == 2
        else values.astype(np.float32)
        for name, values in stored.items()
        if not name.endswith(".scale")
    }
