"""From a decoder's tokens to words with times and confidences."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from asr.decoder import Hypothesis
from asr.events import Word
from asr.tokens import Tokenizer


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

    def confidence(self, log_probs: list[float]) -> float:
        """0 to 1, for a word whose tokens have these natural-log probabilities."""
        return 1 / (1 + math.exp(-sum(w * x for w, x in zip(self.weights, features(log_probs), strict=True))))

    @property
    def weights(self) -> tuple[float, float, float, float]:
        return self.bias, self.mean, self.least, self.letters


def features(log_probs: list[float]) -> tuple[float, float, float, float]:
    """What `Calibration` weighs, in the order of its fields."""
    bounded = [max(value, -10.0) for value in log_probs]
    return 1.0, sum(bounded) / len(bounded), min(bounded), float(min(len(bounded), 12))


@dataclass(frozen=True)
class WordBuilder:
    """Writes hypotheses as words. Times are counted from the start of the stream."""

    tokenizer: Tokenizer
    calibration: Calibration
    step_s: float

    def text(self, tokens: tuple[int, ...]) -> str:
        """The text of tokens, with single spaces and none at its ends."""
        return " ".join(self.tokenizer.decode(tokens).split())

    def words(self, hypothesis: Hypothesis, begin_s: float, latest_s: float) -> tuple[Word, ...]:
        """The words of a hypothesis.

        Args:
            hypothesis: of an utterance.
            begin_s: when the utterance began.
            latest_s: end of the stream, if it is known: no word ends later.
        """
        words = []
        for text, first, last, log_probs in self._split(hypothesis):
            start_s = min(begin_s + first * self.step_s, latest_s)
            end_s = min(begin_s + (last + 1) * self.step_s, latest_s)
            confidence = round(self.calibration.confidence(log_probs), 4)
            words.append(Word(text, round(start_s, 3), round(end_s, 3), confidence))
        return tuple(words)

    def log_probs(self, hypothesis: Hypothesis) -> list[list[float]]:
        """The log probability of each letter of each word."""
        return [log_probs for _, _, _, log_probs in self._split(hypothesis)]

    def _split(self, hypothesis: Hypothesis) -> Iterator[tuple[str, int, int, list[float]]]:
        """Text, first and last step, and letters' log probabilities of each word."""
        letters, steps, log_probs, free = "", [0], [0.0], 0
        for token, step, log_prob in zip(hypothesis.tokens, hypothesis.steps, hypothesis.log_probs, strict=True):
            written = self.tokenizer.tokens[token]
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
                    yield letters, steps[0], steps[-1], log_probs
                    letters = ""
            free = step + 1
        if letters:
            yield letters, steps[0], steps[-1], log_probs
