"""How many and how much: numbers said in full, with money, percentages, measures and hours."""

from __future__ import annotations

from typing import NamedTuple

from asr.written.context import counts_things, is_plural, read_half_day, read_street, says_morning
from asr.written.numerals import (
    DIGITS,
    LARGE,
    NUMBER_WORDS,
    SCALES,
    TEENS,
    TENS,
    ZEROS,
    read_below_100,
    read_cardinal,
    read_round,
)
from asr.written.tables import (
    COMMON,
    CURRENCIES,
    DETERMINERS,
    DURATIONS,
    LABELS,
    MEASURES,
    PENNIES,
    SUBJECTS,
    YEAR_CUES,
)
from asr.written.words import Piece, Pieces, Words, word_set

_HALVES = {"half": ".5", "quarter": ".25"}
_SPENT = word_set("cost costs paid pay pays spent spend worth owe owes owed charge charged price priced")
_COUNTED = {"percent", "people", "thousand", "hundred", "million"}
_RANGES = {"to", "or", "through"}
_OWNERS = word_set("own my his her your our their its two")
# Before *million dollars* and the like, if one is meant.
_BEFORE_ONE = word_set("the this that per every each another first last next nearly almost my your his her our their")
_TOGETHER = {"hundred": 100, "thousand": 1000}  # *two to three hundred dollars*: both are hundreds
_LONGEST_MEASURE = 3
_ADDRESS_CUES = {"at", "to", "is", "address", "near", "live", "lives", "lived", "number"}
_CARDINAL_STARTS = DIGITS.keys() | TEENS.keys() | TENS.keys() | {"zero"}


class Quantity(NamedTuple):
    """A number with its fraction and its scale."""

    text: str  # in digits, the scale left out
    scale: str  # million and more, or nothing
    value: float
    scale_at: int  # the place of the scale, or of the end
    end: int
    exact: bool  # a whole number without fraction or scale

    @property
    def small(self) -> bool:
        """Below ten: by custom, written as a word."""
        return self.exact and self.value < 10


def read_quantity(words: Words, at: int) -> Quantity | None:
    """A number with what makes it longer: a decimal fraction, *and a half*, *million*."""
    number = read_cardinal(words, at)
    if number is None:
        number = read_round(words, at)
        if number is None:
            return None
    value, end = number
    version = words[at - 1] in LABELS
    if words[end] == "point" and (fraction := _read_decimals(words, end + 1, version)) is not None:
        text, end = fraction
        while version and words[end] == "point" and (more := _read_decimals(words, end + 1, True)) is not None:
            text, end = f"{text}.{more[0]}", more[1]
        return _scaled(words, f"{value:,}.{text}", float(value), end)
    if words[end] == "and" and words[end + 1] in ("a", "one") and words[end + 2] in _HALVES and value < 1000:
        return _scaled(words, f"{value}{_HALVES[words[end + 2]]}", float(value), end + 3)
    if words.follows(end, "and", "three", "quarters"):
        return _scaled(words, f"{value}.75", float(value), end + 3)
    scale = words[end - 1]
    if scale in LARGE and value % SCALES[scale] == 0 and value // SCALES[scale] < 1000:
        return Quantity(str(value // SCALES[scale]), scale, float(value), end - 1, end, False)
    return Quantity(f"{value:,}", "", float(value), end, end, True)


def _scaled(words: Words, text: str, value: float, end: int) -> Quantity:
    if words[end] in SCALES:
        return Quantity(text, words[end], value * SCALES[words[end]], end, end + 1, False)
    return Quantity(text, "", value, end, end, False)


def _read_decimals(words: Words, at: int, version: bool = False) -> tuple[str, int] | None:
    """What follows *point*: digit by digit, or a number below a hundred."""
    digits = ""
    while words[at] in DIGITS or words[at] in ZEROS:
        if digits and not version and words[at + 1] == "point" and words[at + 2] in DIGITS:
            break  # *two point five two point six*: two numbers
        alone = not (digits or version or words[at + 1] in DIGITS)
        if words[at + 1] == "hundred" or (words[at] in ("oh", "o") and alone):
            break
        digits += "0" if words[at] in ZEROS else str(DIGITS[words[at]])
        at += 1
    if digits:
        return digits, at
    number = read_below_100(words, at)
    return None if number is None else (str(number.value), number.end)


def write_amount(words: Words, at: int) -> Pieces | None:
    """A number and its unit, or a number alone if it is ten or more."""
    quantity = read_quantity(words, at)
    if quantity is None:
        return None
    if words.follows(at, "one", "point") and words[at - 1] == "at":
        return None
    bare = words[at] in SCALES or words[at] == "hundred"
    one = (
        words[at - 1] in _BEFORE_ONE or not words[at - 1] or (words[at - 1] == "a" and words[quantity.end] == "dollar")
    )
    if bare and not one:
        return None  # *a few million*, *a quarter million*, *two dozen million*: not one
    if bare and words[quantity.end] not in CURRENCIES and words[quantity.end] not in ("percent", "per"):
        return None
    with_unit = _with_unit(words, at, quantity)
    if with_unit is not None:
        return with_unit
    if bare:
        return None
    if (priced := _price_range(words, at, quantity)) is not None:
        return priced
    if not quantity.exact:
        if "." in quantity.text and quantity.value < 10 and words[quantity.end - 1] in ("half", "quarter", "quarters"):
            return [Piece(words[k], 1) for k in range(at, quantity.end)]
        return _pieces(at, quantity)
    value, end = int(quantity.value), quantity.end
    if street := _street(words, at, quantity):
        return [Piece(quantity.text.replace(",", ""), end - at), *street]
    if quantity.small:
        label = words[at - 1] in LABELS or words.follows(at - 2, "fiscal", "year")
        if value == 1 and (words[end] in SUBJECTS or words[end] in ("of", "way")):
            label = False  # *the flight, one which …*
        shown = (label and words[end] not in DURATIONS) or _in_range(words, at, quantity)
        if shown and not _clock_words(words, at, quantity):
            return _pieces(at, quantity)
        return None
    if _clock_words(words, at, quantity):
        return [Piece(words[k], 1) for k in range(at, end)]
    if _is_year(words, at, value, end):
        return [Piece(str(value), end - at)]
    return _pieces(at, quantity)


def _price_range(words: Words, at: int, quantity: Quantity) -> Pieces | None:
    """The first of two amounts of money of which the last alone has its unit: *five to ten dollars*."""
    joint = words[quantity.end]
    if joint not in _RANGES and not (joint == "and" and words[at - 1] == "between"):
        return None
    if words[quantity.end + 1] not in _CARDINAL_STARTS or words[at - 1] in DETERMINERS:
        return None
    other = read_quantity(words, quantity.end + 1)
    if other is None or words[other.end] not in CURRENCIES or words[other.end + 1] in PENNIES:
        return None
    scale = _TOGETHER.get(words[other.end - 1], 1)
    if scale > 1 and quantity.exact and quantity.value < other.value / scale:
        quantity = quantity._replace(text=f"{int(quantity.value) * scale:,}")
    elif not quantity.value < other.value:
        return None
    return _pieces(at, quantity, before=CURRENCIES[words[other.end]])


def write_article_amount(words: Words, at: int) -> Pieces | None:
    """*a hundred and five*, *a million dollars*, *a dollar fifty*: but *a hundred* alone stays words."""
    if words[at + 1] in ("dollar", "euro"):
        money = _money(words, at, Quantity("1", "", 1.0, at + 1, at + 1, True), CURRENCIES[words[at + 1]])
        return money if "." in money[0].text else None
    number = read_round(words, at + 1)
    if number is None or words[at - 1] in ("half", "quarter", "many", "such"):
        return None
    quantity = read_quantity(words, at + 1)
    assert quantity is not None
    if words[quantity.end] == "dollar":  # *a hundred dollar bill*: the article is the bill's
        return [Piece("a", 1)]
    vague = number.end - at <= 2 + (words[at + 2] in SCALES)  # *a hundred miles*: not to the mile
    unit = words[quantity.end]
    if vague and unit not in CURRENCIES and unit not in ("percent", "per"):
        return None
    pieces = _with_unit(words, at + 1, quantity) or _pieces(at + 1, quantity)
    return [Piece(pieces[0].text, pieces[0].words + 1), *pieces[1:]]


def write_fraction(words: Words, at: int) -> Pieces | None:
    """*point five percent*, with the zero that nobody says."""
    decimals = _read_decimals(words, at + 1)
    if decimals is None:
        return None
    text, end = decimals
    quantity = _scaled(words, f"0.{text}", 0.0, end)
    pieces = _with_unit(words, at, quantity)
    return pieces if pieces is not None or not quantity.scale else _pieces(at, quantity)


def write_negative(words: Words, at: int) -> Pieces | None:
    """*minus twenty*, *negative five degrees*: but *ten minus two* is a sum."""
    if words[at - 1] in NUMBER_WORDS or words[at - 1] in SCALES or words[at - 1] in ("or", "hundred"):
        return None
    if words[at + 1] == "point":
        pieces = write_fraction(words, at + 1)
    elif words[at + 1] in _CARDINAL_STARTS:
        pieces = write_amount(words, at + 1)
    else:
        return None
    if pieces is None or pieces[0].text[0].isalpha():
        return None
    return [Piece(f"-{pieces[0].text}", pieces[0].words + 1), *pieces[1:]]


def _pieces(at: int, quantity: Quantity, before: str = "", after: str = "", more: int = 0) -> Pieces:
    """A quantity with a sign before or after it that stands for so many more words."""
    if not quantity.scale:
        return [Piece(before + quantity.text + after, quantity.end - at + more)]
    head = Piece(before + quantity.text, quantity.scale_at - at)
    if head.words == 0:  # *million dollars*
        return [Piece(f"{before}1 {quantity.scale}", quantity.end - at + more)]
    return [head, Piece(quantity.scale + after, 1 + more)]


def _with_unit(words: Words, at: int, quantity: Quantity) -> Pieces | None:
    """A quantity whose unit follows; None if none does that asks for digits."""
    end = quantity.end
    unit = words[end]
    if unit == "percent":
        return _pieces(at, quantity, after="%", more=1)
    if unit == "per" and words[end + 1] == "cent":
        return _pieces(at, quantity, after="%", more=2)
    if unit in CURRENCIES and words[end + 1] in PENNIES:  # *euro cents*
        return [*_pieces(at, quantity), Piece(unit, 1), Piece(words[end + 1], 1)]
    if unit in CURRENCIES and words[at - 1] in NUMBER_WORDS and words[at] in NUMBER_WORDS:
        return [*_pieces(at, quantity), Piece(unit, 1)]  # *fifty sixty dollars*: neither alone is the price
    if unit in CURRENCIES:
        return _money(words, at, quantity, CURRENCIES[unit])
    if unit in ("pounds", "pound") and _is_sterling(words, at, quantity):
        return _money(words, at, quantity, "£")
    if unit in PENNIES and quantity.exact:
        return [*_pieces(at, quantity), Piece(unit, 1)]
    if measure := _measure(words, at, quantity):
        return measure
    if quantity.exact and 1 <= quantity.value <= 12:
        half = read_half_day(words, end)
        if half is not None:
            return [*_pieces(at, quantity), half]
        if unit == "o'clock":
            return [*_pieces(at, quantity), Piece(unit, 1)]
        if says_morning(words, end) and words[at - 1] not in ("number", "no"):
            return _pieces(at, quantity) if quantity.value > 1 or words[at - 1] in ("at", "until", "by") else None
    return None


def _money(words: Words, at: int, quantity: Quantity, sign: str) -> Pieces:
    after = quantity.end + 1
    if words[after] == "sterling":
        return _pieces(at, quantity, before=sign, more=2)
    if quantity.exact and (words[after - 1] not in ("dollar", "euro") or words[at] in ("one", "a")):
        begin = after + (words[after] == "and")
        cents = read_below_100(words, begin)
        if cents is not None:
            unit = words[cents.end]
            if unit in PENNIES:
                whole = quantity._replace(text=f"{quantity.text}.{cents.value:02}")
                return _pieces(at, whole, before=sign, more=cents.end + 1 - quantity.end)
            ends = begin == after and cents.value >= 10 and (unit == "" or unit in COMMON) and unit not in NUMBER_WORDS
            if ends and unit not in _COUNTED and not counts_things(unit):
                whole = quantity._replace(text=f"{quantity.text}.{cents.value:02}")
                return _pieces(at, whole, before=sign, more=cents.end - quantity.end)
    if "." in quantity.text and not quantity.scale and len(quantity.text.split(".")[1]) == 1:
        quantity = quantity._replace(text=f"{quantity.text}0")
    return _pieces(at, quantity, before=sign, more=1)


def _is_sterling(words: Words, at: int, quantity: Quantity) -> bool:
    """Whether pounds are money, which is written only where it is sure: *20 pounds* is right of both."""
    after = quantity.end + 1
    if quantity.scale or words[after] == "sterling" or words[at - 1] in _SPENT:
        return True
    cents = read_below_100(words, after + (words[after] == "and"))
    return cents is not None and words[cents.end] == "pence"


def _measure(words: Words, at: int, quantity: Quantity) -> Pieces | None:
    end = quantity.end
    for length in range(_LONGEST_MEASURE, 0, -1):
        said = tuple(words[end + k] for k in range(length)) if length == 1 else _phrase(words, end, length)
        if said is None or said not in MEASURES:
            continue
        sign = MEASURES[said]
        if sign.startswith("°"):
            return _pieces(at, quantity, after=sign, more=length)
        if sign != " ".join(said):
            return [*_pieces(at, quantity), Piece(sign, length)]
        if quantity.exact and quantity.value == 1:
            return None
        if quantity.small and said[0] in ("feet", "foot", "yards") and words[at - 1] in _OWNERS:
            return None
        pieces = [*_pieces(at, quantity), *(Piece(word, 1) for word in said)]
        if said[0] in ("foot", "feet") and length == 1 and quantity.small:
            inches = read_below_100(words, end + 1)
            if inches is not None and inches.value < 12 and not counts_things(words[inches.end]):
                pieces.append(Piece(str(inches.value), inches.end - end - 1))
        return pieces
    return None


def _phrase(words: Words, at: int, length: int) -> tuple[str, ...] | None:
    """So many words, if a measure may begin here: else nobody should wait for them."""
    said: tuple[str, ...] = ()
    for place in range(at, at + length):
        said += (words[place],)
        if not any(measure[: len(said)] == said for measure in MEASURES):
            return None
    return said


def _street(words: Words, at: int, quantity: Quantity) -> Pieces | None:
    if quantity.small and (quantity.value <= 1 or words[at - 1] not in _ADDRESS_CUES):
        return None
    return read_street(words, quantity.end) if quantity.value < 100_000 else None


def _in_range(words: Words, at: int, quantity: Quantity) -> bool:
    """Whether a small number has a partner that is written in digits: *five to ten percent*."""
    joint = words[quantity.end]
    if joint == "by" and words[quantity.end + 1] in _CARDINAL_STARTS:  # *three by five inches*
        other = read_quantity(words, quantity.end + 1)
        return other is not None and _measure(words, quantity.end + 1, other) is not None
    joined = joint in _RANGES or (joint == "and" and words[at - 1] == "between")
    if joined and words[quantity.end + 1] in _CARDINAL_STARTS and words[at - 1] not in DETERMINERS:
        other = read_quantity(words, quantity.end + 1)
        if other is not None and (not other.small or _with_unit(words, quantity.end + 1, other) is not None):
            return other.value > quantity.value
    if words[at - 1] in ("to", "through") or (words[at - 1] == "and" and _between(words, at)):
        return words[at - 2] in TEENS or words[at - 2] in TENS or (words[at - 2] in DIGITS and words[at - 3] in TENS)
    return False


def _between(words: Words, at: int) -> bool:
    return any(words[at - back] == "between" for back in (3, 4))


def _clock_words(words: Words, at: int, quantity: Quantity) -> bool:
    """Times that are said in words are written in words: *ten past five*, *twenty to nine*."""
    if quantity.value not in (5, 10, 20, 25) and words[at - 1] not in ("past", "to"):
        return False
    if words[at - 1] in ("past", "to") and quantity.value <= 12:
        minutes = {"ten": 10, "twenty": 20, "five": 25 if words[at - 3] == "twenty" else 5}.get(words[at - 2], 0)
        if words[at - 2] in ("half", "quarter") or (minutes and (words[at - 1] == "past" or quantity.value < minutes)):
            return True
    joint = words[quantity.end]
    if joint not in ("past", "to"):
        return False
    hour = read_cardinal(words, quantity.end + 1)
    if hour is None or not 1 <= hour.value <= 12:
        return False
    return joint == "past" or (hour.value < quantity.value and not counts_things(words[hour.end]))


def _is_year(words: Words, at: int, value: int, end: int) -> bool:
    counted = counts_things(words[end]) and words[at - 1] != "the"
    if 2000 < value < 2100 and words.follows(at, "two", "thousand") and not counted:
        return True  # hardly anything else is so many
    return (
        1100 <= value < 2100
        and words[at - 1] in YEAR_CUES
        and (words[at + 1] == "hundred" or words[at + 1] == "thousand")
        and (value % 100 != 0 or not is_plural(words[end]))
    )


def is_number_start(word: str) -> bool:
    """Whether a number may begin with a word, *a* left aside."""
    return word in _CARDINAL_STARTS or word == "hundred" or word in SCALES
