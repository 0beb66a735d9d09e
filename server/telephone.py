"""Telephone calls on this server: those that come in, and those who listen to them."""

from __future__ import annotations

import asyncio
import re
from urllib.parse import unquote

from websockets.asyncio.server import ServerConnection

from .access import is_token
from .callback import Callback
from .calls import Calls, Listener
from .codec import ProtocolError
from .connection import Connection
from .options import ServerOptions
from .scheduler import Scheduler
from .twilio import TwilioCodec

CALLS = "/v1/twilio"  # the one path whose token may come later: the company's addresses hold none

_LISTENERS = re.compile(re.escape(CALLS) + r"/([A-Za-z0-9_-]{1,64})/transcripts")


def listened_to(path: str) -> str | None:
    """The call or stream that a path is for listening to; None if it is for something else."""
    match = _LISTENERS.fullmatch(unquote(path))
    return match and match[1]


class Telephone:
    """Makes what serves both kinds of connections, and brings them together."""

    def __init__(self, scheduler: Scheduler, options: ServerOptions) -> None:
        self._scheduler, self._options = scheduler, options
        self._callback = None if options.call_url is None else Callback(options.call_url)
        self._calls = Calls(options, None if self._callback is None else self._callback.post)

    def listener(self, name: str, socket: ServerConnection) -> Listener:
        return self._calls.listener(name, socket)

    def call(self, socket: ServerConnection, is_known: bool) -> IncomingCall:
        """A call's connection; one that is not known yet has to present its token as it starts."""
        return IncomingCall(socket, is_known, self._calls, self._scheduler, self._options)

    async def drain(self, patience_s: float) -> None:
        if self._callback is not None:
            await self._callback.drain(patience_s)


class IncomingCall:
    """One connection of a telephone company."""

    def __init__(
        self, socket: ServerConnection, is_known: bool, calls: Calls, scheduler: Scheduler, options: ServerOptions
    ) -> None:
        self._codec = TwilioCodec(lambda token: is_known or is_token(options, token))
        self._calls, self._options = calls, options
        tell = lambda replies: calls.tell(self._codec.call, replies)  # noqa: E731
        self._connection = Connection(socket, self._codec, scheduler, options, tell)
        self.number = self._connection.number

    async def run(self) -> None:
        patience = asyncio.get_running_loop().call_later(self._options.handshake_s, self._expect_start)
        try:
            await self._connection.run()
        finally:
            patience.cancel()
            self._calls.end(self._codec.call)

    async def drain(self) -> None:
        """The server is stopping: finish."""
        await self._connection.drain()

    def _expect_start(self) -> None:
        """Nobody stays who has not said for which call, or shown a token."""
        if self._codec.call is None:
            failure = ProtocolError("no_start", f"start did not come within {self._options.handshake_s:.0f} s")
            self._connection.give_up(failure)
