"""A connection's coded sound, decoded while it comes, in a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError
from contextlib import suppress
from typing import Any

import numpy as np

from asr.audio.coded import CodedSound
from asr.errors import AsrError

from .codec import Coded, Command, SampleFormat
from .feed import Dismissed, Feed

_LONGEST_S = 0.5  # of sound that is given on at once, where a client sends faster than it speaks


class LiveDecoding:
    """Samples, and the commands that came between the sound, in their order.

    FFmpeg asks for more when it has given all that there is in what it had: so what a client sends at once is given on
    as soon as it is decoded, and a command comes after all sound before it that could be.

    Args:
        first: what comes first; like all that follows, it is to be put.
        hear: called in the event loop with each block of samples; the thread waits until it is done.
        obey: the same with each command that is not sound, but for the end.
        done: called in the event loop at the end of all, with what was wrong if anything was.
    """

    def __init__(
        self,
        first: Coded,
        hear: Callable[[SampleFormat, bytes], Coroutine[Any, Any, None]],
        obey: Callable[[Command], Coroutine[Any, Any, None]],
        done: Callable[[Exception | None], None],
    ) -> None:
        self._hear, self._obey, self._done = hear, obey, done
        self._loop = asyncio.get_running_loop()
        self._feed = Feed(self._reach)
        self._sound = CodedSound(self._feed, first.form, first.channels)
        self._waiting: list[np.ndarray] = []
        self._waiting_samples = 0
        threading.Thread(target=self._run, name="asr-decoding", daemon=True).start()

    async def make_room(self) -> None:
        """Wait while enough waits to be decoded: meanwhile the socket is not read, and TCP slows the client down."""
        await self._feed.make_room()

    def put(self, command: Command) -> None:
        """Take what came, sound or not, in its place."""
        self._feed.put(command)

    def close(self) -> None:
        """Nothing more is wanted: the thread ends as soon as it sees that."""
        self._feed.dismiss()

    # In the thread.

    def _run(self) -> None:
        failure: Exception | None = None
        try:
            try:
                self._decode()
            finally:
                self._feed.dismiss()
                del self._sound  # its memory does not wait for the collector of cycles
        except (Dismissed, CancelledError):
            return
        except AsrError as error:
            failure = error.with_traceback(None)
        except Exception as error:
            failure = RuntimeError(f"decoding failed: {error!r}")
        with suppress(RuntimeError):  # the loop is closed: the server has stopped
            self._loop.call_soon_threadsafe(self._done, failure)

    def _decode(self) -> None:
        try:
            for block in self._sound:
                self._waiting.append(block)
                self._waiting_samples += len(block)
                if self._waiting_samples >= _LONGEST_S * self._sound.sample_rate_hz:
                    self._give()
        finally:
            self._give()
        while self._feed.read():  # some files say where their sound ends
            pass

    def _reach(self, command: Command | None) -> None:
        self._give()
        if command is not None:
            self._wait_for(self._obey(command))

    def _give(self) -> None:
        if not self._waiting:
            return
        blocks, self._waiting, self._waiting_samples = self._waiting, [], 0
        data = np.concatenate(blocks).astype("<f4", copy=False).tobytes()
        form = SampleFormat(float(self._sound.sample_rate_hz), self._sound.channels, "f32le")
        self._wait_for(self._hear(form, data))

    def _wait_for(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            future = asyncio.run_coroutine_threadsafe(work, self._loop)
        except RuntimeError as error:  # the loop is closed: the server has stopped
            work.close()
            raise Dismissed from error
        future.result()
