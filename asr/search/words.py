"""From what a decoder gives to words with times and confidences."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from asr.events import Word
from asr.search.decoder import HeardWord, Hypothesis, Reading, TokenDecoder
from asr.text.tokens import Tokenizer


@dataclass(frozen=True)
class Calibration:
    """How a word's sureness follows from its tokens' probabilities: a logistic curve.

    The values are fitted on speech that the model was not trained on, by ``asr tune``, so that of the
    words with confidence 0.8 about 80 % are right. The default leaves the geometric mean of the tokens'
    probabilities nearly as it is, and is not calibrated.
    """

    bias: float = 2.0
    mean: float = 4.0  # per unit of the tokens' mean log probability
    least: float = 0.0  # per unit of the least of them
    letters: float = 0.0  # per letter of the word, up to 12

    def confidence(self, log_probs: Sequence[float]) -> float:
        """0 to 1, for a word whose tokens have these natural-log probabilities."""
        return 1 / (1 + math.exp(-sum(w * x for w, x in zip(self.weights, features(log_probs), strict=True))))

    @property
    def weights(self) -> tuple[float, float, float, float]:
        return self.bias, self.mean, self.least, self.letters


def features(log_probs: Sequence[float]) -> tuple[float, float, float, float]:
    """What `Calibration` weighs, in the order of its fields."""
    bounded = [max(value, -10.0) for value in log_probs]
    return 1.0, sum(bounded) / len(bounded), min(bounded), float(min(len(bounded), 12))


class WordBuilder:
    """Gives one stream's words their times, from the start of the stream, and confidences."""

    def __init__(self, calibration: Calibration, step_s: float) -> None:
        self._calibration, self._step_s = calibration, step_s
        self._place = 0.0, 0.0
        self._known: list[tuple[HeardWord, Word]] = []  # of the last reading: most words of the next are the same

    def words(self, reading: Reading, begin_s: float, latest_s: float) -> tuple[Word, ...]:
        """The words of a reading.

        Args:
            reading: of an utterance.
            begin_s: when the utterance began.
            latest_s: end of the stream, if it is known: no word ends later.
        """
        place = begin_s, latest_s
        known = self._known if place == self._place else []
        same = 0
        for (before, _), heard in zip(known, reading.words, strict=False):
            if before is not heard and before != heard:
                break
            same += 1
        self._place = place
        self._known = known[:same] + [(heard, self._word(heard, *place)) for heard in reading.words[same:]]
        return tuple([word for _, word in self._known])

    def _word(self, heard: HeardWord, begin_s: float, latest_s: float) -> Word:
        start_s = min(begin_s + heard.first_step * self._step_s, latest_s)
        end_s = min(begin_s + (heard.last_step + 1) * self._step_s, latest_s)
        confidence = round(self._calibration.confidence(heard.log_probs), 4)
        return Word(heard.text, round(start_s, 3), round(end_s, 3), confidence)


class TokenReader:
    """Makes a decoder of words of one whose tokens are letters or word pieces. See `asr.search.decoder.WordDecoder`."""

    def __init__(self, decoder: TokenDecoder, tokenizer: Tokenizer) -> None:
        self.decoder = decoder
        self._tokenizer = tokenizer
        self._last: tuple[Hypothesis, Reading] | None = None

    def accept(self, log_probs: np.ndarray) -> None:
        self.decoder.accept(log_probs)

    def best(self) -> Reading:
        hypothesis = self.decoder.best()
        if self._last is None or self._last[0] != hypothesis:
            self._last = hypothesis, self.read(hypothesis)
        return self._last[1]

    def finals(self, count: int = 1) -> list[Reading]:
        return [self.read(hypothesis) for hypothesis in self.decoder.finals(count)]

    def stable_chars(self) -> int:
        stable = self.decoder.best().tokens[: self.decoder.stable_tokens()]
        return len(" ".join(self._tokenizer.decode(stable).split()))

    def stable_words(self) -> int:
        return self.best().text[: self.stable_chars()].count(" ")  # the last one may grow longer

    def trailing_blanks(self) -> int:
        return self.decoder.trailing_blanks()

    def reset(self) -> None:
        self.decoder.reset()

    def read(self, hypothesis: Hypothesis) -> Reading:
        """The words that tokens spell."""
        return Reading(tuple(self._split(hypothesis)), hypothesis.score)

    def _split(self, hypothesis: Hypothesis) -> Iterator[HeardWord]:
        letters, steps, log_probs, free = "", [0], [0.0], 0
        for token, step, log_prob in zip(hypothesis.tokens, hypothesis.steps, hypothesis.log_probs, strict=True):
            written = self._tokenizer.tokens[token]
            for place, char in enumerate(written, 1):
                if char != " ":
                    if not letters:
                        steps, log_probs = [], []
                    letters += char
                    # A word piece is heard with its last letter. Beside letters of the same speech, those before
                    # it come about a step apart; not before what was heard last.
                    steps.append(min(step, max(step - len(written) + place, free)))
                    log_probs.append(log_prob)
                elif letters:
                    yield HeardWord(letters, steps[0], steps[-1], tuple(log_probs))
                    letters = ""
            free = step + 1
        if letters:
            yield HeardWord(letters, steps[0], steps[-1], tuple(log_probs))
