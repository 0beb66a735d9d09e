"""Our own protocol, described for its users in docs/protocol.md.

client                                             server
                                                   {"type": "ready", …}
{"type": "config", …}, before the audio            nothing
binary audio, samples or a file of any kind        {"type": "partial", …} and {"type": "final", …}, as they come
{"type": "hot_words", …}                           nothing
{"type": "flush"}                                  finals, then {"type": "flushed"}
{"type": "end"}                                    finals, then {"type": "closed", …}; then the connection is closed
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, get_args

from asr.audio.forms import Form
from asr.audio.pcm import Encoding
from asr.errors import AsrError, ConfigError
from asr.events import Event, Final, Word
from asr.options import from_table
from asr.search.endpoint import DEFAULT_RULES, EndpointRule
from asr.search.hotwords import DEFAULT_BOOST, HotWord
from asr.version import __version__
from asr.written.replacements import Replacement, make_replacements

from .codec import (
    Audio,
    Command,
    End,
    Flush,
    Outcome,
    ProtocolError,
    Reply,
    SetHotWords,
    Settings,
    parse_object,
    pause_rule,
)
from .stream_head import StreamHead

VERSION = 1
_OPUS = "opus"
_ENCODINGS = (*get_args(Encoding), _OPUS)
_FILES = "leave it out for files, which say how they are coded"
_KEYS = {
    "type",
    "sample_rate",
    "encoding",
    "channels",
    "hot_words",
    "endpointing",
    "alternatives",
    "partial_interval_ms",
    "written",
    "replacements",
}
_SOUND = {"sample_rate": "sample_rate_hz", "encoding": "encoding", "channels": "channels"}  # and names in `Settings`


class NativeCodec:
    """See `asr.server.codec.Codec`."""

    def __init__(self, settings: Settings | None = None, more: Mapping[str, Any] | None = None) -> None:
        """``more`` is in each answer, for another protocol that tells events in this one's way."""
        self._settings = settings or Settings(written=True)
        self._more = more or {}
        self._started = False
        self._head = StreamHead(decoding=True)
        self._named: set[str] = set()  # settings that are the client's
        self._partial_interval_s = 0.0
        self._partial_at_s = 0.0  # when the last partial was sent, on the clock of the audio

    @property
    def settings(self) -> Settings:
        return self._head.fit(self._settings)

    def opened(self) -> list[Reply]:
        return [make_reply("ready", version=VERSION, server=f"asr {__version__}")]

    def receive(self, message: str | bytes) -> tuple[Command, ...]:
        if isinstance(message, bytes):
            self._started = True
            return self._head.commands(self._head.take(message, self._settings, self._named), _audio)
        request = parse_object(message)
        kind = request.get("type")
        if kind == "config":
            self._configure(request)
            return ()
        if kind == "hot_words":
            hot_words = _hot_words(request.get("hot_words"))
            if self._head.opened:
                return (SetHotWords(hot_words),)
            self._settings = replace(self._settings, hot_words=hot_words)
            return ()
        self._started = True
        if kind == "flush":
            return (*self._rest(), Flush())
        if kind == "end":
            return (*self._rest(), End())
        raise ProtocolError("unknown_message", f"unknown type {kind!r}: expected config, hot_words, flush or end")

    def _rest(self) -> tuple[Audio, ...]:
        return _audio(self._head.rest())

    def _configure(self, request: dict[str, Any]) -> None:
        if self._started:
            raise ProtocolError("bad_config", "config must come before the first audio")
        if unknown := sorted(set(request) - _KEYS):
            raise ProtocolError("bad_config", f"unknown key {unknown[0]!r}: the keys are {', '.join(sorted(_KEYS))}")
        settings = self._settings
        if "sample_rate" in request:
            settings = replace(settings, sample_rate_hz=_number(request, "sample_rate", 4_000, 768_000))
        if "encoding" in request:
            encoding = request["encoding"]
            if encoding not in _ENCODINGS:
                raise ProtocolError("bad_config", f"encoding must be one of {', '.join(_ENCODINGS)}; {_FILES}")
            self._head = StreamHead(decoding=True, said=Form.OPUS if encoding == _OPUS else None)
            settings = settings if encoding == _OPUS else replace(settings, encoding=encoding)
        if "channels" in request:
            settings = replace(settings, channels=int(_number(request, "channels", 1, 64)))
        if "alternatives" in request:
            settings = replace(settings, alternatives=int(_number(request, "alternatives", 0, 100)))
        if "partial_interval_ms" in request:
            self._partial_interval_s = _number(request, "partial_interval_ms", 0, 60_000) / 1000
        if "hot_words" in request:
            settings = replace(settings, hot_words=_hot_words(request["hot_words"]))
        if "written" in request:
            if not isinstance(request["written"], bool):
                raise ProtocolError("bad_config", "written must be true or false")
            settings = replace(settings, written=request["written"])
        if "replacements" in request:
            settings = replace(settings, replacements=_replacements(request["replacements"]))
        if "endpointing" in request:
            settings = replace(settings, rules=_rules(request["endpointing"]))
        self._settings = settings
        self._named |= {name for key, name in _SOUND.items() if key in request}

    def reply(self, outcome: Outcome) -> list[Reply]:
        replies = [reply for event in outcome.events for reply in self._event(event, outcome.position_s)]
        if outcome.done and isinstance(outcome.command, Flush):
            replies.append(make_reply("flushed", **self._more))
        if outcome.done and isinstance(outcome.command, End):
            replies.append(make_reply("closed", duration=round(outcome.position_s, 3), **self._more))
        return replies

    def _event(self, event: Event, position_s: float) -> list[Reply]:
        words = [_word(word) for word in event.words]
        spoken = {"spoken": event.spoken} if self._settings.written or self._settings.replacements else {}
        if isinstance(event, Final):
            self._partial_at_s = position_s
            others = [
                {"text": other.text, "score": round(other.score, 4), "words": [_word(word) for word in other.words]}
                for other in event.alternatives
            ]
            extra = {"alternatives": others} if self._settings.alternatives else {}
            extra |= self._more
            return [make_reply("final", text=event.text, words=words, reason=event.reason, **spoken, **extra)]
        if position_s - self._partial_at_s < self._partial_interval_s:
            return []
        self._partial_at_s = position_s
        partial = make_reply("partial", text=event.text, stable=event.stable_chars, words=words, **self._more)
        return [replace(partial, replaceable=True)]

    def failed(self, code: str, message: str) -> list[Reply]:
        return [make_reply("error", code=code, message=message)]


def _audio(data: bytes) -> tuple[Audio, ...]:
    return (Audio(data),) if data else ()


def make_reply(kind: str, **values: Any) -> Reply:
    """A message as this protocol writes it."""
    return Reply(json.dumps({"type": kind, **values}, ensure_ascii=False))


def _word(word: Word) -> dict[str, Any]:
    fields = {"text": word.text, "start": word.start_s, "end": word.end_s, "confidence": word.confidence}
    return {**fields, "heard": [_word(one) for one in word.heard]} if word.heard else fields


def _number(request: dict[str, Any], key: str, least: float, most: float) -> float:
    value = request[key]
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value <= most:
        raise ProtocolError("bad_config", f"{key} must be a number from {least} to {most}")
    return float(value)


def _hot_words(value: Any) -> tuple[HotWord, ...]:
    if not isinstance(value, list):
        raise ProtocolError("bad_config", "hot_words must be a list of strings or of objects with phrase and boost")
    hot_words = []
    for item in value:
        try:
            if isinstance(item, dict):
                hot_words.append(from_table(HotWord, {"boost": DEFAULT_BOOST, **item}, "hot_words"))
            elif isinstance(item, str):
                hot_words.append(HotWord(item))
            else:
                raise ConfigError("hot_words must be a list of strings or of objects with phrase and boost")
        except (AsrError, TypeError) as error:
            raise ProtocolError("bad_config", str(error)) from error
    return tuple(hot_words)


def _replacements(value: Any) -> tuple[Replacement, ...]:
    if not isinstance(value, dict) or not all(isinstance(written, str) for written in value.values()):
        raise ProtocolError("bad_config", 'replacements must be an object: {"open a i": "OpenAI"}')
    try:
        return make_replacements(value.items())
    except AsrError as error:
        raise ProtocolError("bad_config", str(error)) from error


def _rules(value: Any) -> tuple[EndpointRule, ...]:
    if value is False:
        return ()
    if value is True:
        return DEFAULT_RULES
    if not isinstance(value, dict) or set(value) != {"silence_ms"}:
        raise ProtocolError("bad_config", 'endpointing must be true, false, or {"silence_ms": number}')
    silence_s = _number(value, "silence_ms", 0, 60_000) / 1000
    return (pause_rule(silence_s), *DEFAULT_RULES[1:])
