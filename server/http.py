"""Requests that have a body, over h11: one a connection, read only as fast as they are used."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import suppress
from http import HTTPStatus
from typing import Any

import h11
from websockets.http11 import Response

from .logs import log_event
from .openai_api import HttpError, bad_request

_LINGER_S = 2.0  # for a client that is still sending to see the answer: a reset would take it away


class ClientGone(Exception):
    """The client hung up."""


class HttpConnection(asyncio.Protocol):
    """One request and its response.

    Args:
        handle: serves the request once its head is there; what it raises becomes the response.
        head_s: in which the head must come.
        idle_s: that a client may send nothing, or read nothing.
    """

    def __init__(self, handle: Callable[[HttpConnection], Awaitable[None]], head_s: float, idle_s: float) -> None:
        self._handle = handle
        self._idle_s = idle_s
        self._loop = asyncio.get_running_loop()
        self._h11 = h11.Connection(h11.SERVER)
        self._arrived = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        self._lost = False
        self._closing = False
        self._deadline = self._loop.call_later(head_s, self._too_late)
        self._task: asyncio.Task[None] | None = None
        self.request: h11.Request

    # What a handler uses.

    @property
    def method(self) -> str:
        return self.request.method.decode("ascii")

    @property
    def target(self) -> str:
        return self.request.target.decode("ascii", errors="replace")

    @property
    def address(self) -> str:
        peer = self._transport.get_extra_info("peername")
        return str(peer[0]) if peer else ""

    def headers(self, name: str) -> list[str]:
        """Values of a header, in the order in which they came."""
        wanted = name.lower().encode()
        return [value.decode("latin-1") for key, value in self.request.headers if key == wanted]

    def header(self, name: str) -> str:
        """The first value of a header, or nothing."""
        return next(iter(self.headers(name)), "")

    @property
    def begun(self) -> bool:
        """Whether the response has begun."""
        return self._h11.our_state not in (h11.IDLE, h11.SEND_RESPONSE)

    async def body(self) -> AsyncIterator[bytes]:
        """Pieces of the request's body. Raises HttpError if it breaks off or stalls, ClientGone if nobody is there."""
        if self._h11.they_are_waiting_for_100_continue:
            self._write(h11.InformationalResponse(status_code=100, headers=[]))
        while True:
            try:
                event = self._h11.next_event()
            except h11.RemoteProtocolError as error:
                raise bad_request("bad_request", f"the request is no HTTP: {error}") from error
            if event is h11.NEED_DATA:
                await self._wait(self._arrived, f"nothing more came for {self._idle_s:.0f} s")
                yield b""  # whoever was woken looks around
            elif isinstance(event, h11.Data):
                yield bytes(event.data)
            else:
                return

    def wake(self) -> None:
        """Let `body` give nothing, if it waits for the client."""
        self._arrived.set()

    def begin(self, status: HTTPStatus, content_type: str, more: Mapping[str, str] | None = None) -> None:
        """Send the head of the response."""
        headers = {"content-type": content_type, "connection": "close", **(more or {})}
        self._write(h11.Response(status_code=status, headers=list(headers.items()), reason=status.phrase))

    async def send(self, data: bytes) -> None:
        """Send a piece of the response's body once the pieces before are on their way."""
        self._write(h11.Data(data=data))
        if not self._writable.is_set():
            await self._wait(self._writable, "the response is not read")
        if self._lost:
            raise ClientGone

    def respond(
        self, status: HTTPStatus, content_type: str, body: bytes, more: Mapping[str, str] | None = None
    ) -> None:
        """Send a whole response."""
        self.begin(status, content_type, {"content-length": str(len(body)), **(more or {})})
        if self._task is None or self.method != "HEAD":
            self._write(h11.Data(data=body))

    def answer(self, response: Response) -> None:
        """Send a whole response that was made for websockets."""
        headers = {name.lower(): value for name, value in response.headers.raw_items()}
        self.respond(HTTPStatus(response.status_code), headers["content-type"], bytes(response.body), headers)

    def abort(self) -> None:
        """End at once."""
        if self._task is not None:
            self._task.cancel()
        self._transport.abort()

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        if self._closing:
            return
        self._h11.receive_data(data)
        if self._task is None:
            self._parse_head()
        else:
            self._transport.pause_reading()  # until what came is used
            self._arrived.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self._deadline.cancel()
        self._lost = True
        self._arrived.set()
        self._writable.set()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def _too_late(self) -> None:
        self._transport.abort()

    def _parse_head(self) -> None:
        try:
            event = self._h11.next_event()
        except h11.RemoteProtocolError as error:
            self._deadline.cancel()
            self._fail(bad_request("bad_request", f"the request is no HTTP: {error}"))
            self._close()
            return
        if isinstance(event, h11.Request):
            self._deadline.cancel()
            self.request = event
            self._task = self._loop.create_task(self._run())

    async def _run(self) -> None:
        try:
            await self._handle(self)
        except ClientGone:
            pass
        except HttpError as error:
            self._fail(error)
        except Exception as error:
            log_event("failed", logging.ERROR, failure=error)
            self._fail(HttpError(HTTPStatus.INTERNAL_SERVER_ERROR, "internal", "internal error"))
        finally:
            self._close()

    def _fail(self, error: HttpError) -> None:
        """Say what is wrong: as the response, or as the last event of one that has begun."""
        with suppress(h11.LocalProtocolError):
            if not self.begun:
                self.respond(error.status, "application/json", error.body)
            elif self._h11.our_state is h11.SEND_BODY:
                self._write(h11.Data(data=b"data: " + error.body + b"\n\n"))

    def _close(self) -> None:
        """End the response; if the client is still sending, leave it a moment to read what it was told."""
        self._closing = True
        with suppress(h11.LocalProtocolError):
            if self._h11.our_state is h11.SEND_BODY:
                self._write(h11.EndOfMessage())
        if self._lost or self._transport.is_closing():
            return
        with suppress(h11.RemoteProtocolError):
            while isinstance(self._h11.next_event(), h11.Data | h11.EndOfMessage):
                pass
        if self._h11.their_state in (h11.DONE, h11.MUST_CLOSE, h11.CLOSED):
            self._transport.close()
            return
        if self._transport.can_write_eof():
            self._transport.write_eof()
        self._transport.resume_reading()
        self._deadline = self._loop.call_later(_LINGER_S, self._transport.abort)

    def _write(self, event: Any) -> None:
        data = self._h11.send(event)
        if data and not self._lost:
            self._transport.write(data)

    async def _wait(self, event: asyncio.Event, stalled: str) -> None:
        event.clear()
        if event is self._arrived:
            self._transport.resume_reading()
        if not self._lost:
            try:
                async with asyncio.timeout(self._idle_s):
                    await event.wait()
            except TimeoutError:
                raise HttpError(HTTPStatus.REQUEST_TIMEOUT, "idle", stalled) from None
        if self._lost:
            raise ClientGone
