"""Raw audio as it comes off a wire or a sound card, to float32 samples."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

import numpy as np

from asr.errors import AudioError

Encoding = Literal["s16le", "f32le", "mulaw", "alaw"]
Pcm = bytes | bytearray | memoryview | np.ndarray

_LOUDEST = 16.0  # floats beyond this are surely integers that nobody divided


def _mulaw_table() -> np.ndarray:
    """ITU-T G.711 mu-law: all bits inverted; sign, 3 bits of exponent, 4 of mantissa."""
    code = ~np.arange(256, dtype=np.uint8)
    magnitude = (((code & 0x0F).astype(np.int32) << 3) + 0x84 << ((code & 0x70) >> 4)) - 0x84
    return (np.where(code & 0x80, -magnitude, magnitude) / 32768.0).astype(np.float32)


def _alaw_table() -> np.ndarray:
    """ITU-T G.711 A-law: even bits inverted; sign, 3 bits of exponent, 4 of mantissa."""
    code = np.arange(256, dtype=np.uint8) ^ 0x55
    exponent = ((code & 0x70) >> 4).astype(np.int32)
    mantissa = ((code & 0x0F).astype(np.int32) << 4) + 8
    magnitude = np.where(exponent == 0, mantissa, (mantissa + 0x100) << np.maximum(exponent - 1, 0))
    return (np.where(code & 0x80, magnitude, -magnitude) / 32768.0).astype(np.float32)


_MULAW, _ALAW = _mulaw_table(), _alaw_table()
_DECODERS: dict[str, tuple[int, Callable[[bytes], np.ndarray]]] = {
    "s16le": (2, lambda data: np.frombuffer(data, dtype="<i2").astype(np.float32) / 32768.0),
    "f32le": (4, lambda data: np.frombuffer(data, dtype="<f4").astype(np.float32)),
    "mulaw": (1, lambda data: _MULAW[np.frombuffer(data, dtype=np.uint8)]),
    "alaw": (1, lambda data: _ALAW[np.frombuffer(data, dtype=np.uint8)]),
}


SAMPLE_BYTES = {encoding: size for encoding, (size, _) in _DECODERS.items()}


class PcmDecoder:
    """Turns chunks of raw audio into mono float32 samples in [-1, 1]; channels are averaged.

    Bytes may be cut anywhere, in the middle of a sample too: the rest waits for the next chunk.
    NumPy arrays are taken too, as whole samples: floats in [-1, 1] or int16, shape ``(n,)`` with the
    channels interleaved, or ``(n, channels)``.
    """

    def __init__(self, encoding: Encoding = "s16le", channels: int = 1) -> None:
        if encoding not in _DECODERS:
            raise AudioError(f"unknown encoding {encoding!r}: choose one of {', '.join(get_args(Encoding))}")
        if not 1 <= channels <= 64:
            raise AudioError(f"{channels} channels are not usable: give 1 to 64")
        self._bytes_per_sample, self._decode = _DECODERS[encoding]
        self._channels = channels
        self._rest = b""

    def accept(self, pcm: Pcm) -> np.ndarray:
        """Samples of a chunk, ``(n,)`` float32. A chunk that is refused with AudioError changes nothing."""
        if isinstance(pcm, np.ndarray):
            return self._mix(self._from_array(pcm))
        data = self._rest + bytes(pcm)
        whole = len(data) - len(data) % (self._bytes_per_sample * self._channels)
        samples = self._mix(_checked(self._decode(data[:whole])))
        self._rest = data[whole:]
        return samples

    def _from_array(self, pcm: np.ndarray) -> np.ndarray:
        if pcm.ndim == 2 and pcm.shape[1] == self._channels:
            pcm = pcm.reshape(-1)
        elif pcm.ndim != 1:
            raise AudioError(
                f"audio of shape {pcm.shape} does not fit {self._channels} channel(s): give (n,), or (n, channels) "
                "and open the stream with channels=..."
            )
        if len(pcm) % self._channels:
            raise AudioError(f"{len(pcm)} samples cannot be divided among {self._channels} channels: give whole ones")
        if pcm.dtype == np.int16:
            return pcm.astype(np.float32) / 32768.0
        if pcm.dtype.kind != "f":
            raise AudioError(f"cannot read samples of type {pcm.dtype}: give float32 in [-1, 1] or int16")
        return _checked(pcm.astype(np.float32))

    def _mix(self, samples: np.ndarray) -> np.ndarray:
        if self._channels == 1:
            return samples
        return np.asarray(samples.reshape(-1, self._channels).mean(axis=1, dtype=np.float32))


def _checked(samples: np.ndarray) -> np.ndarray:
    if len(samples) == 0:
        return samples
    peak = np.abs(samples).max()
    if not np.isfinite(peak):
        raise AudioError(
            "the audio holds NaN or infinite samples: check what made it, and the encoding it is sent with"
        )
    if peak > _LOUDEST:
        raise AudioError(f"float samples reach {peak:.0f}, they must lie in [-1, 1]: divide 16-bit values by 32768")
    return samples
