"""The server itself: sockets, paths, limits, signals."""

from __future__ import annotations

import asyncio
import ssl
import weakref
from collections.abc import Callable
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs, urlsplit

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.datastructures import Headers
from websockets.http11 import Request, Response

from asr.errors import ConfigError
from asr.recognizer import Recognizer

from .access import FOREIGN, TOKEN_NEEDED, may_ask, may_enter
from .answers import Answers, admit
from .codec import Codec, ProtocolError
from .connection import Connection
from .deepgram import LISTEN, DeepgramCodec
from .deepgram_file import DeepgramFileCodec, as_deepgram
from .entrance import Entrance
from .front import Front
from .heartbeat import Heartbeat
from .http import HttpConnection
from .large import LargeMessages, explain_size
from .listener import ByteSocket, Listener, parse_address
from .logs import log_event
from .native import NativeCodec
from .openai_api import TRANSCRIPTIONS, HttpError
from .options import ServerOptions
from .places import Places
from .realtime import RealtimeCodec
from .scheduler import Scheduler
from .telephone import CALLS, IncomingCall, Telephone, listened_to
from .transcribing import FileCodec, Transcribing
from .transcription import TranscriptionCodec
from .twilio import TwilioCodec
from .vosk import VoskCodec
from .wyoming import WyomingCodec

_TRY_LATER = 1013
_REALTIME = "realtime"

REALTIME = "/v1/realtime"

# What each path speaks, made from the query of the address.
CODECS: dict[str, Callable[[dict[str, list[str]]], Codec]] = {
    "/": lambda _: VoskCodec(),
    "/vosk": lambda _: VoskCodec(),
    "/v1/stream": lambda _: NativeCodec(),
    LISTEN: DeepgramCodec,
    REALTIME: RealtimeCodec,
    CALLS: lambda _: TwilioCodec(),
}

# What takes a file that is posted to a path, made from the request.
FILE_CODECS: dict[str, Callable[[HttpConnection], FileCodec]] = {
    TRANSCRIPTIONS: lambda http: TranscriptionCodec(http.header("content-type")),
    LISTEN: lambda http: DeepgramFileCodec(http.header("content-type"), parse_qs(urlsplit(http.target).query)),
}

_ELSEWHERE = "the call may be at another worker: run without --workers, or have its events posted (--call-url)"


class App:
    """Serves connections until it is told to stop."""

    def __init__(self, recognizer: Recognizer, options: ServerOptions, entrance: Entrance | None = None) -> None:
        """``entrance``: where connections come from, if this is one of several processes; else it listens itself."""
        self._options, self._entrance = options, entrance
        self._scheduler = Scheduler(recognizer, options.beam)
        self._places = Places(self._scheduler, options, entrance)
        self._telephone = Telephone(self._scheduler, options)
        self._large = LargeMessages(options)
        self._sockets: weakref.WeakSet[Front | HttpConnection] = weakref.WeakSet()
        self._stop = asyncio.Event()
        self._heartbeat = Heartbeat()
        self._answers = Answers(options, self._scheduler, self._places, self._heartbeat, _is_spoken)
        self._wyoming: Listener | None = None
        if options.wyoming is not None:
            self._wyoming = Listener(parse_address(options.wyoming), self._handle_wyoming, options.reuse_port)

    @property
    def wyoming(self) -> str | None:
        """Where Wyoming is spoken, with the port that was chosen; None if it is not."""
        return None if self._wyoming is None else str(self._wyoming.address)

    def stop(self) -> None:
        """Finish open streams and end `run`."""
        self._stop.set()

    async def run(self, started: Callable[[int], None]) -> None:
        """Listen until `stop`. ``started`` is told the port once connections are taken."""
        try:
            if self._wyoming is not None:
                await self._wyoming.start()
            server = await self._listen()
        except ConfigError:
            if self._wyoming is not None:
                self._wyoming.close()
            self._scheduler.stop()
            raise
        port = next(iter(server.sockets)).getsockname()[1] if self._entrance is None else self._options.port
        self._places.tell()
        started(port)
        log_event("listening", host=self._options.host, port=port)
        if self._wyoming is not None:
            log_event("listening", wyoming=self.wyoming)
        beating = asyncio.create_task(self._heartbeat.run())
        await self._stop.wait()
        beating.cancel()
        log_event("stopping", connections=len(self._places.guests))
        await self._drain(server)
        log_event("stopped", unfinished=len(self._places.guests))

    async def _listen(self) -> Server:
        options = self._options
        where: dict[str, Any] = {"host": options.host, "port": options.port}
        if self._entrance is not None:
            where = {"sock": self._entrance.listening()}
        try:
            return await serve(
                self._handle,
                **where,
                process_request=self._check,
                process_response=_choose,
                ssl=_tls(options),
                compression=None,  # speech does not compress, and a bomb would
                max_size=options.max_message_bytes,
                max_queue=4,
                open_timeout=options.handshake_s,
                server_header=None,
                create_connection=self._front,  # type: ignore[arg-type]  # it may be a wrapper
            )
        except OSError as error:
            raise ConfigError(f"cannot listen on {options.host}:{options.port}: {error.strerror or error}") from error

    async def _drain(self, server: Server) -> None:
        server.close(close_connections=False)
        if self._wyoming is not None:
            self._wyoming.close()
        await asyncio.gather(*(guest.drain() for guest in self._places.guests))
        end = asyncio.get_running_loop().time() + self._options.drain_s
        while self._places.guests and asyncio.get_running_loop().time() < end:
            await asyncio.sleep(0.02)
        await self._telephone.drain(self._options.drain_s)
        for socket in list(self._sockets):
            socket.abort()
        if self._wyoming is not None:
            self._wyoming.abort()
        server.close()
        await server.wait_closed()
        self._scheduler.stop()

    def _check(self, socket: ServerConnection, request: Request) -> Response | None:
        """Answer plain HTTP, and refuse what must not become a connection."""
        path = urlsplit(request.path).path
        if request.headers.get("Upgrade", "").lower() != "websocket":
            return self._answers.get(request, self._is_ready)
        if not _is_spoken(path):
            paths = ", ".join(CODECS)
            return socket.respond(HTTPStatus.NOT_FOUND, f"no protocol is served at {path}: there are {paths}\n")
        if path != CALLS and not self._is_known(request):
            return socket.respond(HTTPStatus.UNAUTHORIZED, f"{TOKEN_NEEDED}\n")
        if path not in CODECS and self._options.reuse_port:
            return socket.respond(HTTPStatus.NOT_IMPLEMENTED, f"{_ELSEWHERE}\n")
        if not may_ask(self._options, request.headers.get_all("Origin"), request.headers.get_all("Host")):
            return socket.respond(HTTPStatus.FORBIDDEN, f"{FOREIGN}\n")
        try:
            if path in CODECS:
                _codec(request)
        except ProtocolError as error:
            return socket.respond(HTTPStatus.BAD_REQUEST, f"{error}\n")
        if (full := self._full(_address(socket))) is not None:
            return socket.respond(HTTPStatus.SERVICE_UNAVAILABLE, f"{full}: try later\n")
        if path == REALTIME:
            self._large.allow(socket)
        return None

    @property
    def _is_ready(self) -> bool:
        """Whether another stream would be served."""
        return not self._stop.is_set() and self._places.able

    def _is_known(self, request: Request) -> bool:
        """Whether the request brings the token, if one is asked for."""
        return may_enter(self._options, request.headers.get("Authorization", ""), request.path, _offered(request))

    def _full(self, address: str) -> str | None:
        """Why nobody more of this address is let in, which is then in the log; None if they are."""
        full = "the server is stopping" if self._stop.is_set() else self._places.full(address)
        if full is not None:
            self._places.refused += 1
            log_event("refused", address=address, reason=full)
        return full

    async def _handle(self, socket: ServerConnection) -> None:
        assert socket.request is not None
        path, address = urlsplit(socket.request.path).path, _address(socket)
        if (call := listened_to(path)) is not None:
            listener = self._telephone.listener(call, socket)
            with self._places.taken(listener, address):
                await listener.run()
            return
        connection: Connection | IncomingCall
        if path == CALLS:
            connection = self._telephone.call(socket, self._is_known(socket.request))
        else:
            codec = _codec(socket.request)
            explain_size(socket, codec)
            connection = Connection(socket, codec, self._scheduler, self._options)
        log_event("opened", connection=connection.number, address=address, path=path)
        with self._places.taken(connection, address):
            await connection.run()

    async def _handle_wyoming(self, socket: ByteSocket) -> None:
        codec, address = WyomingCodec(self._options.max_message_bytes), socket.address
        if (full := self._full(address)) is not None:
            await socket.refuse(codec.failed("server_busy", f"{full}: try later"), _TRY_LATER, full)
            return
        connection = Connection(socket, codec, self._scheduler, self._options)
        log_event("opened", connection=connection.number, address=address, path="wyoming")
        with self._places.taken(connection, address):
            await connection.run()

    def _front(self, *arguments: Any, **settings: Any) -> Front:
        front = Front(ServerConnection(*arguments, **settings), self._http, self._options.handshake_s)
        self._sockets.add(front)
        return front

    def _http(self) -> HttpConnection:
        connection = HttpConnection(self._serve_http, self._options.handshake_s, self._options.idle_s)
        self._sockets.add(connection)
        return connection

    async def _serve_http(self, http: HttpConnection) -> None:
        """Answer a request that websockets does not know. Raises HttpError."""
        path = urlsplit(http.target).path
        if http.method != "POST" or path not in FILE_CODECS:
            request = Request(http.target, Headers({"Authorization": http.header("authorization")}))
            http.answer(self._answers.other(http.method, request, self._is_ready))
            return
        try:
            await self._take_file(http, FILE_CODECS[path])
        except HttpError as error:
            if path != LISTEN:
                raise
            raise as_deepgram(error) from error

    async def _take_file(self, http: HttpConnection, make_codec: Callable[[HttpConnection], FileCodec]) -> None:
        admit(self._options, http.header("authorization"), http.target, http.headers("origin"), http.headers("host"))
        if (full := self._full(http.address)) is not None:
            raise HttpError(HTTPStatus.SERVICE_UNAVAILABLE, "server_busy", f"{full}: try later")
        transcribing = Transcribing(http, make_codec(http), self._scheduler, self._options)
        with self._places.taken(transcribing, http.address):
            await transcribing.run()


def _is_spoken(path: str) -> bool:
    """Whether WebSockets are spoken at a path."""
    return path in CODECS or listened_to(path) is not None


def _codec(request: Request) -> Codec:
    address = urlsplit(request.path)
    return CODECS[address.path](parse_qs(address.query))


def _offered(request: Request) -> list[str]:
    """Subprotocols that a client offers."""
    return [name.strip() for line in request.headers.get_all("Sec-WebSocket-Protocol") for name in line.split(",")]


def _choose(_: ServerConnection, request: Request, response: Response) -> None:
    """Browsers want one of the subprotocols that they offer, and OpenAI's package for them offers this one."""
    if response.status_code == HTTPStatus.SWITCHING_PROTOCOLS and _REALTIME in _offered(request):
        response.headers["Sec-WebSocket-Protocol"] = _REALTIME


def _address(socket: ServerConnection) -> str:
    return str(socket.remote_address[0]) if socket.remote_address else ""


def _tls(options: ServerOptions) -> ssl.SSLContext | None:
    if options.cert is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(options.cert, options.key)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"cannot use {options.cert} and {options.key}: {error}") from error
    return context
