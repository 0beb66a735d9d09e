"""How far the engine is behind the audio, as opposed to how late it once was."""

from __future__ import annotations

from collections import deque

_MEMORY_S = 2.0


class Lag:
    """The least wait of the last two seconds' steps.

    A machine that cannot keep up is late at every step. One that was held up, as by a burst of connections or by
    another program, is on time again soon after: that is no reason to turn anybody away.
    """

    def __init__(self) -> None:
        self._waits: deque[tuple[float, float]] = deque()  # when, and how long; both rise from left to right

    def note(self, now_s: float, waited_s: float) -> None:
        """A step began commands of which the oldest had waited so long."""
        while self._waits and self._waits[-1][1] >= waited_s:
            self._waits.pop()
        self._waits.append((now_s, waited_s))

    def seconds(self, now_s: float) -> float:
        """The lag by now; 0 if there was nothing to do lately."""
        while self._waits and self._waits[0][0] < now_s - _MEMORY_S:
            self._waits.popleft()
        return self._waits[0][1] if self._waits else 0.0
