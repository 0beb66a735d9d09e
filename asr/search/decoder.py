"""What a decoder is: log-probabilities in, the words so far out, in steps of any size.

`word_beam` implements `WordDecoder`. `greedy` and `beam` are `TokenDecoder`s, which give letters or word pieces;
`words.TokenReader` makes words of those. A decoder belongs to one stream and holds all of its state.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, Protocol

import numpy as np

from asr.errors import ConfigError


@dataclass(frozen=True)
class DecoderOptions:
    """How to search."""

    method: Literal["greedy", "beam"] = "beam"
    beam: int = 32  # hypotheses kept per step
    alpha: float = 0.5  # weight of the language model's log probabilities
    beta: float = 1.0  # added per word, as a language model prefers few words; not used without one
    oov_penalty: float = -4.0  # added per word that the language model does not know
    alternatives: int = 0  # other readings to give with each final
    max_delay_steps: int = 60  # hypotheses that differ from the best one longer ago than this are given up
    blank_ceiling: float = 0.98  # steps whose blank is likelier than this (0 to 1) extend nothing
    token_floor: float = -7.0  # tokens less likely than this (natural log) do not extend a hypothesis
    beam_range: float = 14.0  # hypotheses worse than the best one by more than this (natural log) are given up
    second_share: float = 0.5  # of the second language model, where there is one, in a word's log probability (0 to 1)
    second_most: int = 24  # likeliest hypotheses that it is asked about; of what is less likely it says nothing
    second_range: float = 8.0  # nor of hypotheses worse than the best one by more than this (natural log)

    def __post_init__(self) -> None:
        if self.method not in ("greedy", "beam"):
            raise ConfigError(f"unknown decoding method {self.method!r}: choose greedy or beam")
        if self.beam < 1 or self.max_delay_steps < 1:
            raise ConfigError(f"beam ({self.beam}) and max_delay_steps ({self.max_delay_steps}) must be at least 1")
        if self.alternatives < 0:
            raise ConfigError(f"alternatives ({self.alternatives}) must not be negative")
        if self.beam > 10_000:
            raise ConfigError(f"beam {self.beam}: at most 10000 hypotheses can be kept")
        if not 0 < self.blank_ceiling <= 1:
            raise ConfigError(f"blank_ceiling {self.blank_ceiling}: must be above 0 and at most 1")
        if not 0 <= self.second_share <= 1 or self.second_most < 1:
            raise ConfigError(
                f"second_share {self.second_share}: must be from 0 to 1; second_most {self.second_most}: at least 1"
            )
        if not self.beam_range > 0:
            raise ConfigError(f"beam_range {self.beam_range}: must be above 0")


def with_beam(options: DecoderOptions, beam: int | None) -> DecoderOptions:
    """The options with another beam; 0 decodes greedily, None changes nothing. Raises ConfigError if it cannot be."""
    if beam is None:
        return options
    if beam < 0:
        raise ConfigError(f"beam {beam}: choose how many hypotheses are kept, or 0 to decode greedily")
    return replace(options, method="greedy") if beam == 0 else replace(options, method="beam", beam=beam)


@dataclass(frozen=True)
class Hypothesis:
    """A sequence of tokens and where each was emitted. Steps count from the decoder's start or last reset."""

    tokens: tuple[int, ...]
    steps: tuple[int, ...]  # the step at which each token begins
    log_probs: tuple[float, ...]  # natural log of each token's probability at its peak
    score: float  # natural log of the probability of the whole, with what language model and hot words add


@dataclass(frozen=True)
class HeardWord:
    """A word and where it was heard. Steps count from the decoder's start or last reset."""

    text: str
    first_step: int  # the step at which its first token begins
    last_step: int  # the step at which its last token begins
    log_probs: tuple[float, ...]  # natural log of each of its sounds' or letters' probability at its peak


@dataclass(frozen=True)
class Reading:
    """A sequence of words."""

    words: tuple[HeardWord, ...]
    score: float  # natural log of the probability of the whole, with what language model and hot words add

    @property
    def text(self) -> str:
        return " ".join(word.text for word in self.words)


class WordDecoder(Protocol):
    """The interface that `asr.recognizer` drives."""

    def accept(self, log_probs: np.ndarray) -> None:
        """Take ``(T, tokens)`` natural-log probabilities, T >= 0."""

    def best(self) -> Reading:
        """The likeliest words so far."""

    def finals(self, count: int = 1) -> list[Reading]:
        """The likeliest readings if the utterance ends here, likeliest first, at most ``count``."""

    def stable_chars(self) -> int:
        """How many leading characters of `best` every future reading of this utterance will have."""

    def stable_words(self) -> int:
        """How many leading words of `best` every future reading will have, and which will not grow longer."""

    def trailing_blanks(self) -> int:
        """Steps since the best path's last token; all steps if it has none."""

    def reset(self) -> None:
        """Begin a new utterance: the next step is its step 0. A token that sounds on belongs to the old one."""


class TokenDecoder(Protocol):
    """A decoder whose tokens spell the text."""

    def accept(self, log_probs: np.ndarray) -> None:
        """Take ``(T, tokens)`` natural-log probabilities, T >= 0."""

    def best(self) -> Hypothesis:
        """The likeliest hypothesis so far."""

    def finals(self, count: int = 1) -> list[Hypothesis]:
        """The likeliest hypotheses if the utterance ends here, likeliest first, at most ``count``."""

    def stable_tokens(self) -> int:
        """How many leading tokens of `best` every future hypothesis of this utterance will have."""

    def trailing_blanks(self) -> int:
        """Steps since the best path's last token; all steps if it has none."""

    def reset(self) -> None:
        """Begin a new utterance: the next step is its step 0. A token that sounds on belongs to the old one."""


class Recorder:
    """A decoder that writes no text and keeps what it is given."""

    def __init__(self) -> None:
        self._rows: list[np.ndarray] = []

    def rows(self, tokens: int) -> np.ndarray:
        """All log probabilities so far, ``(T, tokens)``."""
        return np.concatenate([np.zeros((0, tokens), dtype=np.float32), *self._rows])

    def accept(self, log_probs: np.ndarray) -> None:
        self._rows.append(log_probs)

    def best(self) -> Reading:
        return Reading((), 0.0)

    def finals(self, count: int = 1) -> list[Reading]:
        return [self.best()]

    def stable_chars(self) -> int:
        return 0

    def stable_words(self) -> int:
        return 0

    def trailing_blanks(self) -> int:
        return 0

    def reset(self) -> None:
        pass
