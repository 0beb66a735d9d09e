"""Working memory of the word search: what its steps need while they run, and what they may forget.

Nothing of it is a stream's own. All decoders that one thread runs take turns with it, so that it stays in the caches
where each decoder's would be written to anew for every stream: of sixty streams a fifth of the search's time.
"""

from __future__ import annotations

import threading
from typing import Any, NamedTuple

import numpy as np

from asr.search.decoder import DecoderOptions
from asr.search.second_kernel import SecondWork, make_work
from asr.search.second_lm import SecondOpinion
from asr.search.word_state import ASKED, CANDIDATE, FORESEEN, HYPOTHESIS, Rows

_CACHED = 1 << 13  # answers of the language model that are remembered, of each kind
_KINDS = 4  # of options that a thread keeps memory for: decoders of more kinds than that are rarely at work together


class Shared(NamedTuple):
    """Arrays of `asr.search.word_state.Search`: see there what each is."""

    grown: Rows
    fresh: np.ndarray
    candidates: Rows
    ranks: np.ndarray
    slots: np.ndarray
    stamp: np.ndarray
    winners: np.ndarray
    admitted: np.ndarray
    likely: np.ndarray
    asked: Rows
    foreseen: Rows
    places: np.ndarray
    gains: np.ndarray


class Room:
    """The working memory of one thread for one kind of decoder."""

    def __init__(self, options: DecoderOptions, tokens: int, second: SecondOpinion | None) -> None:
        beam = options.beam
        wide = 8 * beam + 1024  # candidates
        self.second: SecondWork = make_work(second)
        self.shared = Shared(
            grown=np.recarray(2 * beam, dtype=HYPOTHESIS),
            fresh=np.zeros(beam, dtype=np.int32),
            candidates=np.recarray(wide, dtype=CANDIDATE),
            ranks=np.zeros(wide + beam),
            slots=np.zeros(1 << (2 * (wide + beam) - 1).bit_length(), dtype=np.int64),
            stamp=np.zeros(1, dtype=np.int64),
            winners=np.zeros(wide + beam, dtype=np.int32),
            admitted=np.zeros(wide + beam, dtype=np.int32),
            likely=np.zeros(tokens, dtype=np.int32),
            asked=_forgetful(ASKED),
            foreseen=_forgetful(FORESEEN),
            places=np.zeros(0, dtype=np.int32),
            gains=np.zeros(0),
        )

    def widen(self, nodes: int, marks: int) -> None:
        """Have room for a decoder with so many nodes and marks. It may bring other arrays into `shared`."""
        if nodes > len(self.shared.gains) or max(nodes, marks) > len(self.shared.places):
            places, gains = np.zeros(max(nodes, marks), dtype=np.int32), np.zeros(nodes)
            self.shared = self.shared._replace(places=places, gains=gains)


class WorkingMemory:
    """The rooms of all threads, for decoders of the same tokens, lexicon and language models. Any thread may use it."""

    def __init__(self) -> None:
        self._here = threading.local()

    def room(self, options: DecoderOptions, tokens: int, second: SecondOpinion | None) -> Room:
        """This thread's, for decoders with options like these. No two of them may be at work at once in a thread."""
        rooms: dict[tuple[float, ...], Room] = self._here.__dict__.setdefault("rooms", {})
        # Of the answers that are remembered some hold what words weigh.
        key = (options.beam, options.alpha, options.beta, options.oov_penalty, float(second is not None))
        if key not in rooms:
            if len(rooms) == _KINDS:
                del rooms[next(iter(rooms))]
            rooms[key] = Room(options, tokens, second)
        return rooms[key]


def _forgetful(kind: np.dtype[Any]) -> Rows:
    """A cache that knows nothing yet."""
    cache = np.recarray(_CACHED, dtype=kind)
    cache.view(np.uint8)[:] = 0xFF  # no word or place is -1
    return cache
