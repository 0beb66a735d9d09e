"""Spelled letters: *a b c* as *ABC*, *r and d* as *R&D*, *q three* as *Q3*."""

from __future__ import annotations

from asr.written.context import counts_things
from asr.written.numerals import DIGITS, NUMBER_WORDS, SCALES, TEENS, TENS, read_below_100
from asr.written.words import Piece, Pieces, Words, word_set

_LETTERS = set("abcdefghijklmnopqrstuvwxyz")
_ENDINGS = {f"{letter}'s" for letter in _LETTERS}
_AFTER_I = word_set(
    "am was think mean have had will would don't know just guess can could do did didn't really want wanted "
    "need see say said feel believe hope never also always thought went got get was wasn't can't should might "
    "must like love understand agree see saw wonder wish suppose heard may made told"
)
_WITH_A_OR_I = word_set(
    "fbi rbi emea abc ai ap apa api aps arr atm aaa amd ada apr arpu abs asp adr aps ira irs ibm ip ipo it "
    "id iq io ios iot irr iso isp ipa icu ira usa nba cia nasa dna rna fda epa faa gpa cpa mba pta ncaa qa "
    "eta nda cfa ebitda gaap bbva fbi api ui gui cli roi kpi mri pi di cpi ppi gdi pmi si vi emi dui wi ai "
    "esg capa lta fca dea sba usda pga nsa tsa mta hiv aids iv ii iii ipad abb arm ax ag aig aba aol icao "
    "ieee isdn icc imf"
)
_BEFORE_NAMES = {"an", "the", "of", "in", "our", "by", "with", "for", "on", "under"}
_BEFORE_AI = {"an", "the", "of", "with", "in", "using", "generative", "open"}
_JOINED = word_set("r&d q&a m&a p&l s&p b&b d&o g&a e&p h&m r&b d&d")
_FORMULAS = {("h", "two", "o"): "H2O", ("c", "o", "two"): "CO2", ("a", "t", "and", "t"): "AT&T"}
_NEVER_NUMBERED = set("aiouyx")
_ALONE = {("i", "e"): "i.e.", ("e", "g"): "e.g."}


def is_letter(word: str) -> bool:
    """Whether a word is a letter, or a letter with *'s*."""
    return word in _LETTERS or word in _ENDINGS


def write_letters(words: Words, at: int) -> Pieces | None:
    """What begins with a letter here."""
    first = words[at]
    for formula, text in _FORMULAS.items():
        if first == formula[0] and words.follows(at, *formula):
            return [Piece(text, len(formula))]
    if first in _LETTERS and words[at + 1] == "and" and f"{first}&{words[at + 2]}" in _JOINED:
        return [Piece(f"{first}&{words[at + 2]}".upper(), 3)]
    alone = _ALONE.get((first, words[at + 1])) if first in _LETTERS else None
    if alone is not None and not is_letter(words[at + 2]):
        return [Piece(alone, 2)]
    end = at
    while is_letter(words[end]):
        end += 1
        if words[end - 1] in _ENDINGS:
            break
    if end - at > 1 and len({words[k] for k in range(at, end)}) > 1:
        return _run(words, at, end)
    if first in _LETTERS and first not in _NEVER_NUMBERED and end - at == 1:
        return _numbered(words, at)
    return [Piece("I", 1)] if first == "i" else None


def _run(words: Words, at: int, end: int) -> Pieces | None:
    run = [words[k] for k in range(at, end)]
    joined = "".join(run).replace("'s", "")
    known = joined in _WITH_A_OR_I
    if joined == "ai":  # *a, I mean*, but *an AI system*
        known = words[at - 1] in _BEFORE_AI or (words[end] != "" and words[end] not in _AFTER_I)
    if len(run) > 2 and run[0] == "i" and words[at - 1] in _BEFORE_NAMES:
        known = True
    if not known:
        if run[0] in ("a", "i") and len(run) > 1:  # an article, a pronoun
            return [Piece("I", 1)] if run[0] == "i" else [Piece("a", 1)]
        if run[-1] in ("a", "i"):
            end -= 1
            run.pop()
    if len(run) < 2:
        return None
    text = "".join(run)
    return [Piece(f"{text[:-2].upper()}'s" if text.endswith("'s") else text.upper(), end - at)]


def _numbered(words: Words, at: int) -> Pieces | None:
    """*q three*, *g seven*, *b two b*."""
    word = words[at + 1]
    if words[at] == "b" and words[at + 2] in ("b", "c") and word in ("two", "to"):
        return [Piece(f"B2{words[at + 2].upper()}", 3)]
    if words[at] in "qh" and word in ("one", "two", "three", "four"):
        return [Piece(f"{words[at].upper()}{DIGITS[word]}", 2)]
    if word not in DIGITS and word not in TEENS and word not in TENS:
        return None
    number = read_below_100(words, at + 1)
    assert number is not None
    after = words[number.end]
    second = read_below_100(words, number.end) if number.value < 10 else None
    if second is not None and second.value >= 10 and words[second.end] != "hundred" and words[second.end] not in SCALES:
        return [Piece(f"{words[at].upper()}{number.value}{second.value}", second.end - at)]  # *f one fifty*
    if after in NUMBER_WORDS or after in SCALES or after in ("hundred", "point") or counts_things(after):
        return None
    return [Piece(f"{words[at].upper()}{number.value}", number.end - at)]
