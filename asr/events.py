"""What a stream tells its reader: one small vocabulary for every front end and every wire protocol.

The order of events in a stream is: any number of `Partial`, then one `Final`, and so on for the next
utterance. A stretch without words gives no event. Once text is inside ``text[:stable_chars]`` of a
partial, every later partial of the utterance and its final begin with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Reason = Literal["silence", "length", "flush", "end"]


@dataclass(frozen=True)
class Word:
    """A word and where it was heard."""

    text: str
    start_s: float  # from the start of the stream
    end_s: float
    confidence: float  # 0 to 1: see `asr.search.words.Calibration`
    heard: tuple[Word, ...] = ()  # what a written token was made of; empty for a word that is written as heard

    @property
    def spoken(self) -> str:
        """The words as they were heard."""
        return " ".join(word.text for word in self.heard) or self.text


@dataclass(frozen=True)
class Partial:
    """The utterance so far. Replaces the partial before it."""

    text: str
    words: tuple[Word, ...]
    stable_chars: int  # text[:stable_chars] cannot change any more
    channel: int | None = None  # as in `Final`

    @property
    def spoken(self) -> str:
        """The text as it was heard, where `text` is the written form."""
        return " ".join(word.spoken for word in self.words)


@dataclass(frozen=True)
class Alternative:
    """Another reading of an utterance."""

    text: str
    words: tuple[Word, ...]
    score: float  # natural log, comparable with the score of its final and its siblings alone


@dataclass(frozen=True)
class Final:
    """A finished utterance: it never changes, and the next partial starts a new one."""

    text: str
    words: tuple[Word, ...]
    reason: Reason  # what ended it: silence after it, its length, `Stream.flush`, or the end of the stream
    score: float = 0.0  # natural log of its probability, with what the language model and hot words add
    alternatives: tuple[Alternative, ...] = ()  # likeliest first, as many as were asked for and differ
    channel: int | None = None  # from 0 on, if a recording's channels are heard apart; None: mixed, or the only one

    @property
    def spoken(self) -> str:
        """The text as it was heard, where `text` is the written form."""
        return " ".join(word.spoken for word in self.words)

    @property
    def stable_chars(self) -> int:
        """All of it, as in `Partial`."""
        return len(self.text)

    @property
    def start_s(self) -> float:
        return self.words[0].start_s

    @property
    def end_s(self) -> float:
        return self.words[-1].end_s


Event = Partial | Final
