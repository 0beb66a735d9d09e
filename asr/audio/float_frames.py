"""Decoded frames of sound as float32 samples of each channel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import av
import numpy as np

# Of channels that lie apart PyAV finds no end where a frame has no room for more of them, and reads on into what lies
# behind. So more of them are taken interleaved.
_MOST_APART = 7


def is_float(frame: av.AudioFrame) -> bool:
    """Whether `channels_of` can read a frame as it is: most decoders give such."""
    return frame.format.name == "fltp" and frame.layout.nb_channels <= _MOST_APART


def make_converter(frame: av.AudioFrame) -> av.AudioResampler:
    """What makes frames like this one such as `channels_of` can read."""
    return av.AudioResampler(format="fltp" if frame.layout.nb_channels <= _MOST_APART else "flt")


def channels_of(frame: av.AudioFrame) -> Sequence[np.ndarray]:
    """Each channel's samples, ``(n,)`` float32, of a frame for which `is_float` holds, or that was converted."""
    buffers: Any = frame.planes
    if frame.format.is_planar:
        return [np.frombuffer(buffer, np.float32, frame.samples) for buffer in buffers]
    count = frame.layout.nb_channels
    return list(np.frombuffer(buffers[0], np.float32, count * frame.samples).reshape(-1, count).T)
