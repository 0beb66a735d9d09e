"""The Wyoming protocol (https://github.com/OHF-Voice/wyoming), by which Home Assistant has speech transcribed.

    client                                             server
    describe                                           info
    transcribe, if it wants; audio-start; audio-chunk  transcript-start, then transcript-chunk as text becomes stable
    audio-stop                                         transcript-start if there was no text yet, transcript and
                                                       transcript-stop; then the connection is closed
    ping                                               pong

An event is a line of JSON, then as many bytes of further JSON and of audio as it announces. Events of any other type
are dropped, as the protocol has it; requests to other services than this one are answered with an error.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from asr.events import Final
from asr.search.hotwords import HotWord
from asr.version import __version__

from .codec import Audio, Command, End, Outcome, ProtocolError, Reply, Say, Settings, parse_object
from .deltas import Deltas
from .openai_api import MODEL

_MOST_JSON_BYTES = 1 << 16  # of an event's line, and of the JSON after it
_LANGUAGE = "en"
_BYTES_PER_SAMPLE = 2
_ELSEWHERE = ("synthesize", "synthesize-start", "detect", "recognize", "run-pipeline", "run-satellite")
_SAYABLE = re.compile(r"[A-Za-z' ]*[A-Za-z][A-Za-z' ]*")
_MADE_BY = {"name": "asr", "url": ""}
_THIS = {"name": MODEL, "attribution": _MADE_BY, "installed": True, "version": __version__}
_INFO = {
    **_THIS,
    "description": "streaming speech-to-text",
    "models": [{**_THIS, "description": "the one model of this server", "languages": [_LANGUAGE]}],
    "supports_transcript_streaming": True,
    "requires_external_vad": True,
}


@dataclass(frozen=True)
class _Format:
    """Of audio, as every event that has to do with audio says it."""

    rate: int
    width: int
    channels: int


@dataclass(frozen=True)
class _Header:
    """An event's first line."""

    kind: str
    data: dict[str, Any]
    data_length: int  # bytes of further JSON
    payload_length: int  # and of audio


class WyomingCodec:
    """See `asr.server.codec.Codec`; its messages are bytes as they come, cut anywhere.

    Args:
        most_bytes: of audio in an event.
    """

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._arrived = bytearray()
        self._header: _Header | None = None  # of an event that is not all there yet
        self._format: _Format | None = None
        self._hot_words: tuple[HotWord, ...] = ()
        self._ended = False
        self._deltas = Deltas()
        self._finals: list[Final] = []
        self._started = False  # whether transcript-start was sent

    @property
    def settings(self) -> Settings:
        if self._format is None:
            return Settings(hot_words=self._hot_words, written=True)
        return Settings(
            float(self._format.rate), channels=self._format.channels, hot_words=self._hot_words, written=True
        )

    def opened(self) -> list[Reply]:
        return []

    def receive(self, message: str | bytes) -> Iterator[Command | Say]:
        self._arrived += message.encode() if isinstance(message, str) else message
        # One by one, so that what was right is heeded however it came together with what is wrong.
        while not self._ended and self._whole():
            yield from self._take()

    def _whole(self) -> bool:
        """Whether an event is all there."""
        if self._header is None:
            length = self._arrived.find(b"\n")
            if (length if length >= 0 else len(self._arrived)) > _MOST_JSON_BYTES:
                raise ProtocolError("too_large", f"an event's line may have {_MOST_JSON_BYTES} bytes: is this Wyoming?")
            if length < 0:
                return False
            self._header = _parse_header(self._cut(length + 1), self._most_bytes)
        return len(self._arrived) >= self._header.data_length + self._header.payload_length

    def _take(self) -> Iterator[Command | Say]:
        """What the event that is all there asks for."""
        assert self._header is not None
        header, self._header = self._header, None
        data = header.data
        if header.data_length:
            data = {**data, **parse_object(self._cut(header.data_length), "an event's data")}
        payload = self._cut(header.payload_length)
        match header.kind:
            case "describe":
                yield Say((_event("info", asr=[_INFO]),))
            case "ping":
                yield Say((_event("pong", text=data.get("text")),))
            case "transcribe":
                self._transcribe(data)
            case "audio-start":
                if self._format is not None:
                    raise ProtocolError("bad_event", "audio-start came twice: open a connection for each transcript")
                self._format = _format(data)
            case "audio-chunk":
                yield from self._audio(_format(data), payload)
            case "audio-stop":
                if self._format is None:
                    raise ProtocolError("bad_event", "there was no audio: send audio-start and audio-chunk first")
                self._ended = True
                yield End()
            case kind if kind in _ELSEWHERE:
                yield Say((_error("not_served", f"nothing here takes {kind}: this server transcribes"),))

    def _cut(self, length: int) -> bytes:
        """The first of the bytes that have arrived."""
        data = bytes(self._arrived[:length])
        del self._arrived[:length]
        return data

    def _transcribe(self, data: dict[str, Any]) -> None:
        if self._format is not None:
            raise ProtocolError("bad_event", "transcribe must come before the audio")
        phrases: list[Any] = []
        for key in ("transcript_names", "transcript_terms"):
            value = data.get(key) or []
            if not isinstance(value, list) or not all(isinstance(phrase, str) for phrase in value):
                raise ProtocolError("bad_event", f"{key} must be a list of strings")
            phrases += value
        # They are names of rooms and devices that nobody wrote for this server: what cannot be said is left out.
        self._hot_words = tuple(HotWord(phrase) for phrase in phrases if _SAYABLE.fullmatch(phrase))

    def _audio(self, form: _Format, payload: bytes) -> Iterator[Command]:
        self._format = self._format or form
        if form != self._format:
            raise ProtocolError("bad_event", "rate, width and channels must be those that audio-start had")
        if len(payload) % (_BYTES_PER_SAMPLE * form.channels):
            whole = f"{_BYTES_PER_SAMPLE * form.channels} bytes, a sample of each channel"
            raise ProtocolError("bad_audio", f"{len(payload)} bytes of audio cannot be divided by {whole}")
        if payload:
            yield Audio(payload)

    def reply(self, outcome: Outcome) -> list[Reply]:
        replies = []
        for event in outcome.events:
            if isinstance(event, Final):
                self._finals.append(event)
            if delta := self._deltas.accept(event):
                replies += [*self._start(), _event("transcript-chunk", text=delta)]
        if outcome.done and isinstance(outcome.command, End):
            text = " ".join(final.text for final in self._finals)
            replies += [*self._start(), _event("transcript", text=text, language=_LANGUAGE), _event("transcript-stop")]
        return replies

    def _start(self) -> list[Reply]:
        started, self._started = self._started, True
        return [] if started else [_event("transcript-start", language=_LANGUAGE)]

    def failed(self, code: str, message: str) -> list[Reply]:
        return [_error(code, message)]


def _parse_header(line: bytes, most_bytes: int) -> _Header:
    header = parse_object(line, "an event's first line")
    kind, data = header.get("type"), header.get("data") or {}
    if not isinstance(kind, str):
        raise ProtocolError("bad_event", 'an event needs a type, as in {"type": "describe"}')
    if not isinstance(data, dict):
        raise ProtocolError("bad_event", "an event's data must be an object")
    lengths = []
    for key, most in (("data_length", _MOST_JSON_BYTES), ("payload_length", most_bytes)):
        length = header.get(key) or 0
        if isinstance(length, bool) or not isinstance(length, int) or length < 0:
            raise ProtocolError("bad_event", f"{key} must be a number of bytes")
        if length > most:
            raise ProtocolError("too_large", f"{key} is {length}, the most is {most}: send more and smaller events")
        lengths.append(length)
    return _Header(kind, data, *lengths)


def _format(data: dict[str, Any]) -> _Format:
    for key, least, most in (("rate", 4_000, 768_000), ("channels", 1, 64)):
        value = data.get(key)
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise ProtocolError("bad_event", f"{key} must be a whole number from {least} to {most}")
    width = data.get("width")
    if isinstance(width, bool) or width != _BYTES_PER_SAMPLE:
        raise ProtocolError("bad_event", f"width must be {_BYTES_PER_SAMPLE}: send samples of 16 bits, little endian")
    return _Format(data["rate"], _BYTES_PER_SAMPLE, data["channels"])


def _error(code: str, message: str) -> Reply:
    return _event("error", text=message, code=code)


def _event(kind: str, **data: Any) -> Reply:
    """With what belongs to it after its line, as the protocol's own library writes it."""
    if not data:
        return Reply(json.dumps({"type": kind}) + "\n")
    body = json.dumps(data)
    return Reply(json.dumps({"type": kind, "data_length": len(body)}) + "\n" + body)
