"""Who is connected, and whether there is room for one more."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from .entrance import Entrance
from .options import ServerOptions
from .scheduler import Scheduler


class Guest(Protocol):
    """Whoever has a stream here."""

    async def drain(self) -> None:
        """The server is stopping: finish."""


class Places:
    """Counts connections, all and by address."""

    def __init__(self, scheduler: Scheduler, options: ServerOptions, entrance: Entrance | None = None) -> None:
        self._scheduler = scheduler
        self._entrance = entrance
        self._options = options
        self._addresses: Counter[str] = Counter()
        self.guests: set[Guest] = set()
        self.seen = self.refused = 0

    def full(self, address: str) -> str | None:
        """Why somebody of this address cannot be let in; None if they can."""
        o = self._options
        if not self._has_room:
            return f"too many connections: this server takes {o.max_connections} (--max-connections)"
        if self._addresses[address] >= o.max_per_address:
            return f"too many connections from one address: this server takes {o.max_per_address} (--max-per-address)"
        return None if self._keeps_up else "this machine is fully used"

    @property
    def able(self) -> bool:
        """Whether somebody can be let in, whose address has not too many connections."""
        return self._has_room and self._keeps_up

    @property
    def _has_room(self) -> bool:
        return len(self.guests) < self._options.max_connections

    @property
    def _keeps_up(self) -> bool:
        """Whether the engine does."""
        return self._scheduler.load().lag_s <= self._options.max_lag_s

    def tell(self) -> None:
        """Let whoever hands out connections know how many there are here."""
        if self._entrance is not None:
            self._entrance.count(len(self.guests))

    @contextmanager
    def taken(self, guest: Guest, address: str) -> Iterator[None]:
        """Count somebody in as long as they are here."""
        self.guests.add(guest)
        self.tell()
        self._addresses[address] += 1
        self.seen += 1
        try:
            yield
        finally:
            self.guests.discard(guest)
            self.tell()
            self._addresses[address] -= 1
            if not self._addresses[address]:
                del self._addresses[address]
