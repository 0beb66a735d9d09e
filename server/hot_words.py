"""How many hot words one client may ask for: each takes memory, and time before its stream begins."""

from __future__ import annotations

from collections.abc import Sequence

from asr.search.hotwords import HotWord

from .codec import ProtocolError

MOST_WORDS = 1_000  # of all phrases together


def check_hot_words(hot_words: Sequence[HotWord]) -> None:
    """Raise ProtocolError if there are too many."""
    count = sum(len(hot.phrase.split()) for hot in hot_words)
    if count > MOST_WORDS:
        raise ProtocolError("too_many_hot_words", f"{count:,} hot words: give at most {MOST_WORDS:,}")
