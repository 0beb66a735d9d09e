"""A second language model, recurrent: it remembers the whole utterance, where n-grams see two words.

The word search asks it about the likeliest hypotheses before it settles them (`asr.search.word_weighing`). It is one
LSTM layer over words; frequent words have wide vectors, rarer ones narrower vectors, the same on the way in and out::

    word -> vector of its band -> inputs -> x + lstm(norm(x)) -> norm -> outputs of a band -> times its words' vectors

The words of the first band and the two other bands share the first sum of probabilities; each of those bands' words
share its own. Matrices are in 8-bit integers.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from asr.errors import ModelError
from asr.lm import LanguageModel
from asr.network.integers import quantize_rows, row_scales

Array = np.ndarray[Any, Any]

BANDS = 3
_WORDS = "words"
_AGAIN = "Copy the model folder again, with all its files"


class Matrix(NamedTuple):
    """A matrix in 8-bit integers: ``weight * scale[:, None]``, and what is added to its products."""

    weight: Array  # int8 (outputs, inputs)
    scale: Array  # float32 (outputs,)
    bias: Array  # float32 (outputs,)


class Band(NamedTuple):
    """Words of like frequency."""

    words: Matrix  # (words, width of their vectors): what comes out before the sum, and the vectors on the way in
    inputs: Matrix  # (units, width)
    outputs: Matrix  # (width, units)


class SecondArrays(NamedTuple):
    """The parameters, for compiled code."""

    first: Band
    second: Band
    third: Band  # its last two words are the unknown one and the start of an utterance
    bands: Matrix  # (2, units): of the second and third band, beside the first band's words
    norm: Array  # float32 (2, units): before the LSTM
    last_norm: Array  # float32 (2, units): after it
    from_input: Matrix  # (4 * units, units)
    from_memory: Matrix  # (4 * units, units), without bias


@dataclass(frozen=True)
class SecondLm:
    """A recurrent language model: its words, without those two special ones, most frequent first."""

    words: tuple[str, ...]
    arrays: SecondArrays

    @property
    def units(self) -> int:
        """Of the LSTM."""
        return int(self.arrays.norm.shape[1])

    @classmethod
    def of_parameters(cls, words: Sequence[str], values: dict[str, Array]) -> SecondLm:
        """Of float32 parameters by name, as `asr.train.second_lm` has them."""
        integers: dict[str, Array] = {}
        for name, value in values.items():
            if value.ndim > 1 and not name.startswith("norm"):
                integers[name], integers[f"{name}.peaks"] = quantize_rows(value)
            else:
                integers[name] = np.ascontiguousarray(value, np.float32)
        return cls._of_stored(words, integers)

    @classmethod
    def _of_stored(cls, words: Sequence[str], stored: dict[str, Array]) -> SecondLm:
        def matrix(name: str, bias: str = "") -> Matrix:
            weight = stored[name]
            biases = stored[bias] if bias else np.zeros(len(weight), np.float32)
            return Matrix(weight, row_scales(stored[f"{name}.peaks"]), biases)

        def band(i: int) -> Band:
            return Band(matrix(f"words.{i}", f"bias.{i}"), matrix(f"inputs.{i}"), matrix(f"outputs.{i}"))

        arrays = SecondArrays(
            first=band(0),
            second=band(1),
            third=band(2),
            bands=matrix("bands", "bands.bias"),
            norm=stored["norm.first"],
            last_norm=stored["norm.last"],
            from_input=matrix("cell.input", "cell.bias"),
            from_memory=matrix("cell.memory"),
        )
        return cls(tuple(words), arrays)

    def save(self, path: Path) -> None:
        """Write the model."""
        stored: dict[str, Array] = {_WORDS: _packed(self.words)}

        def put(name: str, matrix: Matrix, bias: str = "") -> None:
            stored[name] = matrix.weight
            stored[f"{name}.peaks"] = (matrix.scale * np.float32(127)).astype(np.float32)
            if bias:
                stored[bias] = matrix.bias

        a = self.arrays
        for i, band in enumerate((a.first, a.second, a.third)):
            put(f"words.{i}", band.words, f"bias.{i}")
            put(f"inputs.{i}", band.inputs)
            put(f"outputs.{i}", band.outputs)
        put("bands", a.bands, "bands.bias")
        put("cell.input", a.from_input, "cell.bias")
        put("cell.memory", a.from_memory)
        stored |= {"norm.first": a.norm, "norm.last": a.last_norm}
        save_file({name: np.ascontiguousarray(value) for name, value in stored.items()}, path)

    @classmethod
    def load(cls, path: Path) -> SecondLm:
        """Read a model. Raises ModelError if the file is damaged."""
        try:
            with safe_open(path, framework="numpy") as file:
                stored = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
            words = zlib.decompress(stored.pop(_WORDS).tobytes()).decode("ascii").split("\n")
            model = cls._of_stored(words, stored)
            _check(model)
        except (OSError, SafetensorError, ValueError, KeyError, zlib.error, UnicodeDecodeError) as error:
            raise ModelError(f"{path} is damaged ({str(error).splitlines()[0]}). {_AGAIN}") from error
        return model


def _packed(words: Sequence[str]) -> Array:
    return np.frombuffer(zlib.compress("\n".join(words).encode("ascii"), 9), np.uint8)


def _check(model: SecondLm) -> None:
    """Raise ValueError unless all shapes fit, since compiled code does not look."""
    a, units = model.arrays, model.units
    bands = (a.first, a.second, a.third)
    if sum(len(band.words.weight) for band in bands) != len(model.words) + 2:
        raise ValueError("its words do not fit its vectors")
    if max(band.words.weight.shape[1] for band in bands) > units:
        raise ValueError("its words' vectors are wider than its layer")
    wanted = [
        *((band.inputs, (units, band.words.weight.shape[1])) for band in bands),
        *((band.outputs, (band.words.weight.shape[1], units)) for band in bands),
        *((band.words, band.words.weight.shape) for band in bands),
        (a.bands, (BANDS - 1, units)),
        (a.from_input, (4 * units, units)),
        (a.from_memory, (4 * units, units)),
    ]
    for matrix, shape in wanted:
        rows = shape[:1]
        if matrix.weight.dtype != np.int8 or matrix.weight.shape != shape:
            raise ValueError("a matrix has another shape")
        if not matrix.scale.shape == matrix.bias.shape == rows:
            raise ValueError("a matrix lacks scales or biases")
        if not (np.isfinite(matrix.scale).all() and np.isfinite(matrix.bias).all()):
            raise ValueError("it holds values that are not finite")
    if not a.norm.shape == a.last_norm.shape == (2, units):
        raise ValueError("a norm has another shape")


@dataclass(frozen=True)
class SecondOpinion:
    """A recurrent model beside the words of a search."""

    model: SecondLm
    ids: Array  # int32 (words of the search,): their numbers in the model; those it lacks have the unknown word's
    rest: float  # log of what the first language model gives, by itself, to all words that are unknown to this one

    @classmethod
    def of(cls, model: SecondLm, words: Sequence[str], lm: LanguageModel) -> SecondOpinion:
        """For a search whose words are these, the first of them those of its language model."""
        unknown = len(model.words)
        numbers = {word: i for i, word in enumerate(model.words)}
        ids = np.array([numbers.get(word, unknown) for word in words], dtype=np.int32)
        single = lm.arrays.prob_codes[0, lm.arrays.prob[: len(lm.words)]]
        rest = single[ids[: len(lm.words)] == unknown]
        return cls(model, ids, float(np.log(np.exp(rest.astype(np.float64)).sum())))
