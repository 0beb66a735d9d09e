"""How long the event loop is held up: then no connection is heard or answered."""

from __future__ import annotations

import asyncio

_BEAT_S = 0.05
_FADE = 0.995  # a moment of lateness is half forgotten after seven seconds


class Heartbeat:
    """Measures while `run` runs."""

    def __init__(self) -> None:
        self.late_s = 0.0  # lately
        self.latest_s = 0.0  # ever

    async def run(self) -> None:
        """Beat until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + _BEAT_S
            await asyncio.sleep(_BEAT_S)
            self.late_s = max(loop.time() - due, self.late_s * _FADE)
            self.latest_s = max(self.latest_s, self.late_s)
