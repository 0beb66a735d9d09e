"""Coded sound on its way from a connection to the thread that decodes it, with the commands between in their places."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable

from .codec import Coded, Command, End

_MOST_BYTES = 1 << 16  # that may wait for the decoder; then the client is not read
_MOST_ITEMS = 200  # the same for clients that send in tiny pieces


class Dismissed(Exception):
    """The connection is over: nothing of what was on its way is wanted."""


class Feed:
    """A file without a way back: the event loop writes it, and one other thread reads it.

    Args:
        reach: called in the thread with a command when all before it was read and more is asked for; and with None
            when it has to wait for more.
    """

    def __init__(self, reach: Callable[[Command | None], None]) -> None:
        self._reach = reach
        self._loop = asyncio.get_running_loop()
        self._changed = threading.Condition()
        self._items: deque[Command | bytes] = deque()
        self._held = 0  # bytes in them
        self._ended = self._dismissed = False
        self._room = asyncio.Event()

    # For the event loop.

    async def make_room(self) -> None:
        """Wait until something may be put."""
        while self._is_full:
            self._room.clear()
            await self._room.wait()

    def put(self, command: Command) -> None:
        """Add what came. Nothing may come after an End."""
        with self._changed:
            if self._dismissed:
                return
            if isinstance(command, End):
                self._ended = True
            else:
                item = command.data if isinstance(command, Coded) else command
                self._items.append(item)
                self._held += len(item) if isinstance(item, bytes) else 0
            self._changed.notify()

    @property
    def _is_full(self) -> bool:
        return self._held >= _MOST_BYTES or len(self._items) >= _MOST_ITEMS

    # For either.

    def dismiss(self) -> None:
        """Nothing more is wanted: what waits is dropped, and whoever reads gets Dismissed."""
        with self._changed:
            self._dismissed = True
            self._items.clear()
            self._held = 0
            self._changed.notify()
        self._loop.call_soon_threadsafe(self._room.set)

    # For the thread.

    def read(self, size: int = -1) -> bytes:
        """See `asr.audio.coded.Source`."""
        while True:
            item = self._next(wait=False)
            if item is None:
                self._reach(None)
                item = self._next(wait=True)
            if isinstance(item, bytes):
                break
            if item is None:
                return b""
            self._reach(item)
        if 0 <= size < len(item):
            with self._changed:
                if not self._dismissed:
                    self._items.appendleft(item[size:])
                    self._held += len(item) - size
            item = item[:size]
        return item

    def _next(self, wait: bool) -> Command | bytes | None:
        """What comes next; None if that is not there, or at the end."""
        with self._changed:
            while wait and not (self._items or self._ended or self._dismissed):
                self._changed.wait()
            if self._dismissed:
                raise Dismissed
            if not self._items:
                return None
            was_full, item = self._is_full, self._items.popleft()
            self._held -= len(item) if isinstance(item, bytes) else 0
            if was_full and not self._is_full:
                self._loop.call_soon_threadsafe(self._room.set)
            return item
