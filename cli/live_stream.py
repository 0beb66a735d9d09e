"""What recognises a microphone's sound: a model here, or a server. Either may take a while to be ready, and sound need
not wait for it."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Protocol

from asr.errors import AsrError
from asr.events import Event

if TYPE_CHECKING:
    from asr.server.client import Client

_KEEP_S = 20.0  # without sound, after which a server is sent something: it closes connections that are silent for 60 s
_ENDING_S = 60.0  # for a server to send its last texts


class LiveStream(Protocol):
    """As `asr.stream.Stream`."""

    def accept(self, pcm: bytes) -> list[Event]: ...

    def flush(self) -> list[Event]: ...

    def finish(self) -> Iterable[Event]: ...


class LaterStream:
    """A stream that takes sound at once, though what it needs is still being made, in a thread of its own.

    Every method raises what making it raised.
    """

    def __init__(self, make: Callable[[], LiveStream]) -> None:
        self._waiting: list[bytes | None] = []  # in order; None: the end of an utterance
        self._stream: LiveStream | None = None
        self._failure: BaseException | None = None
        # A daemon: whoever interrupts twice does not wait for a compiler.
        self._thread = threading.Thread(target=self._make, args=(make,), daemon=True)
        self._thread.start()

    def _make(self, make: Callable[[], LiveStream]) -> None:
        try:
            self._stream = make()
        except BaseException as error:
            self._failure = error

    @property
    def ready(self) -> bool:
        """Whether it recognises by now."""
        return self._stream is not None

    def accept(self, pcm: bytes) -> list[Event]:
        """Take sound; the first call after it became ready brings what was said before."""
        if not self._thread.is_alive():
            return [*self._catch_up(), *self._made.accept(pcm)]
        self._waiting.append(pcm)
        return []

    def flush(self) -> list[Event]:
        """End the utterance here."""
        if not self._thread.is_alive():
            return [*self._catch_up(), *self._made.flush()]
        self._waiting.append(None)
        return []

    def finish(self) -> Iterator[Event]:
        """Wait until it is ready, and for all that is still to come."""
        while self._thread.is_alive():
            self._thread.join(0.1)  # not at once for good: on Windows Ctrl-C would wait, too
        yield from self._catch_up()
        yield from self._made.finish()

    @property
    def _made(self) -> LiveStream:
        if self._stream is None:
            raise self._failure or AssertionError
        return self._stream

    def _catch_up(self) -> list[Event]:
        waiting, self._waiting = self._waiting, []
        return [event for pcm in waiting for event in (self._made.flush() if pcm is None else self._made.accept(pcm))]


class ServerStream:
    """A stream on a server. Its events come when they come: with any later call."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._events: queue.Queue[Event] = queue.Queue()
        self._failure: AsrError | None = None
        self._said_s = time.monotonic()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        try:
            for event in self._client:
                self._events.put(event)
        except AsrError as error:
            self._failure = error

    def accept(self, pcm: bytes) -> list[Event]:
        """Send sound. Raises ServerError once the server is gone and all its events were given."""
        if not self._reader.is_alive() and self._events.empty():
            raise self._failure or _gone()
        if pcm:
            self._send(lambda: self._client.send(pcm))
        elif time.monotonic() - self._said_s > _KEEP_S:
            self._send(self._client.flush)
        return self._come()

    def flush(self) -> list[Event]:
        """Ask for the end of the utterance."""
        self._send(self._client.flush)
        return self._come()

    def finish(self) -> Iterator[Event]:
        """Say that the sound is over, and wait for the last events. Raises ServerError if they cannot all come."""
        self._send(self._client.end)
        due_s = time.monotonic() + _ENDING_S
        while self._reader.is_alive() and time.monotonic() < due_s:
            self._reader.join(0.1)
            yield from self._come()
        yield from self._come()
        if self._failure is not None or self._reader.is_alive():
            raise self._failure or _gone()
        self._client.close()

    def _send(self, say: Callable[[], None]) -> None:
        try:
            say()
            self._said_s = time.monotonic()
        except AsrError:
            self._reader.join(1.0)  # it reads what the server still said, and why it closed

    def _come(self) -> list[Event]:
        events = []
        while not self._events.empty():
            events.append(self._events.get())
        return events


def _gone() -> AsrError:
    from asr.server.client import ServerError

    return ServerError("closed", "the server closed the connection")
