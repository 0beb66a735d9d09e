"""A protocol in the shape of OpenAI's Realtime transcription (`/v1/realtime?intent=transcription`).

    client                                             server
                                                       session.created
    session.update                                     session.updated
    input_audio_buffer.append, base64                  input_audio_buffer.speech_started, and deltas as text becomes
                                                       stable; where a pause ends the item, speech_stopped, committed
                                                       and conversation.item.input_audio_transcription.completed
    input_audio_buffer.commit                          committed and completed
    input_audio_buffer.clear                           input_audio_buffer.cleared

`transcription_session.update`, of the API's first version, is `session.update` with flatter settings. What is wrong is
answered with an error event, changes nothing, and the session goes on.
"""

from __future__ import annotations

import base64
import binascii
import json
import uuid
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from asr.events import Event, Final

from .codec import (
    Audio,
    Command,
    End,
    Flush,
    Outcome,
    ProtocolError,
    Reply,
    Say,
    SetHotWords,
    Settings,
    parse_object,
)
from .deltas import Deltas
from .realtime_session import Wishes, Wrong, read_session
from .stream_head import StreamHead
from .wav_header import WAV_MARKS

_APPEND, _COMMIT, _CLEAR = (f"input_audio_buffer.{what}" for what in ("append", "commit", "clear"))
_PIECE = 1 << 16  # bytes of audio in a command
_UPDATE, _FLAT_UPDATE = "session.update", "transcription_session.update"


class RealtimeCodec:
    """See `asr.server.codec.Codec`. ``query`` holds the address's query, each key with its values."""

    def __init__(self, query: Mapping[str, Sequence[str]]) -> None:
        # Not every client can say what for: OpenAI's JavaScript package names a model instead.
        if query.get("intent", ["transcription"])[-1] != "transcription":
            raise ProtocolError("bad_config", "this server only transcribes: intent must be transcription")
        self._name = uuid.uuid4().hex[:16]  # in the names of all that belongs to this session
        self._numbers = {"event": 0, "item": 0}
        self._session = f"sess_{self._name}"
        self._wishes = Wishes()
        self._head = StreamHead()
        self._begun = False  # whether audio has come
        self._uncommitted = False  # whether audio has come that no commit or clear has seen
        self._flushes: deque[Literal["commit", "clear"]] = deque()  # what those that are under way are for
        self._answered = False  # whether an item ended while the commit under way was served
        self._last: str | None = None  # item that was committed
        self._from_s = 0.0  # where the item in progress begins
        self._begin_item()

    def _begin_item(self) -> None:
        self._item = self._next("item")
        self._deltas = Deltas()
        self._finals: list[str] = []
        self._speaking = False

    @property
    def settings(self) -> Settings:
        return self._head.fit(self._wishes.settings)

    def opened(self) -> list[Reply]:
        return [self._event("session.created", session=self._wishes.session(self._session))]

    def receive(self, message: str | bytes) -> tuple[Command | Say, ...]:
        request: dict[str, Any] = {}
        try:
            if isinstance(message, bytes):
                raise Wrong("invalid_value", f"a binary message: send audio as base64, in the audio of {_APPEND}", None)
            request = parse_object(message)
            return self._act(request)
        except ProtocolError as error:
            if error.code == "bad_audio":  # nor can what comes after it be heard
                raise
            event_id = request.get("event_id")
            return (Say((self._error(error, event_id if isinstance(event_id, str) else None),)),)

    def _act(self, request: dict[str, Any]) -> tuple[Command | Say, ...]:
        match request.get("type"):
            case "session.update" | "transcription_session.update" as kind:
                return self._update(request.get("session"), flat=kind == _FLAT_UPDATE)
            case "input_audio_buffer.append":
                data = self._audio(request.get("audio"))
                if not data:
                    return ()
                self._begun = self._uncommitted = True
                data = self._head.take(data, self._wishes.settings, self._wishes.named)
                # A client may send minutes at once: they are taken as fast as the engine is.
                return tuple(Audio(data[begin : begin + _PIECE]) for begin in range(0, len(data), _PIECE))
            case "input_audio_buffer.commit":
                if not self._uncommitted:
                    raise Wrong(
                        "input_audio_buffer_commit_empty", f"there is no audio to commit: send {_APPEND} first", None
                    )
                return self._flush("commit")
            case "input_audio_buffer.clear":
                return self._flush("clear") if self._begun else (Say((self._cleared(),)),)
            case None:
                raise Wrong("missing_required_parameter", "an event needs a type", "type")
            case kind:
                kinds = ", ".join((_UPDATE, _FLAT_UPDATE, _APPEND, _COMMIT, _CLEAR))
                raise Wrong("invalid_value", f"type {str(kind)[:80]!r} is not served here: there are {kinds}", "type")

    def _flush(self, purpose: Literal["commit", "clear"]) -> tuple[Command, ...]:
        self._uncommitted = False
        self._flushes.append(purpose)
        data = self._head.rest()
        return (*((Audio(data),) if data else ()), Flush())

    def _audio(self, text: Any) -> bytes:
        if not isinstance(text, str):
            raise Wrong("missing_required_parameter", "audio must be a string of base64", "audio")
        try:
            data = base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError) as error:
            raise Wrong("invalid_value", f"audio must be base64 without line breaks: {error}", "audio") from error
        # The header of a file says how its samples are written, and where they begin.
        is_file = self._head.is_wav or (not self._begun and data.startswith(WAV_MARKS))
        if self._wishes.format == "audio/pcm" and len(data) % 2 and not is_file:
            raise Wrong(
                "invalid_value",
                f"audio has {len(data)} bytes: cut it between samples, which have 2 bytes each",
                "audio",
            )
        return data

    def _update(self, session: Any, flat: bool) -> tuple[Command | Say, ...]:
        wishes = read_session(self._wishes, session, flat)
        fixed = replace(wishes, keywords=self._wishes.keywords)
        if self._begun and fixed != self._wishes:
            message = "the format and turn_detection can be set before the first audio: open another connection"
            raise Wrong("invalid_value", message, "session")
        changed, self._wishes = wishes.keywords != self._wishes.keywords, wishes
        if flat:
            updated = self._event("transcription_session.updated", session=self._wishes.flat_session(self._session))
        else:
            updated = self._event("session.updated", session=self._wishes.session(self._session))
        commands = (SetHotWords(wishes.hot_words),) if self._head.opened and changed else ()
        return (Say((updated,)), *commands)

    def reply(self, outcome: Outcome) -> list[Reply]:
        # Outcomes come in the order of commands: until the first of the flushes is done, all is for it.
        clearing = bool(self._flushes) and self._flushes[0] == "clear"
        flushing, done = isinstance(outcome.command, Flush), outcome.done
        replies: list[Reply] = []
        for event in () if clearing else outcome.events:
            replies += self._hear(event)
            self._answered = self._answered or (flushing and isinstance(event, Final))
        if flushing and done:
            self._flushes.popleft()
            if clearing:
                self._from_s = outcome.position_s
                self._begin_item()
                replies.append(self._cleared())
            elif not (self._wishes.turns and self._answered):
                replies += self._complete(outcome.position_s)
            self._answered = False
        elif done and self._finals and isinstance(outcome.command, End):
            replies += self._complete(outcome.position_s)
        return replies

    def _hear(self, event: Event) -> list[Reply]:
        replies = []
        turns = self._wishes.turns is not None
        if turns and event.words and not self._speaking:
            self._speaking = True
            start_ms = round(1000 * event.words[0].start_s)
            replies.append(self._buffer("speech_started", audio_start_ms=start_ms, item_id=self._item))
        if delta := self._deltas.accept(event):
            replies.append(self._text("delta", delta=delta))
        if isinstance(event, Final):
            self._finals.append(event.text)
            if turns:
                if event.reason != "flush":
                    stop_ms = round(1000 * event.end_s)
                    replies.append(self._buffer("speech_stopped", audio_end_ms=stop_ms, item_id=self._item))
                replies += self._complete(event.end_s)
        return replies

    def _complete(self, end_s: float) -> list[Reply]:
        """The item in progress is over, and the next one begins."""
        usage = {"type": "duration", "seconds": round(max(0.0, end_s - self._from_s), 3)}
        replies = [
            self._buffer("committed", previous_item_id=self._last, item_id=self._item),
            self._text("completed", transcript=" ".join(self._finals), usage=usage),
        ]
        self._last, self._from_s = self._item, end_s
        self._begin_item()
        return replies

    def failed(self, code: str, message: str) -> list[Reply]:
        return [self._error(ProtocolError(code, message), None)]

    def _cleared(self) -> Reply:
        return self._buffer("cleared")

    def _buffer(self, what: str, **values: Any) -> Reply:
        return self._event(f"input_audio_buffer.{what}", **values)

    def _text(self, what: str, **values: Any) -> Reply:
        kind = f"conversation.item.input_audio_transcription.{what}"
        return self._event(kind, item_id=self._item, content_index=0, **values)

    def _error(self, error: ProtocolError, event_id: str | None) -> Reply:
        kind = "server_error" if error.code == "internal" else "invalid_request_error"
        param = error.param if isinstance(error, Wrong) else None
        values = {"type": kind, "code": error.code, "message": str(error), "param": param, "event_id": event_id}
        return self._event("error", error=values)

    def _event(self, kind: str, **values: Any) -> Reply:
        # As ASCII: what is sent back to a client may hold halves of characters, which are no UTF-8.
        return Reply(json.dumps({"type": kind, "event_id": self._next("event"), **values}))

    def _next(self, what: str) -> str:
        self._numbers[what] += 1
        return f"{what}_{self._name}_{self._numbers[what]}"
