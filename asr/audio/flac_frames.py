"""A FLAC stream parted into its frames, as soon as they are there.

FFmpeg's own parser looks ten frames ahead before it gives one, which may be seconds of sound. A frame does not say how
long it is: it is whole when the next one's header is there. A header is known by its mark, its checksum, what it says
of the sound, and its number, which goes on from that of the header before; there is as good as no chance of all that
within a frame. Where some frames are damaged or missing, the next good one is found.
"""

from __future__ import annotations

from collections.abc import Container
from typing import NamedTuple

from asr.errors import AudioError

_MARK = b"fLaC"
_INFO_BYTES = 34
_LONGEST_HEADER = 16  # bytes
_LONGEST_FRAME = 1 << 21  # bytes: of 65,535 samples of 8 channels in 32 bits
# Samples in a frame by the header's code for them; 6 and 7 say that they are told behind the number.
_SAMPLES = {1: 192, **{code: 144 << code for code in range(2, 6)}, **{code: 1 << code for code in range(8, 16)}}
_SAMPLES_BYTES = {6: 1, 7: 2}
_MOST_MISSING = 64  # frames, of which the next good one is found
_RATE_BYTES = {12: 1, 13: 2, 14: 2}  # that a sample rate takes behind these, by the header's code for it


def _checksum_table() -> bytes:
    """For each byte, with the polynomial x^8 + x^2 + x + 1."""
    table = []
    for value in range(256):
        for _ in range(8):
            value = (value << 1 ^ 0x107) if value & 0x80 else value << 1
        table.append(value)
    return bytes(table)


_CHECKSUMS = _checksum_table()


class _Header(NamedTuple):
    second: int  # its byte that says whether the number is of its first sample, or of the frame
    sound: tuple[int, int]  # codes of the sample rate and of the bits of a sample
    number: int
    next_numbers: range  # of the next header, if some between are missing


class FlacFrames:
    """Takes the bytes of a FLAC stream, cut anywhere, and gives its frames."""

    def __init__(self) -> None:
        self.info = b""  # what the stream's first block of metadata says, once it is there
        self.missing = False  # whether any frames were
        self._held = b""
        self._marked = False  # whether the mark was there
        self._passing = 0  # bytes of metadata that nobody wants, and that have not come yet
        self._is_last = False  # whether these are the last before the frames
        self._in_frames = False
        self._frame: _Header | None = None  # with which `_held` begins
        self._looked = 1  # bytes of `_held` in which the next frame does not begin

    def accept(self, data: bytes) -> list[bytes]:
        """The frames that are whole now. Raises AudioError if it is no FLAC stream, or none any more."""
        self._held += data
        if not self._in_frames:
            self._pass_metadata()
        frames = []
        while self._in_frames and (end := self._find_end()) is not None:
            frames.append(self._held[:end])
            self._held = self._held[end:]
        if len(self._held) > _LONGEST_FRAME:
            raise AudioError(f"no frame begins within {_LONGEST_FRAME} bytes")
        return frames

    def finish(self) -> list[bytes]:
        """The stream is over: its last frame, if it had any."""
        return [self._held] if self._frame is not None else []

    def _pass_metadata(self) -> None:
        if not self._marked:
            if len(self._held) < len(_MARK):
                return
            if not self._held.startswith(_MARK):
                raise AudioError("its mark is missing")
            self._held, self._marked = self._held[len(_MARK) :], True
        while True:
            passed = min(self._passing, len(self._held))
            self._held, self._passing = self._held[passed:], self._passing - passed
            if self._passing:
                return
            if self._is_last:
                self._in_frames = True
                return
            if len(self._held) < 4:
                return
            kind, size = self._held[0], int.from_bytes(self._held[1:4], "big")
            if not self.info:
                if kind & 0x7F or size != _INFO_BYTES:
                    raise AudioError("its header is missing")
                if len(self._held) < 4 + size:
                    return
                self.info = self._held[4 : 4 + size]
            self._passing, self._is_last = 4 + size, bool(kind & 0x80)

    def _find_end(self) -> int | None:
        """Where the next frame begins; None if that is not there yet."""
        if self._frame is None:
            if len(self._held) < _LONGEST_HEADER:
                return None
            self._frame = _read_header(self._held)
            if self._frame is None:
                raise AudioError("no frame follows its header")
        at = self._looked
        while (at := self._held.find(0xFF, at)) >= 0 and len(self._held) - at >= _LONGEST_HEADER:
            if self._held[at + 1] == self._frame.second:
                header = _read_header(self._held[at : at + _LONGEST_HEADER], self._frame.next_numbers)
                if header is not None and header.sound == self._frame.sound:
                    self.missing = self.missing or header.number != self._frame.next_numbers[0]
                    self._frame, self._looked = header, 1
                    return at
            at += 1
        self._looked = at if at >= 0 else len(self._held)
        return None


def _read_header(data: bytes, numbers: Container[int] | None = None) -> _Header | None:
    """The header with which ``data`` begins, if it does; and with one of these numbers, if any are given."""
    if data[0] != 0xFF or data[1] & 0xFE != 0xF8:
        return None
    samples_code, rate_code = data[2] >> 4, data[2] & 0x0F
    found = _read_number(data[4:])
    if found is None or (numbers is not None and found[0] not in numbers):
        return None
    at = 4 + found[1]
    told = _SAMPLES_BYTES.get(samples_code, 0)
    samples = _SAMPLES.get(samples_code, 1 + int.from_bytes(data[at : at + told], "big"))
    at += told + _RATE_BYTES.get(rate_code, 0)
    checksum = 0
    for byte in data[:at]:
        checksum = _CHECKSUMS[checksum ^ byte]
    if samples_code == 0 or rate_code == 0x0F or at >= len(data) or checksum != data[at]:
        return None
    step = samples if data[1] & 1 else 1
    next_number = found[0] + step
    return _Header(
        data[1], (rate_code, data[3] & 0x0E), found[0], range(next_number, next_number + _MOST_MISSING * step)
    )


def _read_number(data: bytes) -> tuple[int, int] | None:
    """A number written as UTF-8 would write it, of up to 36 bits, and how many bytes it takes."""
    ones = 8 - (data[0] ^ 0xFF).bit_length()  # with which its first byte begins: how many there are
    if ones == 0:
        return data[0], 1
    if not 2 <= ones <= 7:
        return None
    value = data[0] & (0x7F >> ones)
    for byte in data[1:ones]:
        if byte & 0xC0 != 0x80:
            return None
        value = value << 6 | byte & 0x3F
    return value, ones
