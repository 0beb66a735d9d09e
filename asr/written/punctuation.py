"""The model of punctuation and capitals: what follows a word, and whether the word itself has a capital.

A small recurrent network over words. It reads each word together with the few words after it, remembers what came
before, and says for each word which mark follows and whether it is a name::

    word -> its vector + its ending's vector, how often print has it with a capital, the pause before it, hints
    (the word and `lookahead` more) -> window -> x + lstm(norm(x)), once or more -> norm -> marks and capital

A word that the model does not know is known by its ending. Hints are what the language model of the model folder says
of sentences' ends (`asr.written.sentence_hints`); a model may do without. Matrices are in 8-bit integers.
"""

from __future__ import annotations

import zlib
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from asr.array_table import ArrayTable
from asr.errors import ModelError
from asr.lm import LanguageModel
from asr.mapped_arrays import MappedArrays, save_arrays
from asr.network.integers import PEAK, quantize_rows
from asr.text.word_list import WordList
from asr.written.punctuation_kernel import weights_of
from asr.written.sentence_hints import HINTS

Array = np.ndarray[Any, Any]

MARKS = ("", ",", ".", "?")  # what may follow a word
OUTPUTS = len(MARKS) + 1  # scores of the marks, then of a capital
PAUSES_S = (0.1, 0.3, 0.6)  # where the kinds of pauses part
UNKNOWN_PAUSE, NEW_UTTERANCE = 0, len(PAUSES_S) + 2  # beside them: times are not known; the first word of an utterance
PAUSE_KINDS = len(PAUSES_S) + 3
FEATURES = 2 + PAUSE_KINDS  # what stands beside a word's vector: capitals in print, whether that is known, the pause;
# after them hints, if the model has a language model
ENDING_LETTERS = 3
PRIOR_SCALE = 16.0  # steps of a stored prior, log odds of a capital, to one
NO_PRIOR = -128
_REMEMBERED = 4_096  # words that need not be looked up again: in English nine tenths of a text

MATRICES = ("words", "endings", "window", "cell.input", "cell.memory", "out")
VECTORS = ("window.bias", "cell.bias", "out.bias", "nothing")  # `nothing` stands where no word follows any more
NORMS = ("norm", "last_norm")  # (2, units) each, weight and bias
_WORDS, _FORMS, _PRIORS, _RANKS = "list", "forms", "priors", "ranks"
SHIFTS = "shifts"  # (OUTPUTS,): added to the scores where nobody knows the pause that follows; older files have none
_AGAIN = "Copy the model folder again, with all its files"


def ending_number(word: str, endings: int) -> int:
    """Which of so many vectors of endings a word has."""
    return zlib.crc32(word[-ENDING_LETTERS:].encode()) % endings


@dataclass(frozen=True)
class Punctuation:
    """A model of punctuation."""

    words: WordList  # in the order of their letters
    forms: Mapping[str, str]  # how words are written that have their capitals elsewhere than at the start: nasa, NASA
    stored: Mapping[str, Array]  # matrices in int8 with ``NAME.peaks``, vectors and norms float32; of each word its
    # prior, int8, and its rank, uint32: the most frequent ones have vectors; layers lie end to end
    lm: LanguageModel | None = None  # that gives hints, if it reads them

    @property
    def units(self) -> int:
        """Of each LSTM."""
        return int(self.stored[NORMS[-1]].shape[1])

    @property
    def layers(self) -> int:
        """LSTMs."""
        return int(self.stored[NORMS[0]].shape[1]) // self.units

    @property
    def features(self) -> int:
        """Numbers beside a word's vector."""
        return len(self.stored["nothing"]) - self.width

    @property
    def reads_hints(self) -> bool:
        """Whether it needs a language model."""
        return self.features > FEATURES

    @property
    def width(self) -> int:
        """Of a word's vector."""
        return int(self.stored["words"].shape[1])

    @property
    def lookahead(self) -> int:
        """Words after a word that are read before it is decided."""
        return int(self.stored["window"].shape[1]) // (self.width + self.features) - 1

    def find(self, word: str) -> int | None:
        """Where among the words one is."""
        at = bisect_left(self.words, word)
        return at if at < len(self.words) and self.words[at] == word else None

    @cached_property
    def weights(self) -> ArrayTable:
        """What compiled code reads: see `asr.written.punctuation_kernel.MarkWeights`."""
        return ArrayTable(weights_of(self))

    @cached_property
    def describe(self) -> Callable[[str], tuple[Array, int]]:
        """A function that says what is known of a word: its row of what the model reads, without its pause and its
        hints, and its number in the language model. Of the words lately asked for it knows without looking."""
        return lru_cache(_REMEMBERED)(self._describe)

    def _describe(self, word: str) -> tuple[Array, int]:
        stored, width = self.stored, self.width
        at, ending = self.find(word), ending_number(word, len(stored["endings"]))
        row = np.zeros(width + self.features, np.float32)
        row[:width] = stored["endings"][ending] * (stored["endings.peaks"][ending] / np.float32(PEAK))
        if at is not None and stored[_RANKS][at] < len(stored["words"]):
            rank = stored[_RANKS][at]
            row[:width] += stored["words"][rank] * (stored["words.peaks"][rank] / np.float32(PEAK))
        if at is not None and stored[_PRIORS][at] != NO_PRIOR:
            row[width] = stored[_PRIORS][at] / PRIOR_SCALE / 4
            row[width + 1] = 1.0
        return row, 0 if self.lm is None else max(0, self.lm.words.find(word))

    @cached_property
    def lm_table(self) -> ArrayTable:
        """The language model, for compiled code. Only a model that reads hints is asked."""
        assert self.lm is not None
        return ArrayTable(self.lm.arrays)

    @classmethod
    def of_parameters(
        cls,
        words: Sequence[str],
        forms: Mapping[str, str],
        priors: Array,
        values: Mapping[str, Array],
        shifts: Array | None = None,
        lm: LanguageModel | None = None,
    ) -> Punctuation:
        """Of words, most frequent first, their int8 priors, and float32 parameters under the names of `MATRICES`,
        `VECTORS` and `NORMS`; the shifts are zero if none are given."""
        order = np.array(sorted(range(len(words)), key=words.__getitem__), dtype=np.uint32)
        shifts = np.zeros(OUTPUTS, np.float32) if shifts is None else shifts
        stored: dict[str, Array] = {_PRIORS: priors[order].astype(np.int8), _RANKS: order, SHIFTS: shifts}
        for name, value in values.items():
            if name in MATRICES:
                stored[name], stored[f"{name}.peaks"] = quantize_rows(value)
            else:
                stored[name] = np.ascontiguousarray(value, np.float32)
        return cls(WordList([words[rank] for rank in order]), dict(forms), stored, lm)

    def save(self, path: Path) -> None:
        """Write the model."""
        forms = [f"{word} {form}" for word, form in sorted(self.forms.items())]
        texts = {_WORDS: _pack(self.words), _FORMS: _pack(forms)}
        save_arrays(path, {**self.stored, **texts})

    @classmethod
    def load(cls, path: Path, lm: LanguageModel | None = None) -> Punctuation:
        """Read a model.

        Args:
            path: the file.
            lm: the language model that it was trained with; not needed by a model that reads no hints.

        Raises ModelError if the file is damaged, or if it needs a language model and has none.
        """
        try:
            stored = MappedArrays(path).arrays
            words = WordList.of_lines(_unpack(stored.pop(_WORDS)))
            forms = dict(line.split(" ", 1) for line in _unpack(stored.pop(_FORMS)).decode().splitlines())
            stored.setdefault(SHIFTS, np.zeros(OUTPUTS, np.float32))
            model = cls(words, forms, stored, lm)
            _check(model)
        except (OSError, ValueError, KeyError, IndexError, ZeroDivisionError, zlib.error) as error:
            raise ModelError(f"{path} is damaged ({str(error).splitlines()[0]}). {_AGAIN}") from error
        if model.reads_hints and lm is None:
            raise ModelError(
                f"{path} was trained with a language model and needs it: put its lm.safetensors into the same folder, "
                "or take this file away and do without punctuation"
            )
        return model


def _pack(lines: Iterable[str]) -> Array:
    return np.frombuffer(zlib.compress("".join(f"{line}\n" for line in lines).encode(), 9), np.uint8)


def _unpack(packed: Array) -> bytes:
    return zlib.decompress(packed.tobytes())


def _check(model: Punctuation) -> None:
    """Raise KeyError or ValueError unless all parts are there and fit."""
    stored, units, layers, width = model.stored, model.units, model.layers, model.width
    if model.features not in (FEATURES, FEATURES + HINTS) or layers < 1:
        raise ValueError("it is of another version")
    read = (model.lookahead + 1) * (width + model.features)
    shapes = {
        "words": (len(stored["words"]), width),
        "endings": (len(stored["endings"]), width),
        "window": (units, read),
        "cell.input": (layers * 4 * units, units),
        "cell.memory": (layers * 4 * units, units),
        "out": (OUTPUTS, units),
        "window.bias": (units,),
        "cell.bias": (layers * 4 * units,),
        "out.bias": (OUTPUTS,),
        "nothing": (width + model.features,),
        SHIFTS: (OUTPUTS,),
        NORMS[0]: (2, layers * units),
        NORMS[1]: (2, units),
        _PRIORS: (len(model.words),),
        _RANKS: (len(model.words),),
    }
    for name, shape in shapes.items():
        if stored[name].shape != shape:
            raise ValueError(f"{name} has another shape")
        if name in MATRICES and stored[f"{name}.peaks"].shape != shape[:1]:
            raise ValueError(f"{name}.peaks has another shape")
        kind = np.uint32 if name == _RANKS else np.int8 if name in (*MATRICES, _PRIORS) else np.float32
        if stored[name].dtype != kind:
            raise ValueError(f"{name} is of another type")
    if len(stored["words"]) > len(model.words) or not len(stored["endings"]):
        raise ValueError("its words and their vectors do not fit")
    floats = [value for value in stored.values() if value.dtype == np.float32]
    if not all(np.isfinite(value).all() for value in floats):
        raise ValueError("it holds values that are not finite")
