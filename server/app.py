"""The server itself: sockets, paths, limits, signals."""

from __future__ import annotations

import asyncio
import gc
import json
import signal
import ssl
import sys
import time
import weakref
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs, urlsplit

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.datastructures import Headers
from websockets.http11 import Request, Response

from asr.errors import AsrError, ConfigError
from asr.recognizer import Recognizer

from .access import may_ask, may_enter
from .codec import Codec, ProtocolError
from .connection import Connection
from .deepgram import DeepgramCodec
from .front import Front
from .http import HttpConnection
from .large import LargeMessages, explain_size
from .listener import ByteSocket, Listener, parse_address
from .logs import log_event
from .native import NativeCodec
from .openai_api import HttpError, models
from .options import ServerOptions
from .pages import HEADERS, load_pages
from .places import Places
from .realtime import RealtimeCodec
from .scheduler import Scheduler
from .telephone import CALLS, IncomingCall, Telephone, listened_to
from .transcribing import Transcribing
from .twilio import TwilioCodec
from .vosk import VoskCodec
from .wyoming import WyomingCodec

_TRY_LATER = 1013
_REALTIME = "realtime"
_BEAT_S = 0.05
_SWITCH_S = 0.001
_BEATS_FADE = 0.995  # a moment of lateness is half forgotten after seven seconds

REALTIME = "/v1/realtime"

# What each path speaks, made from the query of the address.
CODECS: dict[str, Callable[[dict[str, list[str]]], Codec]] = {
    "/": lambda _: VoskCodec(),
    "/vosk": lambda _: VoskCodec(),
    "/v1/stream": lambda _: NativeCodec(),
    "/v1/listen": DeepgramCodec,
    REALTIME: RealtimeCodec,
    CALLS: lambda _: TwilioCodec(),
}

_TRANSCRIPTIONS = "/v1/audio/transcriptions"
_TOKEN_NEEDED = "a token is needed: send Authorization: Bearer TOKEN"
_ELSEWHERE = "the call may be at another worker: run without --workers, or have its events posted (--call-url)"
_FOREIGN = "pages of this origin may not connect: see asr serve --origin"


class App:
    """Serves connections until it is told to stop."""

    def __init__(self, recognizer: Recognizer, options: ServerOptions) -> None:
        self._options = options
        self._scheduler = Scheduler(recognizer)
        self._places = Places(self._scheduler, options)
        self._telephone = Telephone(self._scheduler, options)
        self._large = LargeMessages(options)
        self._sockets: weakref.WeakSet[Front | HttpConnection] = weakref.WeakSet()
        self._since_s = int(time.time())
        self._stop = asyncio.Event()
        self._pages = load_pages()
        self._late_s = self._latest_s = 0.0  # of the event loop: lately, and ever
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
        port = next(iter(server.sockets)).getsockname()[1]
        started(port)
        log_event("listening", host=self._options.host, port=port)
        if self._wyoming is not None:
            log_event("listening", wyoming=self.wyoming)
        watching = asyncio.create_task(self._watch_loop())
        await self._stop.wait()
        watching.cancel()
        log_event("stopping", connections=len(self._places.guests))
        await self._drain(server)
        log_event("stopped", unfinished=len(self._places.guests))

    async def _listen(self) -> Server:
        options = self._options
        try:
            return await serve(
                self._handle,
                options.host,
                options.port,
                process_request=self._check,
                process_response=_choose,
                reuse_port=options.reuse_port or None,
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

    async def _watch_loop(self) -> None:
        """Measure how long the event loop is held up: then no connection is heard or answered."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + _BEAT_S
            await asyncio.sleep(_BEAT_S)
            self._late_s = max(loop.time() - due, self._late_s * _BEATS_FADE)
            self._latest_s = max(self._latest_s, self._late_s)

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
            return self._page(socket, request, path)
        if path not in CODECS and listened_to(path) is None:
            paths = ", ".join(CODECS)
            return socket.respond(HTTPStatus.NOT_FOUND, f"no protocol is served at {path}: there are {paths}\n")
        if path != CALLS and not self._is_known(request):
            return socket.respond(HTTPStatus.UNAUTHORIZED, f"{_TOKEN_NEEDED}\n")
        if path not in CODECS and self._options.reuse_port:
            return socket.respond(HTTPStatus.NOT_IMPLEMENTED, f"{_ELSEWHERE}\n")
        if not may_ask(self._options, request.headers.get_all("Origin"), request.headers.get_all("Host")):
            return socket.respond(HTTPStatus.FORBIDDEN, f"{_FOREIGN}\n")
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

    def _page(self, socket: ServerConnection, request: Request, path: str) -> Response:
        if path == "/healthz":
            return socket.respond(HTTPStatus.OK, "ok\n")
        if path == "/readyz":
            ready = not self._stop.is_set() and self._places.able
            status = HTTPStatus.OK if ready else HTTPStatus.SERVICE_UNAVAILABLE
            return socket.respond(status, "ready\n" if ready else "not ready\n")
        if path == "/metrics":
            return socket.respond(HTTPStatus.OK, self._metrics())
        if path in self._pages:
            page = self._pages[path]
            return _response(HTTPStatus.OK, page.content_type, page.body, HEADERS)
        if path == "/v1/models" or path.startswith("/v1/models/"):
            return self._models(request, path)
        if path == _TRANSCRIPTIONS:
            error = HttpError(HTTPStatus.METHOD_NOT_ALLOWED, "method_not_allowed", f"{path} takes POST alone")
            return _response(error.status, "application/json", error.body)
        return socket.respond(HTTPStatus.NOT_FOUND, "nothing is served here: see / and /healthz\n")

    def _models(self, request: Request, path: str) -> Response:
        try:
            self._admit(request.headers.get("Authorization", ""), request.path, [], [])
            body = json.dumps(models(path, self._since_s)).encode()
        except HttpError as error:
            return _response(error.status, "application/json", error.body)
        return _response(HTTPStatus.OK, "application/json", body)

    def _metrics(self) -> str:
        load = self._scheduler.load()
        values = {
            "asr_connections": ("gauge", len(self._places.guests)),
            "asr_streams": ("gauge", load.streams),
            "asr_connections_total": ("counter", self._places.seen),
            "asr_refused_total": ("counter", self._places.refused),
            "asr_engine_busy_ratio": ("gauge", round(load.busy, 4)),
            "asr_event_loop_late_seconds": ("gauge", round(self._late_s, 4)),
            "asr_event_loop_late_seconds_max": ("gauge", round(self._latest_s, 4)),
            "asr_engine_lag_seconds": ("gauge", round(load.lag_s, 4)),
        }
        return "".join(f"# TYPE {name} {kind}\n{name} {value}\n" for name, (kind, value) in values.items())

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
        if path != _TRANSCRIPTIONS:
            message = f"nothing takes {http.method} at {path}: POST {_TRANSCRIPTIONS} does"
            raise HttpError(HTTPStatus.NOT_FOUND, "not_found", message)
        if http.method != "POST":
            raise HttpError(HTTPStatus.METHOD_NOT_ALLOWED, "method_not_allowed", f"{path} takes POST alone")
        self._admit(http.header("authorization"), http.target, http.headers("origin"), http.headers("host"))
        if (full := self._full(http.address)) is not None:
            raise HttpError(HTTPStatus.SERVICE_UNAVAILABLE, "server_busy", f"{full}: try later")
        transcribing = Transcribing(http, self._scheduler, self._options)
        with self._places.taken(transcribing, http.address):
            await transcribing.run()

    def _admit(self, authorization: str, target: str, origins: list[str], hosts: list[str]) -> None:
        """Raise HttpError if the client may not ask."""
        if not may_enter(self._options, authorization, target):
            raise HttpError(HTTPStatus.UNAUTHORIZED, "invalid_api_key", _TOKEN_NEEDED)
        if not may_ask(self._options, origins, hosts):
            raise HttpError(HTTPStatus.FORBIDDEN, "forbidden", _FOREIGN)


def _response(status: HTTPStatus, content_type: str, body: bytes, more: Mapping[str, str] | None = None) -> Response:
    headers = {**(more or {}), "Content-Type": content_type, "Content-Length": str(len(body)), "Connection": "close"}
    return Response(status, status.phrase, Headers(headers), body)


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


def run_server(recognizer: Recognizer, options: ServerOptions, started: Callable[[int], None]) -> None:
    """Serve until SIGINT or SIGTERM."""
    if "torch" in sys.modules:  # some machines' products for many streams are torch's: one thread computes here
        sys.modules["torch"].set_num_threads(1)
    # The engine's thread computes; the event loop must not wait long for its turn.
    sys.setswitchinterval(_SWITCH_S)
    # What is loaded by now stays: a full collection would look through all of it, for a tenth of a second.
    gc.collect()
    gc.freeze()

    async def main() -> None:
        app = App(recognizer, options)
        loop = asyncio.get_running_loop()
        for name in (signal.SIGINT, signal.SIGTERM):
            try:
                loop.add_signal_handler(name, app.stop)
            except NotImplementedError:  # Windows
                signal.signal(name, lambda *_: loop.call_soon_threadsafe(app.stop))
        await app.run(started)

    try:
        asyncio.run(main())
    except OSError as error:
        raise AsrError(f"the server failed: {error}") from error
