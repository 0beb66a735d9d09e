"""A second language model, recurrent: it remembers the whole stream, where n-grams see two words.

The word search asks it about the likeliest hypotheses before it settles them (`asr.search.word_weighing`). It is one
LSTM layer over words; frequent words have wide vectors, rarer ones narrower vectors, the same on the way in and out::

    word -> vector of its band -> inputs -> x + lstm(norm(x)) -> norm -> outputs of a band -> times its words' vectors

The words of the first band and the two other bands share the first sum of probabilities; each of those bands' words
share its own. Matrices are in 8-bit integers. Before each utterance it reads a mark of its start.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from asr.errors import ModelError
from asr.lm import LanguageModel
from asr.mapped_arrays import MappedArrays, save_arrays
from asr.network.flat_products import lay_out
from asr.network.integers import quantize_rows, row_scales
from asr.network.packed_weights import DEPTH

Array = np.ndarray[Any, Any]

BANDS = 3
# The matrices, in the order in which compiled code numbers them: of each band the words' vectors, what makes of those
# the layer's input, and what makes of its output such a vector; the other bands beside the first's words; the LSTM.
WORDS, INPUTS, OUTPUTS, OTHERS, FROM_INPUT, FROM_MEMORY = 0, BANDS, 2 * BANDS, 3 * BANDS, 3 * BANDS + 1, 3 * BANDS + 2
ROWS, COLUMNS = 3, 4  # of a matrix in `SecondArrays.shapes`
NAMES = (
    *(f"words.{band}" for band in range(BANDS)),
    *(f"inputs.{band}" for band in range(BANDS)),
    *(f"outputs.{band}" for band in range(BANDS)),
    "bands",
    "cell.input",
    "cell.memory",
)
NORMS = ("norm", "last_norm")  # (2, units) each, weight and bias: before the LSTM and after it
_LIST = "list"  # of the words
_AGAIN = "Copy the model folder again, with all its files"


class SecondArrays(NamedTuple):
    """The parameters, for compiled code: all matrices end to end, so that one loop serves them all."""

    weights: Array  # int8: see `asr.network.flat_products`
    begin: Array  # int32: what the sums of packed weights begin at
    scale: Array  # float32: of each row
    bias: Array  # float32: of each row
    shapes: Array  # int64 (matrices, 5): first weight, first of `begin`, first row, rows, columns
    norms: Array  # float32 (4, units)


@dataclass(frozen=True)
class SecondLm:
    """A recurrent language model.

    Its words are numbered, most frequent first, through the bands; after them come the unknown word and the start of an
    utterance.
    """

    words: tuple[str, ...]
    stored: dict[
        str, Array
    ]  # matrices in int8 with ``NAME.peaks``, and ``NAME.bias`` where there is one; norms float32

    @property
    def units(self) -> int:
        """Of the LSTM."""
        return int(self.stored[NORMS[0]].shape[1])

    @classmethod
    def of_parameters(cls, words: Sequence[str], values: dict[str, Array]) -> SecondLm:
        """Of float32 parameters under the same names."""
        stored: dict[str, Array] = {}
        for name, value in values.items():
            if name in NAMES:
                stored[name], stored[f"{name}.peaks"] = quantize_rows(value)
            else:
                stored[name] = np.ascontiguousarray(value, np.float32)
        return cls(tuple(words), stored)

    @cached_property
    def arrays(self) -> SecondArrays:
        """The parameters, for compiled code on this machine."""
        return self.laid_out()

    def laid_out(self, packed: bool | None = None) -> SecondArrays:
        """The parameters; ``packed`` is for tests, see `asr.network.flat_products`."""
        matrices = [self.stored[name] for name in NAMES]
        if any(matrix.shape[1] % DEPTH for matrix in matrices):
            packed = False
        weights, begin = zip(*(lay_out(matrix, packed) for matrix in matrices), strict=True)
        biases = [
            self.stored.get(f"{name}.bias", np.zeros(len(matrix), np.float32))
            for name, matrix in zip(NAMES, matrices, strict=True)
        ]
        sizes = np.array([[w.size, b.size, len(m)] for w, b, m in zip(weights, begin, matrices, strict=True)])
        shapes = [
            [*first, *m.shape] for first, m in zip((sizes.cumsum(axis=0) - sizes).tolist(), matrices, strict=True)
        ]
        return SecondArrays(
            weights=np.concatenate(weights),
            begin=np.concatenate(begin),
            scale=np.concatenate([row_scales(self.stored[f"{name}.peaks"]) for name in NAMES]),
            bias=np.concatenate(biases),
            shapes=np.array(shapes, dtype=np.int64),
            norms=np.concatenate([self.stored[name] for name in NORMS]),
        )

    def save(self, path: Path) -> None:
        """Write the model."""
        words = np.frombuffer(zlib.compress("\n".join(self.words).encode("ascii"), 9), np.uint8)
        save_arrays(path, {**self.stored, _LIST: words})

    @classmethod
    def load(cls, path: Path) -> SecondLm:
        """Read a model. Raises ModelError if the file is damaged."""
        try:
            stored = MappedArrays(path).arrays
            words = zlib.decompress(stored.pop(_LIST).tobytes()).decode("ascii").split("\n")
            model = cls(tuple(words), stored)
            _check(model)
        except (OSError, ValueError, KeyError, zlib.error, UnicodeDecodeError) as error:
            raise ModelError(f"{path} is damaged ({str(error).splitlines()[0]}). {_AGAIN}") from error
        return model


def _check(model: SecondLm) -> None:
    """Raise KeyError or ValueError unless all parts are there and fit, since compiled code does not look."""
    stored, units = model.stored, model.units
    sizes = [stored[name].shape for name in NAMES[:BANDS]]
    widths = [width for _, width in sizes]
    if sum(count for count, _ in sizes) != len(model.words) + 2 or max(widths) > units:
        raise ValueError("its words and their vectors do not fit")
    layer = (4 * units, units)
    shapes = [*sizes, *((units, width) for width in widths), *((width, units) for width in widths)]
    for name, shape in zip(NAMES, [*shapes, (BANDS - 1, units), layer, layer], strict=True):
        found = stored[name]
        if found.dtype != np.int8 or found.shape != shape or stored[f"{name}.peaks"].shape != shape[:1]:
            raise ValueError(f"{name} has another shape")
        if stored.get(f"{name}.bias", stored[f"{name}.peaks"]).shape != shape[:1]:
            raise ValueError(f"{name}.bias has another shape")
    if any(stored[name].shape != (2, units) for name in NORMS):
        raise ValueError("a norm has another shape")
    floats = [value for name, value in stored.items() if name not in NAMES]
    if any(value.dtype != np.float32 or not np.isfinite(value).all() for value in floats):
        raise ValueError("it holds values that are not finite")


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
