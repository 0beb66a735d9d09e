"""The stored language model: one memory-mapped file that loads in milliseconds.

The file is in safetensors format (https://github.com/huggingface/safetensors): a header that says where each array
lies, then the arrays, which are used where they lie. Probabilities and back-off weights are stored in 8 bits or less,
as places in a list of the values that suit each order best. `asr.lm.lookup.LmArrays` says what each array is.
"""

from __future__ import annotations

import zlib
from functools import cache, cached_property
from pathlib import Path

import numpy as np

from asr.errors import ModelError
from asr.lm.lookup import GRAMS_A_RANK, LmArrays, score_known, score_word
from asr.lm.pack import find_begins, high_bits, pack, unpack
from asr.lm.spelling import Spelling, build_spelling, spell
from asr.lm.table import SPECIAL, NgramTable, Order
from asr.mapped_arrays import MappedArrays, save_arrays
from asr.text.word_list import WordList

_FORMAT = "3"
_AGAIN = "make it again with `asr lm build`, or copy it again"
_WORDS = "words"  # beside the arrays of LmArrays: the vocabulary without the special words, a line each, zlib
_HEADER_BYTES = 3_000
_CONTEXTS_A_BLOCK = 64  # at most: see `asr.lm.pack`


class LanguageModel:
    """A back-off n-gram model over words, open to words that it does not know."""

    def __init__(self, arrays: LmArrays, words: WordList) -> None:
        for array in arrays:
            array.flags.writeable = False  # as a mapped file is: compiled code then sees one type
        self.arrays = arrays
        self.words = words  # the vocabulary; a word's place is its id

    @property
    def order(self) -> int:
        """Words in its longest n-grams."""
        return len(self.arrays.prob_codes)

    @property
    def counts(self) -> tuple[int, ...]:
        """Number of n-grams of each length."""
        return len(self.arrays.prob), *(int(n) for n in np.diff(self.arrays.starts))

    @cached_property
    def ids(self) -> dict[str, int]:
        return {word: index for index, word in enumerate(self.words)}

    @cached_property
    def _spelling(self) -> tuple[str, Spelling]:
        return build_spelling(tuple(self.words), self.arrays.prob)

    @property
    def letters(self) -> str:
        """The alphabet: letter i is number i in the spelling trie."""
        return self._spelling[0]

    @property
    def spelling(self) -> Spelling:
        """The spelling trie, built when first asked for."""
        return self._spelling[1]

    def known_letters(self, word: str) -> int:
        """With how many of its letters some word of the vocabulary begins."""
        node = 0
        for count, letter in enumerate(word):
            number = self.letters.find(letter)
            node = spell(self.spelling, node, number) if number >= 0 else -1
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
        return float(score_known(self.arrays, ids)), int((ids == 0).sum())

    @classmethod
    def from_table(cls, table: NgramTable) -> LanguageModel:
        """Pack a model. Probabilities are rounded to the nearest of 256 values or fewer."""
        return cls(pack(table), WordList(table.words))

    def to_table(self) -> NgramTable:
        """The model as plain arrays, its probabilities as they were rounded: for writing it in ARPA format."""
        return unpack(self.arrays, tuple(self.words))

    @staticmethod
    def size(counts: tuple[int, ...], contexts: tuple[int, ...], words: tuple[str, ...]) -> int:
        """Bytes that a model takes at most.

        Args:
            counts: how many n-grams it has of each length.
            contexts: how many of them others go on from, or have a back-off weight; of words, all count as such.
            words: the vocabulary.
        """
        order, others, shorter = len(counts), sum(contexts[1:-1]), sum(counts[1:-1])
        fixed = _HEADER_BYTES + 2048 * order + len(_compress(words)) + 6 * len(words)
        steps = 2 * others + 4 * (others // _CONTEXTS_A_BLOCK)
        return fixed + 3 * sum(counts[1:]) + shorter // 8 + 4 * (shorter // GRAMS_A_RANK) + others + steps

    def save(self, path: Path) -> None:
        arrays = {name: np.ascontiguousarray(value) for name, value in self.arrays._asdict().items()}
        arrays[_WORDS] = np.frombuffer(_compress(tuple(self.words)), dtype=np.uint8)
        save_arrays(path, arrays, {"format": _FORMAT})

    @classmethod
    def load(cls, path: Path) -> LanguageModel:
        """Map a stored model into memory. Raises ModelError for a file that is missing or damaged, or an older one."""
        try:
            mapped = MappedArrays(path)
            kind, found = mapped.metadata.get("format"), mapped.arrays
            if kind != _FORMAT:
                raise ModelError(f"{path} is a language model of format {kind}, not {_FORMAT}: {_AGAIN}")
            special = "".join(f"{word}\n" for word in SPECIAL).encode()
            words = WordList.of_lines(special + zlib.decompress(found.pop(_WORDS).tobytes()))
            arrays = LmArrays(**found)
        except OSError as error:
            raise ModelError(f"cannot read {path}: {error.strerror}") from error
        except (ValueError, KeyError, TypeError, AttributeError, zlib.error) as error:
            raise ModelError(f"{path} is no language model, or damaged ({error}): {_AGAIN}") from error
        if problem := _find_damage(arrays, len(words)):
            raise ModelError(f"{path} is damaged ({problem}): {_AGAIN}")
        mapped.release()
        return cls(arrays, words)

    @classmethod
    @cache
    def empty(cls) -> LanguageModel:
        """A model of no words: what compiled code is given where there is none."""
        zeros = np.zeros(len(SPECIAL))
        unigrams = Order(zeros.astype(np.int64), np.arange(len(SPECIAL)), zeros, zeros)
        return cls.from_table(NgramTable(SPECIAL, (unigrams,)))


def _compress(words: tuple[str, ...]) -> bytes:
    return zlib.compress("".join(f"{word}\n" for word in words[len(SPECIAL) :]).encode(), 9)


def _find_damage(lm: LmArrays, words: int) -> str | None:
    """What would send compiled code, which checks nothing, outside the arrays."""
    order, grams, odd = len(lm.prob_codes), len(lm.low), "its arrays do not fit together"
    if order < 1 or len(lm.starts) != order or len(lm.bits) != 2 or not 0 <= int(lm.bits[1]) <= 16:
        return odd
    if int(lm.starts[0]) != 0 or bool((np.diff(lm.starts) < 0).any()):
        return odd
    shorter = int(lm.starts[-2]) if order > 1 else 0  # n-grams that others may go on from
    marks = lm.inner.astype(np.uint64)  # 64 n-grams in each
    before = np.concatenate([[0], np.cumsum(np.bitwise_count(marks), dtype=np.int64)])  # that others go on from
    others = int(before[-1])
    past = int(marks[-1]) >> (shorter - 64 * (len(marks) - 1)) if len(marks) == -(-shorter // 64) and len(marks) else 0
    blocks = (others >> int(lm.bits[1])) + 1
    sizes = (
        (int(lm.starts[-1]), grams),
        (len(lm.prob), words),
        (len(lm.high), grams),
        (len(lm.inner), -(-shorter // 64)),
        (past, 0),
        (len(lm.rank), max(1, -(-shorter // GRAMS_A_RANK))),
        (len(lm.backoff), words + others),
        (len(lm.after_word), words + 1),
        (len(lm.block), blocks),
        (len(lm.step), others + 1),
        (int(lm.bits[0]), 8 - high_bits(words)),
        (lm.prob_codes.shape, (order, 256)),
        (lm.backoff_codes.shape, (order, 256)),
    )
    if any(found != wanted for found, wanted in sizes):
        return odd
    if bool((lm.rank != before[: max(1, len(marks)) : GRAMS_A_RANK // 64]).any()):
        return odd
    begins = find_begins(lm)
    if int(begins[-1]) > grams or bool((np.diff(begins) < 0).any()):
        return "an offset points outside"
    if grams:
        high = lm.high >> np.uint8(lm.bits[0])  # words are 16 bits and some more
        greatest = int(high.max())
        if greatest << 16 | int(lm.low[high == greatest].max()) >= words:
            return "a word that it does not have"
    return None
