"""A file without a way back, such as a pipe: its beginning can be looked at, and all of it be kept where it must."""

from __future__ import annotations

import tempfile
from typing import BinaryIO

_HEAD_BYTES = 1 << 16  # that are kept: a WAV file's header
_COPY_BYTES = 1 << 16
_QUICKTIME = {b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot"}


class OneWay:
    """What a pipe gives, and the beginning of it again."""

    def __init__(self, source: BinaryIO) -> None:
        self._source = source
        self.name = getattr(source, "name", "<none>")  # FFmpeg's word for it
        self.head = bytearray()  # of what was read
        self._ahead = b""  # what was looked at and not read

    def peek(self, count: int) -> bytes:
        """The next bytes, which `read` gives again; fewer at the end."""
        while len(self._ahead) < count and (more := self._source.read(count - len(self._ahead))):
            self._ahead += more
        return self._ahead[:count]

    def read(self, size: int = -1) -> bytes:
        """Some of the next bytes, at most so many; none at the end."""
        if self._ahead:
            end = size if size >= 0 else len(self._ahead)
            data, self._ahead = self._ahead[:end], self._ahead[end:]
        else:
            data = self._source.read(size)
        self.head += data[: _HEAD_BYTES - len(self.head)]
        return data

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return False


def needs_way_back(file: OneWay) -> bool:
    """Whether a file that was not read yet is a QuickTime one, such as M4A and MP4, whose sound comes before the table
    that says where it lies.
    """
    at = 0
    while at < _HEAD_BYTES:
        box = file.peek(at + 16)[at:]
        kind, size = box[4:8], int.from_bytes(box[:4], "big")
        if (at == 0 and kind not in _QUICKTIME) or kind in (b"moov", b"moof"):
            return False
        if size == 1:  # of more than 4 GiB
            size = int.from_bytes(box[8:16], "big")
        if kind == b"mdat" or size < 8:
            return True
        at += size
    return True


def keep(file: OneWay) -> BinaryIO:
    """All of a file as a temporary one, at its beginning. Raises OSError."""
    whole = tempfile.TemporaryFile(prefix="asr-")  # noqa: SIM115 (whoever asks closes it)
    try:
        while data := file.read(_COPY_BYTES):
            _write(whole, data)
        whole.seek(0)
    except BaseException:
        whole.close()
        raise
    return whole


def _write(whole: BinaryIO, data: bytes) -> None:
    try:
        whole.write(data)
        whole.flush()
    except OSError as error:
        raise OSError(error.errno, error.strerror, tempfile.gettempdir()) from error
