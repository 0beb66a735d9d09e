"""When nothing more was said for so long that somebody's turn is over, by the times of words alone."""

from __future__ import annotations

import math

from asr.events import Event, Final, Word

_FINAL_S = 0.5  # that the final of what was said may be on its way: it is told before its end


class UtteranceEnds:
    """Finds each end once, whatever ends utterances besides."""

    def __init__(self, wait_s: float) -> None:
        """``wait_s``: of audio without a new word, after the last; infinite: never mind."""
        self.wait_s = wait_s
        self._final: Word | None = None  # the last one of all finals
        self._end_s: float | None = None  # of the last word, if nobody was told of it
        self._told_s = -math.inf  # the last end that was told
        self._open = False  # whether the last word may still change

    def hear(self, event: Event) -> float | None:
        """Take words that were heard. Returns the end of those before, if these come long after it."""
        end_s = self._end_s
        new_s = next((word.start_s for word in event.words if end_s is not None and word.start_s >= end_s), -math.inf)
        told_s = self._tell() if end_s is not None and new_s - end_s >= self.wait_s else None
        if isinstance(event, Final) and event.words:
            self._final = event.words[-1]
        last = event.words[-1] if event.words else self._final
        self._open = not isinstance(event, Final) and bool(event.words)
        # What is left of words that were told of, in their final say, is not told of again.
        self._end_s = last.end_s if last is not None and last.start_s >= self._told_s else None
        return told_s

    def reach(self, position_s: float) -> float | None:
        """All audio up to here was heard. Returns the end of the last word, if it is so long ago."""
        wait_s = self.wait_s + _FINAL_S * self._open
        return self._tell() if self._end_s is not None and position_s - self._end_s >= wait_s else None

    def _tell(self) -> float | None:
        if self._end_s is not None:
            self._told_s, self._end_s = self._end_s, None
        return self._told_s
