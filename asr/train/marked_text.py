"""Text with punctuation and capitals as words, what follows each, and whether it has a capital of its own.

Marks that speech has no sound for become the nearest of `asr.written.punctuation.MARKS`: a semicolon, a colon and a
dash a comma, an exclamation mark a full stop. A capital at a sentence's start says nothing about its word. Sentences
with digits are left out, since how they are read aloud cannot be known.
"""

from __future__ import annotations

import re
import unicodedata
import zlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from asr.lm.text import read_chunks
from asr.text.normalize import normalize

NONE, COMMA, STOP, QUESTION = range(4)  # as `asr.written.punctuation.MARKS` has them
SMALL, CAPITAL, UNSAID = range(3)  # a word's own capital; unsaid where its place or a rule decides
_RULED = {"i", "i'm", "i'll", "i'd", "i've"}  # always with a capital
_OPENING, _CLOSING = "\"'([{\u201c\u2018*_", "\"')]}\u201d\u2019*_"
_DASH = re.compile(r"--+|\u2014|\u2013(?=\D)")
_PARTS = re.compile(r"[A-Za-z']+")
_LETTERS = re.compile(r"(?:[A-Z]\.){2,}")
_TITLES = {"mr": "mister", "mrs": "missus", "dr": "doctor", "messrs": "messieurs", "ms": "miz"}
_SHORT = {"st", "rev", "capt", "col", "gen", "lieut", "lt", "prof", "sergt", "hon", "jr", "sr", "vol", "etc", "vs"}
HELD_OUT, TRAINED = range(2), range(2, 100)  # hundredths of the lines of every text, by `hash_line`
_SHOUTED = 0.3  # lines with a larger share of words in capitals are headings


class _Token(NamedTuple):
    """What is between two spaces, by itself."""

    words: tuple[int, ...]
    capitals: tuple[int, ...]
    mark: int
    opens: bool  # with a quotation mark or bracket
    lower: bool  # begins with a small letter
    loose: bool  # its stop may belong to an abbreviation, or its dots to a pause: the next word tells
    digits: bool


class _Piece(NamedTuple):
    """A stretch of a line without gaps."""

    words: list[int]
    marks: list[int]
    capitals: list[int]
    broken: bool  # something was left out after it


@dataclass(frozen=True)
class MarkedText:
    """Words in order, and what is known of each."""

    words: np.ndarray  # int32: numbers of `WordForms`
    marks: np.ndarray  # uint8: what follows
    capitals: np.ndarray  # uint8
    ends: np.ndarray  # bool: what follows is not what came next: something was left out, or a line has no full stop


class WordForms:
    """Numbers words as they come up, and counts how they are written."""

    def __init__(self) -> None:
        self.words: list[str] = []
        self.small: Counter[int] = Counter()
        self.forms: Counter[tuple[int, str]] = Counter()
        self._numbers: dict[str, int] = {}
        self._tokens: dict[str, _Token] = {}

    def number(self, word: str) -> int:
        """A word's number."""
        found = self._numbers.get(word)
        if found is None:
            found = self._numbers[word] = len(self.words)
            self.words.append(word)
        return found

    def token(self, raw: str) -> _Token:
        """What stands between two spaces."""
        token = self._tokens.get(raw)
        if token is None:
            token = self._read(raw)
            if len(self._tokens) < 2_000_000:
                self._tokens[raw] = token
        return token

    def _read(self, raw: str) -> _Token:
        core = raw.lstrip(_OPENING)
        opens = core != raw and raw[0] not in "*_"
        inner = core.rstrip(_CLOSING + ".,;:!?\u2026-")
        tail = core[len(inner) :]
        digits = any(char.isdigit() for char in core)
        spelled = bool(_LETTERS.fullmatch(inner + "."))
        folded = unicodedata.normalize("NFKD", inner.replace("\u2019", "'"))
        folded = "".join(char for char in folded if not unicodedata.combining(char))
        parts = [part for part in _PARTS.findall(folded) if normalize(part)]
        words, capitals = [], []
        for part in parts:
            word = normalize(part)
            title = _TITLES.get(word, word) if tail.startswith(".") or word in ("mr", "mrs") else word
            number = self.number(title)
            words.append(number)
            written = part.strip("'")
            if spelled or title != word or word in _RULED or not written:
                capitals.append(UNSAID)
            else:
                capitals.append(CAPITAL if written[0].isupper() or not written.islower() else SMALL)
        mark = NONE
        if "?" in tail:
            mark = QUESTION
        elif any(char in tail for char in ".!\u2026"):
            mark = STOP
        elif any(char in tail for char in ",;:"):
            mark = COMMA
        single = len(parts) == 1 and (len(parts[0]) == 1 or normalize(parts[0]) in _SHORT) and "." in tail
        if (single and parts[0] not in ("I", "a")) or spelled or (parts and parts[0].lower() in _TITLES):
            mark = COMMA if "," in tail else NONE
        lower = bool(parts) and parts[0][0].islower()
        loose = mark == STOP and ("\u2026" in tail or ".." in tail or "!" in tail)
        return _Token(tuple(words), tuple(capitals), mark, opens, lower, loose, digits)


class MarkedTextReader:
    """Makes `MarkedText` of lines, one numbering of words for all."""

    def __init__(self) -> None:
        self.forms = WordForms()

    def read(self, path: Path, most_words: int, keep: range | None = None) -> MarkedText:
        """The first so many words of a text file, plain or compressed.

        ``keep``, of step one and within 0 to 99, takes so many hundredths of the lines, the same ones each time.
        """
        return self.lines((line for chunk in read_chunks(path) for line in chunk.splitlines()), most_words, keep)

    def lines(self, lines: Iterable[str], most_words: int, keep: range | None = None) -> MarkedText:
        """The same of lines."""
        words: list[int] = []
        marks, capitals, ends = bytearray(), bytearray(), bytearray()
        for line in lines:
            if keep is not None and hash_line(line) not in keep:
                continue
            pieces = self._line(line)
            for piece in pieces:
                words += piece.words
                marks += bytes(piece.marks)
                capitals += bytes(piece.capitals)
                # A line that ends with its sentence goes on in the next one: of a talk each sentence may have a line.
                ends += bytes(len(piece.words) - 1) + bytes([piece.broken or marks[-1] in (NONE, COMMA)])
            if ends and not pieces:
                ends[-1] = 1
            if len(words) >= most_words:
                break
        bytes_of = [np.frombuffer(part, np.uint8) for part in (marks, capitals, ends)]
        return MarkedText(np.array(words, np.int32), bytes_of[0], bytes_of[1], bytes_of[2].astype(bool))

    def _line(self, line: str) -> list[_Piece]:
        """Stretches without gaps of words, marks and capitals."""
        raw = _DASH.sub(" -- ", line).split()
        shouted = sum(len(part) > 1 and part.isupper() for part in raw)
        if not raw or shouted > max(1.0, _SHOUTED * len(raw)):
            return []
        tokens = [self.forms.token(part) for part in raw]
        pieces: list[_Piece] = []
        words: list[int] = []
        marks: list[int] = []
        capitals: list[int] = []
        begun, digits, fresh = 0, False, True  # where the sentence begins; whether it has digits; whether at its start
        for at, token in enumerate(tokens):
            if not token.words and not token.digits:
                if words and marks[-1] == NONE and not fresh:
                    marks[-1] = COMMA  # a dash, or dots by themselves
                continue
            digits = digits or token.digits
            after = tokens[at + 1] if at + 1 < len(tokens) else None
            mark = token.mark
            if mark == STOP and after is not None and after.lower:
                mark = COMMA if token.loose else NONE
            for k, (number, capital) in enumerate(zip(token.words, token.capitals, strict=True)):
                said = UNSAID if k == 0 and (fresh or token.opens) else capital
                words.append(number)
                marks.append(mark if k == len(token.words) - 1 else NONE)
                capitals.append(said)
                if said == SMALL:
                    self.forms.small[number] += 1
            if len(token.words) == 1 and capitals[-1:] == [CAPITAL]:
                self.forms.forms[token.words[0], _stripped(raw[at])] += 1
            fresh = mark in (STOP, QUESTION)
            if fresh or at == len(tokens) - 1:
                if digits:
                    del words[begun:], marks[begun:], capitals[begun:]
                    if words:
                        pieces.append(_Piece(words, marks, capitals, broken=True))
                    words, marks, capitals = [], [], []
                begun, digits = len(words), False
        if words:
            pieces.append(_Piece(words, marks, capitals, broken=False))
        return pieces


def _stripped(raw: str) -> str:
    return raw.strip("\"'([{\u201c\u2018*_)]}\u201d\u2019.,;:!?\u2026-")


def hash_line(line: str) -> int:
    """A line's hundredth, 0 to 99."""
    return zlib.crc32(line.encode("utf-8", "replace")) % 100
