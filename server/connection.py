"""One client's connection: its socket on one side, its codec and its stream on the other."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from asr.errors import AsrError

from .codec import Audio, Codec, Command, End, Outcome, ProtocolError, Settings
from .options import ServerOptions
from .outbox import Outbox
from .scheduler import Job, Scheduler

log = logging.getLogger("asr.server")

_NORMAL, _GOING_AWAY, _POLICY, _INTERNAL, _TRY_LATER = 1000, 1001, 1008, 1011, 1013
_BYTES = {"s16le": 2, "f32le": 4, "mulaw": 1, "alaw": 1}
_LONGEST_REASON = 120  # bytes that a closing frame holds, with some to spare


class Connection:
    """Runs one connection from its first message to its close."""

    def __init__(self, socket: ServerConnection, codec: Codec, scheduler: Scheduler, options: ServerOptions) -> None:
        self._socket = socket
        self._codec = codec
        self._scheduler = scheduler
        self._options = options
        self._outbox = Outbox(options.max_unsent)
        self._job: Job | None = None
        self._settings = Settings()
        self._queued_s = 0.0  # of audio that is submitted and not done
        self._room = asyncio.Event()
        self._over = asyncio.Event()  # the stream's end is done, or the stream is broken
        self._close = _NORMAL, ""
        self._ending = False

    async def run(self) -> None:
        """Serve the client until either side is through."""
        sender = asyncio.create_task(self._send())
        self._outbox.put(self._codec.opened())
        try:
            async with asyncio.timeout(self._options.max_duration_s):
                await self._receive()
        except TimeoutError:
            self._fail(_POLICY, "too_long", f"connections end after {self._options.max_duration_s:.0f} s")
        except ProtocolError as error:
            self._fail(_POLICY, error.code, str(error))
        except AsrError as error:
            self._fail(_POLICY, "bad_audio", str(error))
        except ConnectionClosed:
            pass
        except Exception:
            log.exception("a connection failed")
            self._fail(_INTERNAL, "internal", "internal error")
        finally:
            if self._job is not None:
                self._job.close()
            self._outbox.close()
            with suppress(ConnectionClosed, TimeoutError):
                await asyncio.wait_for(sender, self._options.drain_s)
            code, reason = self._close
            await self._socket.close(code, reason)

    async def drain(self) -> None:
        """The server is stopping: finish the stream, send what it brings, and close."""
        self._close = _GOING_AWAY, "the server is stopping"
        if self._job is None:
            self._over.set()
        elif not self._ending:
            self._submit(End())

    async def _receive(self) -> None:
        over = asyncio.create_task(self._over.wait())
        try:
            while not self._over.is_set():
                message = asyncio.create_task(self._socket.recv())
                done, _ = await asyncio.wait(
                    {message, over}, timeout=self._options.idle_s, return_when=asyncio.FIRST_COMPLETED
                )
                if message not in done:
                    message.cancel()
                    if not done:
                        raise ProtocolError("idle", f"nothing was received for {self._options.idle_s:.0f} s")
                    break
                for command in self._codec.receive(message.result()):
                    await self._make_room()
                    if self._over.is_set() or self._ending:
                        break
                    self._submit(command)
                if self._ending:
                    await over
        finally:
            over.cancel()

    async def _make_room(self) -> None:
        """Wait while enough audio is queued: meanwhile the socket is not read, and TCP slows the client down."""
        while self._queued_s >= self._options.max_queued_s and not self._over.is_set():
            self._room.clear()
            await self._room.wait()

    def _submit(self, command: Command) -> None:
        if self._job is None:
            self._settings = self._codec.settings
            self._job = self._scheduler.open(self._settings, self._deliver)
        self._queued_s += self._seconds(command)
        self._ending = self._ending or isinstance(command, End)
        self._job.submit(command)

    def _seconds(self, command: Command) -> float:
        if not isinstance(command, Audio):
            return 0.0
        s = self._settings
        return len(command.data) / (_BYTES[s.encoding] * s.channels * s.sample_rate_hz)

    def _deliver(self, outcome: Outcome) -> None:
        if outcome.error is not None:
            code = "internal" if str(outcome.error) == "internal error" else "bad_audio"
            self._fail(_POLICY, code, str(outcome.error))
            self._over.set()
            self._room.set()
            return
        self._outbox.put(self._codec.reply(outcome))
        if outcome.done:
            self._queued_s -= self._seconds(outcome.command)
            self._room.set()
            if isinstance(outcome.command, End):
                self._over.set()
        if self._outbox.overflowing:
            self._close = _TRY_LATER, "the client reads too slowly"
            self._over.set()

    def _fail(self, close_code: int, code: str, message: str) -> None:
        log.info("closing %s: %s", code, message)
        self._outbox.put(self._codec.failed(code, message))
        self._close = close_code, message.encode()[:_LONGEST_REASON].decode(errors="ignore")

    async def _send(self) -> None:
        while (text := await self._outbox.get()) is not None:
            await self._socket.send(text)
