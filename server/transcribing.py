"""One uploaded file: its request on one side, the decoder and the engine's streams on the other."""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import Sequence
from dataclasses import replace
from http import HTTPStatus
from typing import Protocol

import numpy as np

from asr.errors import AsrError
from asr.events import Event, Final

from .channels import check_channels
from .codec import Audio, End, Outcome, ProtocolError, Settings
from .connection import next_number
from .hot_words import learn
from .http import HttpConnection
from .logs import log_event
from .openai_api import HttpError, bad_request
from .options import ServerOptions
from .scheduler import Job, Scheduler
from .transcription import EventStream
from .upload import Decoding, Pipe

_AHEAD = 2  # blocks that the decoder gives on before the engine has heard them


class FileCodec(Protocol):
    """One request with a file, and its response. What is wrong with the request raises HttpError."""

    @property
    def path(self) -> str:
        """Where it is posted to."""

    @property
    def whole(self) -> bool:
        """Whether all of the request is there."""

    @property
    def settings(self) -> Settings:
        """How to open the stream, once a part of the file is there; the file says its sample rate and channels."""

    @property
    def separate(self) -> bool:
        """Whether each channel is a stream of its own; else they are averaged."""

    def receive(self, data: bytes) -> bytes:
        """Take a piece of the body; give the file's bytes that are in it."""

    def finish(self) -> bytes:
        """The body is over; give what was held back of the file."""

    def stream(self) -> EventStream | None:
        """What tells of events as they come; none if there is one answer at the end, as `render` gives it."""

    def render(
        self, finals: Sequence[Final], duration_s: float, warning: str = "", channels: int = 1
    ) -> tuple[str, bytes]:
        """The answer: its content type and its body. ``channels``: that were heard apart."""


class Transcribing:
    """Serves one request with a file."""

    def __init__(self, http: HttpConnection, codec: FileCodec, scheduler: Scheduler, options: ServerOptions) -> None:
        self.number = next_number()
        self._http, self._codec, self._scheduler, self._options = http, codec, scheduler, options
        self._loop = asyncio.get_running_loop()
        self._opened_at = self._loop.time()
        self._jobs: list[Job] = []  # one, or one for each channel
        self._ended = 0  # of them
        self._events: list[Event] = []  # that are not in a response yet
        self._finals: list[Final] = []
        self._news = asyncio.Event()
        self._failure: Exception | None = None  # of the engine, or of the server
        self._damage: AsrError | None = None  # of the file
        self._decoding: Decoding | None = None
        self._position_s = 0.0
        self._room = threading.Semaphore(_AHEAD)  # for blocks of any channel
        self._channels = 1  # as the first block has them
        self._abandoned = False

    async def run(self) -> None:
        """Read the request, and respond. Raises HttpError, ClientGone."""
        declared = self._http.header("content-length")
        if declared.isdigit():
            self._check_size(int(declared))
        self._pipe = Pipe()
        log_event("opened", connection=self.number, address=self._http.address, path=self._codec.path)
        status = "broken off"
        try:
            async with asyncio.timeout(self._options.max_duration_s):
                await self._read()
                await self._respond()
            status = "200"
        except HttpError as error:
            status = str(int(error.status))
            raise
        except TimeoutError:
            status = "408"
            message = f"a request may take {self._options.max_duration_s:.0f} s"
            raise HttpError(HTTPStatus.REQUEST_TIMEOUT, "too_long", message) from None
        finally:
            self._abandon()
            log_event(
                "closed",
                connection=self.number,
                status=status,
                open_s=round(self._loop.time() - self._opened_at, 3),
                audio_s=round(self._position_s, 3),
                finals=len(self._finals),
            )

    async def drain(self) -> None:
        """The server is stopping: what is not all there yet is given up, the rest goes on until time is up."""
        if not self._codec.whole:
            self._fail(HttpError(HTTPStatus.SERVICE_UNAVAILABLE, "stopping", "the server is stopping: try again"))

    async def _read(self) -> None:
        read_bytes = 0
        async for data in self._http.body():
            read_bytes += len(data)
            self._check_size(read_bytes)
            if data:
                await self._decode(self._codec.receive(data))
            self._check()
        await self._decode(self._codec.finish())
        if self._decoding is None:
            raise bad_request("bad_audio", "the file is empty: record or copy it again", "file")
        self._pipe.end()

    async def _decode(self, sound: bytes) -> None:
        """Give bytes of the file, if these are any, to the decoder. Raises HttpError."""
        if not sound:
            return
        if self._decoding is None:
            await self._learn()
            self._decoding = Decoding(self._pipe, self._take, self._decoded, self._codec.separate)
        await self._pipe.write(sound)

    async def _learn(self) -> None:
        """Find out how hot words are said. Raises HttpError."""
        try:
            await learn(self._scheduler.recognizer, self._codec.settings.hot_words)
        except ProtocolError as error:
            raise _bad_keywords(error) from error

    async def _respond(self) -> None:
        stream = self._codec.stream()
        while True:
            self._news.clear()
            self._check()
            events, self._events, over = self._events, [], self._is_over
            if stream is not None and (data := b"".join(map(stream.accept, events))):
                self._begin_stream()
                await self._http.send(data)
            if over:
                break
            await self._news.wait()
        warning = "" if self._damage is None else str(self._damage)
        if stream is not None:
            self._begin_stream()
            await self._http.send(stream.end(warning))
            return
        kind, body = self._codec.render(self._finals, self._position_s, warning, self._channels)
        headers = {"x-asr-warning": warning.encode("ascii", "replace").decode()} if warning else {}
        self._http.respond(HTTPStatus.OK, kind, body, headers)

    @property
    def _is_over(self) -> bool:
        """Whether the engine has heard all."""
        return 0 < len(self._jobs) == self._ended

    def _begin_stream(self) -> None:
        if not self._http.begun:
            self._http.begin(HTTPStatus.OK, "text/event-stream; charset=utf-8", {"cache-control": "no-cache"})

    def _check_size(self, count: int) -> None:
        most = self._options.max_upload_bytes
        if count > most:
            message = f"the request is larger than {most} bytes: send a shorter or a compressed file"
            raise HttpError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too_large", message, "file")

    def _check(self) -> None:
        """Raise what has gone wrong meanwhile."""
        match self._failure:
            case None:
                pass
            case HttpError() as error:
                raise error
            case AsrError() as error:
                raise bad_request("bad_audio", str(error), "file") from error
            case error:
                raise error
        if self._damage is not None and not self._jobs:
            raise bad_request("bad_audio", str(self._damage), "file")

    # In the decoder's thread.

    def _take(self, block: np.ndarray, rate_hz: int) -> None:
        parts = block.T if self._codec.separate else block[None]
        while self._channels < len(parts):
            check_channels(len(parts))
            self._channels += 1
            self._room.release(_AHEAD)
        for _ in parts:
            self._room.acquire()
            if self._abandoned:
                raise OSError("the upload was given up")
        data = [part.astype("<f4", copy=False).tobytes() for part in parts]
        self._loop.call_soon_threadsafe(self._submit, data, rate_hz)

    # In the event loop.

    def _submit(self, data: Sequence[bytes], rate_hz: int) -> None:
        if self._abandoned or self._failure is not None:
            return
        try:
            while len(self._jobs) < len(data):
                settings = replace(
                    self._codec.settings, sample_rate_hz=float(rate_hz), encoding="f32le", channels=1, hot_words=()
                )
                channel = len(self._jobs) if len(data) > 1 else None
                self._jobs.append(self._scheduler.open(settings, functools.partial(self._deliver, channel)))
                self._expect(self._jobs[-1])
            for job, part in zip(self._jobs, data, strict=True):
                job.submit(Audio(part))
        except AsrError as error:
            self._fail(error)

    def _expect(self, job: Job) -> None:
        """Set the hot words, apart from the rest: what is wrong with them is no fault of the file."""
        if hot_words := self._codec.settings.hot_words:
            try:
                job.stream.set_hot_words(hot_words)
            except AsrError as error:
                raise _bad_keywords(error) from error

    def _decoded(self, failure: Exception | None) -> None:
        if self._abandoned:
            return
        if isinstance(failure, AsrError):
            self._damage = failure
        elif failure is not None:
            self._fail(failure)
        for job in self._jobs:
            job.submit(End())
        self._news.set()
        self._http.wake()

    def _deliver(self, channel: int | None, outcome: Outcome) -> None:
        if outcome.error is not None:
            self._fail(outcome.error)
            return
        self._position_s = outcome.position_s
        if outcome.position_s > self._options.max_duration_s:
            message = f"the file is longer than {self._options.max_duration_s:.0f} s: send parts of it"
            self._fail(bad_request("too_long", message, "file"))
            return
        self._events += outcome.events
        for event in outcome.events:
            if isinstance(event, Final):
                event = event if channel is None else replace(event, channel=channel)
                self._finals.append(event)
                if self._options.log_transcripts:
                    log_event("final", connection=self.number, text=event.text)
        if outcome.done:
            if isinstance(outcome.command, Audio):
                self._room.release()
            self._ended += isinstance(outcome.command, End)
        if outcome.events or self._is_over:
            self._news.set()

    def _fail(self, failure: Exception) -> None:
        self._failure = self._failure or failure
        self._news.set()
        self._pipe.dismiss()
        self._http.wake()

    def _abandon(self) -> None:
        """End the thread and the stream, wherever they are."""
        self._abandoned = True
        self._pipe.give_up()
        self._room.release()
        for job in self._jobs:
            job.close()
        self._jobs.clear()


def _bad_keywords(error: AsrError) -> HttpError:
    return bad_request("bad_field", f"keywords: {error}", "keywords")
