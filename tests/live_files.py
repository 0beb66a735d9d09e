"""Coded sound as a client sends it while it is recorded, made with the encoders that PyAV carries."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction

import av
import numpy as np
import soxr

RATE_HZ = 16_000  # of the samples that are coded


@dataclass(frozen=True)
class Kind:
    """How a recorder writes. Each writes what it has at once, as live ones do."""

    container: str
    codec: str
    sample_format: str
    rate_hz: int
    options: dict[str, str] = field(default_factory=dict)


_FRAGMENTS = {"movflags": "empty_moov+default_base_moof", "frag_duration": "200000"}  # microseconds
KINDS = {
    "webm": Kind("webm", "libopus", "s16", 48_000, {"live": "1", "cluster_time_limit": "0"}),
    "ogg": Kind("ogg", "libopus", "s16", 48_000, {"page_duration": "20000"}),
    "ogg flac": Kind("ogg", "flac", "s16", 16_000, {"page_duration": "20000"}),
    "mp3": Kind("mp3", "libmp3lame", "s16p", 16_000),
    "mp3 alone": Kind("mp3", "libmp3lame", "s16p", 44_100, {"id3v2_version": "0", "write_xing": "0"}),
    "flac": Kind("flac", "flac", "s16", 16_000),
    "aac": Kind("adts", "aac", "fltp", 16_000),
    "mp4": Kind("mp4", "aac", "fltp", 48_000, _FRAGMENTS),
    "au": Kind("au", "pcm_s16be", "s16", 16_000),
}


class _Written:
    """What a muxer writes, which has no way back."""

    def __init__(self) -> None:
        self.data = b""

    def write(self, data: bytes) -> int:
        self.data += bytes(data)
        return len(data)

    def take(self) -> bytes:
        data, self.data = self.data, b""
        return data


def pieces(name: str, samples: np.ndarray, step_s: float = 0.1) -> list[bytes]:
    """What a recorder has written after each step of sound, and last what it writes at the end.

    Args:
        samples: ``(n,)`` or ``(n, channels)`` float32 at 16 kHz.
    """
    kind, written = KINDS[name], _Written()
    with av.open(written, "w", format=kind.container, options={"flush_packets": "1", **kind.options}) as container:
        coder = _Coder(container.add_stream(kind.codec, rate=kind.rate_hz, layout=_layout(samples)), kind)
        parts = []
        for packets in coder.packets(samples, step_s):
            for packet in packets:
                container.mux(packet)
            parts.append(written.take())
    return [*parts, written.take()]


def opus_packets(samples: np.ndarray) -> list[bytes]:
    """Each of 20 ms."""
    with av.open(_Written(), "w", format="ogg") as container:
        coder = _Coder(container.add_stream("libopus", rate=48_000, layout=_layout(samples)), KINDS["ogg"])
        return [bytes(packet) for packets in coder.packets(samples, 1.0) for packet in packets if packet.size]


def browser_webm(samples: np.ndarray) -> list[bytes]:
    """WebM as a browser's MediaRecorder writes it, a piece for each 20 ms: a cluster that does not know its size, and
    blocks in it as they come."""
    whole = b"".join(pieces("webm", samples))
    head = whole[: whole.index(b"\x1f\x43\xb6\x75")]
    cluster = b"\x1f\x43\xb6\x75\x01\xff\xff\xff\xff\xff\xff\xff" + b"\xe7\x81\x00"  # from 0 ms on
    blocks = []
    for number, packet in enumerate(opus_packets(samples)):
        body = b"\x81" + (20 * number).to_bytes(2, "big") + b"\x80" + packet
        blocks.append(b"\xa3" + (0x4000 | len(body)).to_bytes(2, "big") + body)
    return [head, cluster + blocks[0], *blocks[1:]]


class _Coder:
    """Gives samples to an encoder as a recorder does."""

    def __init__(self, stream: av.AudioStream, kind: Kind) -> None:
        self._stream, self._rate_hz = stream, kind.rate_hz
        stream.codec_context.open()
        self._converter = av.AudioResampler(
            format=kind.sample_format, layout=stream.layout, rate=kind.rate_hz, frame_size=stream.frame_size or 1024
        )

    def packets(self, samples: np.ndarray, step_s: float) -> Iterator[list[av.Packet]]:
        """Those of each step, and those at the end."""
        samples = soxr.resample(samples, RATE_HZ, self._rate_hz)
        integers = np.clip(np.rint(samples * 32767), -32768, 32767).astype(np.int16)
        step = round(step_s * self._rate_hz)
        for begin in range(0, len(integers), step):
            part = np.ascontiguousarray(integers[begin : begin + step]).reshape(1, -1)
            frame = av.AudioFrame.from_ndarray(part, format="s16", layout=self._stream.layout)
            frame.sample_rate, frame.time_base, frame.pts = self._rate_hz, Fraction(1, self._rate_hz), begin
            yield [packet for one in self._converter.resample(frame) for packet in self._stream.encode(one)]
        rest = [packet for one in self._converter.resample(None) for packet in self._stream.encode(one)]
        yield [*rest, *self._stream.encode(None)]


def _layout(samples: np.ndarray) -> str:
    return "mono" if samples.ndim == 1 else "stereo"
