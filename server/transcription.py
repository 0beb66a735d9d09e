"""The request and the responses of OpenAI's `/v1/audio/transcriptions`, without any input or output.

    client                                             server
    multipart/form-data: fields, and a file            by response_format: json, text, srt, vtt or verbose_json; with
                                                       stream=true server-sent events: transcript.text.delta as text
                                                       becomes final, and transcript.text.done

Fields that choose what this engine has no choice of (model, language, prompt, temperature, include) are accepted and
change nothing; what it cannot do at all is refused.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from asr.errors import AsrError
from asr.events import Event, Final
from asr.formats import to_srt, to_vtt
from asr.search.endpoint import DEFAULT_RULES, EndpointRule
from asr.search.hotwords import HotWord

from .codec import Settings, pause_rule
from .deltas import Deltas
from .openai_api import TRANSCRIPTIONS, HttpError, bad_request

_FORMATS = ("json", "text", "srt", "vtt", "verbose_json")
_GRANULARITIES = ("word", "segment")
_IGNORED = {"model", "language", "languages", "prompt", "temperature", "include"}
_FIELDS = {
    "file",
    "response_format",
    "timestamp_granularities[]",
    "stream",
    "keywords[]",
    "chunking_strategy[silence_duration_ms]",
}
_MOST_FIELD_BYTES = 1 << 16  # of all fields together
_MOST_PARTS = 1_000
_TYPES = {"text": "text/plain", "srt": "application/x-subrip", "vtt": "text/vtt"}


@dataclass(frozen=True)
class Wishes:
    """What a client asks for besides the sound."""

    response_format: str = "json"
    granularities: frozenset[str] = frozenset({"segment"})
    stream: bool = False
    hot_words: tuple[HotWord, ...] = ()
    rules: tuple[EndpointRule, ...] = DEFAULT_RULES


class TranscriptionCodec:
    """See `asr.server.transcribing.FileCodec`. ``content_type`` is that header's value.

    Whatever is wrong raises HttpError.
    """

    path = TRANSCRIPTIONS
    separate = False

    def __init__(self, content_type: str) -> None:
        kind, options = parse_options_header(content_type)
        if kind != b"multipart/form-data" or not options.get(b"boundary"):
            raise bad_request(
                "bad_content_type",
                "send multipart/form-data with the sound in the field file, as in curl -F file=@NAME",
            )
        callbacks: Any = {
            "on_part_begin": self._part_begin,
            "on_header_field": lambda data, begin, end: self._grow(True, data[begin:end]),
            "on_header_value": lambda data, begin, end: self._grow(False, data[begin:end]),
            "on_header_end": self._header_end,
            "on_headers_finished": self._headers_finished,
            "on_part_data": self._part_data,
            "on_part_end": self._part_end,
            "on_end": self._end,
        }
        try:
            self._parser = MultipartParser(options[b"boundary"], callbacks)
        except FormParserError as error:
            raise _malformed(error) from error
        self.wishes = Wishes()
        self.file_begun = False
        self.whole = False
        self._headers: dict[bytes, bytes] = {}
        self._header = [b"", b""]
        self._name: str | None = None
        self._value = b""
        self._in_file = False
        self._field_bytes = self._parts = 0
        self._sound: list[bytes] = []
        self._granularities: set[str] = set()

    @property
    def settings(self) -> Settings:
        """How to open the stream, but for the sample rate, which the file says."""
        return Settings(encoding="f32le", rules=self.wishes.rules, hot_words=self.wishes.hot_words, written=True)

    def receive(self, data: bytes) -> bytes:
        """Take a piece of the body; give the file's bytes that are in it."""
        try:
            self._parser.write(data)
        except FormParserError as error:
            raise _malformed(error) from error
        sound, self._sound = b"".join(self._sound), []
        return sound

    def finish(self) -> bytes:
        """The body is over; nothing of the file was held back."""
        if not self.whole:
            raise bad_request("bad_multipart", "the multipart body ends before its last boundary: send all of it")
        if not self.file_begun:
            raise bad_request("no_file", "there is no file: send the sound in the field file", "file")
        if self.wishes.stream and self.wishes.response_format not in ("json", "text"):
            raise bad_request(
                "bad_field", f"{self.wishes.response_format} cannot be streamed: use json", "response_format"
            )
        return b""

    def stream(self) -> EventStream | None:
        """What tells of events as they come, if the client wants that."""
        return EventStream() if self.wishes.stream else None

    def render(
        self, finals: Sequence[Final], duration_s: float, warning: str = "", channels: int = 1
    ) -> tuple[str, bytes]:
        """See `render`."""
        return render(self.wishes, finals, duration_s, warning)

    def _part_begin(self) -> None:
        self._parts += 1
        if self._parts > _MOST_PARTS:
            raise bad_request("bad_multipart", f"there are more than {_MOST_PARTS} fields")
        self._headers, self._name, self._value, self._in_file = {}, None, b"", False

    def _grow(self, is_field: bool, data: bytes) -> None:
        self._header[0 if is_field else 1] += data

    def _header_end(self) -> None:
        field, value = self._header
        self._headers[field.lower()] = value
        self._header = [b"", b""]

    def _headers_finished(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        if b"name" not in options:
            raise bad_request("bad_multipart", "a part has no name in its Content-Disposition")
        self._name = options[b"name"].decode(errors="replace")
        if self._name == "file":
            if self.file_begun:
                raise bad_request("bad_field", "there are two files: send one a request", "file")
            if b"filename" not in options:
                raise bad_request("no_file", "the field file is text: send a file, as in curl -F file=@NAME", "file")
            self._in_file = self.file_begun = True

    def _part_data(self, data: bytes, begin: int, end: int) -> None:
        if self._in_file:
            self._sound.append(bytes(data[begin:end]))
            return
        self._field_bytes += end - begin
        if self._field_bytes > _MOST_FIELD_BYTES:
            raise bad_request("bad_field", f"the fields are longer than {_MOST_FIELD_BYTES} bytes", self._name)
        self._value += data[begin:end]

    def _part_end(self) -> None:
        if not self._in_file and self._name is not None:
            self._field(self._name, self._value.decode(errors="replace"))

    def _end(self) -> None:
        self.whole = True

    def _field(self, name: str, value: str) -> None:
        key = name.removesuffix("[]").partition("[")[0]
        if key in _IGNORED:
            return
        match key:
            case "response_format":
                if value not in _FORMATS:
                    raise _unknown(key, value, _FORMATS)
                self.wishes = replace(self.wishes, response_format=value)
            case "timestamp_granularities":
                if value not in _GRANULARITIES:
                    raise _unknown(key, value, _GRANULARITIES)
                self._granularities.add(value)
                self.wishes = replace(self.wishes, granularities=frozenset(self._granularities))
            case "stream":
                if value.lower() not in ("true", "false", "1", "0"):
                    raise _unknown(key, value, ("true", "false"))
                self.wishes = replace(self.wishes, stream=value.lower() in ("true", "1"))
            case "keywords":
                self._before_the_file(key)
                try:
                    hot_words = (*self.wishes.hot_words, HotWord(value))
                except AsrError as error:
                    raise bad_request("bad_field", f"keywords: {error}", "keywords") from error
                self.wishes = replace(self.wishes, hot_words=hot_words)
            case "chunking_strategy":
                self._before_the_file(key)
                self.wishes = replace(self.wishes, rules=self._rules(name, value))
            case _:
                known = ", ".join(sorted({*_IGNORED, *_FIELDS}))
                raise bad_request("bad_field", f"unknown field {name}: there are {known}", name)

    def _before_the_file(self, key: str) -> None:
        if self.file_begun:
            raise bad_request("bad_field", f"{key} must come before the file, which is heard as it comes", key)

    def _rules(self, name: str, value: str) -> tuple[EndpointRule, ...]:
        """`auto`, or an object's field `silence_duration_ms`: how long a silence parts utterances."""
        if name.endswith("[silence_duration_ms]"):
            try:
                silence_s = float(value) / 1000
            except ValueError:
                silence_s = math.nan
            if not 0 <= silence_s <= 60:
                raise bad_request("bad_field", "silence_duration_ms must be a number from 0 to 60000", name)
            return (pause_rule(silence_s), *DEFAULT_RULES[1:])
        return self.wishes.rules


def _malformed(error: Exception) -> HttpError:
    return bad_request("bad_multipart", f"the body is no multipart/form-data: {error}")


def _unknown(key: str, value: str, choices: Sequence[str]) -> HttpError:
    return bad_request("bad_field", f"{key} {value[:40]!r} is not served: use {', '.join(choices)}", key)


def render(wishes: Wishes, finals: Sequence[Final], duration_s: float, warning: str = "") -> tuple[str, bytes]:
    """A whole response: its content type and its body.

    Args:
        warning: what was wrong with a file of which a part could be heard.
    """
    if wishes.response_format in _TYPES:
        text = _PLAIN[wishes.response_format](finals, "", duration_s)
        return f"{_TYPES[wishes.response_format]}; charset=utf-8", text.encode()
    usage = {"type": "duration", "seconds": round(duration_s, 3)}
    body: dict[str, Any] = {"text": _text(finals)}
    if wishes.response_format == "verbose_json":
        body |= {"task": "transcribe", "language": "english", "duration": round(duration_s, 3)}
        if "segment" in wishes.granularities:
            body["segments"] = [_segment(number, final) for number, final in enumerate(finals)]
        if "word" in wishes.granularities:
            words = [word for final in finals for word in final.words]
            body["words"] = [{"word": word.text, "start": word.start_s, "end": word.end_s} for word in words]
    body["usage"] = usage
    if warning:
        body["warning"] = warning
    return "application/json", json.dumps(body, ensure_ascii=False).encode()


class EventStream:
    """The response to stream=true, piece by piece."""

    def __init__(self) -> None:
        self._deltas = Deltas()
        self._finals: list[Final] = []

    def accept(self, event: Event) -> bytes:
        """What an event adds; often nothing."""
        if isinstance(event, Final):
            self._finals.append(event)
        delta = self._deltas.accept(event)
        return _server_sent({"type": "transcript.text.delta", "delta": delta}) if delta else b""

    def end(self, warning: str = "") -> bytes:
        """The last event, with all of the text."""
        done = {"type": "transcript.text.done", "text": _text(self._finals)}
        return _server_sent({**done, "warning": warning} if warning else done)


def _server_sent(event: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(event, ensure_ascii=False).encode() + b"\n\n"


def _text(finals: Sequence[Final]) -> str:
    return " ".join(final.text for final in finals)


def _segment(number: int, final: Final) -> dict[str, Any]:
    """An utterance with the keys that Whisper's have; those that describe its way of decoding are empty."""
    text = final.text.encode()
    confidences = [max(word.confidence, 1e-6) for word in final.words]
    return {
        "id": number,
        "seek": 0,
        "start": final.start_s,
        "end": final.end_s,
        "text": final.text,
        "tokens": [],
        "temperature": 0.0,
        "avg_logprob": round(sum(map(math.log, confidences)) / max(1, len(confidences)), 4),
        "compression_ratio": round(len(text) / len(zlib.compress(text)), 4),
        "no_speech_prob": 0.0,
    }


_PLAIN: dict[str, Callable[[Sequence[Final], str, float], str]] = {
    "text": lambda finals, name, duration_s: _text(finals) + "\n",
    "srt": to_srt,
    "vtt": to_vtt,
}
