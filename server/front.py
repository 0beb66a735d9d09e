"""Who serves a connection: websockets if it begins with GET, `asr.server.http` otherwise."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

_GET = b"GET "


class Front(asyncio.Protocol):
    """Holds a new connection until its request's method is known, and then has no part in it.

    websockets speaks no HTTP but the request for an upgrade: it knows GET alone, and no bodies.
    """

    def __init__(
        self, websocket: asyncio.Protocol, make_http: Callable[[], asyncio.Protocol], patience_s: float
    ) -> None:
        self._websocket = websocket
        self._make_http = make_http
        self._patience_s = patience_s
        self._begun = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._deadline = asyncio.get_running_loop().call_later(self._patience_s, transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        self._deadline.cancel()

    def data_received(self, data: bytes) -> None:
        self._begun += data
        if len(self._begun) < len(_GET) and _GET.startswith(self._begun):
            return
        self._deadline.cancel()
        chosen = self._websocket if self._begun.startswith(_GET) else self._make_http()
        self._transport.set_protocol(chosen)
        chosen.connection_made(self._transport)
        chosen.data_received(self._begun)

    def abort(self) -> None:
        """The server is stopping: who has not said what they want is not waited for."""
        if self._transport.get_protocol() is self:
            self._transport.abort()
