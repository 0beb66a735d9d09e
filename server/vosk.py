"""The protocol of vosk-server (https://github.com/alphacep/vosk-server), as its clients rely on it.

    client                                             server
    {"config": {"sample_rate": 16000, …}}              nothing
    binary: 16-bit PCM, little endian, mono;           exactly one message: {"partial": …}, or
    or a file of any kind                              {"text": …, "result": […]} where an utterance ended
    {"reset": 1}                                       one final
    {"eof": 1}                                         one final; then the connection is closed

Clients send and receive in turns, so one message too many or too few loses them their last result. Where
several utterances end within one message, their texts are joined. ``model`` in a config is refused: a
client has no business choosing files of the server.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from asr.errors import AsrError
from asr.events import Alternative, Event, Final, Partial, Word
from asr.search.hotwords import HotWord

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
from .stream_head import StreamHead

DEFAULT_RATE_HZ = 8_000.0  # of clients that do not say
_MOST_ALTERNATIVES = 100


class VoskCodec:
    """See `asr.server.codec.Codec`."""

    def __init__(self, sample_rate_hz: float = DEFAULT_RATE_HZ) -> None:
        self._settings = Settings(sample_rate_hz=sample_rate_hz)
        self._words = True
        self._started = False
        self._head = StreamHead(decoding=True)
        self._named: set[str] = set()  # settings that are the client's
        self._answered: Audio | None = None  # audio whose messages have had their answers
        self._odd = b""  # half a sample, until its other half comes
        self._finals: list[Final] = []  # of the command in progress
        self._partial = ""

    @property
    def settings(self) -> Settings:
        return self._head.fit(self._settings)

    def opened(self) -> list[Reply]:
        return []

    def receive(self, message: str | bytes) -> tuple[Command | Say, ...]:
        if isinstance(message, bytes):
            self._started = True
            data = self._odd + self._head.take(message, self._settings, self._named)
            if self._head.form is not None:
                # It is answered before it is decoded, with what was heard so far: how many answers its sound would
                # bring is not known.
                return (Say((self._answer(),)), *self._head.commands(data, _audio))
            if not self._head.opened:  # nor may it be yet
                return (Say((Reply(_partial("")),)),)
            whole = len(data) - len(data) % 2
            self._odd = data[whole:]
            return (Audio(data[:whole]),)
        request = parse_object(message)
        if "config" in request:
            return self._configure(request["config"])
        if "reset" in request:
            self._started = True
            return (*self._rest(), Flush())
        if "eof" in request:
            self._started = True
            return (*self._rest(), End())
        raise ProtocolError("unknown_message", "expected config, reset or eof")

    def _rest(self) -> tuple[Audio, ...]:
        data = self._head.rest()
        if not data:
            return ()
        self._answered = Audio(data)
        return (self._answered,)

    def _configure(self, config: Any) -> tuple[Command, ...]:
        if not isinstance(config, dict):
            raise ProtocolError("bad_config", "config must be an object")
        if "model" in config:
            raise ProtocolError("bad_config", "the model cannot be chosen by a client: leave model out")
        if "words" in config:
            self._words = bool(config["words"])
        if "sample_rate" in config:
            rate = config["sample_rate"]
            if isinstance(rate, bool) or not isinstance(rate, (int, float)):
                raise ProtocolError("bad_config", "sample_rate must be a number of Hz")
            if self._started and rate != self.settings.sample_rate_hz:
                raise ProtocolError("bad_config", "sample_rate must be set before the first audio")
            self._settings = replace(self._settings, sample_rate_hz=float(rate))
            self._named.add("sample_rate_hz")
        if "max_alternatives" in config:
            count = config["max_alternatives"]
            if isinstance(count, bool) or not isinstance(count, int) or not 0 <= count <= _MOST_ALTERNATIVES:
                raise ProtocolError("bad_config", f"max_alternatives must be 0 to {_MOST_ALTERNATIVES}")
            if self._started and count != self._settings.alternatives:
                raise ProtocolError("bad_config", "max_alternatives must be set before the first audio")
            self._settings = replace(self._settings, alternatives=count)
        if "phrase_list" in config:
            phrases = config["phrase_list"]
            if not isinstance(phrases, list) or not all(isinstance(phrase, str) for phrase in phrases):
                raise ProtocolError("bad_config", "phrase_list must be a list of strings")
            try:
                # "[unk]" asks upstream's grammars to allow other words, which hot words always do.
                hot_words = tuple(HotWord(phrase) for phrase in phrases if phrase != "[unk]")
            except AsrError as error:
                raise ProtocolError("bad_config", str(error)) from error
            if self._head.opened:
                return (SetHotWords(hot_words),)
            self._settings = replace(self._settings, hot_words=hot_words)
        return ()

    def reply(self, outcome: Outcome) -> list[Reply]:
        for event in outcome.events:
            self._note(event)
        if isinstance(outcome.command, SetHotWords) or outcome.command is self._answered or not outcome.done:
            return []
        if isinstance(outcome.command, Audio):
            return [self._answer()] if self._head.form is None else []
        finals, self._finals, self._partial = self._finals, [], ""
        return [Reply(_dump(self._final(finals)))]

    def _answer(self) -> Reply:
        """What an audio message is answered with."""
        if not self._finals:
            return Reply(_partial(self._partial))
        finals, self._finals = self._finals, []
        return Reply(_dump(self._final(finals)))

    def _note(self, event: Event) -> None:
        if isinstance(event, Partial):
            self._partial = event.text
        else:
            self._finals.append(event)
            self._partial = ""

    def _final(self, finals: list[Final]) -> dict[str, Any]:
        text = " ".join(final.text for final in finals)
        words = [word for final in finals for word in final.words]
        if self._settings.alternatives:
            others: tuple[Alternative, ...] = finals[0].alternatives if len(finals) == 1 else ()
            best = Alternative(text, tuple(words), sum(final.score for final in finals))
            readings = [best, *others][: self._settings.alternatives]
            return {"alternatives": [self._alternative(reading) for reading in readings]}
        if self._words and words:
            return {"result": [_word(word, True) for word in words], "text": text}
        return {"text": text}

    def _alternative(self, reading: Alternative) -> dict[str, Any]:
        result = [_word(word, False) for word in reading.words] if self._words else []
        return {
            "confidence": round(reading.score, 6),
            **({"result": result} if result else {}),
            "text": reading.text,
        }

    def failed(self, code: str, message: str) -> list[Reply]:
        return []  # the protocol has no errors: the reason goes into the closing frame


def _audio(data: bytes) -> tuple[Audio, ...]:
    return (Audio(data),)


def _word(word: Word, confidence: bool) -> dict[str, Any]:
    times = {"end": word.end_s, "start": word.start_s, "word": word.text}
    return {"conf": word.confidence, **times} if confidence else times


def _partial(text: str) -> str:
    """As `_dump` would write it, ten times as fast: most messages are of this kind."""
    return f'{{\n  "partial" : {json.dumps(text, ensure_ascii=False)}\n}}'


def _dump(message: dict[str, Any]) -> str:
    return json.dumps(message, indent=2, ensure_ascii=False, separators=(",", " : "))
