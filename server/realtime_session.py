"""What a client may set in a Realtime session (`asr.server.realtime`), in either version of the API."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from asr.audio.pcm import Encoding
from asr.errors import AsrError
from asr.search.endpoint import DEFAULT_RULES, EndpointRule
from asr.search.hotwords import HotWord

from .codec import ProtocolError, Settings, pause_rule
from .openai_api import MODEL

_OBJECT = "realtime.transcription_session"
_RATE_HZ = 24_000.0
_TELEPHONE_HZ = 8_000.0
_ENCODINGS: dict[str, Encoding] = {"audio/pcm": "s16le", "audio/pcmu": "mulaw", "audio/pcma": "alaw"}
_FLAT_FORMATS = {"pcm16": "audio/pcm", "g711_ulaw": "audio/pcmu", "g711_alaw": "audio/pcma"}
# What the first version of the API calls the settings of a session's input.
_FLAT = {
    "input_audio_format": "format",
    "input_audio_transcription": "transcription",
    "input_audio_noise_reduction": "noise_reduction",
    "turn_detection": "turn_detection",
}
_INPUT = set(_FLAT.values())
_IGNORED = {"id", "object", "expires_at", "include", "client_secret", "modalities"}  # of a session: they change nothing
_TRANSCRIPTION = {"model", "language", "languages", "prompt", "keywords", "delay"}
_TURNS = {"type", "silence_duration_ms", "threshold", "prefix_padding_ms", "eagerness", "idle_timeout_ms"}
_TURNS |= {"create_response", "interrupt_response"}


class Wrong(ProtocolError):
    """What a client sent cannot be used. ``param`` names the field."""

    def __init__(self, code: str, message: str, param: str | None) -> None:
        super().__init__(code, message)
        self.param = param


@dataclass(frozen=True)
class Wishes:
    """What a session has been told to do."""

    format: str = "audio/pcm"  # as the API calls it
    rate_hz: float = _RATE_HZ
    turns: str | None = "server_vad"  # what ends an item beside the client; None: nothing does
    silence_s: float = DEFAULT_RULES[0].silence_s  # that ends it
    keywords: tuple[str, ...] = ()
    # Of the stream's `Settings`, those that the client has set: they are no part of what a session is.
    named: frozenset[str] = field(default=frozenset(), compare=False)

    @property
    def rules(self) -> tuple[EndpointRule, ...]:
        """How to end utterances. Very long ones end by themselves; without turns they are parts of one item."""
        turn = (pause_rule(self.silence_s),) if self.turns else ()
        return (*turn, *DEFAULT_RULES[1:])

    @property
    def hot_words(self) -> tuple[HotWord, ...]:
        return tuple(HotWord(keyword) for keyword in self.keywords)

    @property
    def settings(self) -> Settings:
        return Settings(self.rate_hz, _ENCODINGS[self.format], rules=self.rules, hot_words=self.hot_words, written=True)

    def session(self, name: str) -> dict[str, Any]:
        """All settings as they are, in the shape in which they are set."""
        form: dict[str, Any] = {"type": self.format}
        if self.format == "audio/pcm":
            form["rate"] = int(self.rate_hz)
        turns = None
        if self.turns is not None:
            turns = {"type": self.turns, "silence_duration_ms": round(1000 * self.silence_s)}
        transcription = {"model": MODEL, "language": "en", "keywords": list(self.keywords)}
        sound = {"format": form, "transcription": transcription, "noise_reduction": None, "turn_detection": turns}
        return {"type": "transcription", "object": _OBJECT, "id": name, "audio": {"input": sound}}

    def flat_session(self, name: str) -> dict[str, Any]:
        """The same in the shape of the API's first version."""
        sound = self.session(name)["audio"]["input"]
        sound["format"] = next(flat for flat, form in _FLAT_FORMATS.items() if form == self.format)
        return {"object": _OBJECT, "id": name, **{flat: sound[key] for flat, key in _FLAT.items()}}


def read_session(old: Wishes, session: Any, flat: bool) -> Wishes:
    """Settings after an update, which says only what changes. Raises Wrong."""
    if flat:
        values = _object(session, "session", {*_FLAT, *_IGNORED})
        return _read_input(old, {name: (values[key], f"session.{key}") for key, name in _FLAT.items() if key in values})
    values = _object(session, "session", {"type", "audio", *_IGNORED})
    if values.get("type", "transcription") != "transcription":
        raise Wrong("invalid_value", "this server only transcribes: type must be transcription", "session.type")
    audio = _object(values.get("audio") or {}, "session.audio", {"input", "output"})
    sound = _object(audio.get("input") or {}, "session.audio.input", _INPUT)
    return _read_input(old, {name: (value, f"session.audio.input.{name}") for name, value in sound.items()})


def _read_input(old: Wishes, fields: dict[str, tuple[Any, str]]) -> Wishes:
    """The same for the settings of the input: values, and how the client calls them."""
    new = old
    for name, (value, param) in fields.items():
        if name == "format" and value is not None:
            new = _read_format(new, value, param)
        elif name == "transcription":
            new = _read_transcription(new, value, param)
        elif name == "turn_detection":
            new = _read_turns(new, value, param)
    return new


def _read_format(old: Wishes, value: Any, param: str) -> Wishes:
    if isinstance(value, str):  # the first version's way
        value = {"type": _FLAT_FORMATS.get(value, value)}
    value = _object(value, param, {"type", "rate"})
    form = value.get("type")
    if not isinstance(form, str) or form not in _ENCODINGS:
        names = ", ".join((*_ENCODINGS, *_FLAT_FORMATS))
        raise Wrong("invalid_value", f"the format is not served: there are {names}", param)
    rate_hz = _RATE_HZ if form == "audio/pcm" else _TELEPHONE_HZ
    named = {"encoding"} if value.get("rate") is None else {"encoding", "sample_rate_hz"}
    rate_hz = _number(value, "rate", rate_hz, param, 4_000, 768_000)
    return replace(old, format=form, rate_hz=rate_hz, named=frozenset(named))


def _read_transcription(old: Wishes, value: Any, param: str) -> Wishes:
    if value is None:
        return replace(old, keywords=())
    value = _object(value, param, _TRANSCRIPTION)
    keywords = value.get("keywords", list(old.keywords))
    if not isinstance(keywords, list) or not all(isinstance(keyword, str) for keyword in keywords):
        raise Wrong("invalid_value", "keywords must be a list of strings", f"{param}.keywords")
    new = replace(old, keywords=tuple(keywords))
    try:
        _ = new.hot_words
    except AsrError as error:
        raise Wrong("invalid_value", str(error), f"{param}.keywords") from error
    return new


def _read_turns(old: Wishes, value: Any, param: str) -> Wishes:
    if value is None:
        return replace(old, turns=None)
    value = _object(value, param, _TURNS)
    kind = value.get("type", "server_vad")
    if kind not in ("server_vad", "semantic_vad"):
        raise Wrong("invalid_value", "type must be server_vad or semantic_vad; null turns it off", f"{param}.type")
    silence_ms = _number(value, "silence_duration_ms", 1000 * Wishes.silence_s, param, 0, 60_000)
    return replace(old, turns=kind, silence_s=silence_ms / 1000)


def _object(value: Any, param: str, keys: set[str]) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise Wrong("invalid_value", f"{param} must be an object", param)
    if unknown := sorted(set(value) - keys):
        message = f"unknown key {unknown[0][:80]!r}: {param} may have {', '.join(sorted(keys))}"
        raise Wrong("unknown_parameter", message, f"{param}.{unknown[0][:80]}")
    return value


def _number(values: dict[str, Any], key: str, default: float, param: str, least: float, most: float) -> float:
    value = values.get(key)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value <= most:
        raise Wrong("invalid_value", f"{key} must be a number from {least} to {most}", f"{param}.{key}")
    return float(value)
