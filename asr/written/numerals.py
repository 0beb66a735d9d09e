"""Number words: cardinals and ordinals as they are said in full, and the digits to write them with."""

from __future__ import annotations

from typing import NamedTuple

from asr.written.words import Words


def _number(text: str, first: int, step: int = 1) -> dict[str, int]:
    """Words and their values, so many apart."""
    return {word: first + step * place for place, word in enumerate(text.split())}


DIGITS = _number("one two three four five six seven eight nine", 1)
TEENS = _number("ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen", 10)
TENS = _number("twenty thirty forty fifty sixty seventy eighty ninety", 20, 10)
SCALES = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
LARGE = {"million", "billion", "trillion"}  # scales that stay words
ZEROS = {"zero", "oh", "o", "nought", "naught"}
NUMBER_WORDS = DIGITS.keys() | TEENS.keys() | TENS.keys() | {"zero"}

_ORDINAL_DIGITS = _number("first second third fourth fifth sixth seventh eighth ninth", 1)
_ORDINAL_TEENS = _number(
    "tenth eleventh twelfth thirteenth fourteenth fifteenth sixteenth seventeenth eighteenth nineteenth", 10
)
_ORDINAL_TENS = _number("twentieth thirtieth fortieth fiftieth sixtieth seventieth eightieth ninetieth", 20, 10)
ORDINALS = {**_ORDINAL_DIGITS, **_ORDINAL_TEENS, **_ORDINAL_TENS}
_ORDINAL_SCALES = {"hundredth": 100, "thousandth": 10**3, "millionth": 10**6, "billionth": 10**9}


class Number(NamedTuple):
    """A number and the place after its last word."""

    value: int
    end: int


def read_cardinal(words: Words, at: int) -> Number | None:
    """The longest whole number that is said in full here: *two thousand and five*, *fifteen hundred*, *zero*."""
    if words[at] == "zero":
        return Number(0, at + 1)
    return _above(words, at, _below_1000(words, at))


def read_round(words: Words, at: int) -> Number | None:
    """A number that begins with *hundred*, *thousand* or the like, as it does after *a*: *a hundred and five*."""
    if words[at] == "hundred":
        return _above(words, at, _after_hundred(words, 1, at))
    if words[at] in SCALES:
        return _above(words, at, Number(1, at))
    return None


def _above(words: Words, at: int, part: Number | None) -> Number | None:
    """Thousands and more, of which the first count has been read."""
    total, end, least = 0, at, 10**15
    while part is not None:
        scale = SCALES.get(words[part.end], 1)
        if (
            scale >= least
            or (part.value >= 1000 and (scale > 1 or least < 10**15))
            or (scale == 1 and part.value >= least)
        ):
            break
        total, end, least = total + part.value * scale, part.end + (scale > 1), scale
        if scale == 1:
            break
        if words[end] == "and":
            part = _below_1000(words, end + 1)
            if part is not None and part.value >= 100 and words[part.end] not in SCALES:
                break
        else:
            part = _below_1000(words, end)
    return Number(total, end) if end > at else None


def _below_1000(words: Words, at: int) -> Number | None:
    """Up to 999, or hundreds up to ninety-nine of them."""
    small = read_below_100(words, at)
    if small is None or words[small.end] != "hundred" or (small.value >= 10 and small.value % 10 == 0):
        return small
    return _after_hundred(words, small.value, small.end)


def _after_hundred(words: Words, hundreds: int, at: int) -> Number:
    """What *hundred* at this place ends, with what follows it."""
    end = at + 1
    rest = read_below_100(words, end + 1 if words[end] == "and" else end)
    if rest is None or words[rest.end] == "hundred":
        return Number(100 * hundreds, end)
    return Number(100 * hundreds + rest.value, rest.end)


def read_below_100(words: Words, at: int) -> Number | None:
    """One to ninety-nine."""
    word = words[at]
    if word in TENS:
        digit = DIGITS.get(words[at + 1], 0)
        return Number(TENS[word] + digit, at + 1 + (digit > 0))
    value = DIGITS.get(word) or TEENS.get(word)
    return None if value is None else Number(value, at + 1)


def read_ordinal(words: Words, at: int) -> Number | None:
    """*third*, *twenty first*, *one hundred and fifth*, *two thousandth*."""
    if words[at] in ORDINALS:
        return Number(ORDINALS[words[at]], at + 1)
    cardinal = read_cardinal(words, at)
    if cardinal is None or cardinal.value == 0:
        return None
    value, end = cardinal
    word = words[end]
    if word in _ORDINAL_SCALES:
        scale = _ORDINAL_SCALES[word]
        return Number(value * scale, end + 1) if value < 100 or (scale > 100 and value < 1000) else None
    if word in _ORDINAL_DIGITS and words[end - 1] in TENS:
        return Number(value + _ORDINAL_DIGITS[word], end + 1)
    if value % 100:
        return None
    rest = end + 1 if word == "and" else end
    if words[rest] in ORDINALS:
        return Number(value + ORDINALS[words[rest]], rest + 1)
    if words[rest] in TENS and words[rest + 1] in _ORDINAL_DIGITS:
        return Number(value + TENS[words[rest]] + _ORDINAL_DIGITS[words[rest + 1]], rest + 2)
    return None


def ordinal_text(value: int) -> str:
    """21 as *21st*."""
    ending = "th" if value % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(value % 10, "th")
    return f"{value:,}{ending}"
