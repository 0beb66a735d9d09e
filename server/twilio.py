"""A protocol in the shape of Twilio's Media Streams (`/v1/twilio`): a call's sound, sent by the telephone company.

    the telephone company                              whoever listens to the call (`asr.server.calls`)
    connected                                          nothing
    start: the call's names, tracks and parameters     {"type": "started", …}
    media: base64, mu-law at 8 kHz                     our own protocol's partials and finals, each with its track
    dtmf, mark                                         {"type": "dtmf", …}, {"type": "mark", …}
    stop                                               the last finals, and {"type": "closed", …} for each track

The company's side reads nothing but sound to play, so nothing is sent there: what a codec answers goes to listeners.
Messages are numbered: one that comes early waits a little for those before it, one that comes twice counts once, and
where chunks are missing there is silence, so that times stay true. Unknown events are dropped, for more may be added.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from asr.errors import AsrError
from asr.search.endpoint import DEFAULT_RULES
from asr.search.hotwords import HotWord

from .codec import Audio, Command, End, Outcome, ProtocolError, Reply, Say, Settings, parse_object, pause_rule
from .native import NativeCodec, make_reply

_TRACKS = ("inbound", "outbound")  # their places are the lanes of their audio
_FORMAT = {"encoding": "audio/x-mulaw", "sampleRate": 8_000, "channels": 1}
_BYTES_PER_MS = 8
_SILENCE = b"\xff"  # a sample of mu-law
_MOST_FILLED_MS = 10_000  # of missing sound in one place: more is no loss on the way
_MOST_EARLY = 16  # messages that wait for one before them: a third of a second
_SID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_TOKEN = "token"  # the parameter that holds it, as an address of a stream cannot


@dataclass(frozen=True)
class Call:
    """What a call's stream is named."""

    call: str
    stream: str


@dataclass
class _Track:
    """How far a track's sound is."""

    voice: NativeCodec  # what its events are told with
    chunk: int | None = None  # number of the one that is due
    end_ms: int = 0  # on the stream's clock


class TwilioCodec:
    """See `asr.server.codec.Codec`. ``admit`` says whether a token may enter; the empty one is none."""

    def __init__(self, admit: Callable[[str], bool] = lambda _: True) -> None:
        self._admit = admit
        self._settings = Settings(8_000.0, "mulaw", written=True)
        self._tracks: dict[int, _Track] = {}  # by lane
        self._due = 1  # number of the message that comes next
        self._early: dict[int, dict[str, Any]] = {}
        self.call: Call | None = None  # once it has started

    @property
    def settings(self) -> Settings:
        return self._settings

    def opened(self) -> list[Reply]:
        return []

    def receive(self, message: str | bytes) -> Iterator[Command | Say]:
        if isinstance(message, bytes):
            raise ProtocolError("bad_message", "a binary message: events are JSON, and audio in them is base64")
        request = parse_object(message)
        number = _number(request.get("sequenceNumber"))
        if number is None:
            yield from self._act(request)
            return
        if number < self._due:
            return  # it has been here
        self._early[number] = request
        everything = request.get("event") == "stop"
        while self._early and (everything or self._due in self._early or len(self._early) > _MOST_EARLY):
            self._due = min(self._early)
            yield from self._act(self._early.pop(self._due))
            self._due += 1

    def _act(self, request: dict[str, Any]) -> Iterator[Command | Say]:
        event = request.get("event")
        if event == "start":
            yield Say((self._start(request),))
        if event not in ("media", "dtmf", "mark", "stop"):
            return
        if self.call is None:
            raise ProtocolError("no_start", f"{event} came before start")
        if event == "media":
            yield from self._media(_object(request, "media"))
        elif event == "stop":
            yield End()
        else:
            told = {key: str(value)[:80] for key, value in _object(request, event).items()}
            told = {key: told[key] for key in ("digit", "name", "track") if key in told}
            if event == "dtmf":
                told["track"] = told.get("track", _TRACKS[0]).removesuffix("_track")
            yield Say((self._reply(event, **told),))

    def _start(self, request: dict[str, Any]) -> Reply:
        if self.call is not None:
            raise ProtocolError("bad_start", "a stream starts once: open another connection for another stream")
        start = _object(request, "start")
        parameters = start.get("customParameters") or {}
        if not isinstance(parameters, dict):
            raise ProtocolError("bad_start", "customParameters must be an object")
        parameters = {str(key): str(value) for key, value in parameters.items()}
        if not self._admit(parameters.pop(_TOKEN, "")):
            raise ProtocolError("bad_token", f"the stream needs the server's token, as its parameter {_TOKEN}")
        sids = [start.get(key) for key in ("callSid", "streamSid")]
        if not all(isinstance(sid, str) and _SID.fullmatch(sid) for sid in sids):
            raise ProtocolError("bad_start", "callSid and streamSid must be names of letters, digits, - and _")
        if start.get("mediaFormat", _FORMAT) != _FORMAT:
            raise ProtocolError("bad_start", "mediaFormat must be audio/x-mulaw, 8000 Hz, 1 channel")
        tracks = start.get("tracks", [_TRACKS[0]])
        if not isinstance(tracks, list) or not tracks or not all(track in _TRACKS for track in tracks):
            raise ProtocolError("bad_start", f"tracks must be some of {', '.join(_TRACKS)}")
        self._settings = _read_parameters(self._settings, parameters)
        self.call = Call(str(sids[0]), str(sids[1]))
        for track in tracks:
            more = {"track": track, "call": self.call.call, "stream": self.call.stream}
            self._tracks[_TRACKS.index(track)] = _Track(NativeCodec(self._settings, more))
        return self._reply("started", tracks=tracks, parameters=parameters)

    def _media(self, media: dict[str, Any]) -> Iterator[Audio]:
        name = media.get("track", _TRACKS[0])
        lane = _TRACKS.index(name) if name in _TRACKS else -1
        if lane not in self._tracks:
            raise ProtocolError("bad_media", f"track {str(name)[:80]!r} is none of those that start named")
        try:
            data = base64.b64decode(media.get("payload", ""), validate=True)
        except (binascii.Error, ValueError, TypeError) as error:
            raise ProtocolError("bad_media", f"payload must be base64: {error}") from error
        track, length_ms = self._tracks[lane], len(data) // _BYTES_PER_MS
        chunk, begin_ms = _number(media.get("chunk")), _number(media.get("timestamp"))
        if None not in (chunk, begin_ms, track.chunk) and chunk > track.chunk:  # type: ignore[operator]
            # Both must say so: how senders of two tracks number chunks is not laid down.
            missing_ms = min((chunk - track.chunk) * length_ms, begin_ms - track.end_ms, _MOST_FILLED_MS)  # type: ignore[operator]
            if missing_ms > 0:
                yield Audio(_SILENCE * (missing_ms * _BYTES_PER_MS), lane)
        track.chunk = None if chunk is None else chunk + 1
        track.end_ms = (track.end_ms if begin_ms is None else begin_ms) + length_ms
        if data:
            yield Audio(data, lane)

    def reply(self, outcome: Outcome) -> list[Reply]:
        return self._tracks[outcome.lane].voice.reply(outcome) if outcome.lane in self._tracks else []

    def failed(self, code: str, message: str) -> list[Reply]:
        return [self._reply("error", code=code, message=message)]

    def _reply(self, kind: str, **values: Any) -> Reply:
        names = {} if self.call is None else {"call": self.call.call, "stream": self.call.stream}
        return make_reply(kind, **values, **names)


def _read_parameters(settings: Settings, parameters: Mapping[str, str]) -> Settings:
    """Settings that were made in the document that starts the stream; its other parameters are the app's own."""
    if "hot_words" in parameters:
        try:
            phrases = [phrase.strip() for phrase in parameters["hot_words"].split(",")]
            settings = replace(settings, hot_words=tuple(HotWord(phrase) for phrase in phrases if phrase))
        except AsrError as error:
            raise ProtocolError("bad_start", f"hot_words: {error}") from error
    if "silence_ms" in parameters:
        silence_ms = _number(parameters["silence_ms"])
        if silence_ms is None or silence_ms > 60_000:
            raise ProtocolError("bad_start", "silence_ms must be a number from 0 to 60000")
        rule = pause_rule(silence_ms / 1000)
        settings = replace(settings, rules=(rule, *DEFAULT_RULES[1:]))
    return replace(settings, written=parameters.get("written", "true").lower() == "true")


def _object(request: dict[str, Any], key: str) -> dict[str, Any]:
    value = request.get(key)
    if not isinstance(value, dict):
        raise ProtocolError("bad_message", f"{key} must be an object")
    return value


def _number(value: Any) -> int | None:
    """A whole number, as such or as a string, which is how they are sent; None if it is none."""
    text = str(value) if isinstance(value, (str, int)) and not isinstance(value, bool) else ""
    return int(text) if re.fullmatch(r"[0-9]{1,12}", text) else None
