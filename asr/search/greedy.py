"""Greedy CTC decoding: the likeliest token of each step, repeats merged, blanks dropped."""

from __future__ import annotations

import numpy as np

from asr.search.decoder import Hypothesis


class GreedyDecoder:
    """See `asr.search.decoder.Decoder`. All its text is stable: a later step never changes an earlier token."""

    def __init__(self, blank: int = 0) -> None:
        self._blank = blank
        self._previous = blank
        self.reset()

    def reset(self) -> None:
        self._steps_seen = 0
        self._last_token_step = -1
        self._tokens: list[int] = []
        self._steps: list[int] = []
        self._log_probs: list[float] = []
        self._score = 0.0

    def accept(self, log_probs: np.ndarray) -> None:
        for row in log_probs:
            token = int(row.argmax())
            log_prob = float(row[token])
            self._score += log_prob
            if token != self._blank:
                self._last_token_step = self._steps_seen
                if token != self._previous:
                    self._tokens.append(token)
                    self._steps.append(self._steps_seen)
                    self._log_probs.append(log_prob)
                elif self._tokens and log_prob > self._log_probs[-1]:
                    self._log_probs[-1] = log_prob  # the peak may come after the first step of a repeat
            self._previous = token
            self._steps_seen += 1

    def best(self) -> Hypothesis:
        return Hypothesis(tuple(self._tokens), tuple(self._steps), tuple(self._log_probs), self._score)

    def finals(self, count: int = 1) -> list[Hypothesis]:
        return [self.best()]

    def stable_tokens(self) -> int:
        return len(self._tokens)

    def trailing_blanks(self) -> int:
        return self._steps_seen - 1 - self._last_token_step
