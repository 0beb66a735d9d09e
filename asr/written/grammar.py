"""Which rule writes what stands at a place. The table of rules, in the order in which they are asked."""

from __future__ import annotations

from collections.abc import Callable

from asr.written.amounts import (
    is_number_start,
    write_amount,
    write_article_amount,
    write_fraction,
    write_negative,
)
from asr.written.dates import is_ordinal_start, write_month, write_ordinal
from asr.written.letters import is_letter, write_letters
from asr.written.numerals import NUMBER_WORDS, SCALES
from asr.written.sequences import write_digits, write_list, write_pair
from asr.written.tables import COMMON, DETERMINERS, MONTHS, WEEKDAYS
from asr.written.web import write_address
from asr.written.words import Piece, Pieces, Words, word_set

Rule = Callable[[Words, int], Pieces | None]

_TITLES = {"mister": "Mr.", "missus": "Mrs.", "doctor": "Dr."}
_POSSESSORS = word_set(
    "the a an my your his her our their this that each every any no some family eye animal another one good "
    "new old medical witch young country other what which any mad poor of specific certain as"
)
_PROFESSIONS = ("ist", "ician", "like", "ing", "ly")
_WHOLE = SCALES.keys() | {"hundred", "percent", "dollar", "dollars"}


def _title(words: Words, at: int) -> Pieces | None:
    """*mister*, *missus* and *doctor* before a name."""
    title, name = words[at], words[at + 1]
    if not name or name in COMMON or name in _TITLES or (name.endswith("'s") and title == "doctor" and len(name) < 5):
        return None
    if title == "doctor" and (words[at - 1] in _POSSESSORS or name.endswith(_PROFESSIONS)):
        return None
    if len(name) == 1:
        return [Piece(_TITLES[title], 1)]
    return [Piece(_TITLES[title], 1), Piece(name.capitalize(), 1)]


def _pronoun_one(words: Words, at: int) -> Pieces | None:
    """*this one* before another number."""
    if words[at] != "one" or words[at - 1] not in DETERMINERS:
        return None
    following = words[at + 1]
    if following in _WHOLE:
        return None
    return [Piece("one", 1)] if following in NUMBER_WORDS or words[at - 1] != "the" else None


def _name(words: Words, at: int) -> Pieces | None:
    return [Piece(WEEKDAYS[words[at]], 1)]


def _i_short(words: Words, at: int) -> Pieces | None:
    return [Piece(words[at].capitalize(), 1)]


_NUMBERS: tuple[Rule, ...] = (_pronoun_one, write_digits, write_ordinal, write_pair, write_list, write_amount)


def _rules(word: str) -> tuple[Rule, ...]:
    """The rules for what begins with a word, besides those of addresses; none for most."""
    if word == "a":
        return (write_article_amount, write_letters)
    if word in ("o", "oh"):
        return (write_digits, write_letters) if word == "o" else (write_digits,)
    if is_number_start(word) or word in ("zero", "double", "triple") or is_ordinal_start(word):
        return _NUMBERS
    if word in MONTHS:
        return (write_month,)
    if is_letter(word):
        return (write_letters,)
    if word in ("minus", "negative"):
        return (write_negative,)
    if word == "point":
        return (write_fraction,)
    if word in _TITLES:
        return (_title,)
    if word in WEEKDAYS:
        return (_name,)
    return (_i_short,) if word.startswith("i'") and len(word) > 2 else ()


def write_here(words: Words, at: int) -> Pieces:
    """The written form of what begins at a place: the word itself, or what a rule makes of several.

    Raises `Undecided` when that depends on words to come.
    """
    for rule in (write_address, *_rules(words[at])):
        pieces = rule(words, at)
        if pieces:
            return pieces
    return [Piece(words[at], 1)]
