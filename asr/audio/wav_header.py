"""How much sound the header of a WAV file promises, whatever is there of it."""

from __future__ import annotations

import struct
from typing import BinaryIO

# Bytes of sound that are written where they are not known: 2 or 4 GiB, less what the header or half a sample takes.
_UNKNOWN = range(0x7FFF_0000, 0x8000_0001), range(0xFFFF_0000, 0x1_0000_0000)
_HUGE = 1 << 62  # bytes
_MOST_CHUNKS = 1_000  # before the sound: there are five or so


def promised_samples(file: BinaryIO) -> int | None:
    """Samples of each channel that shall follow the header of a RIFF, RF64 or BW64 file of uncompressed sound.

    None if the header is not all there, is none, or does not say: who writes into a pipe cannot know it, and leaves
    nothing, all ones, or as much as fits in 31 or 32 bits.

    Args:
        file: at its beginning, with a way back.
    """
    kind, _, form = struct.unpack("<4sI4s", _exactly(file, 12) or bytes(12))
    if kind not in (b"RIFF", b"RF64", b"BW64") or form != b"WAVE":
        return None
    long_bytes = frame_bytes = None
    for _ in range(_MOST_CHUNKS):
        if (head := _exactly(file, 8)) is None:
            return None
        name, size = struct.unpack("<4sI", head)
        at = file.tell()
        if name == b"ds64" and (body := _exactly(file, 16)) is not None:
            _, long_bytes = struct.unpack("<QQ", body)
        elif name == b"fmt " and (body := _exactly(file, 16)) is not None:
            frame_bytes = _frame_bytes(*struct.unpack("<2xH8xHH", body))
        elif name == b"data":
            known = _known(size, None if kind == b"RIFF" else long_bytes)
            return None if known is None or frame_bytes is None else known // frame_bytes
        file.seek(at + size + size % 2)  # chunks begin at even places
    return None


def _exactly(file: BinaryIO, count: int) -> bytes | None:
    data = b""
    while len(data) < count:
        if not (more := file.read(count - len(data))):
            return None
        data += more
    return data


def _frame_bytes(channels: int, stated_bytes: int, bits: int) -> int | None:
    """Bytes of a sample of all channels, unless the header contradicts itself."""
    return stated_bytes if 0 < stated_bytes == channels * ((bits + 7) // 8) else None


def _known(size: int, long_bytes: int | None) -> int | None:
    """The bytes of sound, if whoever wrote the header knew how many there would be."""
    if long_bytes is not None and size == 0xFFFF_FFFF:
        return long_bytes if 0 < long_bytes < _HUGE else None
    return None if size == 0 or any(size in sizes for sizes in _UNKNOWN) else size
