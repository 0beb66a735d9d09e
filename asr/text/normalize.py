"""Normalisation of references: the one place that says which texts count as the same words.

Training targets and the references of every WER in this project go through `normalize`. Hypotheses
need none: the model writes nothing else.
"""

from __future__ import annotations

import re
import unicodedata

# Quotation marks, the modifier apostrophe, the prime and the accents that stand for an apostrophe in the wild.
_APOSTROPHES = dict.fromkeys([0x2018, 0x2019, 0x02BC, 0x2032, 0x0060, 0x00B4], "'")
_NOT_WRITTEN = re.compile(r"[^a-z' ]+")
_LONE_APOSTROPHE = re.compile(r"(?<![a-z])'+(?![a-z])|'{2,}")
_SPACES = re.compile(r" +")


def normalize(text: str) -> str:
    """Lower-case words of a-z and apostrophes with single spaces between.

    - Accents are dropped (``café`` to ``cafe``), typographic apostrophes become ``'``.
    - Hyphens and all other punctuation become spaces (``ex-convict`` to ``ex convict``).
    - An apostrophe stays where it touches a letter (``don't``, ``'tis``, ``students'``), else it goes.
    - Digits are not spelt out, since how a number was read cannot be known from its digits: they become
      spaces, so give numbers as words in transcripts that are scored.
    """
    text = unicodedata.normalize("NFKD", text.lower().translate(_APOSTROPHES))
    text = "".join(char for char in text if not unicodedata.combining(char))
    text = _NOT_WRITTEN.sub(" ", text)
    text = _LONE_APOSTROPHE.sub(" ", text)
    return _SPACES.sub(" ", text).strip()
