"""The lexicon: which words there are and how each is said.

Two forms: a text file that people write and read, and ``lexicon.safetensors`` in a model folder, which loads in some
milliseconds and is a quarter of the size. In the latter, words are sorted by their UTF-8 bytes and front-coded: each
gives the number of bytes that it shares with the one before, and the others. All of it is deflated.
"""

from __future__ import annotations

import bisect
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from safetensors import SafetensorError, safe_open

from asr.compiler import entry
from asr.errors import DataError, ModelError
from asr.lexicon.phonemes import PHONEMES, Pronunciation, decode_phonemes, encode_phonemes
from asr.mapped_arrays import save_arrays
from asr.text.word_list import WordList

MOST = 4  # pronunciations of a word
_FORMAT = "2"
_PLAIN = "1"  # the format before, whose arrays are not deflated
_VARIANT = re.compile(r"(.+)\(\d+\)$")  # CMUdict's way to write a further pronunciation: read(2)
_LONGEST = 255  # bytes of a word, phonemes of a pronunciation
_AGAIN = "make it again with `asr lexicon build`, or copy it again"


class LexiconArrays(NamedTuple):
    """A lexicon as compiled code sees it. Word w's pronunciations are those from first[w] to first[w + 1], the most
    usual first; pronunciation p's phonemes are phonemes[begin[p]:begin[p + 1]]."""

    phonemes: np.ndarray  # uint8 (all phonemes,): ids, 1 to 39
    begin: np.ndarray  # int32 (pronunciations + 1,)
    first: np.ndarray  # int32 (words + 1,)


class Lexicon(Mapping[str, tuple[Pronunciation, ...]]):
    """Words, sorted by their UTF-8 bytes, and their pronunciations, most usual first. Never changes.

    ``lexicon["tomato"]`` is a tuple of tuples of phoneme ids (`asr.lexicon.phonemes`).
    """

    def __init__(self, entries: Mapping[str, Sequence[Pronunciation]]) -> None:
        """Duplicates of pronunciations go, and what is more than four of a word.

        Raises DataError for a word without pronunciation, with a space, or too long.
        """
        words = sorted(entries)  # by code points, which is the order of the UTF-8 bytes too
        kept = [tuple(dict.fromkeys(entries[word]))[:MOST] for word in words]
        for word, pronunciations in zip(words, kept, strict=True):
            if not word or any(char.isspace() for char in word) or "\0" in word or len(word.encode()) > _LONGEST:
                raise DataError(f"{word[:40]!r} is no word: no spaces, and {_LONGEST} bytes at most")
            if not pronunciations or any(not 0 < len(said) <= _LONGEST for said in pronunciations):
                raise DataError(f"{word!r} needs a pronunciation, of {_LONGEST} phonemes at most")
        flat = [said for pronunciations in kept for said in pronunciations]
        phonemes = np.array([phoneme for said in flat for phoneme in said], dtype=np.int64)
        if len(phonemes) and not (phonemes.min() >= 1 and phonemes.max() <= len(PHONEMES)):
            raise DataError(f"a pronunciation is of phoneme ids from 1 to {len(PHONEMES)}")
        self._words = WordList(words)
        self.arrays = LexiconArrays(
            phonemes.astype(np.uint8), _starts([len(said) for said in flat]), _starts([len(row) for row in kept])
        )

    @classmethod
    def _of(cls, words: WordList, arrays: LexiconArrays) -> Lexicon:
        lexicon = cls.__new__(cls)
        lexicon._words, lexicon.arrays = words, arrays
        return lexicon

    @property
    def words(self) -> WordList:
        """All words, in the order of their UTF-8 bytes; a word's place is its number in `arrays`."""
        return self._words

    def find(self, word: str) -> int:
        """A word's place, or -1."""
        at = bisect.bisect_left(self._words, word)
        return at if at < len(self._words) and self._words[at] == word else -1

    def __getitem__(self, word: str) -> tuple[Pronunciation, ...]:
        at = self.find(word)
        if at < 0:
            raise KeyError(word)
        phonemes, begin, first = self.arrays
        return tuple(
            tuple(phonemes[begin[p] : begin[p + 1]].tolist()) for p in range(int(first[at]), int(first[at + 1]))
        )

    def __contains__(self, word: object) -> bool:
        return isinstance(word, str) and self.find(word) >= 0

    def __iter__(self) -> Iterator[str]:
        return iter(self._words)

    def __len__(self) -> int:
        return len(self._words)

    def save(self, path: Path) -> None:
        """Write the compact form."""
        encoded = [word.encode() for word in self._words]
        shared, added = [], []
        before = b""
        for word in encoded:
            same = 0
            for a, b in zip(before, word, strict=False):
                if a != b:
                    break
                same += 1
            shared.append(same)
            added.append(word[same:])
            before = word
        arrays = {
            "letters": np.frombuffer(b"".join(added), dtype=np.uint8),
            "shared": np.array(shared, dtype=np.uint8),
            "added": np.array([len(part) for part in added], dtype=np.uint8),
            "variants": np.diff(self.arrays.first).astype(np.uint8),
            "lengths": np.diff(self.arrays.begin).astype(np.uint8),
            "phonemes": self.arrays.phonemes,
        }
        try:
            deflated = {name: np.frombuffer(zlib.compress(a.tobytes(), 9), np.uint8) for name, a in arrays.items()}
            save_arrays(path, deflated, {"format": _FORMAT})
        except OSError as error:
            raise DataError(f"cannot write {path}: {error}") from error

    @classmethod
    def load(cls, path: Path) -> Lexicon:
        """Read the compact form. Raises ModelError for a file that is missing, damaged or of another kind."""
        try:
            with safe_open(path, "numpy") as file:
                kind = (file.metadata() or {}).get("format")
                if kind not in (_PLAIN, _FORMAT):
                    raise ModelError(f"{path} is a lexicon of format {kind}, not {_PLAIN} or {_FORMAT}: {_AGAIN}")
                arrays = tuple(
                    file.get_tensor(name) for name in ("letters", "shared", "added", "variants", "lengths", "phonemes")
                )
                if kind != _PLAIN:
                    # Compiled code knows arrays that can be written to.
                    arrays = tuple(np.frombuffer(bytearray(zlib.decompress(a.data)), np.uint8) for a in arrays)
        except OSError as error:
            raise ModelError(f"cannot read {path}: {error}") from error
        except (SafetensorError, zlib.error) as error:
            raise ModelError(f"{path} is no lexicon, or damaged ({error}): {_AGAIN}") from error
        letters, shared, added, variants, lengths, phonemes = arrays
        begin, first = _starts(lengths), _starts(variants)
        if (
            any(array.dtype != np.uint8 or array.ndim != 1 for array in arrays)
            or len(shared) != len(added)
            or len(variants) != len(added)
            or first[-1] != len(lengths)
            or begin[-1] != len(phonemes)
            or int(added.sum(dtype=np.int64)) != len(letters)
            or (len(phonemes) and (phonemes.min() < 1 or phonemes.max() > len(PHONEMES)))
            or (len(lengths) and min(lengths.min(), variants.min()) < 1)
        ):
            raise ModelError(f"{path} is damaged (its parts do not fit together): {_AGAIN}")
        try:
            text = np.empty(
                sum(int(part.sum(dtype=np.int64)) for part in (shared, added)) + len(shared), dtype=np.uint8
            )
            if unfold(letters, shared, added, text) < 0:
                raise ValueError("a word is cut")
            words = WordList.of_lines(text.tobytes())
            if len(words) != len(shared):
                raise ValueError("a word is cut")
        except (UnicodeDecodeError, ValueError) as error:
            raise ModelError(f"{path} is damaged (its words cannot be read): {_AGAIN}") from error
        return cls._of(words, LexiconArrays(phonemes, begin, first))


def read_lexicon(path: Path) -> Lexicon:
    """Read a lexicon that people wrote, in UTF-8: a word and its phonemes a line, a line for each pronunciation.

        # the most usual pronunciation first
        tomato  T AH M EY T OW
        tomato  T AH M AA T OW

    Words are turned to lower case. Stress digits are dropped, ``tomato(2)`` means tomato, and what follows a ``#``
    that begins a word is a comment. Raises DataError with the line's number.
    """
    entries: dict[str, list[Pronunciation]] = {}
    try:
        with path.open(encoding="utf-8-sig") as file:
            for number, line in enumerate(file, 1):
                fields = line.split()
                comment = next((i for i, field in enumerate(fields) if field.startswith(("#", ";;;"))), len(fields))
                fields = fields[:comment]
                if not fields:
                    continue
                word = fields[0].lower()
                if variant := _VARIANT.match(word):
                    word = variant[1]
                try:
                    if len(fields) == 1:
                        raise DataError(f"{word!r} has no pronunciation: write its phonemes after it")
                    entries.setdefault(word, []).append(encode_phonemes(fields[1:]))
                except DataError as error:
                    raise DataError(f"{path}, line {number}: {error}") from error
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"cannot read {path}: {error}. The file must be text in UTF-8") from error
    return Lexicon(entries)


def write_lexicon(lexicon: Mapping[str, Iterable[Pronunciation]], path: Path) -> None:
    """Write the form for people: a line for each pronunciation."""
    try:
        with path.open("w", encoding="utf-8") as file:
            for word, pronunciations in lexicon.items():
                for said in pronunciations:
                    file.write(f"{word}  {decode_phonemes(said)}\n")
    except OSError as error:
        raise DataError(f"cannot write {path}: {error.strerror}") from error


def _starts(lengths: Sequence[int] | np.ndarray) -> np.ndarray:
    starts = np.zeros(len(lengths) + 1, dtype=np.int32)
    np.cumsum(lengths, out=starts[1:])
    return starts


@entry
def unfold(letters: np.ndarray, shared: np.ndarray, added: np.ndarray, text: np.ndarray) -> int:
    """Write front-coded words as bytes, a line break after each; -1 if a word shares more than the one before has."""
    at, before, taken = 0, 0, 0  # where this word begins, where the one before did, how many letters are used
    for word in range(len(shared)):
        same, new = int(shared[word]), int(added[word])
        if same and same > at - 1 - before:
            return -1
        for k in range(same):
            text[at + k] = text[before + k]
        for k in range(new):
            text[at + same + k] = letters[taken + k]
        taken += new
        before = at
        at += same + new + 1
        text[at - 1] = 10
    return at
