"""Endpoint rules."""

from __future__ import annotations

import pytest

from asr.errors import ConfigError
from asr.search.endpoint import DEFAULT_RULES, EndpointRule, find_endpoint


@pytest.mark.parametrize(
    ("has_speech", "silence_s", "length_s", "reason"),
    [
        (True, 0.5, 3.0, None),
        (True, 1.0, 3.0, "silence"),
        (False, 1.0, 1.0, None),
        (False, 6.0, 6.0, "silence"),
        (True, 0.4, 21.0, "length"),
        (True, 0.1, 21.0, None),
        (True, 0.0, 31.0, "length"),
        (False, 0.0, 31.0, None),
    ],
)
def test_default_rules(has_speech, silence_s, length_s, reason) -> None:
    """A pause after words, a long wait without any, and great length end an utterance; nothing else does."""
    rule = find_endpoint(DEFAULT_RULES, has_speech, silence_s, length_s)
    assert (rule and rule.reason) == reason


def test_rules_are_checked() -> None:
    """A negative time is refused."""
    with pytest.raises(ConfigError, match="cannot be negative"):
        EndpointRule("silence", speech=True, silence_s=-1)
