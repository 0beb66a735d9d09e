"""Word error rates of a recogniser on corpora, through the same stream that users get."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from asr.events import Final
from asr.recognizer import Recognizer
from asr.search.decoder import DecoderOptions
from asr.text.score import ErrorCount, count_errors, count_word_errors


@dataclass(frozen=True)
class Scored:
    """One utterance's result."""

    id: str
    reference: str
    hypothesis: str
    words: ErrorCount
    characters: ErrorCount
    audio_s: float
    cpu_s: float  # of this process while it was recognised


@dataclass(frozen=True)
class Score:
    """A corpus's result."""

    utterances: int = 0
    words: ErrorCount = field(default_factory=ErrorCount)
    characters: ErrorCount = field(default_factory=ErrorCount)
    audio_s: float = 0.0
    cpu_s: float = 0.0

    @property
    def real_time_factor(self) -> float:
        """CPU seconds per second of audio, decoding of files not counted."""
        return self.cpu_s / self.audio_s if self.audio_s else 0.0

    def add(self, one: Scored) -> Score:
        return Score(
            self.utterances + 1,
            self.words + one.words,
            self.characters + one.characters,
            self.audio_s + one.audio_s,
            self.cpu_s + one.cpu_s,
        )


def evaluate(
    recognizer: Recognizer,
    items: Sequence[tuple[str, str]],
    samples: Callable[[int], np.ndarray],
    decoding: DecoderOptions | None = None,
) -> Iterator[Scored]:
    """Recognise utterances one by one.

    Args:
        recognizer: what to score.
        items: id and normalised reference of each utterance.
        samples: gives an utterance's samples at the model's rate, ``(n,)`` float32, by its index.
        decoding: how to search.
    """
    for index, (name, reference) in enumerate(items):
        audio = samples(index)
        started = time.process_time()
        stream = recognizer.stream(recognizer.sample_rate_hz, decoding=decoding, written=False)
        events = [*stream.accept(audio), *stream.finish()]
        cpu_s = time.process_time() - started
        text = " ".join(event.spoken for event in events if isinstance(event, Final))
        words, characters = count_word_errors(reference, text), count_errors(reference, text)
        yield Scored(name, reference, text, words, characters, len(audio) / recognizer.sample_rate_hz, cpu_s)
