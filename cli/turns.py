"""What several speak in turns, and at once, put in order while it is still being heard."""

from __future__ import annotations

import heapq
import math

from asr.channels import place_in_time
from asr.events import Final
from asr.search.endpoint import DEFAULT_RULES

_LATE_S = 1.0  # more than an utterance's last word takes to come out
_LONGEST_S = min(rule.length_s for rule in DEFAULT_RULES if rule.silence_s == 0)  # that an utterance can be


class Turns:
    """Utterances of separate channels, given on in the order in which they begin: each as soon as no other can have
    begun before it, which is half a minute of sound later. Those of a single one are given on at once.
    """

    def __init__(self) -> None:
        self._waiting: list[tuple[tuple[float, int], int, Final]] = []
        self._count = 0

    def add(self, final: Final, heard_s: float) -> list[Final]:
        """Take an utterance that is over, when so much was heard; return those whose turn it is now."""
        self._count += 1  # those that begin together stay as they came
        heapq.heappush(self._waiting, (place_in_time(final), self._count, final))
        return self._take(math.inf if final.channel is None else heard_s - _LONGEST_S - _LATE_S)

    def rest(self) -> list[Final]:
        """Those that are left when all was heard."""
        return self._take(math.inf)

    def _take(self, before_s: float) -> list[Final]:
        taken = []
        while self._waiting and self._waiting[0][2].start_s < before_s:
            taken.append(heapq.heappop(self._waiting)[2])
        return taken
