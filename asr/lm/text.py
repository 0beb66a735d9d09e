"""From text files to the words that are spoken, fast enough for billions of letters.

Chunks of lines are folded to ASCII, cut into sentences and stripped as a whole; then each different word is looked at
once. What comes out is what `asr.text.normalize` says of each sentence, with what is read aloud instead of some
abbreviations: ``Mr.`` is *mister*, and ends no sentence.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from asr.errors import DataError
from asr.lm.arpa import open_text
from asr.lm.table import SPECIAL
from asr.text.normalize import normalize

CHUNK_CHARS = 1 << 22
# An n-gram should not run across two sentences of a paragraph; what goes on in lower case is the same sentence.
_SENTENCE_END = re.compile(rb"[.!?][\"')\]]*[ \t]+(?![a-z])")
_STOP, _LINE_END = "|", "/"  # how both ends of sentences are marked
_DROPPED, _AFTER_LINE, _AFTER_STOP = -1, -2, -3  # instead of words: nothing, and the two marks
_DOUBLE_QUOTES = "\u201c\u201d\u201e"
# Abbreviations, and how they are read; the latter ones only where a full stop and a capital letter follow.
_SPOKEN = {"mr": "mister", "mrs": "missus", "dr": "doctor"}
_SPOKEN_BEFORE_STOP = {
    "st": "saint",
    "rev": "reverend",
    "capt": "captain",
    "col": "colonel",
    "gen": "general",
    "lieut": "lieutenant",
    "prof": "professor",
    "sergt": "sergeant",
    "hon": "honourable",
}
_INITIALS = "bcdefghjklmnopqrstuvwxyz"  # their full stop ends no sentence; i and a are words
_RARE = 0.02  # an apostrophe at a word's end is a quotation mark if the word has it more rarely than that


def _clean_table() -> bytes:
    """Letters in lower case, apostrophes and marks stay, digits become 0, all else a space."""
    table = bytearray(b" " * 256)
    for code in range(128):
        char = chr(code)
        if char.isalpha() or char in "'" + _STOP + _LINE_END:
            table[code] = ord(char.lower())
        elif char.isdigit():
            table[code] = ord("0")
    return bytes(table)


_CLEAN = _clean_table()
_folded: dict[str, str] = {}


def _fold(error: UnicodeError) -> tuple[str, int]:
    """What stands in ASCII for a stretch of other characters."""
    assert isinstance(error, UnicodeEncodeError)
    part = error.object[error.start : error.end]
    folded = _folded.get(part)
    if folded is None:
        folded = "".join(_fold_char(char) for char in part)
        if len(_folded) < 100_000:
            _folded[part] = folded
    return folded, error.end


def _fold_char(char: str) -> str:
    if char in _DOUBLE_QUOTES:
        return '"'
    if char == "\u2026":
        return "..."
    if char.isdigit():
        return "0"
    folded = normalize(f"a{char}a")[1:-1]  # an accent alone vanishes, an apostrophe stays
    return folded.upper() if char.isupper() else folded


codecs.register_error("asr.lm.fold", _fold)


class WordNumbers(dict[str, int]):
    """Numbers words as they come up; the three special ones are 0 to 2."""

    def __init__(self) -> None:
        self.words: list[str] = list(SPECIAL)
        super().__init__({_STOP: _AFTER_STOP, _LINE_END: _AFTER_LINE})
        unended = [self[word] for word in (*_SPOKEN.values(), *_SPOKEN_BEFORE_STOP, *_INITIALS)]
        self.unended = np.array(unended, dtype=np.int32)  # words whose full stop ends no sentence
        self.before_stop = {self[short]: self[full] for short, full in _SPOKEN_BEFORE_STOP.items()}

    def __missing__(self, raw: str) -> int:
        if "0" in raw:
            number = 0
        else:
            word = normalize(raw).replace(" ", "")
            word = _SPOKEN.get(word, word)
            if not word:
                number = _DROPPED
            elif word != raw:
                number = self[word]
            else:
                number = len(self.words)
                self.words.append(word)
        self[raw] = number
        return number


def number_text(text: str, numbers: WordNumbers) -> np.ndarray:
    """The words of lines of text, int32; 1 begins and 2 ends each sentence. What holds a digit is the unknown word."""
    data = text.encode("ascii", "asr.lm.fold").replace(b"|", b" ").replace(b"/", b" ")
    data = _SENTENCE_END.sub(b" | ", data).replace(b"\n", b" / ").translate(_CLEAN)
    tokens = data.decode("ascii").split()
    raw = np.fromiter(map(numbers.__getitem__, tokens), dtype=np.int32, count=len(tokens))
    return _bound(raw[raw != _DROPPED], numbers)


def _bound(raw: np.ndarray, numbers: WordNumbers) -> np.ndarray:
    """Sentence starts and ends instead of the marks."""
    stops = np.flatnonzero(raw[1:] == _AFTER_STOP) + 1
    before = raw[stops - 1]
    for short, full in numbers.before_stop.items():
        raw[stops[before == short] - 1] = full
    keep = np.ones(len(raw), dtype=bool)
    keep[stops[np.isin(before, numbers.unended)]] = False
    line_end = np.array([_AFTER_LINE], dtype=np.int32)
    raw = np.concatenate([line_end, raw[keep], line_end])
    ends = raw < 0
    again = np.concatenate([[False], (ends[1:] & ends[:-1]) | ((raw[1:] == 0) & (raw[:-1] == 0))])  # 1,000 is one word
    raw = raw[~again]
    bounded = np.repeat(raw, 1 + (raw < 0))
    at = np.flatnonzero(bounded < 0)
    bounded[at[::2]], bounded[at[1::2]] = 2, 1
    return bounded[1:-1]


def read_chunks(path: Path) -> Iterator[str]:
    """A text file, plain or compressed, some megabytes of whole lines at a time."""
    with open_text(path) as file:
        try:
            while lines := file.readlines(CHUNK_CHARS):
                yield "".join(lines)
        except (UnicodeDecodeError, EOFError, OSError) as error:
            raise DataError(f"cannot read {path}: {error}. The file must be text in UTF-8") from error


def read_numbers(path: Path, numbers: WordNumbers) -> np.ndarray:
    """The words of a file, as from `number_text`."""
    empty = np.zeros(0, dtype=np.int32)
    return np.concatenate([empty, *(number_text(chunk, numbers) for chunk in read_chunks(path))])


def read_sentences(path: Path) -> Iterator[list[str]]:
    """The sentences of a text file, as lists of spoken words."""
    numbers = WordNumbers()
    for chunk in read_chunks(path):
        yield from _sentences(chunk, numbers)


def sentence_words(line: str) -> list[str]:
    """The words of a line of text as they are spoken. What holds a digit is the unknown word."""
    return [word for sentence in _sentences(line, WordNumbers()) for word in sentence]


def _sentences(text: str, numbers: WordNumbers) -> Iterator[list[str]]:
    sentence: list[str] = []
    for number in number_text(text, numbers).tolist():
        if number == 2:
            yield sentence
            sentence = []
        elif number != 1:
            sentence.append(numbers.words[number])


def find_quoted(words: list[str], counts: np.ndarray) -> np.ndarray:
    """For each word the number of the word that it is without a quotation mark, its own for most.

    In much print a quotation begins and ends with an apostrophe: ``'you`` is *you*, while ``'tis`` and ``boys'`` are
    words. What a word usually looks like tells them apart.
    """
    numbers = {word: number for number, word in enumerate(words)}
    meant = np.arange(len(words))
    for number, word in enumerate(words):
        if word[0] == "'":
            inner = numbers.get(word.lstrip("'"))
            if inner is not None and counts[number] <= counts[inner]:
                meant[number] = inner
        elif word[-1] == "'" and not word.endswith(("s'", "in'")):
            inner = numbers.get(word.rstrip("'"))
            if inner is not None and counts[number] < _RARE * counts[inner]:
                meant[number] = inner
    return meant
