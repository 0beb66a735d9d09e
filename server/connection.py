"""One client's connection: its socket on one side, its codec and its stream on the other."""

from __future__ import annotations

import asyncio
import functools
import itertools
import logging
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from typing import Protocol

from websockets.exceptions import ConnectionClosed

from asr.audio.pcm import SAMPLE_BYTES
from asr.errors import AsrError
from asr.events import Final

from .codec import (
    Audio,
    Codec,
    Coded,
    Command,
    End,
    Flush,
    Outcome,
    ProtocolError,
    Reply,
    SampleFormat,
    Say,
    SetHotWords,
    Settings,
)
from .hot_words import learn
from .listener import ByteSocket
from .live_decoding import LiveDecoding
from .logs import log_event
from .options import ServerOptions
from .outbox import Outbox
from .scheduler import Job, Scheduler

next_number = itertools.count(1).__next__  # names a connection in this process's log
_NORMAL, _GOING_AWAY, _POLICY, _INTERNAL, _TRY_LATER = 1000, 1001, 1008, 1011, 1013
_MOST_QUEUED = 200  # commands per stream, for clients that send in tiny pieces
_LONGEST_REASON = 120  # bytes that a closing frame holds, with some to spare


class Socket(Protocol):
    """A client's end: a WebSocket, or `asr.server.listener.ByteSocket`."""

    @property
    def close_code(self) -> int | None:
        """Why it is closed, once it is."""

    @property
    def close_reason(self) -> str | None:
        """The same in words."""

    async def recv(self) -> str | bytes:
        """What comes next. Raises ConnectionClosed when nothing more will."""

    async def send(self, message: str, /) -> None:
        """Send a message as soon as the client takes it. Raises ConnectionClosed."""

    async def close(self, code: int, reason: str) -> None:
        """End the connection when what was sent is on its way."""


class Connection:
    """Runs one connection from its first message to its close."""

    def __init__(
        self,
        socket: Socket,
        codec: Codec,
        scheduler: Scheduler,
        options: ServerOptions,
        tell: Callable[[list[Reply]], None] | None = None,
    ) -> None:
        """``tell`` takes what would go to a client that reads nothing; its stream is finished when it hangs up, too."""
        self.number = next_number()
        self._socket = socket
        self._codec = codec
        self._scheduler = scheduler
        self._options = options
        self._tell = tell
        self._outbox = Outbox(options.max_unsent)
        self._jobs: dict[int, Job] = {}  # by lane
        self._unended = 0  # jobs that are told to end and have not
        self._decoding: LiveDecoding | None = None  # of sound that is coded; then all commands go through it
        self._hear_decoded: Callable[[SampleFormat, bytes], Iterable[Command]] = lambda form, data: ()  # the codec's
        self._settings = Settings()
        self._queued = 0  # commands that are submitted and not done
        self._queued_s = 0.0  # of audio in them
        self._room = asyncio.Event()
        self._over = asyncio.Event()  # the stream's end is done, or the connection is given up
        self._failure: Exception | None = None  # why it is given up
        self._close = _NORMAL, ""
        self._ending = False
        self._loop = asyncio.get_running_loop()
        self._opened_at = self._heard_at = self._loop.time()
        self._position_s = 0.0
        self._finals = 0

    async def run(self) -> None:
        """Serve the client until either side is through."""
        sender = asyncio.create_task(self._send())
        receiver = asyncio.create_task(self._receive())
        self._idle = self._loop.call_later(self._options.idle_s, self._check_idle)
        too_long = ProtocolError("too_long", f"connections end after {self._options.max_duration_s:.0f} s")
        deadline = self._loop.call_later(self._options.max_duration_s, self.give_up, too_long)
        self._outbox.put(self._codec.opened())
        try:
            await self._over.wait()
        finally:
            self._idle.cancel()
            deadline.cancel()
            receiver.cancel()
            if self._decoding is not None:
                self._decoding.close()
            self._room.set()
            for job in self._jobs.values():
                job.close()
            self._explain()
            self._outbox.close()
            with suppress(ConnectionClosed, TimeoutError):
                await asyncio.wait_for(sender, self._options.drain_s)
            code, reason = self._close
            dropping = None if isinstance(self._socket, ByteSocket) else asyncio.create_task(self._drop())
            await self._socket.close(code, reason)
            if dropping is not None:
                dropping.cancel()
            self._log_end()
            # Nothing may wait for the collector of cycles: a stream's memory goes with its connection.
            self._jobs.clear()
            self._decoding = self._failure = None

    def _log_end(self) -> None:
        log_event(
            "closed",
            connection=self.number,
            code=self._socket.close_code,
            reason=self._socket.close_reason or "",
            open_s=round(self._loop.time() - self._opened_at, 3),
            audio_s=round(self._position_s, 3),
            finals=self._finals,
        )

    async def drain(self) -> None:
        """The server is stopping: finish the stream, send what it brings, and close."""
        self._close = _GOING_AWAY, "the server is stopping"
        if not self._jobs:
            self._over.set()
        elif not self._ending:
            self._pass(End())

    async def _receive(self) -> None:
        try:
            while not self._ending:
                message = await self._socket.recv()
                self._heard_at = self._loop.time()
                commands = self._codec.receive(message)
                del message  # it may be large, and what it asks for may take a while
                if not self._jobs:  # the next command may open a stream
                    await learn(self._scheduler.recognizer, self._codec.settings.hot_words)
                for command in commands:
                    if isinstance(command, Say):
                        self._put(command.replies)
                        continue
                    if isinstance(command, SetHotWords):
                        await learn(self._scheduler.recognizer, command.hot_words)
                    if isinstance(command, Coded) and self._decoding is None:
                        self._hear_decoded = command.decoded
                        self._decoding = LiveDecoding(command, self._hear, self._obey, self._decoded)
                    await (self._make_room() if self._decoding is None else self._decoding.make_room())
                    if self._over.is_set() or self._ending:
                        return
                    self._pass(command)
        except ConnectionClosed:
            if self._tell is not None and self._jobs:
                self._pass(End())
            else:
                self._over.set()
        except Exception as error:
            self.give_up(error)

    async def _drop(self) -> None:
        """Read what still comes: a client that only sends would not see that the connection is closed."""
        with suppress(ConnectionClosed):
            while True:
                await self._socket.recv()

    def _check_idle(self) -> None:
        """One timer a connection, set again as seldom as can be: messages only note when they came."""
        if self._queued:  # the engine is not through with what came, and until it is more may not be read
            self._heard_at = self._loop.time()
        left_s = self._heard_at + self._options.idle_s - self._loop.time()
        if left_s <= 0 and not self._ending:
            self.give_up(ProtocolError("idle", f"nothing was received for {self._options.idle_s:.0f} s"))
        else:
            self._idle = self._loop.call_later(max(left_s, 1.0), self._check_idle)

    def give_up(self, failure: Exception) -> None:
        """End the connection, with what the client is told of the reason."""
        self._failure = self._failure or failure
        self._over.set()
        self._room.set()

    def _explain(self) -> None:
        """Tell the client why it was given up, if it was."""
        match self._failure:
            case None:
                pass
            case ProtocolError() as error:
                self._fail(_POLICY, error.code, str(error))
            case AsrError() as error:
                self._fail(_POLICY, "bad_audio", str(error))
            case error:
                log_event("failed", logging.ERROR, failure=error, connection=self.number)
                self._fail(_INTERNAL, "internal", "internal error")

    @property
    def _is_full(self) -> bool:
        """Whether as much is queued as may be, for each stream."""
        streams = max(1, len(self._jobs))
        return self._queued_s >= streams * self._options.max_queued_s or self._queued >= streams * _MOST_QUEUED

    async def _make_room(self) -> None:
        """Wait while enough is queued: meanwhile the socket is not read, and TCP slows the client down."""
        while self._is_full and not self._over.is_set():
            self._room.clear()
            await self._room.wait()

    def _pass(self, command: Command) -> None:
        """Give a command to the engine, or to the decoder, which gives it on after the sound before it."""
        if self._decoding is None:
            self._submit(command)
            return
        self._ending = self._ending or isinstance(command, End)
        self._decoding.put(command)

    async def _hear(self, form: SampleFormat, data: bytes) -> None:
        """Take samples from the decoder as room is for them: while there is none, it waits."""
        try:
            for command in self._hear_decoded(form, data):
                await self._obey(command)
        except Exception as error:
            self.give_up(error)

    async def _obey(self, command: Command) -> None:
        """Take a command from the decoder."""
        await self._make_room()
        if self._over.is_set():
            return
        if self._jobs or isinstance(command, Audio):
            self._submit(command)
        elif isinstance(command, Flush):  # there was no sound yet, and with it nothing to finish
            self._put(self._codec.reply(Outcome(command, (), True, 0.0)))

    def _decoded(self, failure: Exception | None) -> None:
        """The decoder has given all that it could. That is heard to its end before the client is told of damage."""
        if self._over.is_set():
            return
        if failure is None or (isinstance(failure, AsrError) and self._jobs):
            self._failure = failure
            self._submit(End())
        else:
            self.give_up(failure)

    def _submit(self, command: Command) -> None:
        lanes = [command.lane] if isinstance(command, Audio) else list(self._jobs) or [0]
        if isinstance(command, End):
            self._ending, self._unended = True, len(lanes)
        for lane in lanes:
            if lane not in self._jobs:
                self._settings = self._codec.settings
                self._jobs[lane] = self._scheduler.open(self._settings, functools.partial(self._deliver, lane))
            self._queued += 1
            self._queued_s += self._seconds(command)
            self._jobs[lane].submit(command)

    def _seconds(self, command: Command) -> float:
        if not isinstance(command, Audio):
            return 0.0
        s = self._settings
        return len(command.data) / (SAMPLE_BYTES[s.encoding] * s.channels * s.sample_rate_hz)

    def _deliver(self, lane: int, outcome: Outcome) -> None:
        outcome = replace(outcome, lane=lane) if lane else outcome
        if outcome.error is not None:
            self.give_up(outcome.error)
            return
        self._note(outcome)
        replies = self._codec.reply(outcome)
        self._put([replace(reply, lane=lane) for reply in replies] if lane else replies)
        if outcome.done:
            self._queued -= 1
            self._queued_s -= self._seconds(outcome.command)
            self._room.set()
            if isinstance(outcome.command, End):
                self._unended -= 1
                if not self._unended:
                    self._over.set()

    def _put(self, replies: Iterable[Reply]) -> None:
        if self._tell is not None:
            self._tell(list(replies))
            return
        self._outbox.put(replies)
        if self._outbox.overflowing:
            self._close = _TRY_LATER, "the client reads too slowly"
            self._over.set()
            self._room.set()

    def _note(self, outcome: Outcome) -> None:
        self._position_s = max(self._position_s, outcome.position_s)
        for event in outcome.events:
            if isinstance(event, Final):
                self._finals += 1
                if self._options.log_transcripts:
                    log_event("final", connection=self.number, text=event.text)

    def _fail(self, close_code: int, code: str, message: str) -> None:
        self._put(self._codec.failed(code, message))
        self._close = close_code, message.encode()[:_LONGEST_REASON].decode(errors="ignore")

    async def _send(self) -> None:
        while (text := await self._outbox.get()) is not None:
            await self._socket.send(text)
