"""Channels that are heard apart: each is a stream of its own, a lane of its connection."""

from __future__ import annotations

import numpy as np

from .codec import ProtocolError

MOST_CHANNELS = 8  # of a client that has them heard apart: each costs as much as a stream


def check_channels(channels: int) -> None:
    """Raise ProtocolError for more channels than one client can have heard apart."""
    if channels > MOST_CHANNELS:
        message = f"multichannel takes {MOST_CHANNELS} channels at most, and there are {channels}"
        raise ProtocolError("bad_config", f"{message}: send fewer, or leave it out, and they are averaged")


class ChannelSplitter:
    """Takes interleaved samples apart. They may be cut anywhere: what is not there of all channels waits."""

    def __init__(self, channels: int, sample_bytes: int) -> None:
        """Raises ProtocolError if these are too many channels."""
        check_channels(channels)
        self.channels = channels
        self._sample = np.dtype((np.void, sample_bytes))
        self._rest = b""

    def accept(self, data: bytes) -> list[bytes]:
        """The samples of each channel, as many of each."""
        data = self._rest + data
        whole = len(data) - len(data) % (self.channels * self._sample.itemsize)
        self._rest = data[whole:]
        frames = np.frombuffer(data[:whole], self._sample).reshape(-1, self.channels)
        return [channel.tobytes() for channel in frames.T]
