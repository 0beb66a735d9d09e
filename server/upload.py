"""A file on its way from a client to the decoder: never whole in memory."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Callable
from typing import BinaryIO, cast

import numpy as np

from asr.audio.audio_file import AudioFile
from asr.errors import AsrError

_HELD_BYTES = 1 << 20  # that may wait for the decoder; then the client is not read
_BLOCK_S = 0.5  # of sound given on at once: files give it in pieces of some milliseconds


class Pipe:
    """Bytes that the event loop writes and one other thread reads, as a file without a way back."""

    name = "the file"

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._changed = threading.Condition()
        self._chunks: deque[bytes] = deque()
        self._held = 0
        self._ended = self._given_up = self._unwanted = False
        self._room = asyncio.Event()
        self._room.set()

    # For the event loop.

    async def write(self, data: bytes) -> None:
        """Add bytes, and wait until there is room for more."""
        with self._changed:
            if self._unwanted:
                return
            self._chunks.append(data)
            self._held += len(data)
            if self._held >= _HELD_BYTES:
                self._room.clear()
            self._changed.notify()
        await self._room.wait()

    def end(self) -> None:
        """No more bytes come."""
        with self._changed:
            self._ended = True
            self._changed.notify()

    def give_up(self) -> None:
        """Whoever reads gets an OSError: the rest will never come."""
        with self._changed:
            self._given_up = True
            self._chunks.clear()
            self._changed.notify()

    # For the thread.

    def read(self, size: int = -1) -> bytes:
        """The next bytes, at most so many; none at the end."""
        with self._changed:
            while not (self._chunks or self._ended or self._given_up):
                self._changed.wait()
            if self._given_up:
                raise OSError("the upload was given up")
            if not self._chunks:
                return b""
            data = self._chunks.popleft()
            if 0 <= size < len(data):
                self._chunks.appendleft(data[size:])
                data = data[:size]
            was_full, self._held = self._held >= _HELD_BYTES, self._held - len(data)
            if was_full and self._held < _HELD_BYTES:
                self._loop.call_soon_threadsafe(self._room.set)
            return data

    def dismiss(self) -> None:
        """Nothing more will be read: what is written from now on is dropped."""
        with self._changed:
            self._unwanted = True
            self._chunks.clear()
        self._loop.call_soon_threadsafe(self._room.set)

    def seekable(self) -> bool:
        return False

    def readable(self) -> bool:
        return True


class Decoding:
    """Decodes an upload in a thread of its own.

    Args:
        pipe: what is uploaded.
        take: called in the thread with each block, ``(n,)`` float32, and its sample rate in Hz; it may wait, and may
            raise OSError or AsrError to end the decoding.
        done: called in the event loop at the end, with what was wrong if anything was.
        separate: whether channels are kept apart; blocks then are ``(n, channels)``.
    """

    def __init__(
        self,
        pipe: Pipe,
        take: Callable[[np.ndarray, int], None],
        done: Callable[[Exception | None], None],
        separate: bool = False,
    ) -> None:
        self._pipe, self._take, self._done, self._separate = pipe, take, done, separate
        self._loop = asyncio.get_running_loop()
        threading.Thread(target=self._run, name="asr-upload", daemon=True).start()

    def _run(self) -> None:
        failure: Exception | None = None
        try:
            with AudioFile(cast(BinaryIO, self._pipe), _BLOCK_S, self._separate) as audio:
                for block in audio:
                    self._take(block, audio.sample_rate_hz)
        except (AsrError, OSError) as error:
            failure = error
        except Exception as error:
            failure = RuntimeError(f"decoding failed: {error!r}")
        with contextlib.suppress(RuntimeError):  # the loop is closed: the server has stopped
            self._pipe.dismiss()
            self._loop.call_soon_threadsafe(self._done, failure)
