"""What is said in telephone calls, posted to an address that the server's operator chose."""

from __future__ import annotations

import asyncio
import logging
import urllib.request
from collections import deque
from collections.abc import Iterable
from http.client import HTTPMessage
from typing import IO, Any
from urllib.parse import urlsplit

from asr.errors import ConfigError

from .logs import log_event
from .twilio import Call

_PATIENCE_S = 5.0  # for an answer
_PAUSES_S = (0.5, 2.0)  # before the second and the third try
_MOST_WAITING = 1_000  # of a stream; then the oldest is given up


class Callback:
    """Posts events as JSON, those of a stream one after another.

    What cannot be delivered in three tries is given up, with a line in the log.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._waiting: dict[str, deque[str]] = {}  # by stream
        self._tasks: set[asyncio.Task[None]] = set()

    def post(self, call: Call, events: Iterable[str]) -> None:
        """Send a stream's events when those before them are through."""
        waiting = self._waiting.get(call.stream)
        if waiting is None:
            waiting = self._waiting[call.stream] = deque()
            task = asyncio.create_task(self._deliver(call.stream, waiting))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        waiting.extend(events)
        while len(waiting) > _MOST_WAITING:
            waiting.popleft()
            log_event("not posted", logging.WARNING, stream=call.stream, reason="too many events wait")

    async def drain(self, patience_s: float) -> None:
        """Wait for what is on its way."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=patience_s)

    async def _deliver(self, stream: str, waiting: deque[str]) -> None:
        while waiting:
            body = waiting.popleft().encode()
            reason = ""
            for pause_s in (0.0, *_PAUSES_S):
                await asyncio.sleep(pause_s)
                reason = await asyncio.to_thread(_post, self._url, body)
                if not reason:
                    break
            else:
                log_event("not posted", logging.WARNING, stream=stream, reason=reason)
        del self._waiting[stream]


class _StayHere(urllib.request.HTTPRedirectHandler):
    """Follows nothing: the operator chose the address."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> None:
        return None


_OPENER = urllib.request.build_opener(_StayHere)


def _post(url: str, body: bytes) -> str:
    """Post, and return what went wrong, or nothing."""
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"}, method="POST")
    try:
        with _OPENER.open(request, timeout=_PATIENCE_S) as response:
            response.read(1 << 16)
    except (OSError, ValueError) as error:  # a status that is no success is an OSError, too
        return f"{type(error).__name__}: {error}"
    return ""


def check_url(url: str) -> None:
    """Raise ConfigError if nothing can be posted there."""
    parts: Any = None
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        parts = None
    if parts is None or parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(f"{url}: calls are posted to http:// or https:// and a host")
