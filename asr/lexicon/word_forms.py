"""Pronunciations of word forms by rule: possessives, plurals, past tenses and the like of words that are known.

A rule takes an ending off, looks up what is left, and says the ending as its last sound asks for: *cats* with S,
*dogs* with Z, *horses* with IH Z.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from asr.lexicon.phonemes import IDS, VOWELS, Pronunciation, encode_phonemes

Lookup = Callable[[str], Sequence[Pronunciation]]  # pronunciations of a word, most usual first; none if unknown

_SIBILANTS = frozenset(encode_phonemes("S Z SH ZH CH JH"))
_VOICELESS = frozenset(encode_phonemes("P T K F TH S SH CH"))
_STOPS = frozenset(encode_phonemes("T D"))
_LETTERS_OF_VOWELS = "aeiouy"


def _ids(*texts: str) -> tuple[Pronunciation, ...]:
    return tuple(encode_phonemes(text) for text in texts)


def _s(last: int) -> tuple[Pronunciation, ...]:
    if last in _SIBILANTS:
        return _ids("IH Z", "AH Z")
    return _ids("S") if last in _VOICELESS else _ids("Z")


def _ed(last: int) -> tuple[Pronunciation, ...]:
    if last in _STOPS:
        return _ids("IH D", "AH D")
    return _ids("T") if last in _VOICELESS else _ids("D")


def _reduced(consonants: str) -> Callable[[int], tuple[Pronunciation, ...]]:
    """An ending that has a vowel of its own after consonants only: *that'll*, *they'll*."""
    return lambda last: _ids(consonants) if last in VOWELS else _ids(f"AH {consonants}")


def _always(*texts: str) -> Callable[[int], tuple[Pronunciation, ...]]:
    endings = _ids(*texts)
    return lambda last: endings


# Endings after an apostrophe, and how they are said after a base's last phoneme.
_CLITICS: dict[str, Callable[[int], tuple[Pronunciation, ...]]] = {
    "'": lambda last: ((),) if last in _SIBILANTS else (),
    "'s": _s,
    "s'": _s,
    "'ll": _reduced("L"),
    "'d": _reduced("D"),
    "'ve": _reduced("V"),
    "'re": _always("ER"),
}

# Endings before which a spelling changes (*hoped*, *hopped*, *tried*), and the same for those that change nothing.
_INFLECTIONS: dict[str, Callable[[int], tuple[Pronunciation, ...]]] = {
    "ed": _ed,
    "ing": _always("IH NG"),
    "est": _always("AH S T", "IH S T"),
}
_SUFFIXES: dict[str, Callable[[int], tuple[Pronunciation, ...]]] = {
    "ness": _always("N AH S"),
    "less": _always("L AH S"),
    "ful": _always("F AH L"),
    "ly": lambda last: _ids("IY") if last == IDS["L"] else _ids("L IY"),
    "ship": _always("SH IH P"),
    "like": _always("L AY K"),
    "hood": _always("HH UH D"),
}
# British spellings, of which the dictionary has few, and the American ones of the same sound.
_RESPELLINGS = (
    ("our", "or"),
    ("isation", "ization"),
    ("ise", "ize"),
    ("ising", "izing"),
    ("yse", "yze"),
    ("ysing", "yzing"),
    ("lment", "llment"),
    ("tre", "ter"),
    ("ence", "ense"),
    ("ogue", "og"),
    ("aes", "es"),
    ("haem", "hem"),
)
_PREFIXES = {"un": _ids("AH N"), "non": _ids("N AA N"), "over": _ids("OW V ER"), "under": _ids("AH N D ER")}


def derive(word: str, lookup: Lookup, most: int = 4) -> tuple[Pronunciation, ...]:
    """Pronunciations of a word from those of a known one that it is a form of, most usual first; none if no rule fits.

    Forms of forms are found too (*ladyships'*).
    """
    return _derive(word, lookup, most, 3)


def _derive(word: str, lookup: Lookup, most: int, depth: int) -> tuple[Pronunciation, ...]:
    def deeper(base: str) -> Sequence[Pronunciation]:
        return lookup(base) or (_derive(base, lookup, most, depth - 1) if depth > 1 else ())

    for look in (lookup, deeper):
        for pronunciations in _candidates(word, look):
            found = tuple(dict.fromkeys(pronunciations))[:most]
            if found:
                return found
    return ()


def _candidates(word: str, lookup: Lookup) -> Iterator[Sequence[Pronunciation]]:
    for ending, say in _CLITICS.items():
        if word.endswith(ending) and len(word) > len(ending):
            yield _join(lookup(word[: -len(ending)]), say)
    if "'" in word:
        if word.endswith("in'"):
            yield _without_g(lookup(f"{word[:-1]}g"))
        if word.strip("'") != word:  # a quotation mark, or a sound left out that is not heard
            yield lookup(word.strip("'"))
        return
    if word.endswith("s") and len(word) > 3:
        yield _join(lookup(word[:-1]), _s) if word[-2] != "s" else ()
        if word.endswith("es") and word[-3] in "sxzhoj":
            yield _join(lookup(word[:-2]), _s)
        if word.endswith("ies"):
            yield _join(lookup(f"{word[:-3]}y"), _s)
    for ending, say in _INFLECTIONS.items():
        if word.endswith(ending) and len(word) > len(ending) + 2:
            for base in _bases(word[: -len(ending)]):
                yield _join(lookup(base), say)
    for ending, say in _SUFFIXES.items():
        if word.endswith(ending) and len(word) > len(ending) + 2:
            stem = word[: -len(ending)]
            yield _join(lookup(stem), say)
            if stem.endswith("i"):
                yield _join(lookup(f"{stem[:-1]}y"), say)
    for prefix, sounds in _PREFIXES.items():
        if word.startswith(prefix) and len(word) > len(prefix) + 3:
            yield [sound + base for base in lookup(word[len(prefix) :]) for sound in sounds]
    if len(word) > 5:
        for british, american in _RESPELLINGS:
            at = word.find(british, 2)
            if at > 0:
                yield lookup(word[:at] + american + word[at + len(british) :])


def _bases(stem: str) -> Iterator[str]:
    """Spellings that a stem can have without its ending: *hop* of *hopp*, *hope* of *hop*, *try* of *tri*."""
    if len(stem) > 3 and stem[-1] == stem[-2] and stem[-1] not in _LETTERS_OF_VOWELS:
        bases = (stem, stem[:-1])
        if stem[-1] not in "lsfz" or len(stem) > 5:  # *passing* keeps both, *revelled* has one of its own
            bases = bases[::-1]
        yield from bases
    elif stem[-1] == "i":
        yield f"{stem[:-1]}y"
    else:
        yield f"{stem}e"
        yield stem


def _join(bases: Sequence[Pronunciation], say: Callable[[int], tuple[Pronunciation, ...]]) -> list[Pronunciation]:
    return [base + ending for base in bases for ending in say(base[-1])]


def _without_g(bases: Sequence[Pronunciation]) -> list[Pronunciation]:
    """*goin'* of *going*."""
    ng = (IDS["NG"],)
    return [(*base[:-1], IDS["N"]) for base in bases if base[-1:] == ng]
