"""A protocol in the shape of Deepgram's live API (`/v1/listen`), so that its SDKs work with this server.

    client                                             server
    settings in the query of the address
    binary audio, samples or a file of any kind        {"type": "Results", "is_final": …, "speech_final": …, …}
    {"type": "Finalize"}                               a final result with "from_finalize": true
    {"type": "KeepAlive"}                              nothing
                                                       {"type": "UtteranceEnd", …}, if utterance_end_ms asks for it
    {"type": "CloseStream"}                            the last results and {"type": "Metadata", …}; then the connection
                                                       is closed

With ``multichannel`` each channel is a lane of its own, and messages say of which they are.

Of the settings, those about audio, interim results, endpoints, key terms, alternatives and replacements have their
meaning; ``punctuate`` asks for punctuation and capitals, ``numerals`` for figures, ``smart_format`` for both; the
others (model, language and so on) are accepted and change nothing.
"""

from __future__ import annotations

import json
import math
import uuid
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from asr.audio.forms import Form
from asr.audio.pcm import SAMPLE_BYTES, Encoding
from asr.errors import AsrError
from asr.events import Alternative, Event, Final, Partial, Word
from asr.search.endpoint import DEFAULT_RULES, EndpointRule
from asr.search.hotwords import DEFAULT_BOOST, HotWord
from asr.written.form import WrittenForm
from asr.written.replacements import Replacement, make_replacements

from .channels import ChannelSplitter, check_channels
from .codec import (
    LEAST_PAUSE_S,
    Audio,
    Command,
    End,
    Flush,
    Outcome,
    ProtocolError,
    Reply,
    Settings,
    parse_object,
    pause_rule,
)
from .stream_head import StreamHead
from .utterance_end import UtteranceEnds

LISTEN = "/v1/listen"
MODEL_INFO = {"name": "asr", "version": "1", "arch": "lstm-ctc"}

_ENCODINGS: dict[str, Encoding] = {"linear16": "s16le", "linear32": "f32le", "mulaw": "mulaw", "alaw": "alaw"}
# What is decoded first. Of those in a file, this is what the file must be.
_CODED = {
    "opus": Form.OPUS,
    "ogg-opus": Form.OGG,
    "flac": Form.FLAC,
    "speex": Form.OGG,
    "amr-nb": Form.AMR,
    "amr-wb": Form.AMR,
}
_SOUND = {"sample_rate": "sample_rate_hz", "encoding": "encoding", "channels": "channels"}  # and names in `Settings`


@dataclass
class _Channel:
    """What a client was told of a channel."""

    utterance_ends: UtteranceEnds
    speaking: bool = False


class DeepgramCodec:
    """See `asr.server.codec.Codec`. ``query`` holds the address's query, each key with its values."""

    def __init__(self, query: Mapping[str, Sequence[str]]) -> None:
        self._query = query
        self._id = str(uuid.uuid4())
        self._interim = self._flag("interim_results")
        self._announce = self._flag("vad_events")
        self._utterance_wait_s = self._read_utterance_wait_s()
        self._channels = defaultdict[int, _Channel](lambda: _Channel(UtteranceEnds(self._utterance_wait_s)))  # by lane
        self._splitter: ChannelSplitter | None = None
        self._unended = 1  # channels whose last results are still to come
        self._named = {name for key, name in _SOUND.items() if key in query}
        encoding = self._text("encoding", "linear16")
        self.said = _CODED.get(encoding)
        if encoding not in _ENCODINGS and self.said is None:
            names = ", ".join((*_ENCODINGS, *_CODED))
            raise ProtocolError("bad_config", f"encoding {encoding} is not served: use {names}, or none for a file")
        self._head = StreamHead(decoding=True, said=self.said)
        self.separate = self._flag("multichannel")
        self.asked = Settings(
            sample_rate_hz=self._number("sample_rate", 16_000, 4_000, 768_000),
            encoding=_ENCODINGS.get(encoding, "s16le"),
            channels=int(self._number("channels", 1, 1, 64)),
            rules=self._rules(),
            alternatives=int(self._number("alternatives", 1, 1, 100)) - 1,
            hot_words=self._hot_words(),
            written=WrittenForm(
                numerals=self._flag("smart_format") or self._flag("numerals"),
                punctuation=self._flag("smart_format") or self._flag("punctuate"),
            ),
            replacements=self._replacements(),
        )
        if self.separate:
            check_channels(self.asked.channels)

    @property
    def settings(self) -> Settings:
        settings = self._head.fit(self.asked)
        return replace(settings, channels=1) if self.separate else settings

    def opened(self) -> list[Reply]:
        return []

    def receive(self, message: str | bytes) -> tuple[Command, ...]:
        if isinstance(message, bytes):
            if not message:  # how older clients end the stream
                return (*self._rest(), End())
            return self._head.commands(self._head.take(message, self.asked, self._named), self._audio)
        kind = parse_object(message).get("type")
        if kind == "KeepAlive":
            return ()
        if kind == "Finalize":
            return (*self._rest(), Flush())
        if kind == "CloseStream":
            return (*self._rest(), End())
        raise ProtocolError("unknown_message", f"unknown type {kind!r}: expected KeepAlive, Finalize or CloseStream")

    def _rest(self) -> tuple[Audio, ...]:
        return self._audio(self._head.rest()) if self._head.form is None else ()

    def _audio(self, data: bytes) -> tuple[Audio, ...]:
        """What there is of each stream."""
        if not self.separate:
            return (Audio(data),) if data else ()
        opening: list[Audio] = []  # all have their streams before the first of them may have to wait
        if self._splitter is None:
            said = self._head.fit(self.asked)
            self._splitter = ChannelSplitter(said.channels, SAMPLE_BYTES[said.encoding])
            self._unended = said.channels
            opening = [Audio(b"", lane) for lane in range(said.channels)]
        samples = enumerate(self._splitter.accept(data))
        return (*opening, *(Audio(own, lane) for lane, own in samples if own))

    def _index(self, lane: int) -> list[int]:
        """Which channel of how many."""
        return [lane, 1 if self._splitter is None else self._splitter.channels]

    def reply(self, outcome: Outcome) -> list[Reply]:
        lane, channel = outcome.lane, self._channels[outcome.lane]
        replies = [reply for event in outcome.events for reply in self._event(event, lane)]
        if not outcome.done:
            return replies
        if isinstance(outcome.command, Flush) and not any(isinstance(event, Final) for event in outcome.events):
            # Whoever waits for the answer gets one, though there was nothing to finish.
            empty = Final("", (), "flush")
            replies.append(_dump(self._results(empty, lane, True, outcome.position_s)))
        replies += self._utterance_end(channel.utterance_ends.reach(outcome.position_s), lane)
        if isinstance(outcome.command, End):
            self._unended -= 1
            if not self._unended:
                replies.append(_dump(self._metadata(outcome.position_s)))
        return replies

    def _event(self, event: Event, lane: int) -> list[Reply]:
        channel = self._channels[lane]
        replies = self._utterance_end(channel.utterance_ends.hear(event), lane)
        if not channel.speaking and self._announce and event.words:
            start = {"type": "SpeechStarted", "channel": [lane], "timestamp": event.words[0].start_s}
            replies.append(_dump(start))
        channel.speaking = isinstance(event, Partial)
        if isinstance(event, Partial):
            if self._interim:
                replies.append(_dump(self._results(event, lane, False, 0.0), replaceable=True))
            return replies
        replies.append(_dump(self._results(event, lane, True, 0.0)))
        return replies

    def _utterance_end(self, last_word_end_s: float | None, lane: int) -> list[Reply]:
        if last_word_end_s is None:
            return []
        return [_dump({"type": "UtteranceEnd", "channel": self._index(lane), "last_word_end": last_word_end_s})]

    def _results(self, event: Event, lane: int, final: bool, position_s: float) -> dict[str, Any]:
        start_s = event.words[0].start_s if event.words else position_s
        end_s = event.words[-1].end_s if event.words else position_s
        readings: list[Event | Alternative] = [event, *(event.alternatives if isinstance(event, Final) else ())]
        reason = event.reason if isinstance(event, Final) else ""
        return {
            "type": "Results",
            "channel_index": self._index(lane),
            "duration": round(end_s - start_s, 3),
            "start": round(start_s, 3),
            "is_final": final,
            "speech_final": reason == "silence",
            "from_finalize": reason == "flush",
            "channel": {"alternatives": [alternative(reading.text, reading.words) for reading in readings]},
            "metadata": {"request_id": self._id, "model_info": MODEL_INFO, "model_uuid": self._id},
        }

    def _metadata(self, duration_s: float) -> dict[str, Any]:
        return {
            "type": "Metadata",
            "transaction_key": "deprecated",
            "request_id": self._id,
            "sha256": "",
            "created": datetime.now(UTC).isoformat(),
            "duration": round(duration_s, 3),
            "channels": self._index(0)[1],
        }

    def failed(self, code: str, message: str) -> list[Reply]:
        return [_dump({"type": "Error", "variant": code, "description": message, "message": message})]

    def _text(self, key: str, default: str) -> str:
        return self._query[key][-1] if key in self._query else default

    def _flag(self, key: str) -> bool:
        return self._text(key, "false").lower() == "true"

    def _number(self, key: str, default: float, least: float, most: float) -> float:
        try:
            value = float(self._text(key, str(default)))
        except ValueError:
            value = least - 1
        if not least <= value <= most:
            raise ProtocolError("bad_config", f"{key} must be a number from {least} to {most}")
        return value

    def _read_utterance_wait_s(self) -> float:
        if "utterance_end_ms" not in self._query:
            return math.inf
        try:
            wait_ms = float(self._text("utterance_end_ms", ""))
        except ValueError:
            wait_ms = 0.0
        if not 0 < wait_ms < math.inf:
            message = "utterance_end_ms must be a positive number of milliseconds: 1000 is usual"
            raise ProtocolError("bad_config", message)
        return wait_ms / 1000

    def _rules(self) -> tuple[EndpointRule, ...]:
        text = self._text("endpointing", "true").lower()
        pause: tuple[EndpointRule, ...] = DEFAULT_RULES[:1]
        if text == "false":
            pause = ()
        elif text != "true":
            silence_s = self._number("endpointing", 10, 0, 60_000) / 1000
            pause = (pause_rule(silence_s),)
        wait_s = self._utterance_wait_s
        if wait_s < min((rule.silence_s for rule in pause), default=math.inf):
            # What was said is final before its end is told of; `speech_final` stays what `endpointing` asks for.
            pause = (*pause, EndpointRule("length", speech=True, silence_s=max(wait_s, LEAST_PAUSE_S)))
        return (*pause, *DEFAULT_RULES[1:])

    def _replacements(self) -> tuple[Replacement, ...]:
        pairs = [text.split(":", 1) for text in self._query.get("replace", ())]
        if any(len(pair) != 2 for pair in pairs):
            raise ProtocolError("bad_config", "replace must be spoken:written")
        try:
            return make_replacements((spoken, written) for spoken, written in pairs)
        except AsrError as error:
            raise ProtocolError("bad_config", f"replace: {error}") from error

    def _hot_words(self) -> tuple[HotWord, ...]:
        try:
            terms = [HotWord(term) for term in self._query.get("keyterm", ())]
            for keyword in self._query.get("keywords", ()):
                phrase, colon, boost = keyword.rpartition(":")
                terms.append(HotWord(phrase, float(boost)) if colon else HotWord(keyword, DEFAULT_BOOST))
        except (AsrError, ValueError) as error:
            raise ProtocolError("bad_config", f"keyterm or keywords: {error}") from error
        return tuple(terms)


def alternative(text: str, words: tuple[Word, ...]) -> dict[str, Any]:
    """A reading, as results hold it."""
    return {
        "transcript": text,
        "confidence": round(sum(word.confidence for word in words) / len(words), 4) if words else 0.0,
        "words": [
            {
                "word": word.spoken if len(word.heard) == 1 else word.text.rstrip(".,?").lower(),
                "start": word.start_s,
                "end": word.end_s,
                "confidence": word.confidence,
                "punctuated_word": word.text,
            }
            for word in words
        ],
    }


def _dump(message: dict[str, Any], replaceable: bool = False) -> Reply:
    return Reply(json.dumps(message, ensure_ascii=False), replaceable)
