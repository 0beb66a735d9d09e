"""Months, days, ordinals."""

from __future__ import annotations

from asr.written.context import counts_things, is_plural, name_ordinal
from asr.written.numerals import (
    DIGITS,
    NUMBER_WORDS,
    ORDINALS,
    SCALES,
    TENS,
    ordinal_text,
    read_below_100,
    read_ordinal,
)
from asr.written.sequences import read_year
from asr.written.tables import MEASURES, MONTHS, SUBJECTS
from asr.written.words import Piece, Pieces, Words, word_set

_VERBS = {"may", "march"}  # months that are verbs too
_DATE_CUES = word_set("on of by since until from to before after through between is was for starting and in")
_MONTH_CUES = word_set("in of since until by last next early late mid during through before after")
_FIXED = word_set("the month on our my his her their your this that every each")  # before an ordinal


def write_month(words: Words, at: int) -> Pieces | None:
    """A month with its day and its year, *may* and *march* only where they are months."""
    month, before = words[at], words[at - 1]
    named = Piece(MONTHS[month], 1)
    year = read_year(words, at + 1)
    if year is not None and read_below_100(words, year.end) is None:
        return [named, Piece(str(year.value), year.end - at - 1)]
    verb = month in _VERBS
    cue = before in _DATE_CUES or before == ""
    article = words[at + 1] == "the"
    day_at = at + 1 + article
    day = read_ordinal(words, day_at)
    if day is not None and 1 <= day.value <= 31:
        doubtful = verb and (article or words[day_at] in ("first", "second"))
        if not ((verb and before in SUBJECTS) or (doubtful and not cue)):
            return _with_day(words, at, named, article, ordinal_text(day.value), day_at, day.end)
    if not article and words[at + 1] in NUMBER_WORDS:
        count = read_below_100(words, at + 1)
        if count is not None and count.value <= 31 and (not verb or cue):
            unit = words[count.end]
            known = unit in ("percent", "hundred", "to", "point", "or") or unit in SCALES or (unit,) in MEASURES
            if not known and not counts_things(unit):
                return _with_day(words, at, named, False, str(count.value), at + 1, count.end)
    return [named] if not verb or before in _MONTH_CUES else None


def _with_day(words: Words, at: int, month: Piece, article: bool, text: str, day_at: int, end: int) -> Pieces:
    pieces = [month, *([Piece("the", 1)] if article else [])]
    year = read_year(words, end)
    if year is None:
        return [*pieces, Piece(text, end - day_at)]
    return [*pieces, Piece(f"{text},", end - day_at), Piece(str(year.value), year.end - end)]


def write_ordinal(words: Words, at: int) -> Pieces | None:
    """*21st*; below the tenth they stay words, but for days: *the 4th of July*."""
    ordinal = read_ordinal(words, at)
    if ordinal is None:
        return None
    value, end = ordinal
    if value <= 31 and words[end] == "of" and words[end + 1] in MONTHS:
        pieces = [Piece(ordinal_text(value), end - at), Piece("of", 1), Piece(MONTHS[words[end + 1]], 1)]
        year = read_year(words, end + 2)
        return pieces if year is None else [*pieces, Piece(str(year.value), year.end - end - 2)]
    if (words[end] == "avenue" and words[at - 1] != "the") or (words[end] == "street" and value >= 10):
        return [name_ordinal(words, at, value, end), Piece(words[end].capitalize(), 1)]
    if value < 10:
        return None
    last = words[end - 1]
    if end - at > 1 and last == "second" and words[at - 1] not in _FIXED and words[end] != "place":
        number = value - 2
        return [Piece(str(number), end - at - 1), Piece("second", 1)]  # *a thirty second pause*
    if end - at == 1 and (words[at - 1] in DIGITS or (words[at - 1] == "a" and words[end] == "of")):
        return None  # *one tenth*
    if words[end] == "of" and last in ("hundredth", "thousandth", "millionth", "billionth"):
        return None
    if is_plural(last):
        return None
    return [Piece(ordinal_text(value), end - at)]


def is_ordinal_start(word: str) -> bool:
    return word in ORDINALS or word in TENS
