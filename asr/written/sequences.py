"""Numbers said piece by piece: telephone and card numbers, codes, years, times of day, house numbers."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

from asr.written.context import counts_things, read_half_day, read_street, says_morning
from asr.written.numerals import (
    DIGITS,
    NUMBER_WORDS,
    SCALES,
    TEENS,
    TENS,
    ZEROS,
    Number,
    read_below_100,
    read_cardinal,
)
from asr.written.tables import CURRENCIES, LABELS, LABELS_OF_LONG, TIME_CUES, YEAR_CUES
from asr.written.words import Piece, Pieces, Words, word_set

_REPEATS = {"double": 2, "triple": 3}
_UNGROUPED = {"account", "id", "serial", "code", "pin", "box", "zip"}  # whose numbers have no hyphens
# Units of which hundreds are said so: *three sixty degrees*, *one twenty volts*.
_SAID_IN_TWO = word_set("degrees volts watts pounds horsepower calories kilometers kilometres miles yards meters")
_DECADES = {f"{word[:-1]}ies": str(value) for word, value in TENS.items()}
IDIOMS: dict[tuple[str, ...], str] = {
    ("twenty", "four", "seven"): "24/7",
    ("fifty", "fifty"): "50-50",
    ("nine", "eleven"): "9/11",
    ("twenty", "twenty", "vision"): "20/20 vision",
    ("twenty", "twenty", "hindsight"): "20/20 hindsight",
}


class _Element(NamedTuple):
    digits: str
    end: int
    single: bool  # said digit by digit


def _read_element(words: Words, at: int) -> _Element | None:
    word = words[at]
    if word in _REPEATS:
        digit = _digit(words[at + 1])
        return _Element(digit * _REPEATS[word], at + 2, True) if digit else None
    if digit := _digit(word):
        element = _Element(digit, at + 1, True)
    elif (number := read_below_100(words, at)) is not None:
        element = _Element(str(number.value), number.end, False)
    else:
        return None
    following = words[element.end]
    return None if following == "hundred" or following in SCALES else element


def _digit(word: str) -> str:
    return "0" if word in ZEROS else str(DIGITS.get(word, ""))


def _read_elements(words: Words, at: int) -> list[_Element]:
    elements = []
    while (element := _read_element(words, at)) is not None:
        elements.append(element)
        at = element.end
    while elements and words[elements[-1].end - 1] in ("oh", "o") and len(elements) < 4:
        elements.pop()  # *five, oh, I see*
    return elements


def write_digits(words: Words, at: int) -> Pieces | None:
    """A run of digits, as telephone numbers and codes are said."""
    start, first = at, ""
    one = words[at] == "one" and words[at + 1] in DIGITS and words[at + 2] == "hundred"
    if one:
        at += 1
    if words[at] in DIGITS and words[at + 1] == "hundred" and (_digit(words[at + 2]) or words[at + 2] in TEENS):
        elements = _read_elements(words, at + 2)
        if sum(len(element.digits) for element in elements) != 7:
            return None
        first = f"{'1' if one else ''}{DIGITS[words[at]]}00"
    elif one:
        return None
    else:
        elements = _read_elements(words, at)
        if not _is_run(words, at, elements):
            return None
    digits = first + "".join(element.digits for element in elements)
    end = elements[-1].end
    if words[end] == "point" and (tenths := _digit(words[end + 1])):  # *one oh five point five*
        return [Piece(f"{digits}.{tenths}", end + 2 - start)]
    if not first and len(digits) < 6 and (street := read_street(words, end)) is not None:
        return [Piece(digits, end - start), *street]
    if len(digits) == 16 and not first:
        places = {sum(len(e.digits) for e in elements[: k + 1]): elements[k].end for k in range(len(elements))}
        if all(count in places for count in (4, 8, 12)):
            ends = [places[count] for count in (4, 8, 12, 16)]
            begins = [start, *ends[:3]]
            return [Piece(digits[4 * k : 4 * k + 4], ends[k] - begins[k]) for k in range(4)]
    return [Piece(digits if words[start - 1] in _UNGROUPED else _telephone(digits), end - start)]


def _is_run(words: Words, at: int, elements: list[_Element]) -> bool:
    """Whether elements are one number said in parts, and not several numbers."""
    if len(elements) < 2 and not (elements and len(elements[0].digits) > 1 and elements[0].single):
        return False
    digits = sum(len(element.digits) for element in elements)
    singles = sum(element.single for element in elements)
    repeated = any(element.single and len(element.digits) > 1 for element in elements)
    if words[at - 1] in LABELS_OF_LONG:
        return singles == len(elements) or len(elements) > 2
    if words[at] in ("oh", "o", "zero") and len(elements) < 4:
        return False
    if len(elements) == 3 and elements[1].digits == "0":
        end = elements[-1].end
        if words[at - 1] in TIME_CUES or read_half_day(words, end) is not None:
            return False  # *five oh five p m*
    values = [int(element.digits) for element in elements]
    steps = {b - a for a, b in pairwise(values)}
    if len(elements) > 2 and steps in ({1}, {-1}):  # somebody counts, or has such an address
        return read_street(words, elements[-1].end) is not None
    if steps in ({1}, {-1}) or (singles < len(elements) and all(step > 0 for step in steps)):
        return False
    if repeated:
        return digits > 2
    return (len(elements) > 2 and singles > 2) or (len(elements) > 3 and digits in (7, 10, 11, 16))


def _telephone(digits: str) -> str:
    match len(digits):
        case 7:
            return f"{digits[:3]}-{digits[3:]}"
        case 10 if digits[0] not in "01":
            return f"{digits[:3]}-{digits[3:6]}-{digits[6:]}"
        case 11 if digits[0] == "1":
            return f"1-{digits[1:4]}-{digits[4:7]}-{digits[7:]}"
    return digits


def read_year(words: Words, at: int) -> Number | None:
    """*nineteen eighty four*, *twenty oh six*, *two thousand and five*, *eighteen hundred*."""
    if (pair := _read_pair(words, at)) is not None and 13 <= int(pair.first) <= 20:
        return Number(int(pair.first + pair.second), pair.end)
    number = read_cardinal(words, at)
    if number is None:
        return None
    said_so = (words[at + 1] == "hundred" and words[at] in TEENS) or (
        words[at] == "two" and words[at + 1] == "thousand"
    )
    return number if said_so and 1100 <= number.value < 2100 else None


class _Pair(NamedTuple):
    first: str
    second: str  # two digits
    end: int


def _read_pair(words: Words, at: int) -> _Pair | None:
    first = read_below_100(words, at)
    if first is None:
        return None
    after = first.end
    if words[after] in ZEROS and words[after + 1] in DIGITS:
        end = after + 2
        second = f"0{DIGITS[words[after + 1]]}"
    else:
        number = read_below_100(words, after)
        if number is None or number.value < 10:
            return None
        second, end = str(number.value), number.end
    if words[end] == "hundred" or words[end] in SCALES:
        return None
    return _Pair(str(first.value), second, end)


def write_pair(words: Words, at: int) -> Pieces | None:
    """Two numbers one after the other that are one: a year, a time of day, a house or room number."""
    for idiom, text in IDIOMS.items():
        if words.follows(at, *idiom):
            first, *rest = text.split()
            return [Piece(first, len(idiom) - len(rest)), *(Piece(word, 1) for word in rest)]
    if words[at] in TEENS | TENS and words[at + 1] in _DECADES:
        return [Piece(f"{(TEENS | TENS)[words[at]]}{_DECADES[words[at + 1]]}s", 2)]
    if words[at] in TEENS and words[at + 1] == "hundreds":
        return [Piece(f"{TEENS[words[at]]}00s", 2)]
    if words.follows(at, "two", "thousands"):
        return [Piece("2000s", 2)]
    pair = _read_pair(words, at)
    if pair is None:
        return None
    if words[pair.end] == "point" and (tenths := _digit(words[pair.end + 1])):  # *eleven fifty point five*
        return [Piece(f"{pair.first}{pair.second}.{tenths}", pair.end + 2 - at)]
    before, after = words[at - 1], words[pair.end]
    hour, minute = int(pair.first), int(pair.second)
    joined = [Piece(pair.first + pair.second, pair.end - at)]
    is_time = hour <= 12 and minute < 60
    if is_time:
        time = Piece(f"{pair.first}:{pair.second}", pair.end - at)
        half = read_half_day(words, pair.end)
        if half is not None:
            return [time, half]
        if says_morning(words, pair.end):
            return [time]
    if street := read_street(words, pair.end):
        return [*joined, *street]
    if before in LABELS or before == "number":
        return joined
    is_year = 13 <= hour <= 20 and (minute >= 10 or pair.second[0] == "0")
    if is_year and before in YEAR_CUES:
        return joined
    if after in NUMBER_WORDS or after in CURRENCIES:
        return None
    if is_year:
        listed = (hour in (15, 20) and minute % 5 == 0 and 0 < minute - hour <= 20) or (hour == minute < 20)
        return None if listed and counts_things(after) else joined
    if hour < 10 <= minute and after in _SAID_IN_TWO:
        return joined
    if is_time and not counts_things(after):
        if before in TIME_CUES or minute in (15, 30, 45):
            return [time]
        if hour < 10 or pair.second[0] == "0" or before in YEAR_CUES - {"between", "for", "to", "and"}:
            return joined
        return None
    if (hour < 10 and not counts_things(after)) or (10 <= hour <= 12 and minute > 59):
        return joined
    return None


def write_list(words: Words, at: int) -> Pieces | None:
    """Several numbers in a row, but for the last one: that may have a unit."""
    elements, values, start = [], [], at
    while (element := read_below_100(words, at)) is not None:
        if words[element.end] == "hundred" or words[element.end] in SCALES:
            break
        elements.append(Piece(str(element.value) if element.value >= 10 else words[at], element.end - at))
        values.append(element.value)
        at = element.end
    if len(values) > 2 and {b - a for a, b in pairwise(values)} in ({1}, {-1}) and not counts_things(words[at]):
        return [Piece(words[place], 1) for place in range(start, at)]  # somebody counts
    return elements[:-1] or None
