"""The server itself: sockets, paths, limits, signals."""

from __future__ import annotations

import asyncio
import gc
import hmac
import signal
import ssl
import sys
from collections import Counter
from collections.abc import Callable
from http import HTTPStatus
from urllib.parse import parse_qs, urlsplit

import torch
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.datastructures import Headers
from websockets.http11 import Request, Response

from asr.errors import AsrError, ConfigError
from asr.recognizer import Recognizer

from .codec import Codec, ProtocolError
from .connection import Connection
from .deepgram import DeepgramCodec
from .logs import log_event
from .native import NativeCodec
from .options import ServerOptions
from .pages import HEADERS, load_pages
from .scheduler import Scheduler
from .vosk import VoskCodec

_BEAT_S = 0.05
_SWITCH_S = 0.001
_BEATS_FADE = 0.995  # a moment of lateness is half forgotten after seven seconds

# What each path speaks, made from the query of the address.
CODECS: dict[str, Callable[[dict[str, list[str]]], Codec]] = {
    "/": lambda _: VoskCodec(),
    "/vosk": lambda _: VoskCodec(),
    "/v1/stream": lambda _: NativeCodec(),
    "/v1/listen": DeepgramCodec,
}


class App:
    """Serves connections until it is told to stop."""

    def __init__(self, recognizer: Recognizer, options: ServerOptions) -> None:
        self._options = options
        self._scheduler = Scheduler(recognizer)
        self._connections: dict[Connection, str] = {}
        self._addresses: Counter[str] = Counter()
        self._seen = self._refused = 0
        self._stop = asyncio.Event()
        self._pages = load_pages()
        self._late_s = self._latest_s = 0.0  # of the event loop: lately, and ever

    def stop(self) -> None:
        """Finish open streams and end `run`."""
        self._stop.set()

    async def run(self, started: Callable[[int], None]) -> None:
        """Listen until `stop`. ``started`` is told the port once connections are taken."""
        options = self._options
        try:
            server = await serve(
                self._handle,
                options.host,
                options.port,
                process_request=self._check,
                reuse_port=options.reuse_port or None,
                ssl=_tls(options),
                compression=None,  # speech does not compress, and a bomb would
                max_size=options.max_message_bytes,
                max_queue=4,
                open_timeout=options.handshake_s,
                server_header=None,
            )
        except OSError as error:
            self._scheduler.stop()
            raise ConfigError(f"cannot listen on {options.host}:{options.port}: {error.strerror or error}") from error
        port = next(iter(server.sockets)).getsockname()[1]
        started(port)
        log_event("listening", host=options.host, port=port)
        watching = asyncio.create_task(self._watch_loop())
        await self._stop.wait()
        watching.cancel()
        log_event("stopping", connections=len(self._connections))
        await self._drain(server)
        log_event("stopped", unfinished=len(self._connections))

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
        await asyncio.gather(*(connection.drain() for connection in self._connections))
        end = asyncio.get_running_loop().time() + self._options.drain_s
        while self._connections and asyncio.get_running_loop().time() < end:
            await asyncio.sleep(0.02)
        server.close()
        await server.wait_closed()
        self._scheduler.stop()

    def _check(self, socket: ServerConnection, request: Request) -> Response | None:
        """Answer plain HTTP, and refuse what must not become a connection."""
        path = urlsplit(request.path).path
        if request.headers.get("Upgrade", "").lower() != "websocket":
            return self._page(socket, path)
        if path not in CODECS:
            paths = ", ".join(CODECS)
            return socket.respond(HTTPStatus.NOT_FOUND, f"no protocol is served at {path}: there are {paths}\n")
        if not self._allowed(request):
            return socket.respond(HTTPStatus.UNAUTHORIZED, "a token is needed: send Authorization: Bearer TOKEN\n")
        if not self._welcome(request):
            return socket.respond(
                HTTPStatus.FORBIDDEN, "pages of this origin may not connect: see asr serve --origin\n"
            )
        address, load, o = _address(socket), self._scheduler.load(), self._options
        full = None
        if len(self._connections) >= o.max_connections or self._addresses[address] >= o.max_per_address:
            full = "too many connections"
        elif load.lag_s > o.max_lag_s:
            full = "this machine is fully used"
        try:
            _codec(request)
        except ProtocolError as error:
            return socket.respond(HTTPStatus.BAD_REQUEST, f"{error}\n")
        if full is not None or self._stop.is_set():
            self._refused += 1
            log_event("refused", address=address, reason=full or "stopping")
            return socket.respond(HTTPStatus.SERVICE_UNAVAILABLE, f"{full or 'the server is stopping'}: try later\n")
        return None

    def _allowed(self, request: Request) -> bool:
        if self._options.token is None:
            return True
        presented = request.headers.get("Authorization", "").partition(" ")[2]
        if not presented:  # browsers cannot set headers
            presented = parse_qs(urlsplit(request.path).query).get("token", [""])[0]
        return hmac.compare_digest(presented.encode(), self._options.token.encode())

    def _welcome(self, request: Request) -> bool:
        """Whether a browser's page, if it is one that asks, is of an origin that may: our own page always may."""
        if not self._options.origins:
            return True
        hosts = request.headers.get_all("Host")
        origins = request.headers.get_all("Origin")
        return all(o in self._options.origins or o.partition("://")[2] in hosts for o in origins)

    def _page(self, socket: ServerConnection, path: str) -> Response:
        if path == "/healthz":
            return socket.respond(HTTPStatus.OK, "ok\n")
        if path == "/readyz":
            load = self._scheduler.load()
            ready = not self._stop.is_set() and load.lag_s <= self._options.max_lag_s
            status = HTTPStatus.OK if ready else HTTPStatus.SERVICE_UNAVAILABLE
            return socket.respond(status, "ready\n" if ready else "not ready\n")
        if path == "/metrics":
            return socket.respond(HTTPStatus.OK, self._metrics())
        if path in self._pages:
            page = self._pages[path]
            headers = {**HEADERS, "Content-Type": page.content_type, "Content-Length": str(len(page.body))}
            return Response(200, "OK", Headers({**headers, "Connection": "close"}), page.body)
        return socket.respond(HTTPStatus.NOT_FOUND, "nothing is served here: see / and /healthz\n")

    def _metrics(self) -> str:
        load = self._scheduler.load()
        values = {
            "asr_connections": ("gauge", len(self._connections)),
            "asr_streams": ("gauge", load.streams),
            "asr_connections_total": ("counter", self._seen),
            "asr_refused_total": ("counter", self._refused),
            "asr_engine_busy_ratio": ("gauge", round(load.busy, 4)),
            "asr_event_loop_late_seconds": ("gauge", round(self._late_s, 4)),
            "asr_event_loop_late_seconds_max": ("gauge", round(self._latest_s, 4)),
            "asr_engine_lag_seconds": ("gauge", round(load.lag_s, 4)),
        }
        return "".join(f"# TYPE {name} {kind}\n{name} {value}\n" for name, (kind, value) in values.items())

    async def _handle(self, socket: ServerConnection) -> None:
        assert socket.request is not None
        codec = _codec(socket.request)
        connection, address = Connection(socket, codec, self._scheduler, self._options), _address(socket)
        self._connections[connection] = address
        self._addresses[address] += 1
        self._seen += 1
        log_event("opened", connection=connection.number, address=address, path=urlsplit(socket.request.path).path)
        try:
            await connection.run()
        finally:
            del self._connections[connection]
            self._addresses[address] -= 1
            if not self._addresses[address]:
                del self._addresses[address]


def _codec(request: Request) -> Codec:
    address = urlsplit(request.path)
    return CODECS[address.path](parse_qs(address.query))


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
    torch.set_num_threads(1)
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
