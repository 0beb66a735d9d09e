"""What a decoder is: log-probabilities in, the text so far out, in steps of any size.

`asr.greedy` and `asr.beam` implement this. A decoder belongs to one stream and holds all of its state.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from asr.errors import ConfigError


@dataclass(frozen=True)
class DecoderOptions:
    """How to search."""

    method: Literal["greedy", "beam"] = "greedy"  # without a language model the beam gains little
    beam: int = 16  # hypotheses kept per step
    max_delay_steps: int = 100  # hypotheses that differ from the best one longer ago than this are given up
    token_floor: float = -7.0  # tokens less likely than this (natural log) do not extend a hypothesis

    def __post_init__(self) -> None:
        if self.method not in ("greedy", "beam"):
            raise ConfigError(f"unknown decoding method {self.method!r}: choose greedy or beam")
        if self.beam < 1 or self.max_delay_steps < 1:
            raise ConfigError(f"beam ({self.beam}) and max_delay_steps ({self.max_delay_steps}) must be at least 1")


@dataclass(frozen=True)
class Hypothesis:
    """A sequence of tokens and where each was emitted. Steps count from the decoder's start or last reset."""

    tokens: tuple[int, ...]
    steps: tuple[int, ...]  # the step of each token's peak
    log_probs: tuple[float, ...]  # natural log of each token's probability at its peak
    score: float  # natural log of the probability of the whole


class Decoder(Protocol):
    """The interface that `asr.recognizer` drives."""

    def accept(self, log_probs: np.ndarray) -> None:
        """Take ``(T, tokens)`` natural-log probabilities, T >= 0."""

    def best(self) -> Hypothesis:
        """The likeliest hypothesis so far."""

    def stable_tokens(self) -> int:
        """How many leading tokens of `best` every future hypothesis of this utterance will have."""

    def trailing_blanks(self) -> int:
        """Steps since the best path's last token; all steps if it has none."""

    def reset(self) -> None:
        """Begin a new utterance: the next step is its step 0. A token that sounds on belongs to the old one."""
