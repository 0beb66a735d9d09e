"""What is done about a client's hot words before its stream expects them: each takes memory, and time."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from asr.recognizer import Recognizer
from asr.search.hotwords import HotWord

from .codec import ProtocolError

MOST_WORDS = 1_000  # of all phrases together


async def learn(recognizer: Recognizer, hot_words: Sequence[HotWord]) -> None:
    """Find out how hot words are said, away from the event loop, which others wait for.

    Raises ProtocolError if there are too many.
    """
    count = sum(len(hot.phrase.split()) for hot in hot_words)
    if count > MOST_WORDS:
        raise ProtocolError("too_many_hot_words", f"{count:,} hot words: give at most {MOST_WORDS:,}")
    if hot_words:
        await asyncio.to_thread(recognizer.learn, hot_words)
