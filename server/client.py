"""A client of our own protocol, blocking and asynchronous. Its events are the engine's own.

with Client("ws://127.0.0.1:2700", sample_rate=16_000) as client:
    client.send(pcm)
    client.end()
    for event in client:
        print(event.text)
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Literal
from urllib.parse import urlsplit, urlunsplit

from websockets.asyncio.client import ClientConnection as AsyncConnection
from websockets.asyncio.client import connect as connect_async
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, InvalidURI
from websockets.sync.client import ClientConnection, connect

from asr.audio.pcm import Encoding
from asr.errors import AsrError
from asr.events import Alternative, Event, Final, Partial, Word
from asr.search.hotwords import HotWord

_PIECE_BYTES = 1 << 18  # of audio in a message: a server takes 1 MiB at most
_PATH = "/v1/stream"


class ServerError(AsrError):
    """The server refused the connection, the settings or the audio, or it went away."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{message} ({code})")
        self.code = code


def make_config(
    sample_rate: float = 16_000,
    encoding: Encoding | Literal["opus"] | None = "s16le",
    channels: int = 1,
    hot_words: Sequence[HotWord | str] = (),
    endpointing: bool | dict[str, float] = True,
    alternatives: int = 0,
    partial_interval_ms: float = 0,
    written: bool = True,
    replacements: Mapping[str, str] | None = None,
) -> str:
    """The first message to the server; docs/protocol.md says what each setting does.

    Args:
        encoding: None for a file, which says how it is coded, and its rate and channels.
    """
    sound = {} if encoding is None else {"sample_rate": sample_rate, "encoding": encoding, "channels": channels}
    return json.dumps(
        {
            "type": "config",
            **sound,
            "hot_words": _phrases(hot_words),
            "endpointing": endpointing,
            "alternatives": alternatives,
            "partial_interval_ms": partial_interval_ms,
            "written": written,
            "replacements": dict(replacements or {}),
        }
    )


def parse(message: str | bytes) -> Event | None:
    """The event of a server's message, or None if it brings none. Raises ServerError for an error."""
    values: dict[str, Any] = json.loads(message)
    kind = values["type"]
    if kind == "error":
        raise ServerError(values["code"], values["message"])
    if kind == "partial":
        return Partial(values["text"], _words(values["words"]), values["stable"])
    if kind == "final":
        others = tuple(
            Alternative(other["text"], _words(other["words"]), other["score"])
            for other in values.get("alternatives", ())
        )
        return Final(values["text"], _words(values["words"]), values["reason"], alternatives=others)
    return None


class Client:
    """A blocking client. Sending and iterating may be done by two threads.

    Args:
        address: of the server, e.g. ``ws://127.0.0.1:2700``.
        token: if the server asks for one.
        settings: as `make_config` takes them.
    """

    def __init__(self, address: str, token: str | None = None, **settings: Any) -> None:
        self._stack = ExitStack()
        try:
            self._socket: ClientConnection = self._stack.enter_context(
                connect(_at(address), additional_headers=_headers(token), compression=None, max_size=None)
            )
        except (OSError, InvalidHandshake, InvalidURI) as error:
            raise _refused(address, error) from error
        self._socket.send(make_config(**settings))

    def send(self, pcm: bytes) -> None:
        """Send a chunk of audio of any length, or where packets are one of them."""
        for begin in range(0, len(pcm), _PIECE_BYTES):
            self._say(pcm[begin : begin + _PIECE_BYTES])

    def set_hot_words(self, hot_words: Sequence[HotWord | str]) -> None:
        """Expect these phrases from the next utterance on."""
        self._say(json.dumps({"type": "hot_words", "hot_words": _phrases(hot_words)}))

    def flush(self) -> None:
        """End the utterance here."""
        self._say('{"type": "flush"}')

    def end(self) -> None:
        """The audio is over: the last events follow, and then iteration ends."""
        self._say('{"type": "end"}')

    def __iter__(self) -> Iterator[Event]:
        try:
            for message in self._socket:
                event = parse(message)
                if event is not None:
                    yield event
        except ConnectionClosed as error:
            raise _closed(error) from error

    def close(self) -> None:
        self._stack.close()

    def _say(self, message: str | bytes) -> None:
        try:
            self._socket.send(message)
        except ConnectionClosed as error:
            raise _closed(error) from error

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class AsyncClient:
    """The same for asyncio: ``async with AsyncClient(…) as client``, ``await client.send(…)``, ``async for``."""

    def __init__(self, address: str, token: str | None = None, **settings: Any) -> None:
        self._address, self._token, self._settings = address, token, settings
        self._socket: AsyncConnection | None = None

    async def __aenter__(self) -> AsyncClient:
        try:
            self._socket = await connect_async(
                _at(self._address), additional_headers=_headers(self._token), compression=None, max_size=None
            )
        except (OSError, InvalidHandshake, InvalidURI) as error:
            raise _refused(self._address, error) from error
        await self._say(make_config(**self._settings))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._socket is not None:
            await self._socket.close()

    async def send(self, pcm: bytes) -> None:
        """See `Client.send`."""
        for begin in range(0, len(pcm), _PIECE_BYTES):
            await self._say(pcm[begin : begin + _PIECE_BYTES])

    async def set_hot_words(self, hot_words: Sequence[HotWord | str]) -> None:
        """See `Client.set_hot_words`."""
        await self._say(json.dumps({"type": "hot_words", "hot_words": _phrases(hot_words)}))

    async def flush(self) -> None:
        """See `Client.flush`."""
        await self._say('{"type": "flush"}')

    async def end(self) -> None:
        """See `Client.end`."""
        await self._say('{"type": "end"}')

    async def __aiter__(self) -> AsyncIterator[Event]:
        try:
            async for message in self._open:
                event = parse(message)
                if event is not None:
                    yield event
        except ConnectionClosed as error:
            raise _closed(error) from error

    @property
    def _open(self) -> AsyncConnection:
        if self._socket is None:
            raise ServerError("not_open", "open the client with `async with` first")
        return self._socket

    async def _say(self, message: str | bytes) -> None:
        try:
            await self._open.send(message)
        except ConnectionClosed as error:
            raise _closed(error) from error


def _at(address: str) -> str:
    parts = urlsplit(address)
    return urlunsplit(parts._replace(path=_PATH)) if parts.path in ("", "/") else address


def _headers(token: str | None) -> dict[str, str]:
    return {} if token is None else {"Authorization": f"Bearer {token}"}


def _phrases(hot_words: Sequence[HotWord | str]) -> list[dict[str, Any]]:
    chosen = (HotWord(hot) if isinstance(hot, str) else hot for hot in hot_words)
    return [{"phrase": hot.phrase, "boost": hot.boost} for hot in chosen]


def _words(values: list[dict[str, Any]]) -> tuple[Word, ...]:
    return tuple(Word(v["text"], v["start"], v["end"], v["confidence"], _words(v.get("heard", []))) for v in values)


def _refused(address: str, error: OSError | InvalidHandshake | InvalidURI) -> ServerError:
    if isinstance(error, InvalidStatus):
        body = error.response.body
        reason = bytes(body).decode(errors="replace").strip() if body else f"HTTP {error.response.status_code}"
        return ServerError(f"http_{error.response.status_code}", reason)
    if isinstance(error, InvalidURI):
        return ServerError("bad_address", f"{address} is no address of a server: write ws://HOST:PORT or wss://…")
    reason = (isinstance(error, OSError) and error.strerror) or str(error) or "no answer in time"
    return ServerError("unreachable", f"cannot connect to {address}: {reason}")


def _closed(error: ConnectionClosed) -> ServerError:
    frame = error.rcvd
    return ServerError("closed", (frame.reason if frame else "") or "the server closed the connection")
