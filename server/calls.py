"""Telephone calls, and who listens to them.

The telephone company streams a call's sound on one connection, and reads nothing (`asr.server.twilio`). Whoever wants
the text opens another, by the name of the call or of its stream, before the call or while it lasts: what was said
already comes first, and the connection ends when the call does.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Protocol

from websockets.exceptions import ConnectionClosed

from .codec import Reply
from .native import make_reply
from .options import ServerOptions
from .outbox import Outbox
from .twilio import Call

_NORMAL, _GOING_AWAY, _POLICY, _TRY_LATER = 1000, 1001, 1008, 1013
_KEPT_STREAMS = 200  # that are over, for those who come late
_KEPT_S = 60.0


class Socket(Protocol):
    """A listener's end. See `asr.server.connection.Socket`."""

    async def recv(self) -> str | bytes: ...

    async def send(self, message: str, /) -> None: ...

    async def close(self, code: int, reason: str) -> None: ...


class _Stream:
    """What was said in a stream, but for partials."""

    def __init__(self, call: Call, most: int) -> None:
        self.call = call
        self.said: deque[Reply] = deque(maxlen=most)
        self.over = False


class Calls:
    """All calls of this process.

    Args:
        post: what is told else, as it comes, of each stream but for partials.
    """

    def __init__(self, options: ServerOptions, post: Callable[[Call, Iterable[str]], None] | None = None) -> None:
        self._options = options
        self._post = post
        self._streams: dict[str, _Stream] = {}  # by their names, in the order in which they began
        self._listeners: set[Listener] = set()

    def tell(self, call: Call | None, replies: list[Reply]) -> None:
        """A stream has something to say. A call that has not started has nobody who listens."""
        if call is None or not replies:
            return
        stream = self._streams.get(call.stream)
        if stream is None or stream.over:
            stream = self._streams[call.stream] = _Stream(call, self._options.max_unsent)
        lasting = [reply for reply in replies if not reply.replaceable]
        stream.said.extend(lasting)
        for listener in self._of(call):
            listener.hear(replies)
        if self._post is not None and lasting:
            self._post(call, [reply.text for reply in lasting])

    def end(self, call: Call | None) -> None:
        """A stream is over. What was said is kept for a while."""
        stream = None if call is None else self._streams.get(call.stream)
        if call is None or stream is None:
            return
        stream.over = True
        for listener in self._of(call):
            listener.look()
        asyncio.get_running_loop().call_later(_KEPT_S, self._forget, stream)
        over = [stream for stream in self._streams.values() if stream.over]
        for stream in over[: max(0, len(over) - _KEPT_STREAMS)]:
            self._forget(stream)

    def _forget(self, stream: _Stream) -> None:
        if self._streams.get(stream.call.stream) is stream:
            del self._streams[stream.call.stream]

    def _of(self, call: Call) -> list[Listener]:
        return [listener for listener in self._listeners if listener.name in (call.call, call.stream)]

    def streams(self, name: str) -> list[_Stream]:
        """A call's streams, or the one of that name."""
        return [stream for stream in self._streams.values() if name in (stream.call.call, stream.call.stream)]

    def listener(self, name: str, socket: Socket) -> Listener:
        """Somebody who wants to know what is said in the call or the stream of that name."""
        return Listener(self, name, socket, self._options)

    def _add(self, listener: Listener) -> None:
        self._listeners.add(listener)

    def _remove(self, listener: Listener) -> None:
        self._listeners.discard(listener)


class Listener:
    """One connection of somebody who listens to a call."""

    def __init__(self, calls: Calls, name: str, socket: Socket, options: ServerOptions) -> None:
        self.name = name
        self._calls, self._socket, self._options = calls, socket, options
        self._outbox = Outbox(options.max_unsent)
        self._over = asyncio.Event()
        self._close = _NORMAL, ""
        self._draining = False

    async def run(self) -> None:
        """Send what is said until the call is over, or nobody reads any more."""
        self._calls._add(self)
        sender, receiver = asyncio.create_task(self._send()), asyncio.create_task(self._receive())
        waiting = asyncio.get_running_loop().call_later(self._options.idle_s, self._give_up)
        try:
            for stream in self._calls.streams(self.name):
                self._outbox.put(stream.said)
            self.look()
            await self._over.wait()
        finally:
            waiting.cancel()
            receiver.cancel()
            self._calls._remove(self)
            self._outbox.close()
            with suppress(ConnectionClosed, TimeoutError):
                await asyncio.wait_for(sender, self._options.drain_s)
            await self._socket.close(*self._close)

    async def drain(self) -> None:
        """The server is stopping: the call is finished first, if there is one."""
        self._close, self._draining = (_GOING_AWAY, "the server is stopping"), True
        self.look()

    def hear(self, replies: Iterable[Reply]) -> None:
        self._outbox.put(replies)
        if self._outbox.overflowing:
            self._close = _TRY_LATER, "the client reads too slowly"
            self._over.set()

    def look(self) -> None:
        """See whether the call is over, with all of its streams."""
        streams = self._calls.streams(self.name)
        if all(stream.over for stream in streams) if streams else self._draining:
            self._over.set()

    def _give_up(self) -> None:
        if not self._calls.streams(self.name):
            message = f"no call or stream of that name has come for {self._options.idle_s:.0f} s"
            self._close = _POLICY, message
            self._outbox.put([make_reply("error", code="no_call", message=message)])
            self._over.set()

    async def _send(self) -> None:
        while (text := await self._outbox.get()) is not None:
            await self._socket.send(text)

    async def _receive(self) -> None:
        with suppress(ConnectionClosed):
            while True:
                await self._socket.recv()  # there is nothing to say here
        self._over.set()
