"""Change of sample rate for a stream, with the filter's state kept across chunks."""

from __future__ import annotations

import numpy as np
import soxr

from asr.errors import AudioError

MIN_RATE_HZ = 4_000  # below this there is no speech left to recognise
MAX_RATE_HZ = 768_000


def check_rate(rate_hz: float) -> float:
    """Return a usable sample rate, or raise AudioError."""
    if not (isinstance(rate_hz, (int, float)) and MIN_RATE_HZ <= rate_hz <= MAX_RATE_HZ):
        raise AudioError(f"sample rate {rate_hz} Hz is not usable: give one from {MIN_RATE_HZ} to {MAX_RATE_HZ} Hz")
    return rate_hz


class StreamResampler:
    """Resamples one mono stream chunk by chunk; the joined output does not depend on the chunks.

    Not safe to use from two threads at once.
    """

    # The resampler is always fed whole blocks of this length: its output is then the same bit for bit
    # however the input was cut, whatever the library does inside.
    _BLOCK_S = 0.01

    def __init__(self, from_hz: float, to_hz: float) -> None:
        self._same = check_rate(from_hz) == check_rate(to_hz)
        self._block = max(1, round(from_hz * self._BLOCK_S))
        self._pending = np.zeros(0, dtype=np.float32)
        self._soxr = None if self._same else soxr.ResampleStream(from_hz, to_hz, 1, dtype="float32", quality="HQ")

    def accept(self, samples: np.ndarray) -> np.ndarray:
        """Take ``(n,)`` float32 samples at the old rate, return those at the new rate that are ready."""
        if self._soxr is None:
            return samples
        pending = np.concatenate([self._pending, samples])
        whole = len(pending) - len(pending) % self._block
        self._pending = pending[whole:].copy()
        ready = [self._soxr.resample_chunk(block) for block in pending[:whole].reshape(-1, self._block)]
        return np.concatenate(ready) if ready else np.zeros(0, dtype=np.float32)

    def finish(self) -> np.ndarray:
        """Return the samples still inside the filter. Nothing can be accepted after this."""
        if self._soxr is None:
            return np.zeros(0, dtype=np.float32)
        return np.asarray(self._soxr.resample_chunk(self._pending, last=True))
