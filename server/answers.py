"""What is answered to those who want no WebSocket and send no file: health, metrics, the page, the list of models."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from http import HTTPStatus
from urllib.parse import urlsplit

from websockets.datastructures import Headers
from websockets.http11 import Request, Response

from .access import FOREIGN, TOKEN_NEEDED, may_ask, may_enter
from .deepgram import LISTEN
from .heartbeat import Heartbeat
from .openai_api import MODELS, TRANSCRIPTIONS, HttpError, models
from .options import ServerOptions
from .pages import HEADERS, load_pages
from .places import Places
from .scheduler import Scheduler

_TEXT = "text/plain; charset=utf-8"
_JSON = "application/json"
_READ = ("GET", "HEAD")
_FOR_MACHINES = {"/healthz", "/readyz", "/metrics"}


class Answers:
    """One server's. All of it is in memory, so that an answer waits for nothing."""

    def __init__(
        self,
        options: ServerOptions,
        scheduler: Scheduler,
        places: Places,
        heartbeat: Heartbeat,
        is_spoken: Callable[[str], bool],
    ) -> None:
        """``is_spoken``: whether WebSockets are spoken at a path."""
        self._options = options
        self._is_spoken = is_spoken
        self._scheduler = scheduler
        self._places = places
        self._heartbeat = heartbeat
        self._since_s = int(time.time())
        self._pages = load_pages()

    def get(self, request: Request, ready: bool) -> Response:
        """The answer.

        Args:
            request: any that is not for an upgrade.
            ready: whether another stream would be served.
        """
        path = urlsplit(request.path).path
        if path == "/healthz":
            return _text(HTTPStatus.OK, "ok\n")
        if path == "/readyz":
            return _text(HTTPStatus.OK, "ready\n") if ready else _text(HTTPStatus.SERVICE_UNAVAILABLE, "not ready\n")
        if path == "/metrics":
            return _text(HTTPStatus.OK, self._metrics())
        if path in self._pages:
            page = self._pages[path]
            return _response(HTTPStatus.OK, page.content_type, page.body, HEADERS)
        if path == MODELS or path.startswith(f"{MODELS}/"):
            return self._models(request, path)
        if path == TRANSCRIPTIONS:
            return _not_allowed(("POST",), f"{path} takes POST alone")
        if self._is_spoken(path):
            hint = "connect with ws:// or wss://, and let proxies pass the header Upgrade on"
            wanted = {"Upgrade": "websocket", "Connection": "Upgrade, close"}
            return _text(HTTPStatus.UPGRADE_REQUIRED, f"this path speaks WebSockets: {hint}\n", wanted)
        return _text(HTTPStatus.NOT_FOUND, "nothing is served here: see / and /healthz\n")

    def other(self, method: str, request: Request, ready: bool) -> Response:
        """The answer to a method other than GET. The body of one to HEAD is that of GET, and must not be sent."""
        path = urlsplit(request.path).path
        if method == "HEAD":
            return self.get(request, ready)
        taken = self._methods(path)
        if not taken:
            message = f"nothing takes {method} at {path}: POST {TRANSCRIPTIONS} does"
            return _failed(HttpError(HTTPStatus.NOT_FOUND, "not_found", message))
        if method == "OPTIONS":
            return _text(HTTPStatus.OK, "", {"Allow": ", ".join((*taken, "OPTIONS"))})
        if self._is_spoken(path) and path not in self._pages and path != LISTEN:
            hint = f"this path speaks WebSockets: to transcribe a whole file, POST it to {TRANSCRIPTIONS}"
        else:
            hint = f"{path} takes {' and '.join(taken)} alone"
        return _not_allowed(taken, hint)

    def _methods(self, path: str) -> tuple[str, ...]:
        """Those that a path takes, besides OPTIONS; none if nothing is served there."""
        if path == TRANSCRIPTIONS:
            return ("POST",)
        if path == LISTEN:
            return (*_READ, "POST")
        is_model = path == MODELS or path.startswith(f"{MODELS}/")
        return _READ if path in _FOR_MACHINES or path in self._pages or is_model or self._is_spoken(path) else ()

    def _models(self, request: Request, path: str) -> Response:
        try:
            admit(self._options, request.headers.get("Authorization", ""), request.path, [], [])
            return _response(HTTPStatus.OK, _JSON, json.dumps(models(path, self._since_s)).encode())
        except HttpError as error:
            return _failed(error)

    def _metrics(self) -> str:
        load = self._scheduler.load()
        values = {
            "asr_connections": ("gauge", len(self._places.guests)),
            "asr_streams": ("gauge", load.streams),
            "asr_connections_total": ("counter", self._places.seen),
            "asr_refused_total": ("counter", self._places.refused),
            "asr_engine_busy_ratio": ("gauge", round(load.busy, 4)),
            "asr_event_loop_late_seconds": ("gauge", round(self._heartbeat.late_s, 4)),
            "asr_event_loop_late_seconds_max": ("gauge", round(self._heartbeat.latest_s, 4)),
            "asr_engine_lag_seconds": ("gauge", round(load.lag_s, 4)),
        }
        return "".join(f"# TYPE {name} {kind}\n{name} {value}\n" for name, (kind, value) in values.items())


def admit(options: ServerOptions, authorization: str, target: str, origins: list[str], hosts: list[str]) -> None:
    """Raise HttpError if the client may not ask."""
    if not may_enter(options, authorization, target):
        raise HttpError(HTTPStatus.UNAUTHORIZED, "invalid_api_key", TOKEN_NEEDED)
    if not may_ask(options, origins, hosts):
        raise HttpError(HTTPStatus.FORBIDDEN, "forbidden", FOREIGN)


def _text(status: HTTPStatus, text: str, more: Mapping[str, str] | None = None) -> Response:
    return _response(status, _TEXT, text.encode(), more)


def _failed(error: HttpError, more: Mapping[str, str] | None = None) -> Response:
    return _response(error.status, _JSON, error.body, more)


def _not_allowed(taken: tuple[str, ...], message: str) -> Response:
    error = HttpError(HTTPStatus.METHOD_NOT_ALLOWED, "method_not_allowed", message)
    return _failed(error, {"Allow": ", ".join((*taken, "OPTIONS"))})


def _response(status: HTTPStatus, content_type: str, body: bytes, more: Mapping[str, str] | None = None) -> Response:
    headers = {"Content-Type": content_type, "Content-Length": str(len(body)), "Connection": "close", **(more or {})}
    return Response(status, status.phrase, Headers(headers), body)
