"""The header of a WAV file, read as it comes."""

from __future__ import annotations

from asr.audio.pcm import Encoding

from .codec import ProtocolError, SampleFormat

WAV_MARKS = (b"RIFF", b"RF64")

_MOST_BYTES = 1 << 16  # before the first sample
_CODED, _EXTENSIBLE = 0x0001, 0xFFFE  # the latter's real format is among what follows
# By the code of a format and its bits a sample.
WAV_ENCODINGS: dict[tuple[int, int], Encoding] = {(1, 16): "s16le", (3, 32): "f32le", (6, 8): "alaw", (7, 8): "mulaw"}
_MOST_CHANNELS = 64


class WavHeader:
    """Finds where the samples begin, and how they are written, whatever chunks there are before them."""

    def __init__(self) -> None:
        self._format: SampleFormat | None = None
        self._at = 12  # where the next chunk begins, behind RIFF, the file's size and WAVE

    def read(self, head: bytes) -> tuple[SampleFormat, int] | None:
        """The format and where the samples begin; None if that is not yet known.

        Args:
            head: the file from its first byte on, each time with more of it.
        """
        while len(head) >= self._at + 8:
            name, body = head[self._at : self._at + 4], self._at + 8
            size = int.from_bytes(head[self._at + 4 : body], "little")
            if name == b"data":  # how much of it there is, writers to a pipe do not know
                if self._format is None:
                    raise _bad("has no fmt chunk before its samples")
                return self._format, body
            if name == b"fmt ":
                if len(head) < body + min(size, 26):
                    break
                self._format = _read_format(head[body : body + size])
            self._at = body + size + size % 2
        if len(head) >= _MOST_BYTES:
            raise _bad(f"has no samples within its first {_MOST_BYTES} bytes")
        return None


def _read_format(chunk: bytes) -> SampleFormat:
    if len(chunk) < 16:
        raise _bad(f"has a fmt chunk of {len(chunk)} bytes")
    code, channels, rate_hz, bits = (
        int.from_bytes(chunk[begin:end], "little") for begin, end in ((0, 2), (2, 4), (4, 8), (14, 16))
    )
    if code == _EXTENSIBLE and len(chunk) >= 26:
        code = int.from_bytes(chunk[24:26], "little")
    encoding = WAV_ENCODINGS.get((code, bits))
    if encoding is None:
        kind = "" if code == _CODED else f" of format {code}"
        raise _bad(f"says samples of {bits} bits{kind}", "16-bit integers, 32-bit floats, mu-law or A-law")
    if not 1 <= channels <= _MOST_CHANNELS:
        raise _bad(f"says {channels} channels", f"1 to {_MOST_CHANNELS}")
    return SampleFormat(float(rate_hz), channels, encoding)


def _bad(what: str, remedy: str = "raw samples, or a file that is whole") -> ProtocolError:
    return ProtocolError("bad_audio", f"the WAV header {what}: send {remedy}")
