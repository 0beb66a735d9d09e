"""Endpointing: when an utterance is over, as rules that are data.

A step of the network counts as silence while the decoder's best path says blank: the model was trained
on noise, so this holds in noise too, and needs no second model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from asr.errors import ConfigError
from asr.events import Reason


@dataclass(frozen=True)
class EndpointRule:
    """An utterance ends when all that a rule asks for is so."""

    reason: Reason  # what `Final.reason` will say
    speech: bool  # True: only after a word; False: with or without one
    silence_s: float  # at least so long since the last token
    length_s: float = 0.0  # and so long since the utterance began

    def __post_init__(self) -> None:
        if self.silence_s < 0 or self.length_s < 0:
            raise ConfigError("an endpoint rule's times cannot be negative")

    def holds(self, has_speech: bool, silence_s: float, length_s: float) -> bool:
        return (has_speech or not self.speech) and silence_s >= self.silence_s and length_s >= self.length_s


DEFAULT_RULES = (
    EndpointRule("silence", speech=True, silence_s=0.9),  # a speaker has paused
    EndpointRule("silence", speech=False, silence_s=5.0),  # nobody speaks: start afresh, without an event
    EndpointRule("length", speech=True, silence_s=0.3, length_s=20.0),  # a long-winded speaker takes a breath
    EndpointRule("length", speech=True, silence_s=0.0, length_s=30.0),  # or does not
)


def find_endpoint(
    rules: Sequence[EndpointRule], has_speech: bool, silence_s: float, length_s: float
) -> EndpointRule | None:
    """The first rule that holds, if any."""
    return next((rule for rule in rules if rule.holds(has_speech, silence_s, length_s)), None)
