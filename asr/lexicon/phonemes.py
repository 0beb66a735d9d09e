"""Phonemes: the sounds of American English that the acoustic model's outputs stand for.

The 39 symbols of the CMU Pronouncing Dictionary (ARPAbet) without stress. A phoneme is a small number: its place
among the model's outputs, where 0 is CTC's blank.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

from asr.errors import DataError
from asr.text.tokens import BLANK

Pronunciation: TypeAlias = tuple[int, ...]  # phoneme ids, 1 to 39

_SYMBOLS = "AA AE AH AO AW AY B CH D DH EH ER EY F G HH IH IY JH K L M N NG OW OY P R S SH T TH UH UW V W Y Z ZH"
PHONEMES = tuple(_SYMBOLS.split())
TOKENS = (BLANK, *PHONEMES)  # a phoneme model's tokens.txt
IDS = {phoneme: index for index, phoneme in enumerate(TOKENS) if index}
VOWELS = frozenset(IDS[phoneme] for phoneme in PHONEMES if phoneme[0] in "AEIOU")


def encode_phonemes(text: str | Iterable[str]) -> Pronunciation:
    """Ids of phonemes written in ARPAbet, e.g. ``"HH AH0 L OW1"``; stress digits and case do not matter.

    Raises DataError naming the first symbol that is none, or if there is no symbol at all.
    """
    symbols = text.split() if isinstance(text, str) else list(text)
    ids = []
    for symbol in symbols:
        phoneme = symbol.upper()
        if phoneme[-1:] in ("0", "1", "2"):
            phoneme = phoneme[:-1]
        if phoneme not in IDS:
            raise DataError(f"{symbol!r} is no phoneme: write with {' '.join(PHONEMES)}")
        ids.append(IDS[phoneme])
    if not ids:
        raise DataError("a pronunciation needs at least one phoneme")
    return tuple(ids)


def decode_phonemes(ids: Iterable[int]) -> str:
    """ARPAbet of phoneme ids, with spaces between; blanks are left out."""
    return " ".join(TOKENS[index] for index in ids if index)
