"""The stored language model: one memory-mapped file that loads in milliseconds.

The file is in safetensors format (https://github.com/huggingface/safetensors): a header that says where
each array lies, then the arrays, which are used where they lie. Probabilities and back-off weights are
stored in 8 bits, as steps of an even ladder per order. `asr.lm.lookup.LmArrays` says what each array is.
"""

from __future__ import annotations

import itertools
import json
import mmap
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from asr.errors import ModelError
from asr.lm.lookup import LmArrays, score_known, score_word, spell
from asr.lm.table import SPECIAL, NgramTable, Order

_FORMAT = "1"
_DTYPES = {"U8": np.uint8, "U16": np.uint16, "U32": np.uint32, "I64": np.int64, "F32": np.float32}
_AGAIN = "make it again with `asr lm build`, or copy it again"


class LanguageModel:
    """A back-off n-gram model over words, open to words that it does not know."""

    def __init__(self, arrays: LmArrays, letters: str) -> None:
        for array in arrays:
            array.flags.writeable = False  # as a mapped file is: compiled code then sees one type
        self.arrays = arrays
        self.letters = letters  # letter i of the alphabet is number i in the spelling trie

    @property
    def order(self) -> int:
        """Words in its longest n-grams."""
        return len(self.arrays.starts) - 1

    @property
    def counts(self) -> tuple[int, ...]:
        """Number of n-grams of each length."""
        return tuple(int(n) for n in np.diff(self.arrays.starts))

    @cached_property
    def words(self) -> tuple[str, ...]:
        """The vocabulary; a word's place is its id."""
        lm = self.arrays
        words = list(SPECIAL) + [""] * (self.counts[0] - len(SPECIAL))
        spellings = [""] * len(lm.letter)
        for node in range(len(lm.letter)):
            if lm.spelt[node]:
                words[lm.spelt[node]] = spellings[node]
            for child in range(lm.first_letter[node], lm.first_letter[node + 1]):
                spellings[child] = spellings[node] + self.letters[lm.letter[child]]
        return tuple(words)

    @cached_property
    def ids(self) -> dict[str, int]:
        return {word: index for index, word in enumerate(self.words)}

    def known_letters(self, word: str) -> int:
        """With how many of its letters some word of the vocabulary begins."""
        node = 0
        for count, letter in enumerate(word):
            number = self.letters.find(letter)
            node = spell(self.arrays, node, number) if number >= 0 else -1
            if node < 0:
                return count
        return len(word)

    def score(self, history: list[str], word: str) -> float:
        """Natural log of P(word | history). Unknown words are ``<unk>``; ``<s>`` begins a sentence."""
        ids = [self.ids.get(w, 0) for w in history][max(0, len(history) - self.order + 1) :]
        return float(score_word(self.arrays, np.array(ids, dtype=np.int32), self.ids.get(word, 0)))

    def score_sentence(self, words: list[str]) -> tuple[float, int]:
        """Natural log of the probability of a sentence's known words and its end, and how many are unknown."""
        ids = np.array([1, *(self.ids.get(word, 0) for word in words), 2], dtype=np.int32)
        return float(score_known(self.arrays, ids, self.order)), int((ids == 0).sum())

    @classmethod
    def from_table(cls, table: NgramTable) -> LanguageModel:
        """Pack a model. Probabilities are rounded to 8 bits."""
        order = len(table.orders)
        counts = table.counts
        starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        prob_codes, backoff_codes = (np.zeros((order, 256), dtype=np.float32) for _ in range(2))
        prob, backoff, first = [], [], []
        for k, level in enumerate(table.orders):
            values, prob_codes[k] = _round(level.log_prob, k == 0)
            prob.append(values)
            if k < order - 1:
                values, backoff_codes[k] = _round(level.backoff, False)
                backoff.append(values)
                per_context = np.bincount(table.orders[k + 1].context, minlength=len(level))
                first.append(starts[k + 1] + np.concatenate([[0], np.cumsum(per_context)[:-1]]))
        first.append(np.array([starts[-1] if order > 1 else 0]))
        word_type = np.uint16 if len(table.words) <= 1 << 16 else np.uint32
        letters, spelling = _spelling(table.words, prob[0])
        arrays = LmArrays(
            letter=spelling[0],
            first_letter=spelling[1],
            spelt=spelling[2],
            ahead=spelling[3],
            word=np.concatenate([level.word for level in table.orders]).astype(word_type),
            prob=np.concatenate(prob),
            backoff=np.concatenate([*backoff, np.zeros(0, dtype=np.uint8)]),
            first=np.concatenate(first).astype(np.uint32),
            starts=starts,
            prob_codes=prob_codes,
            backoff_codes=backoff_codes,
        )
        return cls(arrays, letters)

    def to_table(self) -> NgramTable:
        """The model as plain arrays, its probabilities as they were rounded: for writing it in ARPA format."""
        lm, orders = self.arrays, []
        last = self.order - 1
        for k, (low, high) in enumerate(itertools.pairwise(lm.starts.tolist())):
            if k == 0:
                context = np.zeros(high, dtype=np.int64)
            else:
                below = lm.first[int(lm.starts[k - 1]) : low + 1].astype(np.int64)
                context = np.repeat(np.arange(len(below) - 1), np.diff(below))
            backoff = lm.backoff_codes[k, lm.backoff[low:high]] if k < last else np.zeros(high - low)
            word, log_prob = lm.word[low:high].astype(np.int64), lm.prob_codes[k, lm.prob[low:high]]
            orders.append(Order(context, word, log_prob.astype(np.float64), backoff.astype(np.float64)))
        return NgramTable(self.words, tuple(orders))

    @staticmethod
    def size(counts: tuple[int, ...], words: tuple[str, ...]) -> int:
        """Bytes that a model takes with so many n-grams of each length over a vocabulary."""
        nodes = 1 + len({word[:end] for word in words[len(SPECIAL) :] for end in range(1, len(word) + 1)})
        wide = 2 if len(words) <= 1 << 16 else 4
        return 10 * nodes + (wide + 1) * sum(counts) + 5 * sum(counts[:-1]) + 2048 * len(counts) + 4096

    def save(self, path: Path) -> None:
        save_file(
            {name: np.ascontiguousarray(value) for name, value in self.arrays._asdict().items()},
            path,
            {"format": _FORMAT, "letters": self.letters},
        )

    @classmethod
    def load(cls, path: Path) -> LanguageModel:
        """Map a stored model into memory. Raises ModelError for a file that is missing or damaged."""
        try:
            with path.open("rb") as file:
                data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
            begin = 8 + int.from_bytes(data[:8], "little")
            header: dict[str, Any] = json.loads(bytes(data[8:begin]))
            meta = header.pop("__metadata__", {})
            if meta.get("format") != _FORMAT:
                raise ModelError(f"{path} is a language model of format {meta.get('format')}, not {_FORMAT}: {_AGAIN}")
            arrays = LmArrays(**{name: _view(data, begin, entry) for name, entry in header.items()})
            letters = str(meta["letters"])
        except OSError as error:
            raise ModelError(f"cannot read {path}: {error.strerror}") from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ModelError(f"{path} is no language model, or damaged ({error}): {_AGAIN}") from error
        if problem := _find_damage(arrays, letters):
            raise ModelError(f"{path} is damaged ({problem}): {_AGAIN}")
        return cls(arrays, letters)

    @classmethod
    def empty(cls) -> LanguageModel:
        """A model of no words: what compiled code is given where there is none."""
        zeros = np.zeros(len(SPECIAL))
        unigrams = Order(zeros.astype(np.int64), np.arange(len(SPECIAL)), zeros, zeros)
        return cls.from_table(NgramTable(SPECIAL, (unigrams,)))


def _view(data: memoryview, begin: int, entry: dict[str, Any]) -> np.ndarray:
    low, high = entry["data_offsets"]
    array = np.frombuffer(data[begin + low : begin + high], dtype=_DTYPES[entry["dtype"]])
    return array.reshape(entry["shape"])


def _find_damage(lm: LmArrays, letters: str) -> str | None:
    """What would send compiled code, which checks nothing, outside the arrays."""
    order, nodes, grams = len(lm.starts) - 1, len(lm.letter), len(lm.word)
    below = int(lm.starts[-2]) if order > 1 else 0
    sizes = (
        (len(lm.first_letter), nodes + 1),
        (len(lm.spelt), nodes),
        (len(lm.ahead), nodes),
        (len(lm.prob), grams),
        (int(lm.starts[-1]), grams),
        (len(lm.backoff), below),
        (len(lm.first), below + 1),
        (lm.prob_codes.shape, (order, 256)),
        (lm.backoff_codes.shape, (order, 256)),
    )
    if order < 1 or any(found != wanted for found, wanted in sizes):
        return "its arrays do not fit together"
    for offsets, most in ((lm.first_letter, nodes), (lm.first, grams)):
        if int(offsets[-1]) > most or (len(offsets) > 1 and bool((np.diff(offsets.astype(np.int64)) < 0).any())):
            return "an offset points outside"
    words = int(lm.starts[1])
    if nodes and (int(lm.letter[1:].max(initial=0)) >= max(1, len(letters)) or int(lm.spelt.max()) >= words):
        return "a letter or word that it does not have"
    return None


def _round(values: np.ndarray, skip_start: bool) -> tuple[np.ndarray, np.ndarray]:
    """Codes of values and what they stand for: 256 even steps from the least to the greatest.

    The sentence start among the unigrams has no real probability and would only widen the ladder.
    """
    real = np.delete(values, 1) if skip_start and len(values) > len(SPECIAL) else values
    low, high = (float(real.min()), float(real.max())) if len(real) else (0.0, 0.0)
    step = (high - low) / 255 or 1.0
    codes = np.clip(np.rint((values - low) / step), 0, 255).astype(np.uint8)
    return codes, (low + step * np.arange(256)).astype(np.float32)


def _spelling(words: tuple[str, ...], prob: np.ndarray) -> tuple[str, tuple[np.ndarray, ...]]:
    """The alphabet, and the spelling trie's letter, first_letter, spelt and ahead."""
    spelt = {word: index for index, word in enumerate(words) if index >= len(SPECIAL)}
    letters = "".join(sorted({char for word in spelt for char in word}))
    if len(letters) > 255:
        raise ModelError(f"the vocabulary has {len(letters)} different letters, at most 255 are possible")
    number = {char: index for index, char in enumerate(letters)}
    prefixes = sorted({word[:end] for word in spelt for end in range(len(word) + 1)} | {""}, key=lambda p: (len(p), p))
    at = {prefix: index for index, prefix in enumerate(prefixes)}
    ahead = np.zeros(len(prefixes), dtype=np.uint8)
    children = np.zeros(len(prefixes), dtype=np.int64)
    for prefix in reversed(prefixes):
        index = at[prefix]
        if prefix in spelt:
            ahead[index] = max(ahead[index], prob[spelt[prefix]])
        if prefix:
            parent = at[prefix[:-1]]
            ahead[parent] = max(ahead[parent], ahead[index])
            children[parent] += 1
    return letters, (
        np.array([number[prefix[-1]] if prefix else 0 for prefix in prefixes], dtype=np.uint8),
        np.concatenate([[1], 1 + np.cumsum(children)]).astype(np.uint32),
        np.array([spelt.get(prefix, 0) for prefix in prefixes], dtype=np.uint32),
        ahead,
    )
