"""Messages on their way to a client that may read slowly."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable

from .codec import Reply


class Outbox:
    """A queue in which a new partial takes the place of one that was not sent yet. Finals are never dropped."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._waiting: deque[Reply] = deque()
        self._partials: dict[int, Reply] = {}  # those that wait, by lane
        self._changed = asyncio.Event()
        self._closed = False

    def put(self, replies: Iterable[Reply]) -> None:
        for reply in replies:
            # What is replaceable is stale as soon as anything newer of its lane is there.
            stale = self._partials.pop(reply.lane, None)
            if stale is not None:
                self._waiting.remove(stale)
            if reply.replaceable:
                self._partials[reply.lane] = reply
            self._waiting.append(reply)
        self._changed.set()

    @property
    def overflowing(self) -> bool:
        """Whether the client is so far behind that it must be given up."""
        return len(self._waiting) > self._most

    def close(self) -> None:
        """Nothing more will be put; `get` gives what is left and then None."""
        self._closed = True
        self._changed.set()

    async def get(self) -> str | None:
        """The next message, when there is one; None after the last."""
        while not self._waiting:
            if self._closed:
                return None
            self._changed.clear()
            await self._changed.wait()
        reply = self._waiting.popleft()
        if reply.replaceable:
            del self._partials[reply.lane]
        return reply.text
