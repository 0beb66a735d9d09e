"""Connections that are plain streams of bytes, over TCP or a Unix socket."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from websockets.exceptions import ConnectionClosed, ConnectionClosedError

from asr.errors import ConfigError

from .codec import Reply

_READ_BYTES = 1 << 16
_LINGER_S = 2.0  # for a client that is still sending to see the answer: a reset would take it away


@dataclass(frozen=True)
class Address:
    """Where to listen: a host and a port, or a path."""

    host: str = ""
    port: int = 0  # 0 chooses a free one
    path: Path | None = None  # of a Unix socket

    def __str__(self) -> str:
        if self.path is not None:
            return f"unix://{self.path}"
        return f"tcp://[{self.host}]:{self.port}" if ":" in self.host else f"tcp://{self.host}:{self.port}"


def parse_address(text: str) -> Address:
    """An address as it is written. Raises ConfigError."""
    with suppress(ValueError):  # of a port that is none
        parts = urlsplit(text)
        if parts.scheme == "tcp" and parts.hostname and parts.port is not None and not parts.path:
            return Address(parts.hostname, parts.port)
        if parts.scheme == "unix" and not parts.netloc and parts.path:
            return Address(path=Path(parts.path))
    raise ConfigError(f"{text}: give tcp://HOST:PORT, or unix:// and an absolute path")


class ByteSocket:
    """One client. See `asr.server.connection.Socket`; its messages are bytes as they come."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        peer = writer.get_extra_info("peername")
        self.address = str(peer[0]) if peer and isinstance(peer, tuple) else "unix"
        self.close_code: int | None = None
        self.close_reason: str | None = None

    async def recv(self) -> bytes:
        data = b""
        with suppress(OSError):
            data = await self._reader.read(_READ_BYTES)
        if not data:
            raise ConnectionClosedError(None, None)
        return data

    async def send(self, message: str, /) -> None:
        try:
            self._writer.write(message.encode())
            await self._writer.drain()
        except OSError as error:
            raise ConnectionClosedError(None, None) from error

    async def close(self, code: int, reason: str) -> None:
        """Bytes have no frame for the code and the reason: they are for the log."""
        self.close_code, self.close_reason = code, reason
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(_LINGER_S):
                self._writer.write_eof()
                while await self._reader.read(_READ_BYTES):
                    pass
        self.abort()

    async def refuse(self, replies: Iterable[Reply], code: int, reason: str) -> None:
        """Say why this client is not served, and close."""
        with suppress(ConnectionClosed):
            for reply in replies:
                await self.send(reply.text)
        await self.close(code, reason)

    def abort(self) -> None:
        """End at once."""
        self._writer.transport.abort()


class Listener:
    """Takes clients in at an address.

    Args:
        handle: serves a client; when it returns, the client is gone.
        shared: whether other processes listen on the same port.
    """

    def __init__(self, address: Address, handle: Callable[[ByteSocket], Awaitable[None]], shared: bool) -> None:
        self.address = address
        self._handle, self._shared = handle, shared
        self._sockets: set[ByteSocket] = set()
        self._server: asyncio.Server | None = None
        self._inode = 0  # of the Unix socket

    async def start(self) -> None:
        """Listen. Raises ConfigError."""
        try:
            if self.address.path is not None:
                if not hasattr(asyncio, "start_unix_server"):
                    raise OSError("this system has no Unix sockets")
                self._server = await asyncio.start_unix_server(self._serve, self.address.path)
                self._inode = os.stat(self.address.path).st_ino
                return
            a = self.address
            self._server = await asyncio.start_server(self._serve, a.host, a.port, reuse_port=self._shared or None)
            self.address = Address(a.host, self._server.sockets[0].getsockname()[1])
        except OSError as error:
            raise ConfigError(f"cannot listen on {self.address}: {error.strerror or error}") from error

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        socket = ByteSocket(reader, writer)
        self._sockets.add(socket)
        try:
            await self._handle(socket)
        finally:
            self._sockets.discard(socket)
            socket.abort()

    def close(self) -> None:
        """Take no more clients in."""
        if self._server is not None:
            self._server.close()
        path = self.address.path
        with suppress(OSError):
            if path is not None and os.stat(path).st_ino == self._inode:  # not one that another server put there
                path.unlink()

    def abort(self) -> None:
        """End every connection at once."""
        for socket in list(self._sockets):
            socket.abort()
