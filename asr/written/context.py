"""Small questions about the words around a number."""

from __future__ import annotations

from asr.written.numerals import NUMBER_WORDS, ordinal_text, read_ordinal
from asr.written.tables import COMMON, DIRECTIONS, DURATIONS, SINGULAR_UNITS, STREETS
from asr.written.words import Piece, Pieces, Words, word_set

_NO_PLURALS = word_set(
    "is was this has as its us always does yes plus less versus unless across thus perhaps besides towards "
    "afterwards sometimes says goes guess miss pass james charles thomas paris texas"
)
_PLURALS = {"people", "men", "women", "children", "percent", "folks", "police", "feet"}


def is_plural(word: str) -> bool:
    """Whether a word looks like things that one counts."""
    return word in _PLURALS or (len(word) > 3 and word.endswith("s") and word not in _NO_PLURALS and "'" not in word)


def counts_things(word: str) -> bool:
    """Whether a number before this word says how many or how much."""
    return word in SINGULAR_UNITS or word in DURATIONS or is_plural(word)


def says_morning(words: Words, at: int) -> bool:
    """*in the morning* and the like."""
    if words[at] == "in":
        return words[at + 1] == "the" and words[at + 2] in ("morning", "afternoon", "evening")
    return words[at] == "at" and words[at + 1] == "night"


def read_half_day(words: Words, at: int) -> Piece | None:
    """*a m* or *p m*, which lexicons also write *am* and *pm*."""
    word = words[at]
    if word in ("am", "pm"):
        return Piece(f"{word[0]}.m.", 1)
    return Piece(f"{word}.m.", 2) if word in ("a", "p") and words[at + 1] == "m" else None


def read_street(words: Words, at: int) -> Pieces | None:
    """What follows a house number: *main street*, *west forty second street*, *north lake shore drive*."""
    pieces: Pieces = []
    if words[at] in DIRECTIONS:
        pieces.append(Piece(words[at].capitalize(), 1))
        at += 1
    ordinal = read_ordinal(words, at)
    if ordinal is not None:
        if words[ordinal.end] not in STREETS:
            return None
        pieces.append(name_ordinal(words, at, ordinal.value, ordinal.end))
        return [*pieces, Piece(words[ordinal.end].capitalize(), 1)]
    for place in range(at, at + 3):
        word = words[place]
        if word in STREETS and place > at:
            return [*pieces, Piece(word.capitalize(), 1)]
        if place == at + 2 or not _may_be_name(word):
            return None
        pieces.append(Piece(word.capitalize(), 1))
    return None


def name_ordinal(words: Words, at: int, value: int, end: int) -> Piece:
    """An ordinal in a street's name: *Fifth*, *42nd*."""
    return Piece(ordinal_text(value) if value >= 10 else words[at].capitalize(), end - at)


def _may_be_name(word: str) -> bool:
    return (
        len(word) > 2
        and word not in COMMON
        and word not in STREETS
        and word not in NUMBER_WORDS
        and word not in SINGULAR_UNITS
        and word not in DURATIONS
    )
