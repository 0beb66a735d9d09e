"""How connections come to several processes: one takes them in, and hands each to whoever has the fewest.

Left to the kernel (SO_REUSEPORT) they fall to processes by chance: of 200, one of two processes has 107 or more every
third time, and is late while the other waits.
"""

from __future__ import annotations

import selectors
import socket
import time
from collections import deque
from contextlib import suppress
from ctypes import Array, c_long
from dataclasses import dataclass
from typing import Any

from asr.errors import ConfigError

AWAY = -1  # in place of a worker's number of guests: it does not listen
_BACKLOG = 1_024  # connections that wait to be taken in
_SETTLING_S = 0.25  # that a worker may take to count a connection that it was handed among its guests


@dataclass(frozen=True)
class Entrance:
    """A worker's end: goes to its process as an argument."""

    handed: socket.socket  # where connections come from
    guests: Array[c_long]  # of all workers, in memory that they share with who hands out
    number: int  # of this worker

    def count(self, guests: int) -> None:
        """Say how many are being served here."""
        self.guests[self.number] = guests

    def listening(self) -> socket.socket:
        """What asyncio may take for a listening socket."""
        return _Handed(fileno=self.handed.detach())


class _Handed(socket.socket):
    """Accepts the connections that another process sends."""

    def listen(self, backlog: int = 0) -> None:
        """The other process does."""

    def accept(self) -> tuple[socket.socket, Any]:
        sent, descriptors, _, _ = socket.recv_fds(self, 1, 1)
        if not sent:
            raise BlockingIOError("nobody hands out connections any more")
        if not descriptors:  # this process has as many files open as it may
            raise ConnectionAbortedError
        connection = socket.socket(fileno=descriptors[0])
        try:
            return connection, connection.getpeername()
        except OSError as error:  # hung up meanwhile
            connection.close()
            raise ConnectionAbortedError from error


class Porter:
    """Listens on an address, and hands out connections to workers.

    Raises ConfigError if nobody can listen there.
    """

    def __init__(self, host: str, port: int, guests: Array[c_long]) -> None:
        """``guests`` has a place for each worker, in memory that is shared with them."""
        self._guests = guests
        self._ends: list[socket.socket | None] = [None] * len(guests)
        self._recent = [deque[float]() for _ in guests]  # when each worker was handed connections, lately
        self._selector = selectors.DefaultSelector()
        self._sockets: list[socket.socket] = []
        for number in range(len(guests)):
            guests[number] = AWAY
        try:
            self._listen(host, port)
        except OSError as error:
            self.close()
            raise ConfigError(f"cannot listen on {host}:{port}: {error.strerror or error}") from error

    @property
    def port(self) -> int:
        return int(self._sockets[0].getsockname()[1])

    def _listen(self, host: str, port: int) -> None:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, kind, protocol, _, address in dict.fromkeys(found):
            one = socket.socket(family, kind, protocol)
            self._sockets.append(one)
            one.setblocking(False)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            # The first may have chosen the port.
            one.bind((address[0], port or (self.port if len(self._sockets) > 1 else 0), *address[2:]))
            one.listen(_BACKLOG)
            self._selector.register(one, selectors.EVENT_READ)

    def entrance(self, number: int) -> Entrance:
        """For a worker that is about to start."""
        self.forget(number)
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        self._ends[number] = ours
        return Entrance(theirs, self._guests, number)

    def forget(self, number: int) -> None:
        """A worker is gone."""
        self._guests[number] = AWAY
        end, self._ends[number] = self._ends[number], None
        if end is not None:
            end.close()

    def serve(self, timeout_s: float) -> None:
        """Hand out what comes within so many seconds. As long as no worker is ready, whoever comes waits."""
        end = time.monotonic() + timeout_s
        while (left := end - time.monotonic()) > 0:
            if not self._ready():
                time.sleep(min(left, 0.02))
                continue
            for key, _ in self._selector.select(left):
                assert isinstance(key.fileobj, socket.socket)
                with suppress(OSError):  # whoever knocked is gone
                    connection, _ = key.fileobj.accept()
                    with connection:
                        self._hand_out(connection)

    def _ready(self) -> list[int]:
        return [number for number, end in enumerate(self._ends) if end is not None and self._guests[number] != AWAY]

    def _hand_out(self, connection: socket.socket) -> None:
        """Give a connection to the worker with the fewest; if none takes it, it ends."""
        now = time.monotonic()
        for recent in self._recent:
            while recent and recent[0] < now - _SETTLING_S:
                recent.popleft()
        for number in sorted(self._ready(), key=lambda number: self._guests[number] + len(self._recent[number])):
            end = self._ends[number]
            assert end is not None
            with suppress(OSError):  # it has ended, or takes nothing
                socket.send_fds(end, [b"c"], [connection.fileno()])
                self._recent[number].append(now)
                return

    def close(self) -> None:
        """Take no more connections in."""
        self._selector.close()
        for one in [*self._sockets, *filter(None, self._ends)]:
            one.close()


def can_hand_over() -> bool:
    """Whether this system can give connections to other processes."""
    return hasattr(socket, "send_fds") and hasattr(socket, "AF_UNIX")
