"""Channels of a recording: averaged, or heard apart, as where each speaker has one of their own."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, get_args

from asr.errors import ConfigError
from asr.events import Final

Channels = Literal["mixed", "separate"]


def are_separate(channels: Channels) -> bool:
    """Whether channels are to be heard apart. Raises ConfigError for what is no way to hear them."""
    if channels not in get_args(Channels):
        raise ConfigError(f"unknown channels {channels!r}: choose {' or '.join(get_args(Channels))}")
    return channels == "separate"


def channel_name(channel: int) -> str:
    """What a channel is called in text for people, who count from one."""
    return f"Channel {channel + 1}"


def place_in_time(final: Final) -> tuple[float, int]:
    """What utterances of several channels are ordered by: when they begin."""
    return final.start_s, final.channel or 0


def in_order(finals: Iterable[Final]) -> tuple[Final, ...]:
    """Utterances of several channels in the order in which they begin."""
    return tuple(sorted(finals, key=place_in_time))
