"""A file elsewhere as a file to read from, in constant memory."""

from __future__ import annotations

import io
from collections.abc import Callable
from contextlib import suppress
from typing import Any, BinaryIO, TypeVar

from asr.cli.urls import file_system, is_url, is_web

from asr.errors import AudioError

_PIECE = 1 << 20  # bytes at a time of what is read only to be skipped
_T = TypeVar("_T")


def open_url(url: str) -> str | BinaryIO:
    """What the engine can read there: a file, or the path of one. Raises AsrError."""
    if not is_url(url):
        return url
    try:
        return UrlFile(url)  # type: ignore[return-value]  # a raw file gives fewer bytes at times, as BinaryIO may
    except OSError as error:
        raise AudioError(f"{url}: cannot be opened ({error}). Check the address") from error


class UrlFile(io.RawIOBase):
    """A file elsewhere, read in blocks as they are needed.

    Web servers that cannot give a part of a file are read from the beginning, and again where something earlier is
    asked for.

    Raises OSError for whatever goes wrong on the way.
    """

    def __init__(self, url: str) -> None:
        self.name = url
        self._system, self._path = file_system(url)
        self._at = 0  # where the next read begins
        self._parts = True  # whether the server gives parts
        self._file: Any = _reach(lambda: self._system.open(self._path, "rb"))
        self._size: int | None = getattr(self._file, "size", None)
        self._file_at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return self._size is not None

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence == io.SEEK_END and self._size is None:
            raise OSError("the length is not known")
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size or 0}[whence]
        self._at = max(0, base + offset)
        return self._at

    def read(self, size: int = -1, /) -> bytes:
        data: bytes = _reach(lambda: self._read(size))
        self._at += len(data)
        return data

    def close(self) -> None:
        if not self.closed and getattr(self, "_file", None) is not None:
            with suppress(Exception):
                self._file.close()
        super().close()

    def _read(self, size: int) -> bytes:
        if self._parts and self._size is not None:
            try:
                self._file.seek(self._at)
                return bytes(self._file.read(size))
            except ValueError:  # fsspec's word for a server that gives no parts
                if not is_web(self.name):
                    raise
                self._parts = False
                self._reopen()
        if self._at < self._file_at:
            self._reopen()
        while self._file_at < self._at:
            skipped = self._file.read(min(_PIECE, self._at - self._file_at))
            if not skipped:
                return b""
            self._file_at += len(skipped)
        data = bytes(self._file.read(size))
        self._file_at += len(data)
        return data

    def _reopen(self) -> None:
        self._file.close()
        self._file, self._file_at = self._system.open(self._path, "rb", block_size=0), 0


def _reach(what: Callable[[], _T]) -> _T:
    try:
        return what()
    except FileNotFoundError as error:
        raise OSError("nothing is there, or it may not be read") from error
    except Exception as error:  # each store has its own
        status = getattr(error, "status", None)
        reason = f"the server answered {status}" if isinstance(status, int) else f"{type(error).__name__} {error}"
        raise OSError(reason.replace(":", " ")) from error
