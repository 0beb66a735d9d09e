"""Pronunciations of any word: from lexicons first, then by rule from a word they know, then by the grapheme model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from asr.errors import DataError
from asr.lexicon.g2p import GraphemeToPhoneme, check_word
from asr.lexicon.lexicon import MOST
from asr.lexicon.phonemes import Pronunciation
from asr.lexicon.word_forms import derive

_LEAST_PROBABILITY = 0.15  # of a further pronunciation that the grapheme model gives


class Source(StrEnum):
    """Where a word's pronunciations are from."""

    LEXICON = "lexicon"
    RULE = "rule"
    G2P = "g2p"


@dataclass(frozen=True)
class Pronouncer:
    """Pronounces words. The lexicons are asked in their order: a user's before the model's."""

    lexicons: Sequence[Mapping[str, Sequence[Pronunciation]]]
    g2p: GraphemeToPhoneme | None = None  # without it, words that no rule fits cannot be pronounced

    def known(self, word: str) -> tuple[Pronunciation, ...]:
        """Pronunciations in the first lexicon that has the word; none if no lexicon has."""
        for lexicon in self.lexicons:
            if found := lexicon.get(word):
                return tuple(found)[:MOST]
        return ()

    def pronounce(self, word: str) -> tuple[tuple[Pronunciation, ...], Source]:
        """Pronunciations of a word, most usual first, and where they are from.

        Raises DataError for a word that cannot be said: other characters than a to z and apostrophes, or no letter.
        """
        if found := self.known(word):
            return found, Source.LEXICON
        check_word(word)
        if found := derive(word, self.known, MOST):
            return found, Source.RULE
        if self.g2p is None:
            raise DataError(f"cannot pronounce {word!r}: no lexicon has it, and there is no grapheme-to-phoneme model")
        # A name that nobody knows still has a possessive by rule.
        if "'" in word and (found := derive(word, self._guess, MOST)):
            return found, Source.G2P
        return self._guess(word), Source.G2P

    def _guess(self, word: str) -> tuple[Pronunciation, ...]:
        if self.g2p is None or not word.strip("'"):
            return ()
        answers = self.g2p.pronounce(word, MOST - 1)
        return tuple(said for n, (said, likely) in enumerate(answers) if n == 0 or likely >= _LEAST_PROBABILITY)
